"""The contract that every objective keeps, over a table of all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.losses import (
    Objective,
    combine,
    content,
    content_distance,
    gram_distance,
    moments_distance,
    style,
    total_variation,
    variation,
    weigh,
)
from jaxstyle.losses.distances import CONTENT_NORMALIZATIONS, GRAM_NORMALIZATIONS
from jaxstyle.losses.regularization import VARIATIONS
from jaxstyle.statistics import gram, mean_and_covariance
from jaxstyle.types import InputError

RNG = np.random.default_rng(10)
KERNELS = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 5))]
LAYERS = ("relu1_1", "relu2_1")

OBJECTIVES = {
    **{f"content-{n}": content(LAYERS, n) for n in CONTENT_NORMALIZATIONS},
    **{f"gram-{n}": style(LAYERS, "gram", n) for n in GRAM_NORMALIZATIONS},
    "moments": style(LAYERS, "moments"),
    **{f"tv-{k}": total_variation(k) for k in VARIATIONS},
    "all": combine(content(LAYERS[1:]), style(LAYERS, "moments"), total_variation()),
}
TABLE = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def _see(image):
    """A network of two layers: 1x1 convolutions, the second after 2x2 mean pooling."""
    first = jax.nn.relu(image @ KERNELS[0] + 0.1)
    *lead, height, width, channels = first.shape
    pooled = first.reshape(*lead, height // 2, 2, width // 2, 2, channels).mean((-4, -2))
    return {"relu1_1": first, "relu2_1": jax.nn.relu(pooled @ KERNELS[1] + 0.1)}


def _image(*lead):
    return jnp.asarray(RNG.uniform(size=(*lead, 6, 4, 3)), jnp.float32)


def _references(*lead):
    return {"content": _see(_image(*lead)), "style": _see(_image())}


def _terms(objective, targets):
    return lambda image: objective.evaluate(image, _see(image), targets)


def _sum(objective, targets):
    return lambda image: sum(jnp.sum(v) for v in _terms(objective, targets)(image).values())


@TABLE
def test_one_float32_value_per_image(objective):
    for lead in ((), (2,), (2, 3)):
        terms = _terms(objective, objective.prepare(_references(*lead)))(_image(*lead))
        assert terms
        for value in terms.values():
            assert value.shape == lead and value.dtype == jnp.float32
            assert (value > 0).all()


@TABLE
def test_terms_are_named_after_what_they_compare(objective):
    names = _terms(objective, objective.prepare(_references()))(_image()).keys()
    layers = {name.partition("/")[2] for name in names} - {""}
    assert {name.partition("/")[0] for name in names} <= {"content", "style", "tv"}
    assert layers == set(objective.layers)


@TABLE
def test_images_of_a_batch_are_independent(objective):
    images, references = _image(3), _references(3)
    targets = objective.prepare(references)
    terms = _terms(objective, targets)(images)
    for k in range(3):
        alone = {**references, "content": {n: v[k] for n, v in references["content"].items()}}
        expected = _terms(objective, objective.prepare(alone))(images[k])
        for name, value in terms.items():
            np.testing.assert_allclose(value[k], expected[name], rtol=1e-5)
    gradient = jax.grad(
        lambda x: sum(jnp.sum(v[1]) for v in _terms(objective, targets)(x).values())
    )(images)
    np.testing.assert_array_equal(gradient[::2], 0)
    assert np.abs(gradient[1]).max() > 0


@TABLE
def test_style_target_without_batch_axis_is_that_of_every_image(objective):
    images, references = _image(2), _references(2)
    repeated = {k: jnp.stack([v, v]) for k, v in references["style"].items()}
    shared = _terms(objective, objective.prepare(references))(images)
    each = _terms(objective, objective.prepare({**references, "style": repeated}))(images)
    for name, value in shared.items():
        np.testing.assert_allclose(value, each[name], rtol=1e-5)


@TABLE
def test_jit_changes_nothing_and_compiles_once(objective):
    def loss(image, references, weights):
        targets = objective.prepare(references)
        terms = _terms(objective, targets)(image)
        named = {name: weights[i] for i, name in enumerate(terms)}
        return jnp.mean(weigh(terms, named)), terms

    function = jax.value_and_grad(loss, has_aux=True)
    compiled = jax.jit(function)
    weights = jnp.array([1.0, 0.0, 3.0, 0.5])
    for scale in (1.0, 2.0):
        arguments = (_image(2), _references(2), scale * weights)
        results, expected = compiled(*arguments), function(*arguments)
        for one, other in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert compiled._cache_size() == 1


@TABLE
def test_lanes_of_a_sweep_over_weights_are_single_runs(objective):
    image, targets = _image(), objective.prepare(_references())

    def loss(image, weights):
        terms = _terms(objective, targets)(image)
        return weigh(terms, {name: weights[i] for i, name in enumerate(terms)})

    run = jax.jit(jax.value_and_grad(loss))
    sweep = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 1.0, 1.0], [3.0, 1.0, 0.5, 0.0]])
    values, gradients = jax.vmap(run, (None, 0))(image, sweep)
    for k, weights in enumerate(sweep):
        value, gradient = run(image, weights)
        np.testing.assert_allclose(values[k], value, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(gradients[k], gradient, rtol=1e-4, atol=1e-6)


@TABLE
def test_lanes_of_a_sweep_over_images_are_single_runs(objective):
    images, targets = _image(3), objective.prepare(_references())
    run = jax.value_and_grad(_sum(objective, targets))
    values, gradients = jax.vmap(run)(images)
    for k in range(3):
        value, gradient = run(images[k])
        np.testing.assert_allclose(values[k], value, rtol=1e-5)
        np.testing.assert_allclose(gradients[k], gradient, rtol=1e-4, atol=1e-5)


@TABLE
def test_gradient_in_a_loop_is_that_outside(objective):
    image, targets = _image(), objective.prepare(_references())
    gradient = jax.grad(_sum(objective, targets))
    _, scanned = jax.lax.scan(lambda x, _: (x, gradient(x)), image, length=2)
    expected = gradient(image)
    for step in scanned:
        np.testing.assert_allclose(step, expected, rtol=1e-4, atol=1e-5)


@TABLE
def test_bf16_features_give_float32_terms_and_bf16_gradients(objective):
    image, maps = _image(2), _see(_image(2))
    targets = objective.prepare(_references(2))
    half = {name: value.astype(jnp.bfloat16) for name, value in maps.items()}
    exact, terms = (objective.evaluate(image, f, targets) for f in (maps, half))
    for name, value in terms.items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, exact[name], rtol=0.05)
    gradient = jax.grad(
        lambda f: sum(jnp.sum(v) for v in objective.evaluate(image, f, targets).values())
    )(half)
    assert {value.dtype for value in gradient.values()} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if not name.startswith("tv")])
def test_reference_itself_scores_zero(name):
    objective, image = OBJECTIVES[name], jnp.full((6, 4, 3), 0.4)
    targets = objective.prepare({"content": _see(image), "style": _see(image)})
    assert set(map(float, _terms(objective, targets)(image).values())) == {0.0}
    np.testing.assert_array_equal(jax.grad(_sum(objective, targets))(image), 0)


def test_terms_are_the_elementary_functions():
    goal = combine(
        content(("relu2_1",), "gatys"),
        style(("relu1_1",), "gram", "johnson"),
        style(("relu1_1",), "moments", name="moments"),
        total_variation("l1"),
    )
    image, references = _image(2), _references(2)
    maps = _see(image)
    terms = goal.evaluate(image, maps, goal.prepare(references))
    first, styled = maps["relu1_1"], references["style"]["relu1_1"]
    expected = {
        "content/relu2_1": content_distance(
            maps["relu2_1"], references["content"]["relu2_1"], normalize="gatys"
        ),
        "style/relu1_1": gram_distance(gram(first), gram(styled), normalize="johnson"),
        "moments/relu1_1": moments_distance(
            mean_and_covariance(first), mean_and_covariance(styled)
        ),
        "tv": variation(image, kind="l1"),
    }
    assert list(terms) == list(expected)
    for name, value in terms.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6)


def test_combined_layers_come_once_in_order():
    goal = combine(content(("relu4_1", "relu1_1")), style(("relu1_1", "relu2_1")))
    assert goal.layers == ("relu4_1", "relu1_1", "relu2_1")


def test_combinations_combine():
    parts = content(LAYERS), style(LAYERS), total_variation()
    nested, flat = combine(combine(*parts[:2]), parts[2]), combine(*parts)
    image, references = _image(), _references()
    one, other = (_terms(goal, goal.prepare(references))(image) for goal in (nested, flat))
    assert list(one) == list(other) and one == other


def test_targets_can_be_prepared_apart():
    """As a training step does: the style once, the content at every batch."""
    goal, references, image = OBJECTIVES["all"], _references(2), _image(2)
    apart = goal.prepare({"style": references["style"]})
    apart |= goal.prepare({"content": references["content"]})
    together = goal.prepare(references)
    assert apart.keys() == together.keys()
    assert _terms(goal, apart)(image).keys() == _terms(goal, together)(image).keys()


def test_objective_without_targets_takes_anything_for_them():
    assert total_variation().evaluate(jnp.zeros((4, 4, 3)), {}, ()) == {"tv": 0}


def test_objective_can_be_written_by_hand():
    brightness = Objective((), lambda r: {}, lambda i, f, t: {"light": i.mean((-3, -2, -1))})
    goal = combine(brightness, total_variation())
    terms = goal.evaluate(jnp.full((2, 4, 4, 3), 0.5), {}, goal.prepare({}))
    np.testing.assert_allclose(terms["light"], [0.5, 0.5])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: content(()), "has no layers"),
        (lambda: content("relu1_1"), r"give a tuple, \('relu1_1',\)"),
        (lambda: style(("a", "a")), "name a layer twice"),
        (lambda: content(("a",), "gram"), "unknown content normalization 'gram'"),
        (lambda: style(("a",), "grams"), "did you mean 'gram'"),
        (lambda: style(("a",), "gram", "jonson"), "did you mean 'johnson'"),
        (lambda: style(("a",), "moments", "gatys"), "moments normalization.*Choices: scale_free"),
        (lambda: total_variation("l2"), "did you mean 'l1'"),
        (lambda: combine(), "nothing to combine"),
    ],
)
def test_wrong_settings_are_refused_when_built(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_missing_target_is_named():
    with pytest.raises(InputError, match="no target for 'style/relu1_1'.*'style'"):
        _terms(style(LAYERS), {})(_image())


def test_missing_layer_is_named():
    objective = style(("relu3_1",))
    with pytest.raises(InputError, match="no layer 'relu3_1', only relu1_1, relu2_1"):
        objective.prepare(_references())


def test_two_terms_of_one_name_are_refused():
    goal = combine(style(LAYERS, "gram"), style(LAYERS, "moments"))
    with pytest.raises(InputError, match="two objectives have a term 'style/relu1_1'"):
        goal.prepare(_references())
