"""Every format a user may hold gives the same arrays; every broken file gives one sentence."""

import importlib.util
import json
import pathlib
import struct
import tracemalloc

import h5py
import numpy as np
import pytest
import safetensors.numpy
import scipy.io

from jaxstyle.types import InputError
from jaxstyle.weights import formats

_SPEC = importlib.util.spec_from_file_location(
    "torch_files", pathlib.Path(__file__).with_name("torch_files.py")
)
torch_files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(torch_files)

# Convolutions of VGG-16's and VGG-19's first blocks, with few channels.
NAMES = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3")
WIDTHS = (3, 4, 5, 3, 6, 4, 4, 5)
# Places of the same convolutions among torchvision's modules: relu and pool count too.
TORCHVISION = (0, 2, 5, 7, 10, 12, 14)


def network():
    rng = np.random.default_rng(0)
    return {
        name: {
            # Half precision holds these exactly.
            "kernel": rng.integers(-8, 8, (3, 3, c_in, c_out)).astype(np.float32) / 8,
            "bias": rng.integers(-8, 8, c_out).astype(np.float32) / 8,
        }
        for name, c_in, c_out in zip(NAMES, WIDTHS[:-1], WIDTHS[1:], strict=True)
    }


def _oihw(kernel):
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def _keras_name(name):
    return f"block{name[4]}_{name[:4]}{name[-1]}"


def write_keras_old(path, params):
    """The layout of the published `*_notop.h5`."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [_keras_name(name).encode() for name in params]
        file.create_group("block1_pool")
        for name, parts in params.items():
            group = file.create_group(_keras_name(name))
            group[f"{_keras_name(name)}_W_1:0"] = parts["kernel"]
            group[f"{_keras_name(name)}_b_1:0"] = parts["bias"]


def write_keras_new(path, params, root=""):
    with h5py.File(path, "w") as file:
        for name, parts in params.items():
            for part, value in parts.items():
                file[f"{root}{_keras_name(name)}/{_keras_name(name)}/{part}:0"] = value
        file[f"{root}predictions/predictions/kernel:0"] = np.ones((8, 10), np.float32)


def write_keras_model(path, params):
    """A whole model, in a group called `model_weights`."""
    write_keras_new(path, params, root="model_weights/")


def write_own_names(path, params):
    arrays = {f"{n}/{part}": value for n, parts in params.items() for part, value in parts.items()}
    safetensors.numpy.save_file(arrays, path)


def write_torchvision(path, params):
    arrays = {"classifier.0.weight": np.ones((4, 4), np.float32)}
    for index, parts in zip(TORCHVISION, params.values(), strict=True):
        arrays[f"features.{index}.weight"] = _oihw(parts["kernel"])
        arrays[f"features.{index}.bias"] = parts["bias"]
    safetensors.numpy.save_file(arrays, path)


def write_pytorch_names(path, params):
    """`conv11.weight`, as several PyTorch projects have it."""
    arrays = {}
    for name, parts in params.items():
        short = name.replace("_", "")
        arrays[f"{short}.weight"], arrays[f"{short}.bias"] = _oihw(parts["kernel"]), parts["bias"]
        arrays[f"{short}_aux.weight"] = np.ones((2, len(parts["bias"]), 1, 1), np.float32)
        arrays[f"{short}_aux.bias"] = np.ones(2, np.float32)
    np.savez(path, **arrays)


def write_keras_npz(path, params):
    np.savez(path, **{f"{_keras_name(n)}/{k}": v for n, p in params.items() for k, v in p.items()})


def write_slim(path, params):
    """TensorFlow-Slim's names: HWIO, although they say `weights`."""
    arrays = {}
    for name, parts in params.items():
        place = f"vgg_16/{name[:5]}/{name}"
        arrays[f"{place}/weights"], arrays[f"{place}/biases"] = parts["kernel"], parts["bias"]
    np.savez(path, **arrays)


def write_half(path, params):
    formats.write(path, params, {"license": "none", "note": "größer als ASCII"})


def _torchvision_arrays(params):
    arrays = {}
    for index, parts in zip(TORCHVISION, params.values(), strict=True):
        arrays[f"features.{index}.weight"] = _oihw(parts["kernel"])
        arrays[f"features.{index}.bias"] = parts["bias"]
    return arrays | {"classifier.0.weight": np.ones((4, 4), np.float32)}


def write_pth(path, params):
    torch_files.save(path, _torchvision_arrays(params))


def write_legacy_pth(path, params):
    """As the published vgg16-397923af.pth is."""
    torch_files.save(path, _torchvision_arrays(params), legacy=True)


def write_johnson(path, params):
    """Johnson's conversion of the Caffe weights: its classifier begins with another module."""
    arrays = _torchvision_arrays(params)
    arrays["classifier.1.weight"] = arrays.pop("classifier.0.weight")
    torch_files.save(path, arrays, legacy=True)


def write_caffe_pth(path, params):
    """`conv1_1.weight`, as Gatys's vgg_conv.pth."""
    arrays = {f"{n}.weight": _oihw(parts["kernel"]) for n, parts in params.items()}
    torch_files.save(path, arrays | {f"{n}.bias": parts["bias"] for n, parts in params.items()})


def write_mat(path, params, old=False, **options):
    """As MatConvNet's importer: a row of structures, RGB first, biases in a row or a column."""
    layers = []
    for name, parts in params.items():
        kernel = parts["kernel"][:, :, ::-1] if name == "conv1_1" else parts["kernel"]
        weights = np.empty((1, 2), object)
        weights[0, 0], weights[0, 1] = kernel, parts["bias"].reshape(-1, 1)
        own = {"filters": kernel, "biases": parts["bias"].reshape(1, -1)}
        own = own if old else {"weights": weights}
        layers += [{"name": name, "type": "conv", "pad": np.ones(4), **own}]
        layers += [{"name": name.replace("conv", "relu"), "type": "relu"}]
    row = np.empty((1, len(layers)), object)
    row[0, :] = layers
    meta = {"normalization": {"averageImage": np.float32([123.68, 116.779, 103.939])}}
    scipy.io.savemat(path, {"layers": row, "meta": meta}, **options)


def write_old_mat(path, params):
    write_mat(path, params, old=True, do_compression=True)


def write_double(path, params):
    arrays = {f"{n}/{k}": v.astype(np.float64) for n, p in params.items() for k, v in p.items()}
    np.savez_compressed(path, **arrays)


def write_brain(path, params):
    """bfloat16, whose eight bits hold these numbers exactly."""
    header, content = {}, b""
    for name, parts in params.items():
        for part, value in parts.items():
            upper = (np.ascontiguousarray(value).view("<u4") >> 16).astype("<u2").tobytes()
            ends = [len(content), len(content) + len(upper)]
            shape = list(value.shape)
            header[f"{name}/{part}"] = {"dtype": "BF16", "shape": shape, "data_offsets": ends}
            content += upper
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def write_brain_npz(path, params):
    """NumPy has no name for bfloat16: it stores what other libraries give it as two bytes."""
    arrays = {
        f"{n}/{k}": (v.view("<u4") >> 16).astype("<u2").view("V2")
        for n, p in params.items()
        for k, v in p.items()
    }
    np.savez(path, **arrays)


WRITERS = {
    "old.h5": write_keras_old,
    "new.hdf5": write_keras_new,
    "model.H5": write_keras_model,
    "own.safetensors": write_own_names,
    "torchvision.safetensors": write_torchvision,
    "pytorch.npz": write_pytorch_names,
    "keras.npz": write_keras_npz,
    "slim.npz": write_slim,
    "half.safetensors": write_half,
    "torchvision.pth": write_pth,
    "torchvision-legacy.pth": write_legacy_pth,
    "johnson.pth": write_johnson,
    "caffe.pt": write_caffe_pth,
    "matconvnet.mat": write_mat,
    "matconvnet-old.mat": write_old_mat,
    "double.npz": write_double,
    "brain.safetensors": write_brain,
    "brain.npz": write_brain_npz,
}
CONVENTIONS = {"johnson.pth": "caffe"} | {
    name: "torchvision" for name in WRITERS if name.startswith("torchvision")
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_arrays(tmp_path, name):
    expected = network()
    file = tmp_path / name
    WRITERS[name](file, expected)
    contents = formats.read(file)
    assert contents.convention == CONVENTIONS.get(name, "")
    assert set(contents.convolutions) == set(expected)
    for layer, parts in contents.convolutions.items():
        assert set(parts) == {"kernel", "bias"}
        for part, value in parts.items():
            assert value.dtype == np.float32 and value.flags.c_contiguous
            np.testing.assert_array_equal(value, expected[layer][part], err_msg=f"{layer} {part}")


@pytest.mark.parametrize("name", ["old.h5", "keras.npz", "matconvnet.mat", "torchvision.pth"])
def test_the_suffix_does_not_count(tmp_path, name):
    for other in ("weights", "weights.pth", "weights.h5"):
        WRITERS[name](tmp_path / name, network())
        file = (tmp_path / name).rename(tmp_path / other)
        assert set(formats.read(file).convolutions) == set(NAMES)


def test_the_sequence_of_normalized_networks(tmp_path):
    """`0.weight` is the input convolution, and modules for padding count too."""
    steps = "c" + "pcr" * 2 + "m" + "pcr" * 2 + "m" + "pcr" * 4 + "m" + "pcr"
    modules = [place for place, step in enumerate(steps) if step == "c"]
    arrays = {f"{modules[0]}.weight": np.ones((3, 3, 1, 1)), f"{modules[0]}.bias": np.ones(3)}
    for number, module in enumerate(modules[1:]):
        arrays[f"{module}.weight"] = np.full((2, 2, 3, 3), number, np.float64)
        arrays[f"{module}.bias"] = np.full(2, number, np.float64)
    torch_files.save(tmp_path / "vgg_normalised.pth", arrays, legacy=True)
    contents = formats.read(tmp_path / "vgg_normalised.pth")
    found = {n: int(parts["bias"][0]) for n, parts in contents.convolutions.items()}
    names = [f"conv{b}_{c}" for b, n in enumerate((2, 2, 4, 1), 1) for c in range(1, n + 1)]
    assert found == {"conv0": 1} | {name: place for place, name in enumerate(names)}


def test_the_header_tells_the_convention(tmp_path):
    formats.write(tmp_path / "a.safetensors", network(), {"convention": "torchvision"})
    assert formats.read(tmp_path / "a.safetensors").convention == "torchvision"


@pytest.mark.parametrize("depths", [(2, 2, 3, 3, 3), (2, 2, 4, 4, 4)])
def test_torchvision_numbers_every_module(tmp_path, depths):
    """A convolution, its ReLU, and the pool after a block all count; each depth has its numbers."""
    modules = []
    for block, depth in enumerate(depths, 1):
        for number in range(1, depth + 1):
            modules += [f"conv{block}_{number}", "relu"]
        modules.append("pool")
    expected = {name: index for index, name in enumerate(modules) if name.startswith("conv")}
    arrays = {f"features.{i}.bias": np.full(1, i, np.float32) for i in expected.values()}
    safetensors.numpy.save_file(arrays, tmp_path / "all.safetensors")
    found = formats.read(tmp_path / "all.safetensors").convolutions
    assert {name: int(parts["bias"][0]) for name, parts in found.items()} == expected


def test_torchvision_networks_with_other_modules_are_refused(tmp_path):
    """With batch normalization the numbers mean other layers, and so would the weights."""
    arrays = {f"features.{i}.bias": np.ones(1, np.float32) for i in (0, 1, 3, 4, 7)}
    safetensors.numpy.save_file(arrays, tmp_path / "bn.safetensors")
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "bn.safetensors")
    _one_sentence(error, "holds no VGG convolutions")
    arrays |= {"features.1.running_mean": np.ones(1, np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "bn.safetensors")
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "bn.safetensors")
    _one_sentence(error, "has batch normalization (vgg16_bn, vgg19_bn); give the network without")


def test_the_classifier_alone(tmp_path):
    arrays = {f"classifier.{i}.weight": np.ones((2, 2), np.float32) for i in (0, 3, 6)}
    torch_files.save(tmp_path / "fc.pth", arrays)
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "fc.pth")
    _one_sentence(error, "holds the classifier alone", "classifier.0.weight")


def test_written_files_are_half_precision_and_always_the_same_bytes(tmp_path):
    params = network()
    formats.write(tmp_path / "a.safetensors", params, {"license": "x"})
    backwards = {name: dict(reversed(parts.items())) for name, parts in reversed(params.items())}
    formats.write(tmp_path / "b.safetensors", backwards, {"license": "x"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        assert file.metadata() == {"license": "x"}
        assert {file.get_tensor(name).dtype for name in file.keys()} == {np.dtype(np.float16)}  # noqa: SIM118


def _one_sentence(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    for part in parts:
        assert part in message, message


TRUNCATED = ["old.h5", "new.hdf5", "own.safetensors", "keras.npz", "double.npz"]
TRUNCATED += ["torchvision.pth", "torchvision-legacy.pth", "matconvnet.mat", "matconvnet-old.mat"]


@pytest.mark.parametrize("name", TRUNCATED)
def test_truncated_files(tmp_path, name):
    WRITERS[name](tmp_path / name, network())
    whole = (tmp_path / name).read_bytes()
    for tenths in range(10):
        (tmp_path / name).write_bytes(whole[: len(whole) * tenths // 10])
        with pytest.raises(InputError) as error:
            formats.read(tmp_path / name)
        _one_sentence(error, name, "fetch it again", "truncated" if tenths else "is empty")


@pytest.mark.parametrize("name", TRUNCATED)
def test_changed_bytes(tmp_path, name):
    """Whatever happens to a file, it is read or refused in a sentence."""
    WRITERS[name](tmp_path / name, network())
    whole = (tmp_path / name).read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), 40)
    for place in [*range(0, 300, 9), *places]:
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        (tmp_path / name).write_bytes(changed)
        try:
            formats.read(tmp_path / name)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 600


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".safetensors", ".pth", ".mat", ""])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!doctype html><html>404</html>" * 9, "is a web page and not weights"),
        (b"\xef\xbb\xbf\r\n<html>", "is a web page and not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid ", "git lfs pull"),
        (b"\x1f\x8b\x08\x00", "is compressed; unpack it first"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64", "save it with `save(..., '-v7')`"),
        (b"", "is empty; fetch it again"),
    ],
)
def test_another_kind_of_file_with_a_right_name(tmp_path, suffix, content, words):
    file = tmp_path / f"vgg{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        formats.read(file)
    _one_sentence(error, f"'{file}'", words)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".safetensors", ".pth", ".mat"])
def test_a_beginning_that_no_format_has(tmp_path, suffix):
    file = tmp_path / f"vgg{suffix}"
    file.write_bytes(b"\x80\x04pickle." * 9)
    with pytest.raises(InputError) as error:
        formats.read(file)
    _one_sentence(error, f"does not begin as a {suffix} file does", "fetch it again")


def _bombs(folder):
    zeros = np.zeros((3, 3, 1 << 10, 1 << 10), np.float32)  # 38 MB
    np.savez_compressed(folder / "npz.npz", **{"conv1_1/kernel": zeros})
    with h5py.File(folder / "h5", "w") as file:  # never written: fill values
        file.create_dataset("conv1_1/kernel", (3, 3, 1 << 14, 1 << 14), "f4", chunks=(3, 3, 64, 64))
    entry = {"dtype": "F32", "shape": [3, 3, 1 << 14, 1 << 14], "data_offsets": [0, 9 << 30]}
    header = json.dumps({"conv1_1/kernel": entry}).encode()
    (folder / "safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(99))
    (folder / "header").write_bytes(struct.pack("<Q", 1 << 60) + b"{" + bytes(99))
    scipy.io.savemat(folder / "mat", {"layers": zeros}, do_compression=True)


def test_bombs_are_refused_before_they_take_memory(tmp_path):
    _bombs(tmp_path)
    for name in ("npz.npz", "h5", "safetensors", "header", "mat"):
        tracemalloc.start()
        with pytest.raises(InputError) as error:
            formats.read(tmp_path / name)
        # Inflating is stopped at the limit.
        assert tracemalloc.get_traced_memory()[1] < (50e6 if name == "mat" else 10e6), name
        tracemalloc.stop()
        _one_sentence(error, name)
        if name in ("npz.npz", "h5"):
            _one_sentence(error, "its arrays would take")
        if name == "mat":
            _one_sentence(error, "absurdly large")


def test_an_array_in_another_file_is_not_followed(tmp_path):
    """HDF5 can point to any file of the reader's."""
    (tmp_path / "secret").write_bytes(bytes(108 * 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        outside = [(str(tmp_path / "secret"), 0, 108 * 4)]
        file.create_dataset("conv1_1/kernel", (3, 3, 3, 4), "f4", external=outside)
        file["conv1_1/bias"] = h5py.ExternalLink("other.h5", "/bias")
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "a.h5")
    _one_sentence(error, "holds no VGG convolutions", "its first arrays are none")


def test_mat_files_of_other_things(tmp_path):
    scipy.io.savemat(tmp_path / "m.mat", {"a": np.ones(3)})
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "m.mat")
    _one_sentence(error, "has no variable `layers`", "imagenet-vgg-verydeep-19.mat")


def test_numbers_too_large_or_of_unknown_kind(tmp_path):
    params = network()
    params["conv1_2"]["bias"] = np.full(5, 1e39)
    write_keras_npz(tmp_path / "a.npz", params)
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "a.npz")
    _one_sentence(error, "'block1_conv2/bias' too large for float32")
    entry = {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    header = json.dumps({"conv1_1/bias": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "a.safetensors")
    _one_sentence(error, "as F8_E4M3, which cannot be read")


def test_writing_all_or_nothing(tmp_path):
    params = network()
    file = tmp_path / "a.safetensors"
    formats.write(file, params, {}, dtype=np.float32)
    before = file.read_bytes()
    assert {str(v.dtype) for v in safetensors.numpy.load_file(file).values()} == {"float32"}
    params["conv1_1"]["bias"] = np.full(4, 1e5, np.float32)
    with pytest.raises(InputError) as error:
        formats.write(file, params, {})
    _one_sentence(error, "the bias of conv1_1 has numbers too large for float16; write float32")
    with pytest.raises(InputError) as error:
        formats.write(tmp_path / "no" / "a.safetensors", network(), {})
    _one_sentence(error, "cannot be written (No such file or directory)")
    assert file.read_bytes() == before and [*tmp_path.iterdir()] == [file]


def test_nothing_in_a_file_is_executed(tmp_path):
    """An archive that needs pickle is refused."""
    np.savez(tmp_path / "vgg.npz", conv1_1=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "vgg.npz")
    _one_sentence(error, "has Python objects in 'conv1_1', which only running code could read")


@pytest.mark.parametrize("name", ["vgg.ckpt", "vgg", "vgg.h5.part"])
def test_unknown_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / name)
    _one_sentence(error, f"{name}'", "give one of .h5, .safetensors, .npz, .pth, .mat")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "no.h5", tmp_path):
        with pytest.raises(InputError) as error:
            formats.read(path)
        _one_sentence(error, f"there is no weights file '{path}'")


def test_a_file_of_another_network(tmp_path):
    np.savez(tmp_path / "other.npz", fc7=np.ones((3, 3)), pool=np.ones(3))
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "other.npz")
    _one_sentence(error, "holds no VGG convolutions", "its first arrays are fc7, pool.")


def test_two_arrays_for_one_place(tmp_path):
    """A checkpoint with an optimizer's averages: which is the weight is not for us to guess."""
    arrays = {"conv1_1/kernel": np.ones((3, 3, 3, 4)), "adam/conv1_1/kernel": np.ones((3, 3, 3, 4))}
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "checkpoint.npz")
    _one_sentence(
        error, "checkpoint.npz", "more than one kernel for conv1_1", "'adam/conv1_1/kernel'"
    )
