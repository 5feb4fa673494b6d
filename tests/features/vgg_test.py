"""VGG features against an independent NumPy network, closed forms and published activations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from jaxstyle import features, policy
from jaxstyle.statistics import gram
from jaxstyle.types import InputError
from jaxstyle.weights import load_weights

# Convolutions per block: Simonyan and Zisserman 2014, table 1, columns D and E; the embedded
# network has the names of D up to relu5_1.
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4), "embedded": (2, 2, 3, 3, 1)}
NUMPY_MODES = {"zero": "constant", "reflect": "reflect", "replicate": "edge"}

# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _thin(name, widths=(5, 6, 4, 7, 5), seed=0):
    """Random parameters of a network with few channels."""
    rng, before, params = np.random.default_rng(seed), 3, {}
    for block, (depth, width) in enumerate(zip(DEPTHS[name], widths, strict=True), 1):
        for number in range(1, depth + 1):
            kernel = rng.normal(0, (2 / (9 * before)) ** 0.5, (3, 3, before, width))
            bias = rng.normal(0, 0.1, width)
            params[f"conv{block}_{number}"] = {
                "kernel": kernel.astype(np.float32),
                "bias": bias.astype(np.float32),
            }
            before = width
    return params


def _caffe(rgb):
    return rgb[..., ::-1] * 255.0 - np.array([103.939, 116.779, 123.68])


def _torchvision(rgb):
    return (rgb - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def _numpy_vgg(params, x, depths, pooling, padding):
    """Every layer of a VGG in float64, from a preprocessed `[h, w, 3]`."""
    maps = {}
    for block, depth in enumerate(depths, 1):
        for number in range(1, depth + 1):
            name = f"{block}_{number}"
            kernel, bias = params[f"conv{name}"]["kernel"], params[f"conv{name}"]["bias"]
            around = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=NUMPY_MODES[padding])
            taps = itertools.product(range(3), range(3))
            h, w = x.shape[:2]
            x = bias + sum(around[a : a + h, b : b + w] @ kernel[a, b] for a, b in taps)
            maps[f"conv{name}"] = x
            x = np.maximum(x, 0)
            maps[f"relu{name}"] = x
        h, w = x.shape[0] // 2, x.shape[1] // 2
        windows = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1)
        x = windows.max((1, 3)) if pooling == "max" else windows.mean((1, 3))
        maps[f"pool{block}"] = x
    return maps


@pytest.mark.parametrize(
    ("name", "pooling", "padding", "lead"),
    [
        ("vgg16", None, None, ()),
        ("vgg16", "average", "replicate", ()),
        ("vgg19", None, "reflect", ()),
        ("vgg19", "average", "zero", (2, 1)),
        ("embedded", None, None, (2,)),
    ],
)
def test_every_layer_equals_numpy(name, pooling, padding, lead):
    network, params = features.NETWORKS[name], _thin(name)
    image = np.random.default_rng(1).random((*lead, 37, 33, 3)).astype(np.float32)
    own = {"vgg16": "zero", "vgg19": "zero", "embedded": "reflect"}[name]
    enter = _torchvision if name == "embedded" else _caffe
    arguments = (DEPTHS[name], pooling or "max", padding or own)
    expected = [
        _numpy_vgg(params, enter(one.astype(np.float64)), *arguments)
        for one in image.reshape(-1, *image.shape[-3:])
    ]

    def run(params, image):
        return features.features(
            params, image, network.layers, network=network, pooling=pooling, padding=padding
        )

    result = jit(run)(params, image)
    assert list(network.layers) == list(expected[0])
    assert set(result) == set(network.layers)
    for layer, found in result.items():
        wanted = np.reshape([maps[layer] for maps in expected], found.shape)
        scale = np.abs(wanted).max()
        assert scale > 0
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale, err_msg=layer)


def test_the_table_is_that_of_the_paper():
    widths = (64, 128, 256, 512, 512)
    for name in ("vgg16", "vgg19"):
        network = features.NETWORKS[name]
        assert [len(block) for block in network.channels] == list(DEPTHS[name])
        assert [set(block) for block in network.channels] == [{width} for width in widths]
        assert network.convention == features.CAFFE
        assert (network.pooling, network.padding) == ("max", "zero")
        # 13 and 16 layers; parameters of the convolutions as published (14.7 and 20.0 million).
        count = sum(np.prod(shape) + shape[3] for shape in network.shapes().values())
        assert count == {"vgg16": 14_714_688, "vgg19": 20_024_384}[name]


def test_the_embedded_network_has_the_names_of_vgg16():
    embedded, vgg16 = features.NETWORKS["embedded"], features.NETWORKS["vgg16"]
    upto = vgg16.layers.index("relu5_1") + 1
    assert embedded.layers[:upto] == vgg16.layers[:upto]


def _operations(network, layer, side=256):
    """Multiply-adds of the convolutions and readouts up to a layer, for a square picture."""
    total, shapes = 0, network.shapes()
    for name in network.layers[: network.layers.index(layer) + 1]:
        if name.startswith("pool"):
            side //= 2
        elif name in shapes:
            total += side**2 * int(np.prod(shapes[name]))
    return total


def test_a_told_layer_is_what_its_readout_says_and_feeds_nothing():
    network, params = features.NETWORKS["embedded"], _thin("embedded")
    rng = np.random.default_rng(2)
    readout = {
        "kernel": np.float32(rng.normal(size=(1, 1, 6, 9))),
        "bias": np.float32(rng.normal(size=9)),
    }
    image = np.float32(rng.random((2, 17, 23, 3)))
    layers = ("relu2_1", "conv2_1", "relu2_2", "pool2")
    run = jit(functools.partial(features.features, layers=layers, network=network))
    plain, told = run(params, image), run(params | {"relu2_1": readout}, image)
    expected = np.maximum(
        np.asarray(plain["relu2_1"]) @ readout["kernel"][0, 0] + readout["bias"], 0
    )
    np.testing.assert_allclose(told["relu2_1"], expected, rtol=1e-5, atol=1e-5 * expected.max())
    for layer in layers[1:]:
        np.testing.assert_array_equal(told[layer], plain[layer])


def test_the_embedded_network_is_ten_times_cheaper_than_vgg16():
    embedded, vgg16 = (features.NETWORKS[name] for name in ("embedded", "vgg16"))
    # As published, 64 * (27 + 576) * 256**2 and so on: 36.5 billion operations.
    assert _operations(vgg16, "relu4_3") == 18_232_639_488
    assert 10 * _operations(embedded, "relu4_3") <= _operations(vgg16, "relu4_3")


def test_conventions_in_closed_form():
    red = jnp.array([1.0, 0.5, 0.0]).reshape(1, 1, 3)
    expected = {
        "caffe": [-103.939, 127.5 - 116.779, 255 - 123.68],  # blue, green, red
        "torchvision": [0.515 / 0.229, 0.044 / 0.224, -0.406 / 0.225],
        "plain": [1.0, 0.5, 0.0],
    }
    assert set(expected) == set(features.CONVENTIONS)
    for name, values in expected.items():
        found = features.preprocess(red, features.CONVENTIONS[name])
        np.testing.assert_allclose(found[0, 0], values, rtol=1e-6)


def _counting(network, layer, pooling=None):
    params = _thin(network.name)
    with policy.formulation("plain"):
        program = jax.make_jaxpr(
            lambda p, x: features.features(p, x, (layer,), network=network, pooling=pooling)
        )(params, jnp.zeros((32, 32, 3)))
    return str(program).count("conv_general_dilated["), program


@pytest.mark.parametrize("name", DEPTHS)
def test_nothing_deeper_than_the_deepest_layer_is_computed(name):
    network = features.NETWORKS[name]
    convolutions = 0
    for layer in network.layers:
        convolutions += layer.startswith("conv")
        assert _counting(network, layer)[0] == convolutions, layer


def test_a_convolution_output_is_not_rectified_nor_pooled():
    _, program = _counting(features.NETWORKS["vgg19"], "conv1_1")
    assert "max" not in str(program)
    _, program = _counting(features.NETWORKS["vgg19"], "relu1_2", pooling="max")
    assert program.out_avals[0].shape == (32, 32, 5)


def test_layers_in_any_order_and_twice():
    """The result has the order asked for (until `jit` sorts it, as it does every dict)."""
    network, params = features.NETWORKS["vgg16"], _thin("vgg16")
    image = jnp.ones((8, 8, 3))
    asked = ("pool2", "conv1_1", "relu2_1", "conv1_1")
    order = []

    def run():
        maps = features.features(params, image, asked, network=network)
        order.extend(maps)
        return maps

    maps = jax.eval_shape(run)
    assert order == ["pool2", "conv1_1", "relu2_1"]
    assert {name: leaf.shape for name, leaf in maps.items()} == {
        "pool2": (2, 2, 6),
        "conv1_1": (8, 8, 5),
        "relu2_1": (4, 4, 6),
    }


def test_weights_that_end_early_serve_shallow_layers():
    network, params = features.NETWORKS["vgg19"], _thin("vgg19")
    shallow = {name: params[name] for name in ("conv1_1", "conv1_2", "conv2_1")}
    image = jnp.ones((16, 16, 3))
    run = functools.partial(features.features, shallow, layers=("relu2_1",), network=network)
    assert jax.eval_shape(run, image)["relu2_1"].shape == (8, 8, 6)
    with pytest.raises(InputError) as raised:
        features.features(shallow, image, ("relu2_1", "conv3_1"), network=network)
    assert str(raised.value).startswith(
        "layer 'conv3_1' needs conv2_2, which these weights of vgg19 do not have"
    )


@pytest.mark.parametrize(
    ("layer", "least"),
    [("relu1_2", 1), ("pool1", 2), ("conv3_1", 4), ("relu5_1", 16), ("pool5", 32)],
)
def test_the_smallest_picture_a_layer_takes(layer, least):
    network, params = features.NETWORKS["vgg16"], _thin("vgg16")
    run = functools.partial(features.features, params, layers=(layer,), network=network)
    for shape in ((least, 40), (40, least), (2, least, least)):
        assert min(jax.eval_shape(run, jnp.ones((*shape, 3)))[layer].shape) > 0
    if least > 1:
        small = jnp.ones((least - 1, 40, 3))
        with pytest.raises(InputError, match=f"{least - 1}x40, but {layer} needs.*>= {least};"):
            run(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ("relu4_5",)}, "unknown layer of vgg16 'relu4_5'; did you mean 'relu4_"),
        ({"layers": ("relu3_1", "fc7")}, "unknown layer of vgg16 'fc7'; choices: conv1_1, relu1_1"),
        ({"layers": ()}, "no layers were asked for"),
        ({"layers": "relu1_1"}, "the layers are the text 'relu1_1'; write a tuple, ('relu1_1',)."),
        ({"pooling": "mean"}, "unknown pooling 'mean'"),
        ({"padding": "valid"}, "unknown padding of features 'valid'"),
        ({"dtype": "float16"}, "unknown precision 'float16'; did you mean 'bfloat16'?"),
        ({"image": jnp.ones((16, 16, 1))}, "an image has the shape [..., height, width, 3]"),
        ({"image": jnp.ones((16, 16, 4))}, "an image has the shape [..., height, width, 3]"),
        ({"image": jnp.ones((16, 3))}, "an image has the shape [..., height, width, 3]"),
        ({"image": jnp.ones((16, 16, 3), jnp.uint8)}, "the image holds uint8"),
    ],
)
def test_errors(change, message):
    given = {
        "image": jnp.ones((16, 16, 3)),
        "layers": ("relu1_1",),
        "pooling": None,
        "padding": None,
    }
    given |= change
    with pytest.raises(InputError) as raised:
        features.features(_thin("vgg16"), network=features.NETWORKS["vgg16"], **given)
    assert message in str(raised.value)


def test_unknown_network():
    with pytest.raises(InputError, match="unknown network 'vgg-19'; did you mean 'vgg19'?"):
        features.network("vgg-19")


def test_adjusted_changes_what_is_asked_and_nothing_else():
    network = features.NETWORKS["vgg19"]
    changed = features.adjusted(network, pooling="average", padding="reflect")
    assert (changed.pooling, changed.padding) == ("average", "reflect")
    assert features.adjusted(changed) == changed
    assert features.adjusted(changed, pooling="max", padding="zero") == network


def test_joined_networks_give_each_layer_by_its_own_network():
    tiny = features.Network("tiny", ((3, 4), (5, 6)))
    other = features.Network("other", ((4, 4), (5, 5)), features.PLAIN)
    params = {
        "most": features.initialize(jax.random.key(0), tiny),
        "some": features.initialize(jax.random.key(1), other),
    }
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(9, 8, 3)), jnp.float32)
    joined = features.Joined(tiny, other, ("relu2_1", "conv1_2"))
    layers = ("relu2_1", "relu1_1", "relu1_2", "conv1_2")

    def apart(which, network, layers):
        return features.features(params[which], image, layers, network=network)

    maps = features.features(params, image, layers, network=joined)
    assert tuple(maps) == layers
    expected = apart("most", tiny, layers[1:3]) | apart("some", other, layers[::3])
    jax.tree.map(np.testing.assert_array_equal, maps, expected)
    alone = features.features(params, image, ("relu1_1",), network=joined)
    np.testing.assert_array_equal(alone["relu1_1"], expected["relu1_1"])

    average = features.adjusted(joined, pooling="average", padding="replicate")
    assert average.theirs == joined.theirs
    for part in (average.most, average.some):
        assert (part.pooling, part.padding) == ("average", "replicate")


@pytest.mark.parametrize("name", ["vgg16", "embedded"])
def test_rematerialization_changes_nothing_but_memory(name):
    network, params = features.NETWORKS[name], _thin(name)
    image = jnp.asarray(np.random.default_rng(0).random((2, 33, 20, 3)), jnp.float32)
    layers = ("relu1_1", "relu3_2", "pool1", "conv4_1")

    def value(image, remat):
        maps = features.features(params, image, layers, network=network, remat=remat)
        return sum(jnp.mean(leaf**2) for leaf in maps.values()), maps

    run = jit(jax.grad(value, has_aux=True), static_argnums=1)
    plain, remat = run(image, False), run(image, True)
    for found, wanted in zip(jax.tree.leaves(remat), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    program = str(jax.make_jaxpr(jax.grad(lambda image: value(image, True)[0]))(image))
    assert program.count("remat2[") >= 4 or program.count("checkpoint[") >= 4  # one a block


@pytest.mark.parametrize("name", ["vgg16", "embedded"])
def test_maps_in_bfloat16_are_those_of_float32(name):
    network, params = features.NETWORKS[name], _thin(name)
    params["relu2_1"] = {"kernel": jnp.ones((1, 1, 6, 3)) / 6, "bias": jnp.zeros(3)}
    image = jnp.asarray(np.random.default_rng(0).random((40, 36, 3)), jnp.float32)
    layers = ("image", "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

    def value(image, dtype):
        maps = features.features(params, image, layers, network=network, dtype=dtype)
        grams = {layer: gram(maps[layer]) for layer in layers[1:]}
        return sum(jnp.mean(g**2) ** 0.5 for g in grams.values()), (maps, grams)

    with policy.formulation("plain"):  # of backends that compute in bfloat16 whatever the layer
        run = jit(jax.grad(value, has_aux=True), static_argnums=1)
        _, (maps, grams) = run(image, "float32")
        gradient, (halves, rough_grams) = run(image, "bfloat16")
    assert halves["image"].dtype == gradient.dtype == jnp.float32
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    for layer in layers[1:]:
        assert halves[layer].dtype == jnp.bfloat16
        assert rough_grams[layer].dtype == jnp.float32
        assert _relative(halves[layer], maps[layer]) < 0.02, layer
        assert _relative(rough_grams[layer], grams[layer]) < 0.02, layer


def test_on_a_cpu_thin_layers_are_those_of_float32_rounded_once():
    """They would gain nothing; a layer with many channels computes in bfloat16."""
    network, layers = features.Network("some", ((8, 8), (40, 40)), features.CAFFE), ("relu2_1",)
    params = features.initialize(jax.random.key(0), network)
    image = jnp.asarray(np.random.default_rng(0).random((24, 20, 3)), jnp.float32)
    look = functools.partial(features.features, params, image, network=network)
    with policy.formulation("cpu"):
        exact, rough = (look(layers, dtype=dtype) for dtype in ("float32", "bfloat16"))
        np.testing.assert_array_equal(rough["relu2_1"], exact["relu2_1"].astype(jnp.bfloat16))
        exact, rough = (look(("relu2_2",), dtype=dtype) for dtype in ("float32", "bfloat16"))
        rounded = exact["relu2_2"].astype(jnp.bfloat16)
        assert (rough["relu2_2"] != rounded).mean() > 0.05


def test_gradients_in_bfloat16_point_the_same_way():
    """Where entries are nearly equal, pools choose another; of a trained network that is little."""
    loaded = load_weights("embedded")
    image = jnp.asarray(skimage.data.astronaut()[:96, 160:256], jnp.float32) / 255
    layers = ("relu1_1", "relu3_1", "relu4_2")

    def value(image, dtype):
        maps = features.features(loaded.params, image, layers, network=loaded.network, dtype=dtype)
        return sum(jnp.log(jnp.mean(gram(maps[layer]) ** 2)) for layer in layers)

    run = jit(jax.grad(value), static_argnums=1)
    gradient, rough = run(image, "float32"), run(image, "bfloat16")
    assert _relative(rough, gradient) < 0.15
    lengths = jnp.linalg.norm(rough) * jnp.linalg.norm(gradient)
    assert jnp.vdot(rough, gradient) > 0.99 * lengths


def _relative(found, wanted):
    """Root mean square of the error, relative to that of what is wanted."""
    found, wanted = (np.asarray(x, np.float64) for x in (found, wanted))
    return np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))


def test_the_image_can_be_asked_for():
    image = jnp.asarray(np.random.default_rng(0).random((8, 8, 3)), jnp.float32)
    run = functools.partial(features.features, _thin("vgg16"), network=features.NETWORKS["vgg16"])
    maps = run(image, ("relu1_1", "image"))
    assert tuple(maps) == ("relu1_1", "image")
    np.testing.assert_array_equal(maps["image"], image)
    with pytest.raises(InputError, match="no layers were asked for"):
        run(image, ("image",))


def test_vmap_over_weights_and_pictures():
    """Lanes of a sweep over networks equal single runs."""
    network = features.NETWORKS["vgg16"]
    both = [_thin("vgg16", seed=seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *both)
    images = jnp.asarray(np.random.default_rng(0).random((2, 6, 5, 3)), jnp.float32)

    def run(params, image):
        return features.features(params, image, ("relu2_1",), network=network)["relu2_1"]

    lanes, single = jit(jax.vmap(run))(stacked, images), jit(run)
    for lane, params, image in zip(lanes, both, images, strict=True):
        np.testing.assert_allclose(lane, single(params, image), rtol=1e-5, atol=1e-3)


def test_random_parameters_keep_the_size_of_activations():
    """He et al. 2015, eq. 10: variance 2 / (9 c_in), so that maps neither die nor explode."""
    network = features.Network("small", ((16, 32),))
    params = jit(features.initialize, static_argnums=1)(jax.random.key(0), network)
    shapes = {name: parts["kernel"].shape for name, parts in params.items()}
    assert shapes == {"conv1_1": (3, 3, 3, 16), "conv1_2": (3, 3, 16, 32)} == network.shapes()
    for parts in params.values():
        kernel = np.asarray(parts["kernel"])
        assert abs(kernel.var() * 9 * kernel.shape[2] / 2 - 1) < 0.15
        assert abs(kernel.mean()) < 0.1 * kernel.std()
        assert parts["bias"].shape == kernel.shape[3:] and not np.any(parts["bias"])
    again = jit(features.initialize, static_argnums=1)(jax.random.key(1), network)
    assert not np.array_equal(again["conv1_1"]["kernel"], params["conv1_1"]["kernel"])


GOLDEN = {
    "vgg19": (
        "vgg19_caffe_blocks1-3.npz",
        ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4"],
    ),
    "cd16x5": (
        "cd16x_vgg19_encoder5.npz",
        ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1", "4_2", "4_3", "4_4", "5_1"],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_published_networks_give_their_published_activations(shared_data, name):
    """Real VGG-19 weights, and a distilled VGG-19 with an input convolution to fold in."""
    file, layers = GOLDEN[name]
    golden = np.load(shared_data / "reference" / "golden_outputs.npz")
    image = golden["input_rgb_u8"].astype(np.float32) / 255
    weights = load_weights("vgg19", shared_data / "weights" / file)
    layers = [f"relu{layer}" for layer in layers]
    run = jit(lambda p, x: features.features(p, x, layers, network=weights.network))
    maps = jax.tree.map(np.asarray, run(weights.params, image))
    for layer in layers:
        found = {
            "channel_mean": np.mean(maps[layer], (0, 1), dtype=np.float64),
            "corner": maps[layer][:3, :3],
        }
        for key, value in found.items():
            wanted = golden[f"{name}/{layer}/{key}"]
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-5 * scale, err_msg=layer)
