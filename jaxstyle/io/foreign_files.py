"""Read the files in which other projects keep trained networks."""

import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

from jaxstyle.types import InputError

_LARGEST = 2**29  # bytes of an archive's arrays; the networks known here have less than 30 MB
_MOST_GROWTH, _ROOM = 64, 2**24  # and beside the file's own bytes


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read a file of named arrays without running anything that is in it.

    Args:
      path: `.npz`, or what PyTorch's `torch.save` wrote of a `state_dict` (`.pth`, `.pt`,
        `.model`).

    Returns:
      The arrays by their names in the file.

    Raises:
      InputError: no such file, a format that cannot be read, or a damaged or truncated file.

    Example:
      >>> sorted(read_arrays(pathlib.Path('candy.npz')))[0]  # doctest: +SKIP
      'conv1.conv2d.bias'
    """
    suffix = path.suffix.lower()
    if suffix in _UNREADABLE or os.path.isfile(f"{path}.index"):
        raise InputError(f"'{path}' {_UNREADABLE.get(suffix, _CHECKPOINT)}")
    if os.path.isdir(path):
        raise InputError(f"'{path}' is a folder; give a file: {', '.join(_READERS)}.")
    if not os.path.isfile(path):
        raise InputError(f"there is no file '{path}'; check the path.")
    reader = _READERS.get(suffix)
    if reader is None:
        raise InputError(
            f"'{path}' is not in a format that can be read; give one of {', '.join(_READERS)}."
        )
    return reader(path)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:  # NumPy forgets to close a broken archive it opened itself
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > min(_LARGEST, _MOST_GROWTH * path.stat().st_size + _ROOM):
                raise InputError(
                    f"'{path}' unpacks to {size / 1e6:.0f} MB, more than any style network has; "
                    "give the file of one network."
                )
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise nearly anything on a damaged file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"'{path}' cannot be read as a NumPy archive ({reason}); it may be truncated or "
            "another kind of file: fetch it again."
        ) from error


def _read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
    from jaxstyle.weights.pth import read_pth

    return read_pth(path)


_READERS: dict[str, Callable[[pathlib.Path], dict[str, np.ndarray]]] = {
    ".npz": _read_npz,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".model": _read_pth,
}
_CHECKPOINT = (
    "is a TensorFlow checkpoint, which only TensorFlow reads; where it is installed, write its "
    "variables to an .npz: r = tf.train.load_checkpoint(FILE); numpy.savez('net.npz', "
    "**{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})."
)
_UNREADABLE = {
    ".ckpt": _CHECKPOINT,
    ".index": _CHECKPOINT,
    ".meta": _CHECKPOINT,
    ".t7": "is a Lua Torch file, which is not read here; take a network of pytorch/examples or "
    "lengstrom of the same style, or train one.",
}
