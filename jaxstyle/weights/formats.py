"""Read and write parameter files: Keras HDF5, safetensors and NumPy archives.

Every reader returns the same thing, `{'conv1_1': {'kernel': HWIO, 'bias': [c]}, ...}` in float32,
whatever names and layouts the file uses.
"""

import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import h5py
import numpy as np
import safetensors
import safetensors.numpy

from jaxstyle.types import InputError

Arrays = dict[str, dict[str, np.ndarray]]

# block1_conv2 (Keras), conv1_2 (Caffe and this project), conv12 (several PyTorch projects).
_CONVOLUTION = re.compile(r"(?:block(\d)_conv(\d)|conv(\d)_?(\d))(?!_aux)")
# A first 1x1 convolution that turns RGB into the network's own convention ("normalized" VGGs).
INPUT = "conv0"
_INPUT = re.compile(r"(?:^|[./])conv0[./]")
# features.7.weight: torchvision numbers every module; the place among the convolutions counts.
_TORCHVISION = re.compile(r"(?:^|\.)features\.(\d+)\.(weight|bias)$")
_TORCHVISION_INDEX = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
# PyTorch writes OIHW and calls it `weight`. Whole Keras models lie in a group `model_weights`, and
# TensorFlow's older `weights` are HWIO like everything of its family: only the last word counts.
_OIHW = re.compile(r"(?:^|[./])weight$")
_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


class Contents(NamedTuple):
    """What a parameter file holds.

    Attributes:
      convolutions: kernels `[k, k, c_in, c_out]` and biases `[c_out]` by name, float32.
      torchvision: whether they were named as torchvision does, whose training expects another
        input.
    """

    convolutions: Arrays
    torchvision: bool


def read(path: pathlib.Path) -> Contents:
    """Read the convolutions of a parameter file.

    Args:
      path: a `.h5`/`.hdf5` (Keras), `.safetensors` or `.npz` file.

    Returns:
      The convolutions, and whose names they had.

    Raises:
      InputError: missing, unreadable or truncated file, unknown format, no convolutions in it, or
        two arrays for one place.
    """
    if not path.is_file():
        raise InputError(f"there is no weights file '{path}'; check the path.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"'{path.name}' is not in a format that can be read; give one of {', '.join(_READERS)}."
        )
    try:
        arrays = dict(reader(path))
        convolutions = _convolutions(arrays)
    except InputError as error:
        raise InputError(f"'{path}' {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"'{path}' cannot be read as {path.suffix} weights ({reason}); it may be truncated or "
            "another kind of file: fetch it again."
        ) from error
    if not convolutions:
        raise InputError(
            f"'{path}' holds no VGG convolutions (names like block1_conv1, conv1_1 or features.0); "
            f"its first arrays are {', '.join(list(arrays)[:3]) or 'none'}."
        )
    return Contents(convolutions, bool(_torchvision_names(arrays)))


def write(path: pathlib.Path, params: Mapping, metadata: Mapping[str, str]) -> None:
    """Write parameters as float16 safetensors with names like `conv1_1/kernel`.

    Args:
      path: the file to write.
      params: `{'conv1_1': {'kernel': ..., 'bias': ...}, ...}`.
      metadata: short strings kept in the file's header (source, license, ...).
    """
    arrays = {
        f"{name}/{part}": np.asarray(value, np.float16)
        for name, parts in params.items()
        for part, value in parts.items()
    }
    # The file's bytes must not depend on the order of a dictionary.
    safetensors.numpy.save_file(dict(sorted(arrays.items())), path, metadata=dict(metadata))


def _read_hdf5(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    found: list[tuple[str, np.ndarray]] = []

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((name, item[()]))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    yield from found


def _read_npz(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    # NumPy forgets to close a broken archive that it opened itself.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        for name in archive.files:
            yield name, archive[name]


def _read_safetensors(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    with safetensors.safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            yield name, file.get_tensor(name)


_READERS: dict[str, Callable[[pathlib.Path], Iterator[tuple[str, np.ndarray]]]] = {
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}


def _convolutions(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Sort arrays into convolutions by name; kernels come out as HWIO."""
    result: Arrays = {}
    numbered = _torchvision_names(arrays)
    for name, array in arrays.items():
        if name in numbered:
            convolution = numbered[name]
        elif _INPUT.search(name):
            convolution = INPUT
        elif match := _CONVOLUTION.search(name):
            block, number = (g for g in match.groups() if g)
            convolution = f"conv{block}_{number}"
        else:
            continue
        part = {4: "kernel", 1: "bias"}.get(np.ndim(array))
        if part is None:
            continue
        parts = result.setdefault(convolution, {})
        if part in parts:  # e.g. an optimizer's copy: not for us to choose
            raise InputError(
                f"has more than one {part} for {convolution}, the second named '{name}'; "
                "give a file with the weights of one network and nothing else."
            )
        value = np.asarray(array, np.float32)
        if _OIHW.search(name) and part == "kernel":
            value = np.ascontiguousarray(value.transpose(2, 3, 1, 0))
        parts[part] = value
    return result


def _torchvision_names(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    matches = {name: m for name in arrays if (m := _TORCHVISION.search(name))}
    indices = {int(m[1]) for m in matches.values()}
    for network, known in _TORCHVISION_INDEX.items():
        if indices and indices <= set(known):
            names = [
                f"conv{b}_{c}" for b, n in enumerate(_DEPTHS[network], 1) for c in range(1, n + 1)
            ]
            return {n: names[known.index(int(m[1]))] for n, m in matches.items()}
    return {}
