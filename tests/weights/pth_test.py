"""PyTorch's files: both formats give the same arrays, and nothing in them is ever executed."""

import importlib.util
import io
import itertools
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxstyle.types import InputError
from jaxstyle.weights import pickles
from jaxstyle.weights.pth import read_pth

_SPEC = importlib.util.spec_from_file_location(
    "torch_files", pathlib.Path(__file__).with_name("torch_files.py")
)
tf = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tf)

RNG = np.random.default_rng(0)
ARRAYS = {
    "features.0.weight": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "features.0.bias": RNG.normal(size=4).astype(np.float16),
    "double": RNG.normal(size=(2, 5)),
    "count": np.array(7),
    "bytes": np.arange(5, dtype=np.uint8),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}


def refusal(path) -> str:
    with pytest.raises(InputError) as error:
        read_pth(path)
    message = str(error.value)
    assert message.startswith(f"'{path}'") and "\n" not in message and len(message) < 600, message
    return message


def traced(path) -> tuple[str, int]:
    """The refusal, and how many bytes it took."""
    tracemalloc.start()
    try:
        return refusal(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nest", ["", "state_dict", "model"])
@pytest.mark.parametrize("order", "<>")
def test_both_formats(tmp_path, legacy, nest, order):
    tf.save(tmp_path / "a.pth", ARRAYS, legacy=legacy, nest=nest, order=order)
    found = read_pth(str(tmp_path / "a.pth"))
    assert list(found) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        value, kind = found[name], expected.dtype
        assert value.dtype == (np.float32 if kind.kind == "f" else kind) and value.dtype.isnative
        assert value.shape == expected.shape and value.flags.c_contiguous, name
        np.testing.assert_array_equal(value, expected.astype(value.dtype))


def test_what_pytorch_itself_writes(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.randn(4, 3, 2, 2)
    state = {
        "weight": base,
        "turned": base.permute(2, 3, 1, 0),  # strides
        "part": base[1:3, :, 1],  # an offset, a storage that others use
        "expanded": torch.ones(1).expand(5, 4),  # strides of zero
        "scalar": torch.tensor(1.5),
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double(),
        "batches": torch.tensor(3),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(base + 1),
    }
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    saved = (
        state,
        {"state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "lr": 0.1}},
        {"model": {f"module.{name}": value for name, value in state.items()}},
        module.state_dict(),
    )
    file = tmp_path / "a.pth"
    ways = itertools.product(((2, True), (2, False), (3, True), (4, False), (5, True)), saved)
    for (protocol, new), given in ways:
        torch.save(given, file, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
        expected = saved[-1] if given is saved[-1] else state
        found = read_pth(file)
        assert list(found) == list(expected)
        for name, value in expected.items():
            value = value.detach()
            value = (value.float() if value.is_floating_point() else value).numpy()
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("legacy", [False, True])
def test_bfloat16_is_the_upper_half_of_float32(tmp_path, legacy):
    """Values with closed forms, subnormal and special ones among them."""
    pairs = {0x3F80: 1.0, 0xC040: -3.0, 0x0001: 2.0**-133, 0x7F80: np.inf, 0x8000: -0.0}
    stored = tf.storage("BFloat16Storage", "0", len(pairs), legacy=legacy)
    body = tf.pickled(tf.mapping({"x": tf.tensor(stored, 0, [len(pairs)], [1])}))
    content = np.array(list(pairs), "<u2")
    if legacy:
        tf.write_legacy(tmp_path / "b.pth", body, [content])
    else:
        tf.write_zip(tmp_path / "b.pth", body, [content.tobytes()])
    found = read_pth(tmp_path / "b.pth")["x"]
    np.testing.assert_array_equal(found, np.array(list(pairs.values()), np.float32))
    assert np.signbit(found[-1])


def test_strides_and_offsets(tmp_path):
    numbers = np.arange(24, dtype=np.float32)
    cases = {"turned": (2, (3, 2), (1, 5)), "same": (7, (2, 2), (0, 0)), "whole": (0, (24,), (1,))}
    stored = tf.storage("FloatStorage", "0", 24)
    body = tf.mapping({n: tf.tensor(stored, *case) for n, case in cases.items()})
    body += tf.text("old") + tf.tensor(stored, 4, (2,), (9,), "_rebuild_tensor") + b"s"
    tf.write_zip(tmp_path / "s.pth", tf.pickled(body), [numbers.tobytes()])
    found = read_pth(tmp_path / "s.pth")
    for name, (offset, shape, strides) in {**cases, "old": (4, (2,), (9,))}.items():
        expected = np.empty(shape)
        for index in np.ndindex(shape):
            place = offset + sum(i * s for i, s in zip(index, strides, strict=True))
            expected[index] = numbers[place]
        np.testing.assert_array_equal(found[name], expected)


# --- Nothing is executed ---

RAN = "ran.txt"


class _Reduced:
    """Anything a hostile file may name, with arguments."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def _hostile(tmp_path):
    target = str(tmp_path / RAN)
    stored = tf.storage("FloatStorage", "0", 1)
    good = tf.tensor(stored, 0, [1], [1])
    memo = tf.name("posix", "system") + b"q\x01" + b"0" + tf.mapping({})
    return {
        "os.system": (pickle.dumps(_Reduced(os.system, f"touch {target}"), 2), "posix.system"),
        "eval": (pickle.dumps(_Reduced(eval, f"open({target!r}, 'w')"), 4), "builtins.eval"),
        "eval, protocol 2": (pickle.dumps(_Reduced(eval, "1"), 2), "builtins.eval"),
        "open": (pickle.dumps(_Reduced(open, target, "w"), 3), "open"),
        "nested": (tf.pickled(tf.mapping({"a": good, "b": tf.call("os", "getcwd")})), "os.getcwd"),
        "by memo": (tf.pickled(memo + tf.text("x") + b"h\x01)Rs"), "posix.system"),
        "of torch": (tf.pickled(tf.call("torch", "load", tf.text(target))), "torch.load"),
        "dotted": (
            b"\x80\x04" + tf.text("collections") + tf.text("OrderedDict.fromkeys") + b"\x93.",
            "collections.OrderedDict.fromkeys",
        ),
        "hub": (tf.pickled(tf.call("torch.hub", "load", tf.text("x"))), "torch.hub.load"),
        "storage type": (tf.pickled(tf.name("torch", "QInt8Storage")), "torch.QInt8Storage"),
        "whole model": (tf.pickled(tf.name("torchvision.models.vgg", "VGG")), "models.vgg.VGG"),
        "instance": (b"\x80\x02(i__main__\nRun\n.", "__main__.Run"),
        "extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "newobj": (b"\x80\x02" + tf.name("subprocess", "Popen") + b")\x81.", "subprocess.Popen"),
        "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b".", ""),
        "name of numbers": (b"\x80\x04K\x01K\x02\x93.", "a name that is no text"),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_what_asks_for_code_is_refused_by_name(tmp_path, legacy):
    for label, (body, named) in _hostile(tmp_path).items():
        file = tmp_path / "hostile.pth"
        content = np.ones(1, np.float32)
        if legacy:
            tf.write_legacy(file, body, [content])
        else:
            tf.write_zip(file, body, [content.tobytes()])
        message = refusal(file)
        assert named in message, (label, message)
        assert not (tmp_path / RAN).exists(), label
        if named and label not in ("extension",):
            assert "nothing was executed" in message and "source you trust" in message


def test_a_call_of_what_may_not_be_called(tmp_path):
    """Allowed names in places where only data belongs, and data in the places of names."""
    stored = tf.storage("FloatStorage", "0", 1)
    cases = [
        tf.name("torch", "FloatStorage") + tf.tuple_of(tf.number(9)) + b"R",
        tf.text("collections") + b")R",
        tf.call("torch._utils", "_rebuild_tensor_v2", tf.text("x")),
        tf.call("torch._utils", "_rebuild_parameter", tf.text("x"), b"\x88", tf.mapping({})),
        tf.tensor(stored, 0, [1], [1, 1]),
        tf.tensor(tf.number(3), 0, [1], [1]),
        tf.text("a reference") + b"Q",
        b"h\x07", b"0", b"(t)R", b"e", b"s", b"N)b",
        tf.mapping({}) + b"](N" + b"s",
    ]  # fmt: skip
    for body in cases:
        tf.write_zip(tmp_path / "odd.pth", tf.pickled(body), [bytes(4)])
        refusal(tmp_path / "odd.pth")


def test_the_interpreter_agrees_with_pythons_on_data():
    values = {
        "list": [1, -2, 300, 70_000, 1 << 40, -(1 << 70), 1.5, None, True, False, "ä", b"\x00"],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        3: {"inner": {}},
        "shared": [[], []],
    }
    for protocol in range(1, 6):
        given = values if protocol > 2 else {k: v for k, v in values.items() if k != "list"}
        stream = io.BytesIO(pickle.dumps(given, protocol) + b"rest")
        assert pickles.parse(stream) == given
        assert stream.read() == b"rest"


# --- Broken and absurd files ---


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("tenths", range(10))
def test_truncated(tmp_path, legacy, tenths):
    file = tmp_path / "t.pth"
    tf.save(file, ARRAYS, legacy=legacy)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * tenths // 10])
    refusal(file)


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_anywhere(tmp_path, legacy):
    """And with any byte changed, it is refused or read; nothing else is raised."""
    file = tmp_path / "t.pth"
    tf.save(file, {"x": np.ones(2, np.float32)}, legacy=legacy)
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        refusal(file)
    for place in range(0, len(whole), 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read_pth(file)
        except InputError as error:
            assert "\n" not in str(error)


def test_a_changed_byte_of_a_number_is_noticed(tmp_path):
    """The zip format has a sum of the bytes of every tensor."""
    file = tmp_path / "c.pth"
    tf.save(file, {"x": np.full(1000, 3.0, np.float32)})
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "CRC" in refusal(file)


def _one_tensor(size, offset, shape, strides, content=bytes(400)):
    stored = tf.storage("FloatStorage", "0", size)
    return tf.pickled(tf.mapping({"x": tf.tensor(stored, offset, shape, strides)})), [content]


ABSURD = {
    "beyond": (_one_tensor(100, 1, [100], [1]), "more than the 100 numbers"),
    "strides": (_one_tensor(100, 0, [10, 10], [10, 2]), "more than the 100 numbers"),
    "huge": (_one_tensor(1 << 40, 0, [1 << 40], [1]), "would take"),
    "expanded": (_one_tensor(100, 0, [1 << 15, 1 << 15], [0, 0]), "would take"),
    "overflow": (_one_tensor(100, 0, [1 << 60, 1 << 60], [0, 0]), "cannot be read"),
    "negative": (_one_tensor(100, 0, [-1], [1]), "cannot be read"),
    "axes": (_one_tensor(100, 0, [1] * 20, [1] * 20), "cannot be read"),
    "storage": (_one_tensor(101, 0, [101], [1]), "shorter than its tensor says"),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_sizes_take_no_memory(tmp_path, case):
    (body, contents), words = ABSURD[case]
    tf.write_zip(tmp_path / "a.pth", body, contents)
    message, peak = traced(tmp_path / "a.pth")
    assert words in message and peak < 10e6


def test_zip_bombs(tmp_path):
    """A tensor that is too large, and a small one of a storage that is."""
    file = tmp_path / "bomb.pth"
    zeros = bytes(1 << 26)
    for size, words in ((1 << 24, "would take"), (4, "is compressed inside")):
        body, _ = _one_tensor(size, 0, [size], [1])
        tf.write_zip(file, body, [zeros], compress=True)
        message, peak = traced(file)
        assert words in message and peak < 10e6


def test_pickles_that_never_end(tmp_path):
    file = tmp_path / "long.pth"
    tf.write_zip(file, tf.pickled(b"N0" * (1 << 21) + b"N"), [])
    assert "absurdly long" in refusal(file)
    pairs = b"](" + b"](NNe" * 10_000 + b"eq\x01"
    copies = (tf.name("collections", "OrderedDict") + b"(h\x01tR0") * 10_000
    tf.write_zip(file, tf.pickled(pairs + copies), [])
    assert "absurdly long" in refusal(file)


def test_dictionaries_of_python_2(tmp_path):
    """A list of pairs, and parameters that were not yet tensors."""
    value = tf.tensor(tf.storage("FloatStorage", "0", 2), 0, (2,), (1,), "_rebuild_tensor")
    value = tf.name("torch.nn.parameter", "Parameter") + tf.tuple_of(value) + b"R"
    value += tf.tuple_of(b"\x88", b"\x89", tf.mapping({})) + b"b"
    pairs = b"](" + b"](" + tf.text("w") + value + b"ee"
    body = tf.call("collections", "OrderedDict", pairs)
    tf.write_legacy(tmp_path / "2.pth", tf.pickled(body), [ARRAYS["double"]])
    refusal(tmp_path / "2.pth")  # another length than the pickle says
    tf.write_zip(tmp_path / "2.pth", tf.pickled(body), [np.float32([1, 2]).tobytes()])
    np.testing.assert_array_equal(read_pth(tmp_path / "2.pth")["w"], [1, 2])


def test_a_memory_index_of_four_billion(tmp_path):
    """Python's own unpickler makes room for as many; this one does not."""
    body = tf.pickled(b"Nr\xff\xff\xff\xff0" + tf.mapping({}))
    tf.write_zip(tmp_path / "memo.pth", body, [])
    assert "holds no tensors by name" in refusal(tmp_path / "memo.pth")


def test_numbers_too_large_for_float32(tmp_path):
    tf.save(tmp_path / "d.pth", {"x": np.array([1e39]), "y": np.array([np.inf])})
    assert "has numbers in 'x' too large for float32" in refusal(tmp_path / "d.pth")
    tf.save(tmp_path / "d.pth", {"y": np.array([np.inf, 0.1])})
    found = read_pth(tmp_path / "d.pth")["y"]
    np.testing.assert_array_equal(found, np.array([np.inf, 0.1], np.float32))


def test_other_files(tmp_path):
    file = tmp_path / "x.pth"
    for content, words in {
        b"": "does not begin as a file of PyTorch's",
        b"<!doctype html>": "does not begin as a file of PyTorch's",
        pickle.dumps({"a": 1}): "does not begin as a file of PyTorch's",
    }.items():
        file.write_bytes(content)
        assert words in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "not one of PyTorch's" in refusal(file)
    tf.write_zip(file, tf.pickled(tf.number(3)), [])
    assert "holds no state dict" in refusal(file)
    tf.write_zip(file, tf.pickled(tf.mapping({"epoch": tf.number(3)})), [])
    assert "holds no tensors by name, but epoch" in refusal(file)
    tf.write_zip(file, _one_tensor(1, 0, [1], [1])[0], [])
    assert "lacks its part 'data/0'" in refusal(file)
    with pytest.raises(InputError, match="there is no weights file"):
        read_pth(tmp_path / "none.pth")


def test_circles_end(tmp_path):
    """A list that holds itself."""
    body = tf.pickled(tf.mapping({"x": b"]q\x01h\x01a"}))
    for legacy in (True, False):
        if legacy:
            tf.write_legacy(tmp_path / "c.pth", body, [])
        else:
            tf.write_zip(tmp_path / "c.pth", body, [])
        assert "holds no tensors" in refusal(tmp_path / "c.pth")


def test_torch_is_not_imported():
    """In a process that has it."""
    code = "import sys, jaxstyle.weights.pth; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert done.stdout == "False\n"
