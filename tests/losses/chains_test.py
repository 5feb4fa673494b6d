"""Shifted and cross Gram matrices against NumPy in float64, from repeated maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from jaxstyle.losses import (
    chain_links,
    chained_style,
    cross_gram,
    geometric_shares,
    gram_distance,
    layer_weights,
    shifted_style,
    style,
)
from jaxstyle.losses.chains import CHAIN_NORMALIZATIONS
from jaxstyle.statistics import gram
from jaxstyle.types import InputError

RNG = np.random.default_rng(24)
LAYERS = ("relu1_1", "relu1_2", "relu2_1", "relu3_1")
SHAPES = {"relu1_1": (7, 9, 3), "relu1_2": (7, 9, 4), "relu2_1": (3, 4, 5), "relu3_1": (1, 2, 2)}

# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _array(*shape):
    return jnp.asarray(np.maximum(RNG.normal(0.3, 1, shape), 0), jnp.float32)


def _maps(*lead):
    return {layer: _array(*lead, *shape) for layer, shape in SHAPES.items()}


def _repeated(deep, shape, pools):
    """Position `y, x` of the shallower layer lies in `y >> pools, x >> pools`, or in the last."""
    rows, columns = (
        np.minimum(np.arange(size) >> pools, have - 1)
        for size, have in zip(shape, deep.shape[:2], strict=True)
    )
    return np.asarray(deep, np.float64)[rows][:, columns]


def _cross(shallow, deep, pools, blur=0.0):
    height, width, channels = shallow.shape
    deep = _repeated(deep, (height, width), pools)
    if blur:
        deep = ndimage.gaussian_filter(deep, (blur, blur, 0), mode="mirror", truncate=4)
    flat = np.asarray(shallow, np.float64).reshape(-1, channels)
    return flat.T @ deep.reshape(height * width, -1) / (height * width)


def _terms(goal, maps, references):
    run = jit(lambda m, r: goal.evaluate(jnp.zeros((8, 8, 3)), m, goal.prepare(r)))
    return run(maps, references)


@pytest.mark.parametrize(
    ("shallow", "deep", "pools"),
    [
        ((6, 8), (6, 8), 0),
        ((6, 8), (3, 4), 1),
        ((7, 9), (3, 4), 1),
        ((3, 5), (1, 2), 1),  # a quotient of 3 is one pool, not two
        ((15, 31), (3, 7), 2),
        ((1, 1), (1, 1), 0),
    ],
)
def test_cross_gram_repeats_the_deeper_map(shallow, deep, pools):
    one, other = _array(*shallow, 3), _array(*deep, 4)
    result = jit(cross_gram)(one, other)
    np.testing.assert_allclose(result, _cross(one, other, pools), rtol=1e-5)


def test_a_layer_with_itself_is_the_gram_matrix():
    maps = _array(2, 5, 4, 3)
    np.testing.assert_allclose(cross_gram(maps, maps), gram(maps), rtol=1e-5)


@pytest.mark.parametrize("blur", [0.5, 1.5])
def test_the_deeper_map_is_blurred(blur):
    one, other = _array(20, 17, 3), _array(10, 8, 4)
    result = jit(functools.partial(cross_gram, blur=blur))(one, other)
    np.testing.assert_allclose(result, _cross(one, other, 1, blur), rtol=1e-4)
    sharp = cross_gram(one, other)
    assert np.abs(result - sharp).max() > 10 * np.abs(result - _cross(one, other, 1, blur)).max()


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_gradients_against_finite_differences(blur):
    one, other, weights = _array(5, 4, 2), _array(2, 2, 3), _array(2, 3)

    def loss(one, other):
        return jnp.sum(jnp.sin(weights * cross_gram(one, other, blur=blur)))

    check_grads(jax.jit(loss), (one, other), 1, ["rev"], atol=1e-2, rtol=1e-2)


def test_half_precision_is_summed_in_float32():
    one, other = (x.astype(jnp.bfloat16) for x in (_array(30, 30, 3), _array(15, 15, 4)))
    result = cross_gram(one, other)
    assert result.dtype == jnp.float32
    expected = _cross(one.astype(jnp.float32), other.astype(jnp.float32), 1)
    np.testing.assert_allclose(result, expected, rtol=2e-5)


def test_chain_of_adjacent_layers_in_the_papers_form():
    """|G - A|^2 / (4 c d), each pair from its own equation."""
    maps, painting = _maps(), _maps()
    pools = dict(zip(chain_links(LAYERS), (0, 1, 1), strict=True))
    for normalize in CHAIN_NORMALIZATIONS:
        terms = _terms(chained_style(LAYERS, normalize), maps, {"style": painting})
        assert set(terms) == {f"chain/{link}" for link in pools}
        for link, count in pools.items():
            shallow, deep = link.split("-")
            g, a = (_cross(m[shallow], m[deep], count) for m in (maps, painting))
            scale = {"scale_free": np.sum(a**2), "gatys": 4 * g.size}[normalize]
            expected = np.sum((g - a) ** 2) / scale
            np.testing.assert_allclose(terms[f"chain/{link}"], expected, rtol=1e-4)


def test_shift_and_blur_are_passed_to_the_chain():
    maps, painting = _maps(), _maps()
    moved = [{layer: m + 0.7 for layer, m in side.items()} for side in (maps, painting)]
    goal = chained_style(LAYERS[1:3], shift=0.7, blur=0.8)
    result = _terms(goal, maps, {"style": painting})["chain/relu1_2-relu2_1"]
    g, a = (_cross(m["relu1_2"], m["relu2_1"], 1, 0.8) for m in moved)
    np.testing.assert_allclose(result, np.sum((g - a) ** 2) / np.sum(a**2), rtol=1e-4)


@pytest.mark.parametrize("normalize", ["scale_free", "gatys", "johnson_code"])
@pytest.mark.parametrize("shift", [-1.0, 0.0])
def test_shifted_style_is_the_gram_distance_of_shifted_maps(normalize, shift):
    maps, painting = _maps(), _maps()
    goal = shifted_style(LAYERS, normalize, shift=shift)
    terms = _terms(goal, maps, {"style": painting})
    for layer in LAYERS:
        g, a = (
            _cross(np.asarray(m[layer]) + shift, np.asarray(m[layer]) + shift, 0)
            for m in (maps, painting)
        )
        expected = gram_distance(jnp.asarray(g), jnp.asarray(a), normalize=normalize)
        np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-4)
    if not shift:
        plain = _terms(style(LAYERS, "gram", normalize), maps, {"style": painting})
        assert terms == plain


def test_minus_one_is_the_default_shift():
    references = {"style": _maps()}
    one, other = (
        goal.prepare(references)
        for goal in (shifted_style(LAYERS), shifted_style(LAYERS, shift=-1))
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_zero_at_the_style_and_without_slope(blur):
    maps = _maps()
    goal = chained_style(LAYERS, shift=-1.0, blur=blur)
    targets = goal.prepare({"style": maps})

    def total(maps):
        return sum(goal.evaluate(jnp.zeros((8, 8, 3)), maps, targets).values())

    value, gradient = jit(jax.value_and_grad(total))(maps)
    assert 0 <= value < 1e-10
    assert all(np.abs(leaf).max() < 1e-4 for leaf in jax.tree.leaves(gradient))


def test_shares_of_the_layers_are_the_papers():
    assert geometric_shares(LAYERS) == (8, 4, 2, 1)
    assert geometric_shares(LAYERS, "content") == (2, 4, 8, 16)
    weights = layer_weights("chain", chain_links(LAYERS), 7.0, geometric_shares(LAYERS[1:]))
    assert weights == {
        "chain/relu1_1-relu1_2": 4.0,
        "chain/relu1_2-relu2_1": 2.0,
        "chain/relu2_1-relu3_1": 1.0,
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: geometric_shares(LAYERS, "styles"), "did you mean 'style'"),
        (lambda: shifted_style(()), "has no layers"),
        (lambda: shifted_style(LAYERS, "gatis"), "did you mean 'gatys'"),
        (lambda: chained_style(("relu1_1",)), "the chain has one layer, 'relu1_1'"),
        (lambda: chained_style("relu1_1"), "is the string"),
        (lambda: chained_style(("a", "b", "a")), "name a layer twice"),
        (lambda: chained_style(LAYERS, "johnson"), "unknown chain normalization 'johnson'"),
        (lambda: chained_style(LAYERS, blur=-1.0), "the blur is -1.0"),
        (lambda: chained_style(LAYERS, blur=float("nan")), "the blur is nan"),
        (lambda: cross_gram(_array(4, 4, 1), _array(4, 4, 1), blur=-1), "the blur is -1"),
        (lambda: cross_gram(_array(4, 4, 1), _array(8, 8, 1)), "8x8 are not .* deeper.*4x4"),
        (lambda: cross_gram(_array(9, 9, 1), _array(3, 3, 1)), "3x3 are not"),
        (lambda: cross_gram(_array(8, 8, 1), _array(4, 2, 1)), "4x2 are not"),
        (
            lambda: _terms(chained_style(LAYERS[::-1]), _maps(), {"style": _maps()}),
            "from shallow to deep",
        ),
        (lambda: chained_style(LAYERS).evaluate(jnp.ones((8, 8, 3)), _maps(), {}), "no target for"),
    ],
)
def test_what_makes_no_chain_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
