"""The containers that weights come in: which one a file is, by its content, and what is in it.

An opener takes a path and a stack that closes what it opens, and returns the arrays by name, still
in the file. It may raise anything for a broken file; `formats.read` words it.
"""

import contextlib
import io
import json
import math
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors

from jaxstyle.types import InputError
from jaxstyle.weights import arrays, matlab, pth
from jaxstyle.weights.arrays import Stored

Opener = Callable[[pathlib.Path, contextlib.ExitStack], dict[str, Stored]]

SUFFIXES = (".h5", ".safetensors", ".npz", ".pth", ".mat")
_NOT_WEIGHTS = {
    b"<": "is a web page and not weights, as a download leaves when it fails; fetch it again.",
    b"version https://git-lfs": "only points to a file in Git LFS; fetch it with `git lfs pull`.",
    b"\x1f\x8b": "is compressed; unpack it first.",
    b"MATLAB 7.3": "is in MATLAB's format 7.3; save it with `save(..., '-v7')`.",
}
_NPY_HEADER = 1 << 14  # bytes; NumPy itself reads 10000


def kind_of(path: pathlib.Path) -> str:
    """Return 'h5', 'safetensors', 'npz', 'pth' or 'mat' by how a file begins.

    Args:
      path: an existing file; its suffix does not count.

    Returns:
      A key of `OPENERS`.

    Raises:
      InputError: for anything else; starts with a verb, the file is to be named before it.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise InputError("is empty; fetch it again.")
    for beginning, problem in _NOT_WEIGHTS.items():
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning):
            raise InputError(problem)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return "pth" if any(n.endswith("data.pkl") for n in archive.namelist()) else "npz"
    if start.startswith(b"MATLAB 5.0"):
        return "mat"
    if pth.LEGACY_START in start[:32]:
        return "pth"
    if start[8:9] == b"{":
        return "safetensors"
    if path.suffix.lower() in (*SUFFIXES, ".hdf5", ".pt"):
        raise InputError(
            f"does not begin as a {path.suffix} file does; it may be truncated or another kind of "
            "file: fetch it again."
        )
    raise InputError(f"is not in a format that can be read; give one of {', '.join(SUFFIXES)}.")


def _open_hdf5(path: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    from jaxstyle.weights import hdf5  # its library takes a tenth of a second to load

    return hdf5.open_file(path, stack)


def _open_npz(path: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    found = {}
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            name = info.filename.removesuffix(".npy")
            found[name] = _npy(archive, info, name)
    return found


def _npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Stored:
    def load() -> np.ndarray:
        with archive.open(info) as part:
            return arrays.float32(np.lib.format.read_array(part, allow_pickle=False), name)

    with archive.open(info) as opened:
        part = io.BytesIO(opened.read(_NPY_HEADER))  # a header may say that it has gigabytes
        version = np.lib.format.read_magic(part)
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in headers:  # names in Unicode, which numbers do not have
            raise ValueError(f"an array in version {version} of NumPy's format")
        shape, _, dtype = headers[version](part)
    if dtype.hasobject:
        raise InputError(
            f"has Python objects in '{name:.80}', which only running code could read; give a file "
            "with numbers alone."
        )
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"'{name:.80}' is shorter than it says")
    return Stored(shape, dtype.itemsize, load)


_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "V2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def _open_safetensors(path: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    with safetensors.safe_open(path, framework="numpy"):
        pass  # it checks the header: lengths, overlaps, gaps
    file = stack.enter_context(path.open("rb"))
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))

    def stored(name: str, entry: Mapping[str, Any]) -> Stored:
        shape = tuple(entry["shape"])
        dtype = np.dtype(_SAFETENSORS.get(entry["dtype"], "V1"))

        def load() -> np.ndarray:
            if entry["dtype"] not in _SAFETENSORS:
                raise InputError(
                    f"has '{name:.80}' as {entry['dtype']}, which cannot be read; save it as F16 "
                    "or F32."
                )
            file.seek(8 + length + entry["data_offsets"][0])
            numbers = np.fromfile(file, dtype, math.prod(shape))
            return arrays.float32(numbers.reshape(shape), name)

        return Stored(shape, dtype.itemsize, load)

    return {name: stored(name, entry) for name, entry in header.items() if name != "__metadata__"}


def metadata_of(path: pathlib.Path) -> dict[str, str]:
    """Return the short strings in the header of a safetensors file.

    Args:
      path: a file of that kind.
    """
    with safetensors.safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


OPENERS: dict[str, Opener] = {
    "h5": _open_hdf5,
    "safetensors": _open_safetensors,
    "npz": _open_npz,
    "pth": pth.open_pth,
    "mat": matlab.open_mat,
}
