"""Guided statistics against the paper's equation in NumPy, and against crops of the maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.losses import guided_gram, guided_moments, guided_style, style
from jaxstyle.losses.distances import GRAM_NORMALIZATIONS
from jaxstyle.losses.guidance import GUIDED
from jaxstyle.losses.objective import STATISTICS
from jaxstyle.statistics import gram, mean_and_covariance
from jaxstyle.types import InputError

RNG = np.random.default_rng(22)
# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
LAYERS = ("relu1_1", "relu2_1")
SHAPES = {"relu1_1": (6, 8, 3), "relu2_1": (3, 4, 5)}


def _array(*shape):
    return jnp.asarray(RNG.uniform(size=shape), jnp.float32)


def _maps(*lead):
    return {layer: _array(*lead, *shape) for layer, shape in SHAPES.items()}


def _guides(value=None):
    shapes = {layer: shape[:2] for layer, shape in SHAPES.items()}
    return {k: _array(*s) if value is None else jnp.full(s, value) for k, s in shapes.items()}


def _halves():
    """Guides of the left and the right half."""
    left = {layer: jnp.zeros(s[:2]).at[:, : s[1] // 2].set(1) for layer, s in SHAPES.items()}
    return left, {layer: 1 - guide for layer, guide in left.items()}


def _oracle(features, guide):
    """Gatys et al. 2017, section 4: the guide multiplies every map, sum T^2 = 1."""
    maps = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    weights = np.asarray(guide, np.float64).reshape(-1)
    guided = maps * (weights / np.linalg.norm(weights))[:, None]
    return guided.T @ guided


def test_guided_gram_is_the_papers():
    features, guide = _array(5, 7, 4), _array(5, 7)
    result = guided_gram(features, guide)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, _oracle(features, guide), rtol=1e-5)
    scaled = guided_gram(features, 0.1 * guide)
    np.testing.assert_allclose(scaled, result, rtol=1e-5)


def test_guided_moments_are_weighted_by_the_squared_guide():
    features, guide = _array(5, 7, 4), _array(5, 7)
    mean, covariance = guided_moments(features, guide)
    samples = np.asarray(features, np.float64).reshape(-1, 4)
    weights = np.square(np.asarray(guide, np.float64)).reshape(-1)
    np.testing.assert_allclose(mean, np.average(samples, axis=0, weights=weights), rtol=1e-5)
    expected = np.cov(samples.T, aweights=weights, bias=True)
    np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-6)


def _close(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), one, other)


PAIRS = pytest.mark.parametrize(
    ("guided", "plain"), [(guided_gram, gram), (guided_moments, mean_and_covariance)]
)


@PAIRS
@pytest.mark.parametrize("value", [1.0, 0.2])
def test_a_guide_of_ones_is_no_guide(guided, plain, value):
    features = _array(2, 5, 7, 4)
    _close(guided(features, jnp.full((5, 7), value)), plain(features))


@PAIRS
def test_a_mask_cuts_the_region_out(guided, plain):
    features = _array(5, 7, 4)
    guide = jnp.zeros((5, 7)).at[1:4, 2:].set(1)
    _close(guided(features, guide), plain(features[1:4, 2:]))


def test_two_halves_make_the_whole():
    features, left = _array(6, 8, 3), jnp.zeros((6, 8)).at[:, :4].set(1)
    halves = guided_gram(features, jnp.stack([left, 1 - left]))
    np.testing.assert_allclose(halves.mean(0), gram(features), rtol=1e-5)


@PAIRS
def test_leading_axes_broadcast(guided, plain):
    features, guides = _array(2, 1, 5, 7, 4), _array(3, 5, 7)
    together = guided(features, guides)
    for i, j in np.ndindex(2, 3):
        alone = guided(features[i, 0], guides[j])
        _close(jax.tree.map(lambda x: x[i, j], together), alone)  # noqa: B023


@PAIRS
def test_gradients_against_finite_differences(guided, plain):
    features, guide = _array(3, 4, 2), 0.5 + _array(3, 4)

    def loss(features, guide):
        return sum(jnp.sum(jnp.sin(3 * x)) for x in jax.tree.leaves(guided(features, guide)))

    check_grads(jax.jit(loss), (features, guide), 1, ["rev"], atol=1e-2, rtol=1e-2)


@PAIRS
def test_a_guide_of_zeros_gives_zeros_and_no_nan(guided, plain):
    features, nowhere = _array(3, 4, 2), jnp.zeros((3, 4))
    value, gradient = jax.value_and_grad(
        lambda x: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(guided(x, nowhere)))
    )(features)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@PAIRS
def test_half_precision_is_summed_in_float32(guided, plain):
    features, guide = _array(20, 20, 3).astype(jnp.bfloat16), _array(20, 20)
    rounded = guided(features.astype(jnp.float32), guide)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype(jnp.float32)}
    _close(guided(features, guide), rounded)


@pytest.mark.parametrize("guide", [jnp.ones((5, 6)), jnp.ones((2, 3)), jnp.ones(15)])
def test_a_guide_of_another_size_is_refused(guide):
    with pytest.raises(InputError, match="does not fit maps of 5x3"):
        guided_gram(jnp.ones((5, 3, 2)), guide)


# --- The objective ---

NORMALIZED = [
    ("gram", "scale_free"),
    ("gram", "gatys"),
    ("gram", "johnson_code"),
    *((name, "scale_free") for name in GUIDED if name != "gram"),
]


def _evaluate(goal, maps, references):
    return goal.evaluate(jnp.zeros((6, 8, 3)), maps, goal.prepare(references))


def _compiled(goal, maps, references):
    return jit(functools.partial(_evaluate, goal))(maps, references)


def test_what_is_guided_is_a_statistic_of_style():
    assert GUIDED.keys() <= STATISTICS.keys()
    assert {normalize for name, normalize in NORMALIZED if name == "gram"} <= set(
        GRAM_NORMALIZATIONS
    )


@pytest.mark.parametrize(("statistic", "normalize"), NORMALIZED)
def test_masks_of_ones_equal_the_unguided_objective(statistic, normalize):
    maps, painting = _maps(2), _maps()
    goal = guided_style(LAYERS, ("all",), statistic, normalize)
    references = {"style/all": painting, "style/all/guide": _guides(1.0), "guide/all": _guides(1.0)}
    guided = _compiled(goal, maps, references)
    plain = _compiled(style(LAYERS, statistic, normalize), maps, {"style": painting})
    for layer in LAYERS:
        assert plain[f"style/{layer}"].min() > 0
        np.testing.assert_allclose(guided[f"style/all/{layer}"], plain[f"style/{layer}"], rtol=2e-4)


@pytest.mark.parametrize("statistic", GUIDED)
def test_each_half_is_compared_with_its_own_style(statistic):
    """Two crops and two unguided objectives, one for each side."""
    maps, (left, right) = _maps(), _halves()
    paintings = {"sky": _maps(), "ground": _maps()}
    goal = guided_style(LAYERS, ("sky", "ground"), statistic)
    references = {f"style/{region}": painting for region, painting in paintings.items()}
    terms = _compiled(goal, maps, references | {"guide/sky": left, "guide/ground": right})
    assert set(terms) == {f"style/{r}/{layer}" for r in ("sky", "ground") for layer in LAYERS}
    assert goal.layers == LAYERS
    for region, side in (("sky", 0), ("ground", 1)):
        crop = {layer: jnp.split(value, 2, axis=-2)[side] for layer, value in maps.items()}
        plain = _compiled(style(LAYERS, statistic), crop, {"style": paintings[region]})
        for layer in LAYERS:
            expected = plain[f"style/{layer}"]
            np.testing.assert_allclose(terms[f"style/{region}/{layer}"], expected, rtol=1e-4)


def test_zero_where_each_region_has_its_style_and_no_pull_outside():
    maps, (left, right) = _maps(), _halves()
    crops = [{k: jnp.split(v, 2, axis=1)[side] for k, v in maps.items()} for side in (0, 1)]
    goal = guided_style(LAYERS, ("sky", "ground"))
    references = {"style/sky": crops[0], "style/ground": crops[1]}
    references |= {"guide/sky": left, "guide/ground": right}
    assert all(0 <= value < 1e-10 for value in _compiled(goal, maps, references).values())

    other = references | {"style/sky": _maps()}
    pull = jit(jax.grad(lambda m: sum(_evaluate(goal, m, other).values())))(maps)
    for layer in LAYERS:
        sky, ground = (np.abs(part).max() for part in jnp.split(pull[layer], 2, axis=1))
        assert sky > 1e-3 and ground < 1e-5


def test_one_painting_for_all_regions_and_a_part_of_it_for_one():
    maps, painting, (left, _) = _maps(), _maps(), _halves()
    goal = guided_style(LAYERS, ("a", "b"))
    guides = {"guide/a": _guides(), "guide/b": _guides()}
    references = {"style": painting, "style/b/guide": left} | guides
    half = {layer: jnp.split(value, 2, axis=1)[0] for layer, value in painting.items()}
    apart = {"style/a": painting, "style/b": half} | guides
    one, other = (_compiled(goal, maps, given) for given in (references, apart))
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4)


def test_styles_and_guides_can_be_prepared_apart():
    goal, guides = guided_style(LAYERS, ("a",)), _guides()
    apart = goal.prepare({"style/a": _maps()})
    assert set(apart) == {"style/a/relu1_1", "style/a/relu2_1"}
    apart |= goal.prepare({"guide/a": guides})
    values = goal.evaluate(jnp.zeros((6, 8, 3)), _maps(), apart)
    assert all(value > 0 for value in values.values())


def test_lanes_of_a_sweep_over_guides_are_single_runs():
    maps, painting, goal = _maps(), _maps(), guided_style(LAYERS, ("a",))
    guides = [_guides() for _ in range(3)]

    def run(guides):
        return _evaluate(goal, maps, {"style/a": painting, "guide/a": guides})

    lanes = jit(jax.vmap(run))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *guides))
    for k, guide in enumerate(guides):
        for name, value in jit(run)(guide).items():
            np.testing.assert_allclose(lanes[name][k], value, rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: guided_style((), ("a",)), "has no layers"),
        (lambda: guided_style("relu1_1", ("a",)), "layers is the string"),
        (lambda: guided_style(LAYERS, ()), "has no regions"),
        (lambda: guided_style(LAYERS, "sky"), r"give a tuple, \('sky',\)"),
        (lambda: guided_style(LAYERS, ("a", "a")), "name one twice"),
        (lambda: guided_style(LAYERS, ("a",), "grams"), "did you mean 'gram'"),
        (lambda: guided_style(LAYERS, ("a",), "gram", "gatis"), "did you mean 'gatys'"),
    ],
)
def test_wrong_settings_are_refused_when_built(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"guide/a": _guides(1.0)}, "no target 'style/a/relu1_1'.*reference 'style/a'"),
        ({"style": _maps()}, "no target 'style/a/relu1_1/guide'.*reference 'guide/a'"),
        ({"style": _maps(), "guide/a": {"relu1_1": jnp.ones((6, 8))}}, "no layer 'relu2_1'"),
        (
            {"style": _maps(), "guide/a": {layer: jnp.ones((4, 4)) for layer in LAYERS}},
            "does not fit maps of 6x8",
        ),
    ],
)
def test_references_that_do_not_fit_are_refused(references, message):
    with pytest.raises(InputError, match=message):
        _evaluate(guided_style(LAYERS, ("a",)), _maps(), references)
