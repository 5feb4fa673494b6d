"""The contract that every objective keeps, over a table of all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.losses import (
    Objective,
    combine,
    content,
    content_distance,
    gaussian_transport_distance,
    gram_distance,
    moments_distance,
    sliced_distance,
    sliced_target,
    style,
    total_variation,
    variation,
    weigh,
)
from jaxstyle.losses.distances import CONTENT_NORMALIZATIONS, GRAM_NORMALIZATIONS
from jaxstyle.losses.transport import SLICED_NORMALIZATIONS, TRANSPORT_NORMALIZATIONS
from jaxstyle.statistics import gram, mean_and_covariance
from jaxstyle.types import InputError

RNG = np.random.default_rng(10)
KERNELS = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 5))]
LAYERS = ("relu1_1", "relu2_1")

# Every formula. Names of the same formula, or of a multiple of it, are compared with their papers
# in distances_test.py.
OBJECTIVES = {
    **{f"content-{n}": content(LAYERS, n) for n in ("scale_free", "mean", "gatys")},
    **{f"gram-{n}": style(LAYERS, "gram", n) for n in ("scale_free", "gatys")},
    "moments": style(LAYERS, "moments"),
    "wasserstein": style(LAYERS, "wasserstein"),
    "sliced": style(LAYERS, "sliced", seed=1),
    **{f"tv-{k}": total_variation(k) for k in ("mean", "l1", "johnson_code")},
    "all": combine(content(LAYERS[1:]), style(LAYERS, "moments"), total_variation()),
}
TABLE = pytest.mark.parametrize("name", OBJECTIVES)
WEIGHTS = jnp.array([1.0, 0.5, 3.0, 2.0])


@jax.jit
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


def _run(objective, image, references, weights):
    """What a method does: terms, total of each image, and the gradient of their sum."""

    def loss(image):
        terms = _terms(objective, objective.prepare(references))(image)
        total = weigh(terms, {name: weights[i] for i, name in enumerate(terms)})
        return jnp.sum(total), terms

    (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(image)
    return terms, gradient


@functools.cache
def _compiled(name):
    return jax.jit(functools.partial(_run, OBJECTIVES[name]))


def _assert_close(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@TABLE
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_one_float32_value_per_image(name, lead):
    run = functools.partial(_run, OBJECTIVES[name])
    terms, gradient = jax.eval_shape(run, _image(*lead), _references(*lead), WEIGHTS)
    assert terms
    assert {(value.shape, value.dtype) for value in terms.values()} == {
        (lead, jnp.dtype(jnp.float32))
    }
    assert gradient.shape == (*lead, 6, 4, 3) and gradient.dtype == jnp.float32


@TABLE
def test_terms_are_named_after_what_they_compare(name):
    objective = OBJECTIVES[name]
    terms, gradient = _compiled(name)(_image(), _references(), WEIGHTS)
    layers = {term.partition("/")[2] for term in terms} - {""}
    assert {term.partition("/")[0] for term in terms} <= {"content", "style", "tv"}
    assert layers == set(objective.layers)
    assert all(value > 0 for value in terms.values()) and np.abs(gradient).max() > 0


@TABLE
def test_compiles_once_and_computes_what_it_does_uncompiled(name):
    run = _compiled(name)
    run(_image(), _references(), WEIGHTS)
    programs = run._cache_size()
    arguments = (_image(), _references(), 0 * WEIGHTS)
    _assert_close(run(*arguments), _run(OBJECTIVES[name], *arguments))
    run(_image(), _references(), 2 * WEIGHTS)
    assert run._cache_size() == programs


@TABLE
def test_images_of_a_batch_are_independent_with_or_without_vmap(name):
    images, references = _image(3), _references(3)
    batched = _compiled(name)(images, references, WEIGHTS)
    mapped = jax.jit(jax.vmap(_compiled(name), (0, {"content": 0, "style": None}, None)))
    _assert_close(mapped(images, references, WEIGHTS), batched)
    for k in range(3):
        content_of_k = {layer: value[k] for layer, value in references["content"].items()}
        alone = _compiled(name)(images[k], {**references, "content": content_of_k}, WEIGHTS)
        _assert_close(jax.tree.map(lambda value: value[k], batched), alone)  # noqa: B023


@TABLE
def test_style_target_without_batch_axis_is_that_of_every_image(name):
    images, references = _image(3), _references(3)
    repeated = {layer: jnp.stack([value] * 3) for layer, value in references["style"].items()}
    shared = _compiled(name)(images, references, WEIGHTS)
    _assert_close(shared, _compiled(name)(images, {**references, "style": repeated}, WEIGHTS))


@TABLE
def test_lanes_of_a_sweep_over_weights_are_single_runs(name):
    image, references = _image(), _references()
    sweep = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 1.0, 1.0], [3.0, 1.0, 0.5, 0.0]])
    lanes = jax.jit(jax.vmap(_compiled(name), (None, None, 0)))(image, references, sweep)
    for k, weights in enumerate(sweep):
        single = _compiled(name)(image, references, weights)
        _assert_close(jax.tree.map(lambda value: value[k], lanes), single)  # noqa: B023


@TABLE
def test_gradient_in_a_loop_is_that_outside(name):
    image, references = _image(), _references()

    def step(x, _):
        return x, _compiled(name)(x, references, WEIGHTS)

    _, scanned = jax.lax.scan(step, image, length=2)
    expected = _compiled(name)(image, references, WEIGHTS)
    for k in range(2):
        _assert_close(jax.tree.map(lambda value: value[k], scanned), expected)  # noqa: B023


@TABLE
def test_bf16_features_give_float32_terms_and_bf16_gradients(name):
    objective, image = OBJECTIVES[name], _image(2)
    targets = objective.prepare(_references(2))
    half = {layer: value.astype(jnp.bfloat16) for layer, value in _see(image).items()}
    widened = {layer: value.astype(jnp.float32) for layer, value in half.items()}

    @jax.jit
    def run(features):
        def loss(features):
            terms = objective.evaluate(image, features, targets)
            return sum(map(jnp.sum, terms.values())), terms

        return jax.grad(loss, has_aux=True)(features)

    (gradient, terms), (exact_gradient, exact) = run(half), run(widened)
    for term, value in terms.items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, exact[term], rtol=1e-5)
    for layer, value in gradient.items():
        assert value.dtype == jnp.bfloat16
        scale = np.abs(exact_gradient[layer]).max()
        np.testing.assert_allclose(
            value.astype(jnp.float32), exact_gradient[layer], rtol=2**-7, atol=1e-3 * scale
        )


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if not name.startswith("tv")])
def test_reference_itself_scores_zero(name):
    image = jnp.full((6, 4, 3), 0.4)
    references = {"content": _see(image), "style": _see(image)}
    terms, gradient = _compiled(name)(image, references, WEIGHTS)
    assert all(0 <= value < 1e-10 for value in terms.values())  # rounding
    assert np.abs(gradient).max() < 1e-4


@pytest.mark.parametrize("normalize", CONTENT_NORMALIZATIONS)
def test_every_content_normalization_is_passed_on(normalize):
    goal, image, references = content(LAYERS, normalize), _image(), _references()
    terms = _terms(goal, goal.prepare(references))(image)
    for layer in LAYERS:
        expected = content_distance(
            _see(image)[layer], references["content"][layer], normalize=normalize
        )
        np.testing.assert_allclose(terms[f"content/{layer}"], expected, rtol=1e-6)


@pytest.mark.parametrize("normalize", GRAM_NORMALIZATIONS)
def test_every_gram_normalization_is_passed_on(normalize):
    goal, image, references = style(LAYERS, "gram", normalize), _image(), _references()
    terms = _terms(goal, goal.prepare(references))(image)
    for layer in LAYERS:
        expected = gram_distance(
            gram(_see(image)[layer]), gram(references["style"][layer]), normalize=normalize
        )
        np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-6)


@pytest.mark.parametrize("normalize", TRANSPORT_NORMALIZATIONS)
def test_every_transport_normalization_is_passed_on(normalize):
    goal, image, references = style(LAYERS, "wasserstein", normalize), _image(), _references()
    terms = _terms(goal, goal.prepare(references))(image)
    for layer in LAYERS:
        moments = (mean_and_covariance(x[layer]) for x in (_see(image), references["style"]))
        expected = gaussian_transport_distance(*next(moments), *next(moments), normalize=normalize)
        np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-4)


@pytest.mark.parametrize("normalize", SLICED_NORMALIZATIONS)
def test_every_sliced_normalization_is_passed_on(normalize):
    goal = style(LAYERS, "sliced", normalize, seed=4, directions=7)
    image, references = _image(), _references()
    terms = _terms(goal, goal.prepare(references))(image)
    for layer in LAYERS:
        target = sliced_target(references["style"][layer], seed=4, count=7)
        expected = sliced_distance(_see(image)[layer], *target, normalize=normalize)
        np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-6)


def test_directions_change_with_the_seed_without_another_program():
    """As a solver does to draw them anew: targets of other seeds, one `evaluate`."""
    goal, image, references = style(LAYERS, "sliced"), _image(), _references()

    @jax.jit
    def redrawn(seed):
        targets = style(LAYERS, "sliced", seed=seed).prepare(references)
        return goal.evaluate(image, _see(image), targets)

    zero, one = redrawn(0), redrawn(1)
    assert redrawn._cache_size() == 1
    expected = _terms(goal, goal.prepare(references))(image)
    for term, value in expected.items():
        np.testing.assert_allclose(zero[term], value, rtol=1e-5)
        assert not np.isclose(one[term], value, rtol=1e-3)


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
        (lambda: style(("a",), "moments", "gatys"), "moments normalization 'gatys'.*scale_free"),
        (lambda: style(("a",), "wasserstien"), "did you mean 'wasserstein'"),
        (lambda: style(("a",), "wasserstein", "crowsen"), "transport norm.*mean 'crowson'"),
        (lambda: style(("a",), "sliced", "gatys"), "sliced normalization 'gatys'.*heitz"),
        (lambda: style(("a",), "sliced", directions=0), "0 directions show nothing"),
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
