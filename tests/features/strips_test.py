"""Strips against the whole: maps and gradients are the same, wherever the seams are."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features, losses, optimize, policy
from jaxstyle.features.strips import _Layout
from jaxstyle.types import InputError

# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# Blocks of one, two and four convolutions; one layer is told.
SMALL = features.Network("small", ((4, 3), (5,), (4, 5, 3), (3,)), readouts=(("relu2_1", 6),))
OTHER = features.Network("other", ((3,), (4, 4)), features.PLAIN, "average", "replicate")
LAYERS = ("conv1_1", "relu4_1", "pool1", "relu1_2", "relu2_1", "relu3_3", "conv3_2")


@pytest.fixture
def plain():
    """Small programs; the first test below has the CPU's own."""
    with policy.formulation("plain"):
        yield


def _params(network, seed=0):
    """Random, with biases, so that padding by zeros is not padding by nothing."""
    params = features.initialize(jax.random.key(seed), network)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + np.float32(rng.normal(0, 0.1, leaf.shape)), params)


def _image(*shape, seed=1):
    return np.random.default_rng(seed).random((*shape, 3), np.float32)


def _both(network, rows, **how):
    whole = functools.partial(features.features, network=network, **how)
    return whole, functools.partial(features.features_in_strips, network=network, rows=rows, **how)


def _value(params, image, see, layers):
    """A number to which every entry of every map contributes, each in its own way."""
    total = 0.0
    for layer, found in see(params, image, layers).items():
        if layer != "image":
            angles = jnp.arange(found.size, dtype=found.dtype).reshape(found.shape)
            total += jnp.mean(found**2 * (1.5 + jnp.sin(angles))) / jnp.mean(found**2)
    return total


def _error(found, wanted):
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("padding", "size", "rows"),
    [
        ("zero", (77, 33), 16),  # odd rows, at the second block too
        ("reflect", (101, 24), 32),
        ("replicate", (48, 20), 17),  # rounded up to 32: the first block in two strips
    ],
)
def test_maps_and_gradients_are_those_without_strips(padding, size, rows):
    params, image = _params(SMALL), _image(*size)
    how = {"padding": padding, "pooling": "average" if padding == "replicate" else "max"}

    @jit
    def run(params, image):
        found = []
        for see in _both(SMALL, rows, **how):
            gradients = jax.grad(_value, (0, 1))(params, image, see, LAYERS)
            found.append((see(params, image, LAYERS), gradients))
        return found

    (maps, gradients), (in_strips, theirs) = run(params, image)
    assert set(in_strips) == set(LAYERS)
    for layer, wanted in maps.items():
        assert in_strips[layer].shape == wanted.shape
        assert _error(in_strips[layer], wanted) < 2e-6, layer
    for found, wanted in zip(jax.tree.leaves(theirs), jax.tree.leaves(gradients), strict=True):
        assert _error(found, wanted) < 1e-5


@pytest.mark.parametrize("height", range(40, 160))
def test_a_layout_covers_all_rows_and_knows_both_borders(height):
    for rows in (16, 32, 48):
        for halo in (1, 2, 4):
            layout = _Layout.of(height, rows, halo)
            if layout is None:
                assert height <= rows + 2 * halo
                continue
            starts, gaps = layout.starts[:-1], np.diff(layout.starts)
            assert (starts[0], starts[-1] + layout.rows) == (0, height)
            assert layout.count > 1
            assert all(start % 2 == 0 for start in starts)
            assert gaps.max() <= layout.rows <= rows + 1
            # Only the first and the last strip see a border, so theirs are the only ones to mend.
            assert gaps[:-1].min() > halo
            assert layout.seen <= height


def _objective():
    return losses.combine(
        losses.content(("relu3_1",)),
        losses.style(("relu1_1", "relu2_1"), "gram"),
        losses.style(("relu3_3",), "wasserstein", name="transport"),
        losses.total_variation(),
    )


def test_the_gradient_of_an_objective_has_no_seams(plain):
    """Near the borders of strips the error is what it is elsewhere: that of rounding."""
    network = dataclasses.replace(SMALL, padding="reflect")
    params, image = _params(network), _image(128, 40)
    objective, layers = _objective(), ("image", *_objective().layers)
    style = features.features(params, _image(40, 40, seed=2), layers, network=network)
    content = features.features(params, _image(128, 40, seed=3), layers, network=network)
    targets = objective.prepare({"content": content, "style": style})

    def total(image, see):
        maps = see(params, image, layers)
        return sum(objective.evaluate(maps["image"], maps, targets).values())

    @jit
    def run(image):
        return [jax.value_and_grad(total)(image, see) for see in _both(network, 16)]

    (value, gradient), (in_strips, found) = run(image)
    np.testing.assert_allclose(in_strips, value, rtol=1e-6)
    assert _error(found, gradient) < 1e-5
    errors = np.abs(found - gradient).max((1, 2))
    starts = np.array(_Layout.of(128, 16, 2).starts[1:-1])
    near = np.unique(np.concatenate([starts + shift for shift in range(-3, 3)]))
    assert errors[near].mean() <= 3 * np.delete(errors, near).mean()


def test_joined_networks_and_batches(plain):
    joined = features.Joined(SMALL, OTHER, ("relu2_2", "relu1_1"))
    params = {"most": _params(SMALL), "some": _params(OTHER, 4)}
    images, layers = _image(2, 53, 18), ("relu2_2", "image", "relu2_1", "conv3_1")

    @jit
    def run(images):
        found = []
        for see in _both(joined, 16):
            maps = see(params, images, layers)
            lanes = jax.vmap(lambda image, see=see: see(params, image, layers))(images)
            gradients = jax.vmap(jax.grad(_value, 1), (None, 0, None, None))
            found.append((maps, lanes, gradients(params, images, see, layers)))
        return found

    whole, in_strips = run(images)
    for found, wanted in zip(jax.tree.leaves(in_strips), jax.tree.leaves(whole), strict=True):
        assert _error(found, wanted) < 1e-5
    np.testing.assert_array_equal(in_strips[0]["image"], images)


def test_a_solver_goes_the_same_way(plain):
    """Inside the scan of the solver, in one program."""
    params, first = _params(SMALL), _image(50, 20)
    solver = optimize.solver("adam", learning_rate=0.01)

    def end(see):
        def loss(image, target):
            maps = see(params, image, ("relu2_1", "image"))
            value = jnp.mean((maps["relu2_1"] - target) ** 2) + jnp.mean(maps["image"] ** 2)
            return value, {"value": value}

        target = see(params, _image(50, 20, seed=5), ("relu2_1",))["relu2_1"]
        state = optimize.start(first, solver)
        return optimize.advance(state, target, loss=loss, solver=solver, steps=3)

    whole, strips = jit(lambda: [end(see) for see in _both(SMALL, 16)])()
    np.testing.assert_allclose(strips[1], whole[1], rtol=1e-5)
    # Adam divides by the size of the gradient: where that is next to nothing, rounding decides.
    far = np.abs(np.asarray(strips[0].numbers - whole[0].numbers)) > 1e-4
    assert far.mean() < 0.01


def test_less_memory_is_needed():
    params, image = _params(SMALL), jnp.zeros((512, 64, 3))

    def needed(see):
        program = jit(jax.grad(lambda image: _value(params, image, see, ("relu4_1",))))
        return program.lower(image).compile().memory_analysis().temp_size_in_bytes

    whole, in_strips = (needed(see) for see in _both(SMALL, 32))
    assert in_strips < 0.4 * whole


def test_second_derivatives(plain):
    params, image = _params(OTHER), _image(40, 9)

    def product(image, see):
        slope = jax.grad(lambda image: _value(params, image, see, ("relu2_1",)))
        return jnp.sum(jnp.sin(slope(image) * 1e3))

    @jit
    def run(image):
        return [jax.grad(product)(image, see) for see in _both(OTHER, 16)]

    wanted, found = run(image)
    assert _error(found, wanted) < 1e-3


def test_bfloat16_in_strips(plain):
    params, image = _params(SMALL), _image(60, 20)

    @jit
    def run(image):
        return [see(params, image, ("relu3_3",)) for see in _both(SMALL, 16, dtype="bfloat16")]

    whole, in_strips = (found["relu3_3"] for found in run(image))
    assert in_strips.dtype == whole.dtype == jnp.bfloat16
    assert _error(in_strips.astype(np.float32), np.asarray(whole, np.float32)) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "strips of 0 rows hold nothing; give at least 1, 64 as a rule."),
        ({"rows": -16}, "strips of -16 rows hold nothing"),
        ({"layers": ("relu9_1",)}, "unknown layer of small 'relu9_1'"),
        ({"layers": ("image",)}, "no layers were asked for"),
        ({"layers": "relu1_1"}, "the layers are the text 'relu1_1'"),
        ({"image": jnp.ones((40, 40, 4))}, "an image has the shape [..., height, width, 3]"),
        ({"image": jnp.ones((40, 40, 3), jnp.uint8)}, "the image holds uint8"),
        ({"image": jnp.ones((3, 40, 3)), "layers": ("relu3_1",)}, "needs both sides >= 4"),
        ({"padding": "valid"}, "unknown padding of features 'valid'"),
        ({"dtype": "float16"}, "unknown precision 'float16'"),
    ],
)
def test_errors(change, message):
    given = {"image": jnp.ones((40, 40, 3)), "layers": ("relu1_1",), "rows": 16} | change
    with pytest.raises(InputError) as raised:
        features.features_in_strips(_params(SMALL), network=SMALL, **given)
    assert message in str(raised.value)
