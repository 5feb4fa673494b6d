"""Every format a user may hold gives the same arrays; every broken file gives one sentence."""

import h5py
import numpy as np
import pytest
import safetensors.numpy

from jaxstyle.types import InputError
from jaxstyle.weights import formats

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
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_arrays(tmp_path, name):
    expected = network()
    file = tmp_path / name
    WRITERS[name](file, expected)
    contents = formats.read(file)
    assert contents.torchvision == (name == "torchvision.safetensors")
    assert set(contents.convolutions) == set(expected)
    for layer, parts in contents.convolutions.items():
        assert set(parts) == {"kernel", "bias"}
        for part, value in parts.items():
            assert value.dtype == np.float32 and value.flags.c_contiguous
            np.testing.assert_array_equal(value, expected[layer][part], err_msg=f"{layer} {part}")


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


@pytest.mark.parametrize("name", ["old.h5", "own.safetensors", "keras.npz"])
@pytest.mark.parametrize("tenths", range(10))
def test_truncated_files(tmp_path, name, tenths):
    file = tmp_path / name
    WRITERS[name](file, network())
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * tenths // 10])
    with pytest.raises(InputError) as error:
        formats.read(file)
    _one_sentence(error, name, f"cannot be read as {file.suffix} weights", "truncated")


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"<!doctype html><html>404</html>" * 9, b"", b"\x80\x04pickle."]
)
def test_another_kind_of_file_with_a_right_name(tmp_path, suffix, content):
    file = tmp_path / f"vgg{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError) as error:
        formats.read(file)
    _one_sentence(error, "another kind of file: fetch it again")


def test_nothing_in_a_file_is_executed(tmp_path):
    """An archive that needs pickle is refused."""
    np.savez(tmp_path / "vgg.npz", conv1_1=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / "vgg.npz")
    _one_sentence(error, "cannot be read as .npz weights", "allow_pickle=False")


@pytest.mark.parametrize("name", ["vgg.ckpt", "vgg", "vgg.h5.part"])
def test_unknown_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError) as error:
        formats.read(tmp_path / name)
    _one_sentence(error, f"'{name}'", "give one of .h5, .hdf5, .npz, .safetensors")


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
