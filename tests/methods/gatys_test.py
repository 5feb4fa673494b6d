"""Gatys as a function of arrays: the paper's equations, lanes, starts, refusals."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features, losses, optimize
from jaxstyle.methods import Solution, gatys, per_image
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)
NETWORK = features.Network("toy", ((4, 5), (6,)), features.PLAIN, padding="reflect")
PARAMS = features.initialize(jax.random.key(0), NETWORK)
CONTENT = jnp.float32(RNG.uniform(size=(12, 16, 3)))
STYLE = jnp.float32(RNG.uniform(size=(10, 14, 3)))
LAYERS = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu1_2")}
paint = functools.partial(gatys, perception=(PARAMS, NETWORK), **LAYERS)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def seen(image, layer):
    return np.float64(features.features(PARAMS, image, (layer,), network=NETWORK)[layer])


def gram(maps):
    flat = maps.reshape(-1, maps.shape[-1])
    return flat.T @ flat


def test_the_first_loss_is_that_of_the_papers_equations():
    """Equations 1 to 7 in float64, with the gram matrices not divided by anything."""
    image = jnp.float32(RNG.uniform(size=CONTENT.shape))
    solution = paint(
        CONTENT,
        STYLE,
        normalize="gatys",
        content_weight=0.5,
        style_weight=3.0,
        start=image,
        steps=1,
    )
    content = np.sum((seen(image, "relu2_1") - seen(CONTENT, "relu2_1")) ** 2) / 2
    style = 0.0
    for layer in LAYERS["style_layers"]:
        maps, target = seen(image, layer), seen(STYLE, layer)
        height, width, channels = maps.shape
        # The painting is of another size: its matrix counts as if it had the picture's positions.
        scaled = gram(target) * (height * width) / (target.shape[0] * target.shape[1])
        distance = np.sum((gram(maps) - scaled) ** 2)
        style += distance / (4 * channels**2 * (height * width) ** 2) / 2
    np.testing.assert_allclose(solution.history[0], 0.5 * content + 3.0 * style, rtol=1e-4)


def test_the_loss_falls_and_the_picture_is_one():
    solution = paint(CONTENT, STYLE, steps=30)
    assert isinstance(solution, Solution)
    assert solution.image.shape == CONTENT.shape and solution.history.shape == (30,)
    assert float(solution.history[-1]) < 0.3 * float(solution.history[0])
    assert float(solution.image.min()) >= 0 and float(solution.image.max()) <= 1
    assert int(solution.state.step) == 30


def test_lanes_equal_single_runs():
    contents = jnp.stack([CONTENT, 1 - CONTENT])
    weights = jnp.array([0.1, 2.0])
    both = paint(contents, STYLE, content_weight=weights, steps=3)
    for lane in range(2):
        one = paint(contents[lane], STYLE, content_weight=float(weights[lane]), steps=3)
        np.testing.assert_allclose(both.image[lane], one.image, atol=2e-5)
        np.testing.assert_allclose(both.history[lane], one.history, rtol=1e-4)


def test_seeds_and_styles_have_lanes_too():
    styles = jnp.stack([STYLE, STYLE[::-1]])
    both = paint(CONTENT, styles, start="noise", seed=jnp.array([3, 4]), steps=2)
    single = paint(CONTENT, styles[1], start="noise", seed=4, steps=2)
    np.testing.assert_allclose(both.image[1], single.image, atol=2e-5)
    assert np.abs(both.image[0] - both.image[1]).mean() > 0.05


def test_two_calls_alike_trace_once(monkeypatch):
    module = importlib.import_module("jaxstyle.methods.gatys")
    traced = []

    def counted(*arguments):
        traced.append(arguments)
        return per_image.prepare(*arguments)

    monkeypatch.setattr(module, "prepare", counted)
    for weight in (0.1, 0.2):
        paint(CONTENT, STYLE, steps=3, tv_weight=weight, statistic="moments")
    assert len(traced) == 1


def test_starts():
    first = functools.partial(per_image.first_picture, content=CONTENT, style=STYLE)
    np.testing.assert_array_equal(first("content"), CONTENT)
    np.testing.assert_array_equal(first("gray"), jnp.full_like(CONTENT, 0.5))
    assert first("style").shape == CONTENT.shape
    constant = first("style", style=jnp.full((3, 4, 3), 0.3))
    np.testing.assert_allclose(constant, 0.3, atol=1e-6)
    one, again, other = (first("noise", seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert 0.1 < float(one.std()) < 0.2 and np.abs(one - other).mean() > 0.05


def test_it_goes_on_where_it_stopped():
    solver = optimize.solver("lbfgs", learning_rate=1.0)
    problem = per_image.Problem(losses.content(("relu1_2",)), NETWORK)
    targets = per_image.prepare(problem, PARAMS, {"content": CONTENT})
    context = per_image.Context(PARAMS, targets, {"content/relu1_2": 1.0})
    loss = functools.partial(per_image.loss, problem=problem)
    go = functools.partial(optimize.advance, loss=loss, solver=solver)
    begun = optimize.start(per_image.first_picture("gray", CONTENT), solver)
    whole, _ = jax.jit(functools.partial(go, steps=8))(begun, context)
    half = jax.jit(functools.partial(go, steps=4))
    parts, history = half(half(begun, context)[0], context)
    np.testing.assert_array_equal(whole.numbers, parts.numbers)
    assert float(history[-1]) < 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"content_layers": ("relu2_2",)}, "unknown layer of toy 'relu2_2'"),
        ({"style_layers": ()}, "the style objective has no layers"),
        ({"statistic": "grams"}, "unknown style statistic 'grams'; did you mean 'gram'"),
        ({"start": "noize"}, "unknown start 'noize'; did you mean 'noise'"),
        ({"steps": 0}, "steps is 0; at least 1"),
        ({"content": CONTENT[0]}, "content has the shape (16, 3); give it 3 axes"),
        ({"seed": jnp.zeros((2, 2), int)}, "seed has the shape (2, 2); give it 0 axes"),
        (
            {"content": CONTENT[None], "style": jnp.stack([STYLE, STYLE])},
            "the leading axes do not agree (1 of content, 2 of style)",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said(change, sentence):
    given = {"content": CONTENT, "style": STYLE, "steps": 1, **LAYERS} | change
    with pytest.raises(InputError) as caught:
        gatys(perception=(PARAMS, NETWORK), **given)
    assert sentence in str(caught.value)
