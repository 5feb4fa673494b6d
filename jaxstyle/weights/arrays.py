"""Arrays that still lie in a file, and the care with which they are brought into memory."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from jaxstyle.types import InputError

# The largest VGG takes 0.6 GB. A file that compresses well may grow; not without end.
_MOST_BYTES = 4 << 30
_MOST_GROWTH, _ROOM = 64, 16 << 20


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array in a file that is open.

    Attributes:
      shape: as the file says.
      width: bytes per number in memory.
      load: reads it; floating-point numbers of any precision come as float32.
    """

    shape: tuple[int, ...]
    width: int
    load: Callable[[], np.ndarray]


def load(stored: Mapping[str, Stored], length: int) -> dict[str, np.ndarray]:
    """Load arrays, unless they claim to be beyond all proportion to their file.

    Args:
      stored: the arrays by name.
      length: of the file, in bytes.

    Returns:
      The arrays by name.

    Raises:
      InputError: for absurd sizes, before memory is taken; starts with a verb, the file is to be
        named before it. Reading raises whatever the format's library does.
    """
    total = sum(math.prod(array.shape) * max(4, array.width) for array in stored.values())
    if total > min(_MOST_BYTES, _MOST_GROWTH * length + _ROOM):
        raise InputError(
            f"has {length} bytes, but its arrays would take {total:.3g}, which no VGG needs; give "
            "a file from another source."
        )
    return {name: array.load() for name, array in stored.items()}


def contiguous(array: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return an array in its own row-major memory or, if it is so already, itself.

    Args:
      array: any shape.
      dtype: of the result.

    Returns:
      The array, of the same shape even where that is `()`.
    """
    return np.ascontiguousarray(array, dtype).reshape(array.shape)


def float32(array: np.ndarray, name: str) -> np.ndarray:
    """Return numbers as contiguous float32.

    Args:
      array: any shape, any precision; two bytes that NumPy has no name for are bfloat16.
      name: for the message.

    Returns:
      The same numbers, rounded to the nearest where they are finer.

    Raises:
      InputError: for what is no number, and finite numbers that float32 cannot hold; to be put
        behind the file's name.

    Example:
      >>> float32(np.ones(2), 'bias').dtype
      dtype('float32')
      >>> float32(np.array([b'\\x80\\x3f'], 'V2'), 'bias')  # bfloat16
      array([1.], dtype=float32)
    """
    if array.dtype.kind == "V" and array.dtype.names is None and array.itemsize == 2:
        raw = contiguous(array, array.dtype).view("<u2")
        return np.asarray(raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if array.dtype.kind not in "fiub":
        raise InputError(f"has '{name:.80}' as {array.dtype}, which are no numbers.")
    with np.errstate(over="ignore"):
        result = contiguous(array, np.float32)
    if array.itemsize > 4 and not np.array_equal(np.isfinite(result), np.isfinite(array)):
        raise InputError(f"has numbers in '{name:.80}' too large for float32; get another file.")
    return result
