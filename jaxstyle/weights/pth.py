"""PyTorch's files (`.pth`, `.pt`), both of its formats, without PyTorch and executing nothing."""

import contextlib
import io
import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Literal

import numpy as np

from jaxstyle.types import InputError
from jaxstyle.weights import arrays, pickles
from jaxstyle.weights.arrays import Stored
from jaxstyle.weights.pickles import Storage, Tensor

# What the old format begins with, as a pickle of its own.
_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
# Where projects put the state dict when they save more than it.
_NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
_MOST_PICKLE = 64 << 20

_Load = Callable[[Storage], np.ndarray]


def read_pth(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a state dict that PyTorch saved.

    The pickle in the file is interpreted by `pickles.parse`, which can build tensors and nothing
    else.

    Args:
      path: a file of `torch.save`: the zip format, or the older one before PyTorch 1.6. The state
        dict may lie under 'state_dict', 'model' and the like.

    Returns:
      The tensors by name, in the file's order and layout (kernels are OIHW); a `module.` before all
      names, from training in parallel, is taken away. Floating-point numbers of any precision come
      as float32, whole numbers and booleans as they are. Tensors that share numbers in the file may
      share memory.

    Raises:
      InputError: a missing, truncated or other kind of file; one that asks for anything but
        tensors, which is named ('builtins.eval'); numbers too large for float32; sizes beyond the
        file's.

    Example:
      >>> arrays = read_pth('vgg16-397923af.pth')  # doctest: +SKIP
      >>> arrays['features.0.weight'].shape  # doctest: +SKIP
      (64, 3, 3, 3)
    """
    path = pathlib.Path(path)
    if not os.path.isfile(path):
        raise InputError(f"there is no weights file '{path}'; check the path.")
    try:
        with contextlib.ExitStack() as stack:
            return arrays.load(open_pth(path, stack), path.stat().st_size)
    except InputError as error:
        raise InputError(f"'{path}' {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"'{path}' cannot be read as PyTorch weights ({reason}); it may be truncated or "
            "another kind of file: fetch it again."
        ) from error


def open_pth(path: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    """Open a file that PyTorch saved, for `formats.read`, which words what goes wrong.

    Args:
      path: the file.
      stack: closes it when the arrays have been loaded.

    Returns:
      The tensors by name.

    Raises:
      InputError: as `read_pth`, without the file's name; and whatever else for a broken file.
    """
    length = path.stat().st_size
    file = stack.enter_context(path.open("rb"))
    if file.read(4) == b"PK\x03\x04":
        saved, load = _open_zip(stack.enter_context(zipfile.ZipFile(file)), length)
    else:
        file.seek(0)
        saved, load = _open_legacy(file, length)
    return {name: _stored(name, tensor, load) for name, tensor in _state_dict(saved).items()}


# --- The two formats: a pickle, and where the storages are ---


def _open_zip(archive: zipfile.ZipFile, length: int) -> tuple[Any, _Load]:
    members = {info.filename: info for info in archive.infolist()}
    pickled = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise InputError("is a zip archive, but not one of PyTorch's; give what torch.save wrote.")
    root = pickled[0].removesuffix("data.pkl")
    left = length

    def content(name: str) -> bytearray:
        nonlocal left
        info = members.get(root + name)
        if info is None:
            raise InputError(f"lacks its part '{name:.80}'; fetch it again.")
        # PyTorch never compresses, so no part is larger than the file.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > length:
            raise InputError(
                "is compressed inside, as PyTorch's files never are; save it again with torch.save."
            )
        if name == "data.pkl" and info.file_size > _MOST_PICKLE:
            raise InputError("holds an absurdly long pickle; give a file with a state dict.")
        left -= info.file_size
        if left < 0:  # parts that lie on each other
            raise InputError("has parts that are larger together than the file; fetch it again.")
        with archive.open(info) as part:  # checks the sum of the bytes at its end
            return _exactly(part, info.file_size)

    order: Literal["<", ">"]
    order = ">" if root + "byteorder" in members and content("byteorder") == b"big" else "<"
    known: dict[str, bytearray] = {}

    def load(storage: Storage) -> np.ndarray:
        if storage.key not in known:
            known[storage.key] = content(f"data/{storage.key}")
        return _numbers(known[storage.key], storage, order)

    return pickles.parse(io.BytesIO(content("data.pkl"))), load


def _exactly(file: IO[bytes], length: int) -> bytearray:
    """Read so many bytes, in pieces: a tensor of 400 MB is not to be in memory twice."""
    result = bytearray(length)
    for at in range(0, length, 1 << 20):
        piece = file.read(min(1 << 20, length - at))
        if len(piece) < min(1 << 20, length - at):
            raise ValueError("a tensor is shorter than the file says")
        result[at : at + len(piece)] = piece
    return result


class _Bounded:
    """A file that never makes room for more bytes than it has left."""

    def __init__(self, file: IO[bytes], length: int):
        self._file, self._length = file, length

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes."""
        left = self._length - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))

    def readline(self) -> bytes:
        """Return up to the next end of line, which in a pickle is near."""
        return self._file.readline(4096)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()


def _open_legacy(file: IO[bytes], length: int) -> tuple[Any, _Load]:
    """A pickle each of a magic number, a version, the machine, the object, the storages' names."""
    if LEGACY_START not in file.read(32):
        raise InputError(
            "does not begin as a file of PyTorch's does; give what torch.save wrote, or a file of "
            "another format with its own suffix."
        )
    file.seek(0)
    stream = _Bounded(file, length)
    magic, _, machine, saved, keys = (pickles.parse(stream) for _ in range(5))
    if magic != _MAGIC or not isinstance(machine, dict) or not isinstance(keys, list):
        raise ValueError("the parts of the file are not in PyTorch's order")
    order: Literal["<", ">"] = "<" if machine.get("little_endian", True) else ">"
    storages = {tensor.storage.key: tensor.storage for tensor in _tensors(saved)}
    places: dict[str, int] = {}
    for key in keys:
        if key not in storages:
            raise ValueError("a storage that no tensor uses")
        size = int.from_bytes(file.read(8), "little" if order == "<" else "big")
        if size != storages[key].size:
            raise ValueError("a storage has another length than its tensor says")
        places[key] = file.tell()
        if places[key] + size * _width(storages[key].kind) > length:
            raise ValueError("the file ends within a tensor")
        file.seek(size * _width(storages[key].kind), os.SEEK_CUR)
    known: dict[str, bytearray] = {}

    def load(storage: Storage) -> np.ndarray:
        if storage.key not in known:
            file.seek(places[storage.key])
            known[storage.key] = _exactly(file, storage.size * _width(storage.kind))
        return _numbers(known[storage.key], storage, order)

    return saved, load


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in what was saved; each container is entered once, so circles end."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item


# --- From storages to arrays ---


def _width(kind: str) -> int:
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _numbers(content: bytearray, storage: Storage, order: Literal["<", ">"]) -> np.ndarray:
    if len(content) < storage.size * _width(storage.kind):
        raise ValueError("a storage is shorter than its tensor says")
    kind = {"bfloat16": "uint16", "bool": "uint8"}.get(storage.kind, storage.kind)
    return np.frombuffer(content, np.dtype(kind).newbyteorder(order), storage.size)


def _state_dict(saved: Any) -> Mapping[str, Tensor]:
    """Find the tensors by name in what was saved."""
    for _ in range(3):
        if not isinstance(saved, dict):
            break
        nests = [saved[name] for name in _NESTS if isinstance(saved.get(name), dict)]
        if not nests:
            break
        saved = nests[0]
    if not isinstance(saved, dict):
        raise InputError("holds no state dict; save one with torch.save(model.state_dict(), FILE).")
    found = {k: v for k, v in saved.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not found:
        names = ", ".join(str(name)[:40] for name in list(saved)[:3]) or "nothing"
        raise InputError(
            f"holds no tensors by name, but {names}; save a state dict with "
            "torch.save(model.state_dict(), FILE)."
        )
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _stored(name: str, tensor: Tensor, load: _Load) -> Stored:
    """A tensor that does not reach beyond its storage."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if math.prod(tensor.shape) and tensor.offset + last >= tensor.storage.size:
        raise InputError(
            f"has a tensor '{name:.80}' of shape {tensor.shape}, which is more than the "
            f"{tensor.storage.size} numbers it has for it; fetch it again."
        )

    def read() -> np.ndarray:
        return _array(tensor, load(tensor.storage), name)

    return Stored(tensor.shape, _width(tensor.storage.kind), read)


def _array(tensor: Tensor, numbers: np.ndarray, name: str) -> np.ndarray:
    if not math.prod(tensor.shape):
        view = numbers[:0].reshape(tensor.shape)
    else:
        strides = tuple(step * numbers.itemsize for step in tensor.strides)
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    if tensor.storage.kind == "bfloat16":
        return arrays.float32(arrays.contiguous(view, "<u2").view("V2"), name)
    if tensor.storage.kind == "bool":
        return arrays.contiguous(view, np.uint8) != 0
    if view.dtype.kind != "f":
        return arrays.contiguous(view, view.dtype.newbyteorder("="))
    return arrays.float32(view, name)
