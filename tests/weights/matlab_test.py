"""MATLAB's format against SciPy's writer, and by hand where SciPy writes no such thing."""

import contextlib
import struct

import numpy as np
import pytest
import scipy.io

from jaxstyle.weights import matlab

RNG = np.random.default_rng(0)


def _row(layers):
    row = np.empty((1, len(layers)), object)
    row[0, :] = layers
    return row


def _layer(name, kernel, bias, **more):
    weights = np.empty((1, 2), object)
    weights[0, 0], weights[0, 1] = kernel, bias
    return {"name": name, "type": "conv", "weights": weights, **more}


def opened(path):
    with contextlib.ExitStack() as stack:
        return {name: array.load() for name, array in matlab.open_mat(path, stack).items()}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_what_scipy_writes(tmp_path, compressed, kind):
    kernel = RNG.integers(-9, 9, (3, 2, 4, 5)).astype(kind)
    bias = RNG.integers(-9, 9, (1, 5)).astype(kind)
    more = {"pad": [1.0], "precious": 0.0, "opts": _row([]), "note": "größe", "dilate": np.eye(2)}
    layers = [_layer("conv2_1", kernel, bias, **more), {"name": "relu", "type": "relu"}]
    layers += [_layer("fc8", kernel[:1, :1], bias)]
    content = {"classes": _row(["cat", "dog"]), "layers": _row(layers), "x": np.ones(3) * 1j}
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
    found = opened(tmp_path / "a.mat")
    assert list(found) == ["conv2_1/kernel", "conv2_1/bias", "fc8/kernel", "fc8/bias"]
    np.testing.assert_array_equal(found["conv2_1/kernel"], kernel)
    np.testing.assert_array_equal(found["conv2_1/bias"], bias[0])
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_the_first_kernel_is_turned_back_to_bgr(tmp_path):
    kernel = RNG.normal(size=(3, 3, 3, 2)).astype(np.float32)
    content = {"net": {"layers": _row([_layer("conv1_1", kernel, np.ones((2, 1)))])}}
    scipy.io.savemat(tmp_path / "a.mat", content)
    np.testing.assert_array_equal(opened(tmp_path / "a.mat")["conv1_1/kernel"], kernel[:, :, ::-1])


def _element(order, kind, data):
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def _array(order, kind, shape, data, name=b""):
    flags = _element(order, 6, struct.pack(order + "II", kind, 0))
    lengths = _element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
    return _element(order, 14, flags + lengths + _element(order, 1, name) + data)


def _file(order, layers):
    mark = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    return b"MATLAB 5.0 MAT-file".ljust(124) + mark + layers


def _network(order):
    """One structure; its numbers and texts are stored in the narrowest types that hold them."""
    short = struct.pack(order + "I", 4 << 16 | 1) + b"conv"  # length and type in one word
    numbers = struct.pack(order + "6h", *range(6))
    kernel = _array(order, 7, (2, 1, 1, 3), _element(order, 3, numbers))
    bias = _array(order, 6, (3, 1), _element(order, 9, struct.pack(order + "3d", 1, 2, 3)))
    cell = _array(order, 1, (1, 2), kernel + bias)
    values = [_array(order, 4, (1, 4), short), cell]
    values.append(_array(order, 4, (1, 7), _element(order, 16, b"conv1_2")))
    names = b"".join(name.ljust(8, b"\0") for name in (b"type", b"weights", b"name"))
    width = struct.pack(order + "Ii", 4 << 16 | 5, 8)
    fields = width + _element(order, 1, names)
    return _array(order, 2, (1, 1), fields + b"".join(values), b"layers")


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders(tmp_path, order):
    (tmp_path / "a.mat").write_bytes(_file(order, _network(order)))
    found = opened(tmp_path / "a.mat")
    expected = np.arange(6).reshape(3, 1, 1, 2).transpose(3, 1, 2, 0)  # the first axis runs fastest
    np.testing.assert_array_equal(found["conv1_2/kernel"], expected)
    np.testing.assert_array_equal(found["conv1_2/bias"], [1, 2, 3])


@pytest.mark.parametrize("shape", [(1, 2**31 - 1), (2**31 - 1,) * 3, (-1, 5), ()])
@pytest.mark.parametrize("kind", [1, 2, 4, 7])
def test_shapes_are_not_believed(tmp_path, shape, kind):
    inner = _element("<", 5, struct.pack("<i", 8)) + _element("<", 1, bytes(8))
    inner = inner if kind == 2 else _element("<", 7, bytes(8))
    (tmp_path / "a.mat").write_bytes(_file("<", _array("<", kind, shape, inner, b"layers")))
    with pytest.raises(ValueError):
        opened(tmp_path / "a.mat")


def test_nesting_without_end(tmp_path):
    inner = _array("<", 6, (1, 1), _element("<", 9, bytes(8)))
    for _ in range(200):
        inner = _array("<", 1, (1, 1), inner, b"layers")
    (tmp_path / "a.mat").write_bytes(_file("<", inner))
    with pytest.raises(ValueError):
        opened(tmp_path / "a.mat")
