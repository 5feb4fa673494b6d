"""Loading a perceptual network: what is accepted, what is refused, and in which words."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import scipy.io

from jaxstyle import features
from jaxstyle.types import InputError
from jaxstyle.weights import formats, load_weights, loading

WIDTHS = {"vgg16": (4, 5, 3, 6, 4), "vgg19": (4, 5, 3, 6, 4), "embedded": (3, 4, 5, 4, 6)}


def _thin(name, upto=None):
    """Random parameters with few channels, up to and with the convolution `upto`."""
    rng, before, params = np.random.default_rng(0), 3, {}
    for convolution in features.NETWORKS[name].convolutions:
        width = WIDTHS[name][int(convolution[4]) - 1]
        params[convolution] = {
            "kernel": rng.normal(size=(3, 3, before, width)).astype(np.float32),
            "bias": rng.normal(size=width).astype(np.float32),
        }
        before = width
        if convolution == upto:
            break
    return params


def _save(path, params):
    np.savez(path, **{f"{n}/{k}": v for n, parts in params.items() for k, v in parts.items()})
    return path


@pytest.mark.parametrize("name", WIDTHS)
def test_a_thinner_complete_file(tmp_path, name):
    params = _thin(name)
    weights = load_weights(name, str(_save(tmp_path / "thin.npz", params)))
    table = features.NETWORKS[name]
    assert weights.network.name == name
    assert weights.network.layers == table.layers
    assert weights.network.shapes() == {n: parts["kernel"].shape for n, parts in params.items()}
    assert weights.network.convention == table.convention
    assert (weights.network.pooling, weights.network.padding) == (table.pooling, table.padding)
    for convolution, parts in params.items():
        for part, value in parts.items():
            found = weights.params[convolution][part]
            assert found.dtype == jnp.float32
            np.testing.assert_array_equal(found, value)


def test_a_file_may_stop_early(tmp_path):
    weights = load_weights("vgg19", _save(tmp_path / "start.npz", _thin("vgg19", "conv2_1")))
    assert sorted(weights.params) == ["conv1_1", "conv1_2", "conv2_1"]
    maps = features.features(
        weights.params, jnp.ones((4, 4, 3)), ("relu1_1",), network=weights.network
    )
    assert maps["relu1_1"].shape == (4, 4, 4)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _save(tmp_path / "thin.npz", _thin("vgg16", "conv1_1"))
    assert load_weights("vgg16", "~/thin.npz").params


@pytest.mark.parametrize(
    ("given", "expected"), [("", "caffe"), ("torchvision", "torchvision"), ("caffe", "caffe")]
)
def test_convention_by_name(tmp_path, given, expected):
    file = _save(tmp_path / "thin.npz", _thin("vgg16", "conv1_2"))
    weights = load_weights("vgg16", file, convention=given)
    assert weights.network.convention == features.CONVENTIONS[expected]


@pytest.mark.parametrize(("given", "expected"), [("", "torchvision"), ("caffe", "caffe")])
def test_torchvision_names_bring_their_convention(tmp_path, given, expected):
    parts = _thin("vgg16", "conv1_1")["conv1_1"]
    kernel = parts["kernel"].transpose(3, 2, 0, 1)
    np.savez(tmp_path / "tv.npz", **{"features.0.weight": kernel, "features.0.bias": parts["bias"]})
    weights = load_weights("vgg16", tmp_path / "tv.npz", convention=given)
    assert weights.network.convention == features.CONVENTIONS[expected]
    np.testing.assert_array_equal(weights.params["conv1_1"]["kernel"], parts["kernel"])


def test_an_input_convolution_is_folded_exactly(tmp_path):
    """conv0, then reflection, then conv1_1, computed in NumPy, equals the folded conv1_1."""
    rng = np.random.default_rng(1)
    params = _thin("vgg19", "conv1_2")
    inner = {"weight": rng.normal(size=(3, 3, 1, 1)), "bias": rng.normal(size=3)}
    arrays = {f"conv0.{part}": value.astype(np.float32) for part, value in inner.items()}
    for name, parts in params.items():
        short = name.replace("_", "")
        arrays[f"{short}.weight"] = parts["kernel"].transpose(3, 2, 0, 1)
        arrays[f"{short}.bias"] = parts["bias"]
    np.savez(tmp_path / "normalized.npz", **arrays)
    weights = load_weights("vgg19", tmp_path / "normalized.npz")
    assert weights.network.convention == features.PLAIN
    assert weights.network.padding == "reflect"
    assert "conv0" not in weights.params

    image = rng.random((5, 6, 3)).astype(np.float32)
    x = image @ inner["weight"][:, :, 0, 0].T + inner["bias"]
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)), "reflect")
    outer = params["conv1_1"]
    expected = outer["bias"] + sum(
        x[i : i + 5, j : j + 6] @ outer["kernel"][i, j] for i in range(3) for j in range(3)
    )
    maps = features.features(
        weights.params, jnp.asarray(image), ("conv1_1",), network=weights.network
    )
    np.testing.assert_allclose(maps["conv1_1"], expected, rtol=1e-5, atol=1e-5)


def _without(params, name, part=None):
    rest = {n: dict(parts) for n, parts in params.items()}
    if part is None:
        del rest[name]
    else:
        del rest[name][part]
    return rest


def _changed(params, name, part, value):
    return {**params, name: {**params[name], part: value}}


FULL = _thin("vgg16", "conv3_3")
BROKEN = {
    "layer": (_without(FULL, "conv2_1"), "lacks the layer of conv2_1; get a complete file."),
    "first": (_without(FULL, "conv1_1"), "lacks the layer of conv1_1"),
    "bias": (_without(FULL, "conv2_2", "bias"), "lacks the bias of conv2_2"),
    "kernel": (_without(FULL, "conv3_3", "kernel"), "lacks the kernel of conv3_3"),
    "channels": (
        _changed(FULL, "conv2_1", "kernel", np.ones((3, 3, 9, 5), np.float32)),
        "conv2_1 has shapes (3, 3, 9, 5) and (5,), but a kernel (3, 3, 4, n) with a bias (n,)",
    ),
    "size": (
        _changed(FULL, "conv1_1", "kernel", np.ones((5, 5, 3, 4), np.float32)),
        "conv1_1 has shapes (5, 5, 3, 4)",
    ),
    "bias shape": (
        _changed(FULL, "conv1_2", "bias", np.ones(7, np.float32)),
        "conv1_2 has shapes (3, 3, 4, 4) and (7,)",
    ),
    "nan": (
        _changed(FULL, "conv3_1", "bias", np.array([0, np.nan, 0], np.float32)),
        "conv3_1 has values that are not finite",
    ),
    "infinity": (
        _changed(FULL, "conv1_1", "kernel", np.full((3, 3, 3, 4), np.inf, np.float32)),
        "conv1_1 has values that are not finite",
    ),
    "foreign": (
        {**FULL, "conv3_4": FULL["conv3_3"]},
        "has conv3_4, which vgg16 does not have; set features.name to the network",
    ),
    "PyTorch's order": (
        _changed(FULL, "conv1_1", "kernel", np.ones((4, 3, 3, 3), np.float32)),
        "its axes are in the order (out, in, height, width), PyTorch's and Theano's: transpose all",
    ),
    "channels swapped": (
        _changed(FULL, "conv2_1", "kernel", np.ones((3, 3, 5, 4), np.float32)),
        "its axes are in the order (height, width, out, in): transpose all kernels.",
    ),
    "another network": (
        _thin("vgg19"),
        "has the layers of vgg19 and not of vgg16; set features.name=vgg19, or give a file of",
    ),
    "only input": (
        {"conv0": {"kernel": np.ones((1, 1, 3, 3)), "bias": np.ones(3)}},
        "lacks the layer of conv1_1",
    ),
    "input without bias": (
        {**FULL, "conv0": {"kernel": np.ones((1, 1, 3, 3))}},
        "lacks the bias of conv0",
    ),
    "input shape": (
        {**FULL, "conv0": {"kernel": np.ones((3, 3, 3, 3)), "bias": np.ones(3)}},
        "conv0 has shapes (3, 3, 3, 3) and (3,), but a kernel (1, 1, 3, n)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said(tmp_path, case):
    params, message = BROKEN[case]
    file = _save(tmp_path / "broken.npz", params)
    with pytest.raises(InputError) as error:
        load_weights("vgg16", file)
    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_other_way_round(tmp_path):
    file = _save(tmp_path / "vgg16.npz", _thin("vgg16"))
    with pytest.raises(InputError, match="has the layers of vgg16 and not of vgg19; set features"):
        load_weights("vgg19", file)


def test_a_beginning_that_is_all_of_another_network(tmp_path):
    """VGG-16 up to conv5_1 has the names of the embedded network, and is VGG-16's all the same."""
    file = _save(tmp_path / "start.npz", _thin("vgg16", "conv5_1"))
    assert load_weights("vgg16", file).network.name == "vgg16"


def test_renamed_layers_are_named(tmp_path):
    arrays = {f"{n}/{k}": v for n, parts in FULL.items() for k, v in parts.items()}
    for part in ("kernel", "bias"):
        arrays[f"second/{part}"] = arrays.pop(f"conv1_2/{part}")
    np.savez(tmp_path / "renamed.npz", **arrays)
    with pytest.raises(InputError) as error:
        load_weights("vgg16", tmp_path / "renamed.npz")
    assert "lacks the layer of conv1_2 (names that could not be placed: second/" in str(error.value)


def test_a_convention_nobody_knows(tmp_path):
    formats.write(tmp_path / "a.safetensors", FULL, {"convention": "bytes"})
    with pytest.raises(InputError, match="says that its input is 'bytes'.*--convention"):
        load_weights("vgg16", tmp_path / "a.safetensors")


def test_the_real_network_through_every_format(tmp_path, shared_data):
    """VGG-19's first three blocks, written as each project writes them, and read again."""
    real = formats.read(shared_data / "weights" / "vgg19_caffe_blocks1-3.npz").convolutions
    numbers = dict(zip(real, (0, 2, 5, 7, 10, 12, 14, 16), strict=True))
    oihw = {
        f"features.{numbers[n]}.{k}": v.transpose(3, 2, 0, 1) if part == "kernel" else v
        for n, parts in real.items()
        for part, v in parts.items()
        for k in [{"kernel": "weight", "bias": "bias"}[part]]
    }
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in oihw.items()}
    for new in (True, False):
        torch.save(state, tmp_path / f"{new}.pth", _use_new_zipfile_serialization=new)
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        for name, parts in real.items():
            label = f"block{name[4]}_conv{name[6]}"
            file[f"{label}/{label}_W_1:0"] = parts["kernel"]
            file[f"{label}/{label}_b_1:0"] = parts["bias"]
    layers = np.empty((1, len(real)), object)
    for place, (name, parts) in enumerate(real.items()):
        weights = np.empty((1, 2), object)
        rgb = name == "conv1_1"  # MatConvNet's networks take RGB
        weights[0, 0] = parts["kernel"][:, :, ::-1] if rgb else parts["kernel"]
        weights[0, 1] = parts["bias"][None]
        layers[0, place] = {"name": name, "type": "conv", "weights": weights}
    scipy.io.savemat(tmp_path / "imagenet.mat", {"layers": layers}, do_compression=True)
    formats.write(tmp_path / "own.safetensors", real, {}, dtype=np.float32)
    for file in sorted(tmp_path.iterdir()):
        weights = load_weights("vgg19", file, convention="caffe")
        assert weights.network == features.NETWORKS["vgg19"]
        for name, parts in real.items():
            for part, value in parts.items():
                np.testing.assert_array_equal(weights.params[name][part], value)


def test_unknown_names(tmp_path):
    with pytest.raises(InputError, match="unknown network 'vgg'; did you mean"):
        load_weights("vgg")
    file = _save(tmp_path / "thin.npz", FULL)
    with pytest.raises(InputError, match="unknown convention 'pytorch'.*caffe, torchvision, plain"):
        load_weights("vgg16", file, convention="pytorch")


def test_checks_come_before_computing(tmp_path):
    """`check` gives the widths found and leaves the table's for layers the file does not have."""
    network = loading.check(_thin("vgg16", "conv2_1"), features.NETWORKS["vgg16"], "some file")
    assert network.channels == ((4, 4), (5, 128), (256,) * 3, (512,) * 3, (512,) * 3)


def test_the_shipped_network_is_small_and_complete(repository):
    file = repository / "jaxstyle" / "assets" / "embedded.safetensors"
    if not file.exists():
        pytest.skip("this checkout has no embedded network; experiments/distill.py makes it")
    assert file.stat().st_size <= 4_000_000
    with safetensors.safe_open(file, framework="numpy") as arrays:
        assert {arrays.get_slice(name).get_dtype() for name in arrays.keys()} == {"F16"}  # noqa: SIM118
    weights = load_weights()
    table = features.NETWORKS["embedded"]
    assert weights.network == table
    assert {n: parts["kernel"].shape for n, parts in weights.params.items()} == table.shapes()


def _with_readouts(name, channels):
    params = _thin(name)
    for layer, told in channels.items():
        own = params[layer.replace("relu", "conv")]["bias"].size
        params[layer] = {
            "kernel": np.full((1, 1, own, told), 0.5, np.float32),
            "bias": np.ones(told, np.float32),
        }
    return params


def test_readouts_come_with_their_network(tmp_path):
    params = _with_readouts("embedded", {"relu3_1": 7, "relu2_1": 2})
    weights = load_weights("embedded", _save(tmp_path / "told.npz", params))
    assert weights.network.readouts == (("relu2_1", 2), ("relu3_1", 7))
    assert weights.network.shapes() == {n: parts["kernel"].shape for n, parts in params.items()}
    formats.write(tmp_path / "told.safetensors", weights.params, {}, dtype=np.float32)
    again = load_weights("embedded", tmp_path / "told.safetensors")
    assert again.network == weights.network
    jax.tree.map(np.testing.assert_array_equal, again.params, weights.params)


def test_what_is_wrong_with_a_readout_is_said(tmp_path):
    params = _with_readouts("embedded", {"relu3_1": 7})
    swapped = params | {"relu3_1": {**params["relu3_1"], "kernel": np.ones((1, 1, 7, 5), "f4")}}
    with pytest.raises(InputError, match=r"relu3_1 has shapes \(1, 1, 7, 5\).*\(1, 1, 5, n\)"):
        load_weights("embedded", _save(tmp_path / "swapped.npz", swapped))
    early = {name: parts for name, parts in params.items() if name < "conv3" or name > "relu"}
    with pytest.raises(InputError, match="a readout of relu3_1, but not that layer"):
        load_weights("embedded", _save(tmp_path / "early.npz", early))


def test_writing_and_loading_again(tmp_path):
    params = _thin("embedded")
    formats.write(tmp_path / "own.safetensors", params, {})
    weights = load_weights("embedded", tmp_path / "own.safetensors")
    for name, parts in params.items():
        for part, value in parts.items():
            np.testing.assert_allclose(weights.params[name][part], value, rtol=2**-11)
