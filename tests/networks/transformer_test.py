"""The network against an independent NumPy implementation, and its contract."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import networks, policy
from jaxstyle.networks import TransformerConfig
from jaxstyle.types import InputError


def compiled(function, **options):
    """Like `jax.jit`, but made for running once.

    Compiling dominates here, so the compiler optimizes nothing and the operations take their
    plain form. The tests of `ops` compare it with the fast form, and the real networks use that.
    """
    jitted = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)

    def call(*arguments):
        with policy.formulation("plain"):
            return jitted(*arguments)

    return call


apply = compiled(networks.apply, static_argnums=2)
apply_train = compiled(networks.apply_train, static_argnums=2)

# --- The oracle: float64, loops over taps, straight from the definitions ---


def _pad(x, before, after, mode):
    names = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), mode=names[mode])


def _convolve(x, kernel, stride, padding):
    k = kernel.shape[0]
    if padding == "same":
        total = max(k - stride, 0)
        x = _pad(x, total // 2, total - total // 2, "zero")
    elif padding != "valid":
        x = _pad(x, k // 2, k // 2, padding)
    h, w = ((side - k) // stride + 1 for side in x.shape[1:3])
    rows, columns = stride * np.arange(h)[:, None], stride * np.arange(w)[None, :]
    taps = itertools.product(range(k), range(k))
    return sum(x[:, rows + i, columns + j] @ kernel[i, j] for i, j in taps)


def _transpose(x, kernel, padding):
    """Every input pixel i paints the output pixels 2i + tap, less 1 if the padding is symmetric."""
    n, h, w, _ = x.shape
    if padding != "same":
        x = _pad(x, 0, 1, padding)
    canvas = np.zeros((n, 2 * h + 3, 2 * w + 3, kernel.shape[2]))
    for i, j, a, b in itertools.product(*map(range, (*x.shape[1:3], 3, 3))):
        canvas[:, 2 * i + a, 2 * j + b] += x[:, i, j] @ kernel[a, b].T
    start = 0 if padding == "same" else 1
    return canvas[:, start : start + 2 * h, start : start + 2 * w]


def _normalize(x, config, params, stats, train):
    if config.norm == "none":
        return x, stats
    new_stats = stats
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    if config.norm == "batch":
        mean, var = stats["mean"], stats["var"]
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            m = config.batch_norm_momentum
            new_stats = {k: m * stats[k] + (1 - m) * v for k, v in (("mean", mean), ("var", var))}
    y = (x - mean) / np.sqrt(var + config.norm_epsilon) * params["scale"] + params["bias"]
    return y, new_stats


def oracle(variables, image, config, train=False):
    """Return the image and the new running averages."""
    params, new_stats = variables["params"], {}
    outer = "zero" if config.padding == "reflect_start" else config.padding
    inner = "valid" if config.padding == "reflect_start" else config.padding
    slope = 0.01 if config.activation == "leaky_relu" else 0.0

    def activate(x):
        return np.where(x > 0, x, slope * x)

    def normalize(x, layer, name):
        stats = variables.get("batch_stats", {}).get(layer, {}).get(name)
        x, new = _normalize(x, config, params[layer].get(name), stats, train)
        if new is not None:
            new_stats.setdefault(layer, {})[name] = new
        return x

    def convolve(x, layer, name="conv", stride=1, padding=outer):
        p = params[layer][name]
        return _convolve(x, p["kernel"], stride, padding) + p.get("bias", 0)

    x = image * config.value_range - np.array(config.input_mean)
    if config.padding == "reflect_start":
        x = _pad(x, *(2 * config.blocks * config.size_multiple,) * 2, "reflect")
    for i in range(len(config.widths)):
        x = convolve(x, f"encoder_{i}", stride=2 if i else 1)
        x = activate(normalize(x, f"encoder_{i}", "norm"))
    for i in range(config.blocks):
        y = convolve(x, f"residual_{i}", "conv_1", padding=inner)
        y = activate(normalize(y, f"residual_{i}", "norm_1"))
        y = convolve(y, f"residual_{i}", "conv_2", padding=inner)
        y = normalize(y, f"residual_{i}", "norm_2")
        x = (x[:, 2:-2, 2:-2] if inner == "valid" else x) + y
    for i in range(len(config.widths) - 1):
        layer = f"decoder_{i}"
        if config.upsampling == "transposed":
            p = params[layer]["conv"]
            x = _transpose(x, p["kernel"], outer) + p.get("bias", 0)
        else:
            x = convolve(x.repeat(2, 1).repeat(2, 2), layer)
        x = activate(normalize(x, layer, "norm"))
    x = convolve(x, "output")
    if config.norm_last:
        x = normalize(x, "output", "norm")
    squash = {"linear": lambda v: v, "tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v))}
    x = squash[config.output](x) * config.output_scale + np.array(config.output_mean)
    return x / config.value_range, new_stats


# --- Cases ---

SMALL = TransformerConfig(widths=(3, 4), blocks=1, outer_kernels=(5, 3))
RANGES = {
    "sigmoid": {},
    "tanh": {"value_range": 2.0, "output_scale": 1.2, "output_mean": (1.0, 0.9, 0.8)},
    "linear": {"value_range": 255, "output_scale": 80, "input_mean": (123.0, 116.0, 103.0)},
}


def table():
    """Every norm x padding x upsampling, with the other choices taking turns."""
    norms = ("instance", "batch", "none")
    paddings = ("reflect", "replicate", "zero", "same", "reflect_start")
    for turn, choice in enumerate(itertools.product(norms, paddings, ("nearest", "transposed"))):
        norm, padding, upsampling = choice
        output = tuple(RANGES)[turn % 3]
        yield dataclasses.replace(
            SMALL,
            norm=norm,
            padding=padding,
            upsampling=upsampling,
            output=output,
            norm_last=norm != "none" and turn % 2 == 0,
            conv_bias=turn % 4 > 1,
            activation=("relu", "leaky_relu")[turn % 5 == 0],
            norm_epsilon=(1e-5, 1e-3)[turn % 2],
            **RANGES[output],
        )


def name_of(config):
    return f"{config.norm}-{config.padding}-{config.upsampling}-{config.output}"


def random_variables(config, seed=0):
    """Variables in which nothing is left at a neutral value."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: networks.init(jax.random.key(0), config))
    kinds = {
        "kernel": lambda x: rng.normal(0, x.size**-0.3, x.shape),
        "scale": lambda x: rng.uniform(0.5, 1.5, x.shape),
        "var": lambda x: rng.uniform(0.5, 1.5, x.shape),
        "bias": lambda x: rng.normal(0, 0.3, x.shape),
        "mean": lambda x: rng.normal(0, 0.3, x.shape),
    }
    return jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.asarray(kinds[path[-1].key](x), jnp.float32), shapes
    )


def random_image(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=(*shape, 3)), jnp.float32)


def doubles(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


# --- Against the oracle ---


@pytest.mark.parametrize("config", list(table()), ids=name_of)
def test_values_match_numpy(config):
    variables, image = random_variables(config), random_image(2, 10, 12)
    result, changed = apply_train(variables, image, config)
    expected, new_stats = oracle(doubles(variables), doubles(image), config, train=True)
    assert result.shape == image.shape
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, changed["params"], variables["params"])
    if config.norm == "batch":
        close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
        jax.tree.map(close, changed["batch_stats"], new_stats)
    else:
        assert set(changed) == {"params"}


@pytest.mark.parametrize("config", list(table())[::7], ids=name_of)
def test_gradient_matches_numpy(config):
    """Along one random direction, against the difference quotient of the oracle."""
    variables, image = random_variables(config), random_image(2, 10, 12)
    rng = np.random.default_rng(1)
    weight = rng.normal(size=image.shape)

    def loss(params, image):
        changed = {**variables, "params": params}
        return jnp.sum(networks.apply_train(changed, image, config)[0] * weight)

    point = (variables["params"], image)
    gradients = doubles(compiled(jax.grad(loss, argnums=(0, 1)))(*point))
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), doubles(point))
    step = 1e-6

    def at(sign):
        params, picture = jax.tree.map(lambda x, d: x + sign * step * d, doubles(point), direction)
        moved = {**doubles(variables), "params": params}
        return np.sum(oracle(moved, picture, config, train=True)[0] * weight)

    slopes = jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradients, direction))
    assert all(slope != 0 for slope in slopes) or config.norm != "none"
    quotient = (at(1) - at(-1)) / (2 * step)
    assert abs(sum(slopes) - quotient) < 1e-3 * sum(map(abs, slopes))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_inference_differs_from_training_only_for_batch_normalization(norm):
    config = TransformerConfig(
        widths=(4, 5, 6), decoder_widths=(7, 3), blocks=1, norm=norm, padding="reflect_start"
    )
    variables, image = random_variables(config), random_image(1, 20, 24)
    result = apply(variables, image, config)
    expected, _ = oracle(doubles(variables), doubles(image), config)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    trained, changed = apply_train(variables, image, config)
    if norm == "batch":
        assert np.abs(trained - result).max() > 1e-3
    else:
        np.testing.assert_allclose(trained, result, atol=1e-6)
        jax.tree.map(np.testing.assert_array_equal, changed, variables)


# --- Contract ---


@pytest.mark.parametrize(
    ("norm", "upsampling"), [("instance", "nearest"), ("batch", "transposed"), ("none", "nearest")]
)
def test_leading_dimensions_and_vmap(norm, upsampling):
    """Images of a batch do not see one another, and networks can be stacked."""
    config = dataclasses.replace(SMALL, norm=norm, upsampling=upsampling)
    both = [random_variables(config, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    images = random_image(2, 3, 10, 12)
    nested = apply(both[0], images, config)
    assert nested.shape == images.shape
    single = apply(both[0], images[1, 2], config)
    np.testing.assert_allclose(nested[1, 2], single, atol=1e-6)

    lanes = compiled(jax.vmap(functools.partial(networks.apply, config=config)))(stacked, images)
    np.testing.assert_allclose(lanes[0], nested[0], atol=1e-5)
    np.testing.assert_allclose(lanes[1], apply(both[1], images, config)[1], atol=1e-5)


def test_batch_statistics_join_all_leading_dimensions():
    config = dataclasses.replace(SMALL, norm="batch")
    variables, images = random_variables(config), random_image(2, 3, 10, 12)
    result, changed = apply_train(variables, images, config)
    flat = doubles(images).reshape(6, 10, 12, 3)
    expected, new_stats = oracle(doubles(variables), flat, config, train=True)
    np.testing.assert_allclose(result.reshape(flat.shape), expected, rtol=1e-4, atol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, changed["batch_stats"], new_stats)


def test_low_precision_images_stay_so():
    config = dataclasses.replace(SMALL, output="tanh", **RANGES["tanh"])
    variables, image = random_variables(config), random_image(10, 12)
    result = apply(variables, image.astype(jnp.bfloat16), config)
    assert result.dtype == jnp.bfloat16
    exact = apply(variables, image, config)
    assert np.abs(np.asarray(result, np.float32) - exact).mean() < 0.03


def test_output_is_not_clipped():
    config = dataclasses.replace(SMALL, output="linear", conv_bias=True)
    variables = random_variables(config)
    variables["params"]["output"]["conv"]["bias"] = jnp.array([5.0, -5.0, 0.0])
    result = apply(variables, random_image(8, 8), config)
    assert result[..., 0].min() > 1
    assert result[..., 1].max() < 0


@pytest.mark.parametrize("padding", ["reflect", "reflect_start", "same"])
def test_smallest_size(padding):
    config = TransformerConfig(widths=(2, 2, 2), blocks=1, padding=padding)
    result = apply(random_variables(config), random_image(4, 4), config)
    assert result.shape == (4, 4, 3)
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((30, 41, 3), np.float32), "30x41, but the network needs both sides to be mul"),
        (np.zeros((0, 4, 3), np.float32), "0x4"),
        (np.zeros((8, 8, 4), np.float32), "(8, 8, 4); the network takes [..., height, width, 3]"),
        (np.zeros((8, 3), np.float32), "(8, 3)"),
        (np.zeros((8, 8, 3), np.uint8), "uint8; convert it to float32 in [0, 1]"),
    ],
)
def test_refuses_other_images(image, message):
    config = dataclasses.replace(SMALL, widths=(2, 2, 2))
    variables = random_variables(config)
    for function in (networks.apply, networks.apply_train):
        with pytest.raises(InputError) as caught:
            function(variables, image, config)
        assert message in str(caught.value)
    assert "jaxstyle.stylize" in str(caught.value) or "multiples" not in message


def test_on_a_cpu_thin_layers_compute_in_float32():
    """In bfloat16 they would gain nothing: with thin layers alone not a bit changes."""
    image = jnp.asarray(np.random.default_rng(0).random((16, 20, 3)), jnp.float32)
    with policy.formulation("cpu"):
        for widths, same in (((4, 6, 8), True), ((4, 6, 32), False)):
            config = networks.TransformerConfig(widths=widths, blocks=1)
            variables = networks.init(jax.random.key(0), config)
            exact = networks.apply(variables, image, config, dtype="float32")
            rough = networks.apply(variables, image, config, dtype="bfloat16")
            assert (exact == rough).all() == same
