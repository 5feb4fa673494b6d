"""MatConvNet's networks in MATLAB's files of level 5 (imagenet-vgg-verydeep-19.mat).

Of MATLAB's format this reads what those files need: cells, structures, texts and real numbers.
Lengths are believed only as far as there are bytes.
"""

import contextlib
import functools
import itertools
import math
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from jaxstyle.types import InputError
from jaxstyle.weights import arrays
from jaxstyle.weights.arrays import Stored

# MATLAB's types of data, classes of arrays, and how far they nest.
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1",
}  # fmt: skip
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCTURE, _TEXT = 1, 2, 4
_DEEPEST = 12
_MOST_ELEMENTS = 200_000  # some thousands in a network
_MOST_GROWTH, _ROOM = 64, 16 << 20


def open_mat(path: pathlib.Path, stack: contextlib.ExitStack) -> dict[str, Stored]:
    """Open a network, for `formats.read`, which words what goes wrong.

    MatConvNet's importer laid kernels as [height, width, in, out] and turned the first one from BGR
    to RGB; here it is turned back, to what the network was trained on.

    Args:
      path: the file.
      stack: not needed here, nothing stays open.

    Returns:
      Kernels and biases as `conv1_1/kernel`, `conv1_1/bias`.

    Raises:
      InputError: for another network, or absurd sizes; without the file's name. And whatever else
        for a broken file.
    """
    variables = dict(_variables(np.memmap(path, np.uint8, "r")))
    layers = variables.get("layers")
    if layers is None and isinstance(variables.get("net"), list) and variables["net"]:
        layers = variables["net"][0].get("layers")
    if not isinstance(layers, list):
        raise InputError(
            "has no variable `layers`, as MatConvNet's networks do; give "
            "imagenet-vgg-verydeep-16.mat or imagenet-vgg-verydeep-19.mat."
        )
    found = {}
    for name, array in _convolutions(layers):
        load = functools.partial(arrays.float32, array, name)
        found[name] = Stored(array.shape, array.itemsize, load)
    return found


def _convolutions(layers: list[Any]) -> Iterator[tuple[str, np.ndarray]]:
    for layer in layers:
        layer = layer[0] if isinstance(layer, list) and len(layer) == 1 else layer
        if not isinstance(layer, dict) or layer.get("type") != "conv":
            continue
        parts = layer.get("weights") or [layer.get("filters"), layer.get("biases")]  # before 2015
        for part, array in zip(("kernel", "bias"), parts, strict=False):
            if not isinstance(array, np.ndarray):
                continue
            name = f"{layer.get('name')}/{part}"
            if part == "bias":
                array = array.reshape(-1)
            if name == "conv1_1/kernel" and array.ndim == 4 and array.shape[2] == 3:
                array = array[:, :, ::-1]
            yield name, array


def _variables(content: np.ndarray) -> Iterator[tuple[str, Any]]:
    order: Literal["<", ">"] = "<" if bytes(content[126:128]) == b"IM" else ">"
    most = _MOST_GROWTH * content.size + _ROOM
    reader = _Reader(content, order, 128)
    while reader.at < content.size:
        kind, data = reader.element()
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            inflated = inflater.decompress(bytes(data), most)
            most -= len(inflated)
            if most <= 0:
                raise InputError(
                    f"has {content.size} bytes, but its variables are absurdly large when they are "
                    "inflated; give a file from another source."
                )
            if not inflater.eof:
                raise ValueError("the file ends within a variable")
            kind, data = _Reader(np.frombuffer(inflated, np.uint8), order, outer=reader).element()
        if kind == _MATRIX and data.size:
            yield _matrix(_Reader(data, order, outer=reader))


class _Reader:
    """Goes from element to element of a file or of a matrix."""

    def __init__(
        self,
        content: np.ndarray,
        order: Literal["<", ">"],
        at: int = 0,
        outer: "_Reader | None" = None,
    ):
        self.content, self.order, self.at = content, order, at
        self.depth: int = outer.depth + 1 if outer else 0
        self.count: Iterator[int] = outer.count if outer else itertools.count()

    @property
    def left(self) -> int:
        return self.content.size - self.at

    def element(self) -> tuple[int, np.ndarray]:
        """Return the type and the bytes of the next element."""
        if next(self.count) > _MOST_ELEMENTS:
            raise InputError("has absurdly many parts; give a file from another source.")
        kind, length = (int(n) for n in self._take(8).view(self.order + "u4"))
        if kind >> 16:  # a small one: the length shares the type's word, the data follow at once
            kind, length = kind & 0xFFFF, kind >> 16
            self.at -= 4
            return kind, self._take(4)[:length]
        data = self._take(length)
        if kind != _COMPRESSED:
            self.at = min(self.at + -length % 8, self.content.size)
        return kind, data

    def numbers(self) -> np.ndarray:
        """Return the next element as a row of numbers."""
        kind, data = self.element()
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers belong")
        return np.frombuffer(data, np.dtype(_NUMBERS[kind]).newbyteorder(self.order))

    def text(self) -> str:
        """Return the next element as text."""
        kind, data = self.element()
        return bytes(data).decode("utf-16" if kind in (4, 17) else "utf-8", "replace")

    def _take(self, length: int) -> np.ndarray:
        if length > self.left:
            raise ValueError("the file ends within an array")
        self.at += length
        return self.content[self.at - length : self.at]


def _matrix(reader: _Reader) -> tuple[str, Any]:
    """Return an array's name and content: list, dictionaries, text or numbers; None for others."""
    kind = int(reader.numbers()[0]) & 0xFF
    shape = tuple(int(n) for n in reader.numbers())
    name = reader.text()
    if reader.depth > _DEEPEST or not shape or min(shape) < 0:
        raise ValueError("an array without a shape")
    count = math.prod(shape)
    if kind == _CELL:
        return name, _nested(reader, count)
    if kind == _STRUCTURE:
        return name, _structures(reader, count)
    if kind == _TEXT:
        return name, _letters(reader.numbers()) if count else ""
    if not 6 <= kind <= 15:
        return name, None
    numbers = reader.numbers()
    if numbers.size != count:
        raise ValueError("an array of another size than its shape says")
    return name, numbers.reshape(shape, order="F")


def _letters(codes: np.ndarray) -> str:
    if codes.dtype.kind not in "iu":
        raise ValueError("a text of other things than letters")
    return "".join(map(chr, codes))


def _structures(reader: _Reader, count: int) -> list[dict[str, Any]]:
    length = int(reader.numbers()[0])
    _, names = reader.element()
    if not 0 < length <= max(names.size, 1):
        raise ValueError("a structure whose fields have no names")
    places = range(0, names.size, length)
    fields = [bytes(names[i : i + length]).split(b"\0")[0].decode("latin-1") for i in places]
    values = iter(_nested(reader, count * len(fields)))
    return [{field: next(values) for field in fields} for _ in range(count if fields else 0)]


def _nested(reader: _Reader, count: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(count):  # each takes bytes, which end sooner than a count that lies
        kind, data = reader.element()
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where an array belongs")
        inner = _Reader(data, reader.order, outer=reader)
        found.append(_matrix(inner)[1] if data.size else None)
    return found
