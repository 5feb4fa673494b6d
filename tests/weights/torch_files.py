"""Files as PyTorch saves them, put together instruction by instruction, without PyTorch.

What `pickle` would refuse to write can be written here too.
"""

import struct
import zipfile

import numpy as np

KINDS = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage",
    "int64": "LongStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip
MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if 0 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def mapping(items: dict[str, bytes]) -> bytes:
    body = b"".join(text(key) + value for key, value in items.items())
    return name("collections", "OrderedDict") + b")R(" + body + b"u"


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + tuple_of(*arguments) + b"R"


def storage(kind: str, key: str, size: int, *, legacy: bool = False) -> bytes:
    parts = [text("storage"), name("torch", kind), text(key), text("cpu"), number(size)]
    return tuple_of(*parts, *([b"N"] if legacy else [])) + b"Q"


def tensor(stored: bytes, offset, shape, strides, function="_rebuild_tensor_v2") -> bytes:
    axes = [tuple_of(*(number(n) for n in axis)) for axis in (shape, strides)]
    rest = [b"\x89", mapping({})] if function.endswith("v2") else []
    return call("torch._utils", function, stored, number(offset), *axes, *rest)


def tensors(arrays, legacy: bool) -> dict[str, bytes]:
    """Of arrays that each have a storage of their own, contiguous."""
    result = {}
    for key, (label, array) in enumerate(arrays.items()):
        strides = [n // array.itemsize for n in np.ascontiguousarray(array).strides]
        stored = storage(KINDS[str(array.dtype)], str(key), array.size, legacy=legacy)
        result[label] = tensor(stored, 0, array.shape, strides[: array.ndim])
    return result


def save(path, arrays, *, legacy: bool = False, nest: str = "", order: str = "<") -> None:
    """Save a state dict."""
    body = mapping(tensors(arrays, legacy))
    body = mapping({"epoch": number(3), nest: body}) if nest else body
    contents = [
        np.ascontiguousarray(a).astype(a.dtype.newbyteorder(order)) for a in arrays.values()
    ]
    if legacy:
        write_legacy(path, pickled(body), contents, order)
    else:
        write_zip(path, pickled(body), [content.tobytes() for content in contents], order)


def write_zip(path, pickle: bytes, contents, order: str = "<", *, compress: bool = False) -> None:
    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED  # of tensors
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", "little" if order == "<" else "big")
        for key, content in enumerate(contents):
            archive.writestr(f"archive/data/{key}", content, compress_type=how, compresslevel=1)
        archive.writestr("archive/version", "3\n")


def write_legacy(path, pickle: bytes, contents, order: str = "<") -> None:
    little = b"\x88" if order == "<" else b"\x89"
    machine = b"}" + text("little_endian") + little + b"s"
    keys = b"](" + b"".join(text(str(key)) for key in range(len(contents))) + b"e"
    with path.open("wb") as file:
        file.write(pickled(MAGIC) + pickled(number(1001)) + pickled(machine))
        file.write(pickle + pickled(keys))
        for content in contents:
            file.write(struct.pack(order + "q", content.size) + content.tobytes())
