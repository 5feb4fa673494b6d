"""Ways of computing one loss: at once, in strips, twice, with fewer digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features, losses, optimize
from jaxstyle.methods import coarse_to_fine, per_image, reconstruct, texture
from jaxstyle.types import InputError

RNG = np.random.default_rng(1)
NETWORK = features.Network("toy", ((4, 5), (6,)), features.PLAIN, padding="reflect")
PARAMS = features.initialize(jax.random.key(0), NETWORK)
CONTENT = jnp.float32(RNG.uniform(size=(70, 20, 3)))
STYLE = jnp.float32(RNG.uniform(size=(50, 24, 3)))
IMAGE = jnp.float32(RNG.uniform(size=CONTENT.shape))
GOAL, WEIGHTS = losses.assemble(
    losses.ObjectiveConfig(
        content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), tv=0.3, alpha=0.5
    )
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def loss_and_gradient(**how):
    problem = per_image.Problem(GOAL, NETWORK, **how)
    targets = per_image.prepare(problem, PARAMS, {"content": CONTENT, "style": STYLE})
    context = per_image.Context(PARAMS, targets, WEIGHTS)
    function = functools.partial(per_image.loss, problem=problem)
    (value, terms), gradient = jax.jit(jax.value_and_grad(function, has_aux=True))(IMAGE, context)
    return float(value), {k: float(v) for k, v in terms.items()}, np.asarray(gradient)


@pytest.mark.parametrize(
    ("how", "tolerance"),
    [({"rows": 16}, 1e-5), ({"remat": True}, 1e-6), ({"rows": 32}, 1e-5)],
    ids=str,
)
def test_it_is_the_same_loss_and_gradient(how, tolerance):
    value, terms, gradient = loss_and_gradient()
    found, own, direction = loss_and_gradient(**how)
    assert found == pytest.approx(value, rel=tolerance)
    assert own == pytest.approx(terms, rel=tolerance)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(direction, gradient, atol=tolerance * scale)


def test_bfloat16_is_close_and_not_the_same():
    value, terms, gradient = loss_and_gradient()
    found, own, direction = loss_and_gradient(dtype="bfloat16")
    assert found == pytest.approx(value, rel=0.02) and found != value
    assert own["tv"] == terms["tv"]  # of the picture itself
    error = np.linalg.norm(direction - gradient) / np.linalg.norm(gradient)
    assert 1e-6 < error < 0.1  # the gradient is of differences, some of them small
    assert direction.dtype == np.float32


def test_a_texture_has_any_size_and_a_tile_no_border():
    make = functools.partial(texture, STYLE, (PARAMS, NETWORK), layers=("relu1_1", "relu2_1"))
    solution = make(size=(21, 34), steps=30)
    assert solution.image.shape == (21, 34, 3)
    assert float(solution.history[-1]) < 0.2 * float(solution.history[0])
    adam = optimize.solver("adam", learning_rate=0.05)
    tile = make(size=(32, 32), steps=40, seamless=True, tv_weight=1.0, solver=adam).image
    open_ends = make(size=(32, 32), steps=40, margin=0, tv_weight=1.0, solver=adam).image

    def seam(image):
        inside = jnp.abs(jnp.diff(image, axis=0)).mean()
        return float(jnp.abs(image[0] - image[-1]).mean() / inside)

    assert seam(tile) < 1.5 < seam(open_ends)


@pytest.mark.parametrize("kind", ["content", "style"])
def test_a_reconstruction_is_seen_alike(kind):
    picture = CONTENT[:24]
    layers = ("conv1_1",)  # four numbers a place, none cut off: enough to tell its color
    solution = reconstruct(picture, (PARAMS, NETWORK), layers, kind=kind, steps=60)
    assert float(solution.history[-1]) < 1e-3 * float(solution.history[0])
    difference = float(jnp.abs(solution.image - picture).mean())
    # Maps say where everything is, statistics do not.
    assert difference < 0.02 if kind == "content" else difference > 0.1


def test_from_coarse_to_fine_the_last_begins_where_the_one_before_ended():
    goal = losses.ObjectiveConfig(content_layers=("relu2_1",), style_layers=("relu1_1",), beta=1.0)
    paint = functools.partial(
        coarse_to_fine, CONTENT, STYLE, (PARAMS, NETWORK), objective=goal, first_steps=40
    )
    small = paint(sizes=(40,), steps=1)
    both = paint(sizes=(40, 60), steps=1)
    assert both.image.shape == (60, 17, 3)
    grown = jax.image.resize(small.image, both.image.shape, "cubic")
    first = jax.image.resize(CONTENT, both.image.shape, "cubic")
    assert float(jnp.abs(both.image - grown).mean()) < float(jnp.abs(both.image - first).mean()) / 2
    # Adam goes on counting.
    counts = [int(leaf) for leaf in jax.tree.leaves(both.state.solver) if leaf.shape == ()]
    assert 41 in counts


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: texture(STYLE, p, size=(20, 32), seamless=True), "give multiples of 16"),
        (lambda p: texture(STYLE, p, size=(0, 32)), "give height and width"),
        (lambda p: reconstruct(STYLE, p, ("relu1_1",), kind="styles"), "did you mean 'style'"),
        (lambda p: reconstruct(STYLE, p, ("relu1_1",), steps=0), "at least 1 is needed"),
        (lambda p: coarse_to_fine(CONTENT, STYLE, p, sizes=()), "no sizes are given"),
    ],
)
def test_what_is_wrong_is_said(call, sentence):
    with pytest.raises(InputError) as caught:
        call((PARAMS, NETWORK))
    assert sentence in str(caught.value)
