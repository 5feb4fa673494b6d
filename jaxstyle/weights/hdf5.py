"""Arrays in HDF5 files, as Keras keeps weights."""

import contextlib
import functools
import math
import pathlib
import zlib
from collections.abc import Iterator

import h5py
import numpy as np

from jaxstyle.types import InputError
from jaxstyle.weights import arrays
from jaxstyle.weights.arrays import Stored

_DEEPEST, _MOST_ITEMS = 32, 100_000  # groups in groups of HDF5, and what lies in them
# Filters of HDF5 that are used: the others are rare, and HDF5 looks for programs of that number.
_DEFLATE, _FILTERS = 1, {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_PIECE = 16 << 20  # bytes that a piece of an array may have beyond those of the array
_CHECKSUM = 4  # bytes that fletcher32 adds to a piece, in some files before it is packed


def open_file(path: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    """Open an HDF5 file.

    Args:
      path: of the file.
      stack: closes it.

    Returns:
      The arrays of numbers in it, by their paths.

    Raises:
      InputError: for what no weights need; starts with a verb, the file is to be named before it.
      Exception: anything, for a broken file.
    """
    file = stack.enter_context(h5py.File(path, "r"))
    return {
        name: Stored(item.shape, item.dtype.itemsize, functools.partial(_numbers, item, name))
        for name, item in _datasets(file, "", set())
        # A dataset can lie in other files, which nobody has named.
        if not item.external and not item.is_virtual
        if item.dtype.kind in "fiu" and item.shape is not None
    }


def _datasets(group: h5py.Group, path: str, seen: set[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield what lies in a file, each once: links to elsewhere are not followed."""
    if path.count("/") > _DEEPEST:
        raise InputError("has groups in groups without end; give a file with a network's weights.")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MOST_ITEMS:
            raise InputError(f"has more than {_MOST_ITEMS} parts, which no network needs.")
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{path}{name}/", seen)
        elif isinstance(item, h5py.Dataset):
            yield f"{path}{name}", item


def _numbers(item: h5py.Dataset, name: str) -> np.ndarray:
    """Read an array whose stored pieces are no larger than it says."""
    plist = item.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    unknown = [number for number in filters if number not in _FILTERS]
    if unknown or filters.count(_DEFLATE) > 1:
        raise InputError(
            f"has '{name:.80}' packed by HDF5's filter {(unknown or filters)[0]} in a way that is "
            f"not read here; save it with {', '.join(_FILTERS.values())} or no filter."
        )
    piece = math.prod(item.chunks or ()) * item.dtype.itemsize
    if piece > item.size * item.dtype.itemsize + _PIECE:
        raise InputError(
            f"has '{name:.80}' in pieces of {piece / 1e6:.0f} MB, more than the array has; get "
            "another file."
        )
    if _DEFLATE in filters:
        _check_inflated(item, name, piece)
    return arrays.float32(item[()], name)


def _check_inflated(item: h5py.Dataset, name: str, piece: int) -> None:
    """Refuse pieces that inflate to more than they should: HDF5 would make room for all of it."""
    most = piece + _CHECKSUM
    places: list[tuple[int, ...]] = []
    item.id.chunk_iter(lambda info: places.append(info.chunk_offset))
    for place in places:
        inflater = zlib.decompressobj()
        content = inflater.decompress(item.id.read_direct_chunk(place)[1], most + 1)
        if len(content) > most:
            raise InputError(
                f"has a piece of '{name:.80}' that inflates to more than its {piece} bytes; get "
                "another file."
            )
