"""A learning rate that may be traced: the numbers of a fixed one, and one program for all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import optimize

RNG = np.random.default_rng(7)
IMAGE = jnp.float32(RNG.uniform(0.1, 0.9, (4, 5, 3)))
TARGET = jnp.float32(RNG.uniform(0.1, 0.9, (4, 5, 3)))
CURVATURE = jnp.float32(RNG.uniform(0.5, 5.0, (4, 5, 3)))

WORDS = {
    "adam": {"optimizer": "adam", "decay": (0.7, 0.95), "average": 0.5},
    "adam, cosine": {"optimizer": "adam", "schedule": "cosine", "steps": 8},
    "lbfgs": {"optimizer": "lbfgs", "memory": 3, "parameters": "pixels", "tolerance": 1e-9},
    "lbfgs, zoom": {"optimizer": "lbfgs", "memory": 4, "line_search": "zoom"},
}
RATES = {"adam": (0.02, 0.1), "lbfgs": (0.3, 1.0)}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def bowl(image, context):
    value = jnp.sum(CURVATURE * (image - context) ** 2) / 2
    return value, {"bowl": value}


def fixed(words, rate):
    """Six steps with the rate in the program."""
    solver = optimize.solver(**words, learning_rate=rate)
    go = functools.partial(optimize.advance, loss=bowl, solver=solver, steps=6)
    return jax.jit(go)(optimize.start(IMAGE, solver), TARGET)


def traced(words, rates):
    """The same with the rate as its argument, and how often it was traced."""
    some, traces = optimize.solver(**words), []

    @jax.jit
    def go(state, rate):
        traces.append(rate)
        solver = optimize.with_rate(some, rate, **words)
        return optimize.advance(state, TARGET, loss=bowl, solver=solver, steps=6)

    return [go(optimize.start(IMAGE, some), jnp.float32(rate)) for rate in rates], len(traces)


@pytest.mark.parametrize("name", WORDS)
def test_one_program_gives_the_numbers_of_every_rate(name):
    words, rates = WORDS[name], RATES[WORDS[name]["optimizer"]]
    results, traces = traced(words, rates)
    assert traces == 1
    told = rates[:1] if "zoom" in name else rates  # each is a compilation
    for rate, (state, history) in zip(told, results, strict=False):
        expected, losses = fixed(words, rate)
        np.testing.assert_allclose(state.numbers, expected.numbers, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(history, losses, rtol=1e-4)
        assert jax.tree.structure(state) == jax.tree.structure(expected)
        assert int(state.step) == 6 and int(state.status) == int(expected.status)
    numbers = [np.asarray(state.numbers) for state, _ in results]
    if "zoom" not in name:  # where the search decides how far
        assert np.abs(numbers[0] - numbers[1]).max() > 0.02


@pytest.mark.parametrize("name", WORDS)
def test_what_is_no_rate_stays(name):
    words = WORDS[name]
    before = optimize.solver(**words)
    after = optimize.with_rate(before, 0.5, **words)
    assert after._replace(optimizer=None) == before._replace(optimizer=None)
    states = [optimize.start(IMAGE, solver) for solver in (before, after)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_lanes_have_rates_of_their_own(name):
    words, rates = WORDS[name], RATES[name]
    some = optimize.solver(**words)
    begun = optimize.start(IMAGE, some)

    def one(rate):
        solver = optimize.with_rate(some, rate, **words)
        return optimize.advance(begun, TARGET, loss=bowl, solver=solver, steps=6)[0].numbers

    numbers = jax.jit(jax.vmap(one))(jnp.float32(rates))
    for lane, rate in enumerate(rates):
        expected = fixed(words, rate)[0].numbers
        np.testing.assert_allclose(numbers[lane], expected, rtol=1e-4, atol=1e-5)
