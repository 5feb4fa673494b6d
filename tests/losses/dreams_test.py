"""Dreams against the gradients that the released notebook puts at the layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.losses import activation, guided_activation
from jaxstyle.losses.dreams import energy
from jaxstyle.types import InputError

RNG = np.random.default_rng(25)
LAYERS = ("relu3_1", "relu4_1")
SHAPES = {"relu3_1": (4, 5, 3), "relu4_1": (2, 2, 6)}
IMAGE = jnp.zeros((16, 20, 3))

# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _maps(*lead):
    return {
        layer: jnp.asarray(np.maximum(RNG.normal(0.3, 1, (*lead, *shape)), 0), jnp.float32)
        for layer, shape in SHAPES.items()
    }


def _terms(goal, maps, references):
    return jit(lambda m, r: goal.evaluate(IMAGE, m, goal.prepare(r)))(maps, references)


def _pull(goal, maps, references):
    """Gradient of the sum of the terms at the layers."""
    targets = goal.prepare(references)
    return jit(jax.grad(lambda m: sum(goal.evaluate(IMAGE, m, targets).values())))(maps)


def test_a_dream_begins_at_minus_one_on_every_layer():
    maps = _maps()
    terms = _terms(activation(LAYERS), maps, {"content": maps})
    assert set(terms) == {"dream/relu3_1", "dream/relu4_1"}
    np.testing.assert_allclose(list(terms.values()), -1, rtol=1e-6)


@pytest.mark.parametrize("channel", [None, 0, 2])
def test_activation_is_the_energy_relative_to_the_first_pictures(channel):
    maps, first = _maps(), _maps()
    terms = _terms(activation(LAYERS, channel=channel), maps, {"content": first})
    for layer in LAYERS:
        f = np.asarray(maps[layer], np.float64)
        f = f if channel is None else f[..., channel]
        expected = -np.mean(f**2) / np.mean(np.asarray(first[layer], np.float64) ** 2)
        np.testing.assert_allclose(terms[f"dream/{layer}"], expected, rtol=1e-5)


@pytest.mark.parametrize("channel", [None, 2])
def test_googles_gradient_is_the_activation_itself(channel):
    """There `dst.diff[:] = dst.data` is followed uphill, so here it is minus that."""
    maps = _maps()
    goal = activation(LAYERS, "google", channel=channel)
    pull = _pull(goal, maps, {})
    terms = _terms(goal, maps, {})
    for layer in LAYERS:
        f = np.asarray(maps[layer])
        wanted = f if channel is None else f * (np.arange(f.shape[-1]) == channel)
        np.testing.assert_allclose(pull[layer], -wanted, rtol=1e-5)
        np.testing.assert_allclose(terms[f"dream/{layer}"], -0.5 * np.sum(wanted**2), rtol=1e-5)


def _best(maps, guide):
    """For every position, the position of the guide with the largest product."""
    x, y = (np.asarray(m, np.float64).reshape(-1, m.shape[-1]) for m in (maps, guide))
    return x, y[[max(range(len(y)), key=lambda k: p @ y[k]) for p in x]], y  # noqa: B023


def test_googles_guided_gradient_is_the_best_matching_feature():
    maps, guide = _maps(), _maps()
    pull = _pull(guided_activation(LAYERS, "google"), maps, {"guide": guide})
    terms = _terms(guided_activation(LAYERS, "google"), maps, {"guide": guide})
    for layer in LAYERS:
        x, best, _ = _best(maps[layer], guide[layer])
        np.testing.assert_allclose(pull[layer].reshape(best.shape), -best, rtol=1e-5)
        np.testing.assert_allclose(terms[f"dream/{layer}"], -np.sum(x * best), rtol=1e-5)


def test_guided_activation_is_relative_to_the_guide():
    maps, guide = _maps(), _maps()
    goal = guided_activation(LAYERS)
    terms = _terms(goal, maps, {"guide": guide})
    for layer in LAYERS:
        x, best, y = _best(maps[layer], guide[layer])
        expected = -np.mean((x * best).sum(1)) / np.mean((y**2).sum(1))
        np.testing.assert_allclose(terms[f"dream/{layer}"], expected, rtol=1e-5)
    scaled = [{layer: 50 * m for layer, m in side.items()} for side in (maps, guide)]
    again = _terms(goal, scaled[0], {"guide": scaled[1]})
    for name, value in terms.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-5)


@pytest.mark.parametrize("goal", [activation(LAYERS), guided_activation(LAYERS)])
def test_a_step_down_makes_the_features_stronger(goal):
    maps, references = _maps(), {"content": _maps(), "guide": _maps()}
    pull = _pull(goal, maps, references)
    after = {layer: m - 0.5 * pull[layer] for layer, m in maps.items()}
    one, other = (_terms(goal, m, references) for m in (maps, after))
    for layer in LAYERS:
        assert other[f"dream/{layer}"] < one[f"dream/{layer}"] < 0
        assert energy(after[layer]) > energy(maps[layer])


@pytest.mark.parametrize("goal", [activation(LAYERS, channel=1), guided_activation(LAYERS)])
def test_gradient_against_finite_differences(goal):
    # Nothing is silent: all features of the guide match silence equally well.
    maps = {layer: m + 0.2 for layer, m in _maps().items()}
    targets = goal.prepare({"content": _maps(), "guide": _maps()})
    weights = jnp.array([1.0, -2.0])

    def loss(maps):
        terms = goal.evaluate(IMAGE, maps, targets)
        return jnp.sum(weights * jnp.stack(list(terms.values())))

    check_grads(jax.jit(loss), (maps,), 1, ["rev"], atol=2e-2, rtol=2e-2, eps=1e-3)


def test_a_first_picture_without_activations_is_finite():
    silent, maps = jax.tree.map(jnp.zeros_like, _maps()), _maps()
    references = {"content": silent, "guide": silent}
    for goal in (activation(LAYERS), guided_activation(LAYERS)):
        for leaf in jax.tree.leaves(
            (_terms(goal, maps, references), _pull(goal, maps, references))
        ):
            assert np.isfinite(leaf).all()


def test_half_precision_is_summed_in_float32():
    maps = jnp.full((64, 64, 4), 3.0, jnp.bfloat16)
    value = energy(maps)
    assert value.dtype == jnp.float32 and value == 9
    goal = guided_activation(("a",), "google")
    (value,) = _terms(goal, {"a": maps}, {"guide": {"a": maps}}).values()
    assert value.dtype == jnp.float32 and value == -9 * 64 * 64 * 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: activation(()), "has no layers"),
        (lambda: activation(LAYERS, "googel"), "did you mean 'google'"),
        (lambda: guided_activation(LAYERS, "gatys"), "unknown dream normalization 'gatys'"),
        (
            lambda: activation(LAYERS, "google", channel=3).evaluate(IMAGE, _maps(), {}),
            "no channel 3; the layer has 3, 0 to 2",
        ),
        (
            lambda: activation(LAYERS, "google", channel=-1).evaluate(IMAGE, _maps(), {}),
            "no channel -1",
        ),
        (lambda: activation(LAYERS).evaluate(IMAGE, _maps(), {}), r"prepare\({'content'"),
        (lambda: guided_activation(LAYERS).evaluate(IMAGE, _maps(), {}), r"prepare\({'guide'"),
    ],
)
def test_wrong_settings_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
