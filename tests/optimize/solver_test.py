"""The solver on losses whose minimum, path or failure is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import optimize
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)
IMAGE = jnp.float32(RNG.uniform(0.1, 0.9, (4, 5, 3)))
TARGET = jnp.float32(RNG.uniform(0.1, 0.9, (4, 5, 3)))
CURVATURE = jnp.float32(RNG.uniform(0.5, 20.0, (4, 5, 3)))


def bowl(image, context):
    """A quadratic with curvatures from 0.5 to 20."""
    target, curvature = context
    value = jnp.sum(curvature * (image - target) ** 2) / 2
    return value, {"bowl": value}


def run(solver, steps, state=None, *, image=IMAGE, context=(TARGET, CURVATURE), loss=bowl):
    begin = optimize.start(image, solver) if state is None else state
    go = functools.partial(optimize.advance, loss=loss, solver=solver, steps=steps)
    return jax.jit(go)(begin, context)


SOLVERS = {
    "adam": optimize.solver("adam", learning_rate=0.05),
    "adam, cosine": optimize.solver("adam", learning_rate=0.1, schedule="cosine", steps=200),
    "adam, sigmoid": optimize.solver("adam", learning_rate=0.2, parameters="sigmoid"),
    "lbfgs": optimize.solver("lbfgs", learning_rate=1.0, parameters="pixels"),
    "lbfgs, zoom": optimize.solver(
        "lbfgs", learning_rate=1.0, line_search="zoom", parameters="pixels"
    ),
    "lbfgs, sigmoid": optimize.solver("lbfgs", learning_rate=1.0),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_the_minimum_of_a_bowl_is_found(name):
    solver = SOLVERS[name]
    state, history = run(solver, 200)
    assert int(state.step) == 200 and int(state.status) == optimize.RUNNING
    assert history.shape == (200,)
    np.testing.assert_allclose(history[0], bowl(IMAGE, (TARGET, CURVATURE))[0], rtol=2e-3)
    np.testing.assert_allclose(optimize.picture(state, solver), TARGET, atol=5e-3)


@pytest.mark.parametrize("name", SOLVERS)
def test_chunks_and_a_pause_change_no_bit(name):
    solver = SOLVERS[name]
    whole, _ = run(solver, 6)
    half, first = run(solver, 3)
    half = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), half)
    again, second = run(solver, 3, half)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(whole), jax.tree.leaves(again))
    assert (np.diff(np.concatenate([first, second])) < 0).all()


def test_adams_first_steps_are_those_of_the_paper():
    solver = optimize.solver("adam", learning_rate=0.01, parameters="pixels", decay=(0.8, 0.95))
    state, _ = run(solver, 3)
    x = np.float64(IMAGE)
    m = v = 0.0
    for k in range(1, 4):
        gradient = np.float64(CURVATURE) * (x - np.float64(TARGET))
        m = 0.8 * m + 0.2 * gradient
        v = 0.95 * v + 0.05 * gradient**2
        x = x - 0.01 * (m / (1 - 0.8**k)) / (np.sqrt(v / (1 - 0.95**k)) + 1e-8)
    np.testing.assert_allclose(state.numbers, x, rtol=1e-5)


def test_clipping_keeps_to_the_cube_and_finds_its_nearest_corner():
    outside = jnp.where(TARGET > 0.5, 1.7, -0.6)
    solver = SOLVERS["adam"]
    state, _ = run(solver, 60, context=(outside, CURVATURE))
    assert float(state.numbers.min()) == 0 and float(state.numbers.max()) == 1
    np.testing.assert_array_equal(optimize.picture(state, solver), jnp.clip(outside, 0, 1))


@pytest.mark.parametrize("parameters", ["pixels", "sigmoid"])
def test_the_finished_picture_is_in_range_whatever_the_numbers_are(parameters):
    solver = optimize.solver("lbfgs", learning_rate=1.0, parameters=parameters)
    state, _ = run(solver, 30, context=(TARGET + 2.0, CURVATURE))
    image = np.asarray(optimize.picture(state, solver))
    assert image.max() > 0.99 and image.max() <= 1 and image.min() >= 0


def hole(image, context):
    """The bowl, but not a number nearer than 0.3 to the target."""
    value, terms = bowl(image, context)
    near = jnp.max(jnp.abs(image - context[0])) < 0.3
    return jnp.where(near, jnp.nan, value), terms


@pytest.mark.parametrize("name", [name for name in SOLVERS if "zoom" not in name])
def test_a_bad_number_ends_the_run_at_the_last_good_picture(name):
    solver = SOLVERS[name]
    state, history = run(solver, 200, loss=hole)
    taken = int(np.isfinite(history).sum())
    assert int(state.status) == optimize.NOT_FINITE and int(state.step) == taken - 1
    assert 0 < taken < 200 and np.isfinite(history[:taken]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.numbers))
    decoded = optimize.parameterization(solver.parameters).decode(state.numbers)
    good = hole(decoded, (TARGET, CURVATURE))[0]
    np.testing.assert_allclose(good, history[taken - 1], rtol=1e-5)
    same, more = run(solver, 5, state, loss=hole)
    assert np.isnan(more).all()
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(state), jax.tree.leaves(same))


def test_a_line_search_stays_out_of_the_hole():
    solver = SOLVERS["lbfgs, zoom"]
    state, history = run(solver, 20, loss=hole)
    assert np.isfinite(history[: int(state.step)]).all()
    assert np.isfinite(hole(state.good, (TARGET, CURVATURE))[0])
    assert history[int(state.step) - 1] < 0.6 * history[0]


def test_a_bad_gradient_ends_the_run_too():
    def steep(image, context):
        value, terms = bowl(image, context)
        return value + 0 * jnp.sum(jnp.sqrt(jnp.maximum(image - 0.95, 0.0))), terms

    state, _ = run(SOLVERS["adam"], 5, loss=steep)  # d sqrt(max(x, 0)) = inf * 0 below 0.95
    assert int(state.status) == optimize.NOT_FINITE and int(state.step) == 0
    np.testing.assert_array_equal(optimize.picture(state, SOLVERS["adam"]), IMAGE)


def test_convergence_stops_what_no_longer_falls():
    solver = optimize.solver("lbfgs", learning_rate=1.0, tolerance=1e-3, parameters="pixels")
    state, chunks = None, 0
    while state is None or int(state.status) == optimize.RUNNING:
        state, _ = run(solver, 10, state)
        chunks += 1
        assert chunks < 30
    assert int(state.status) == optimize.CONVERGED and chunks > 1
    before = int(state.step)
    state, history = run(solver, 10, state)
    assert int(state.step) == before and np.isnan(history).all()


def test_the_average_of_the_iterates_is_the_picture():
    solver = optimize.solver("adam", learning_rate=0.05, average=0.7)
    plain = optimize.solver("adam", learning_rate=0.05)
    state, _ = run(solver, 4)
    iterates = [IMAGE] + [run(plain, k)[0].numbers for k in (1, 2, 3)]
    shares = 0.3 * 0.7 ** np.arange(3, -1, -1)
    expected = sum(s * np.asarray(x) for s, x in zip(shares, iterates, strict=True)) / shares.sum()
    np.testing.assert_allclose(optimize.picture(state, solver), expected, rtol=1e-5)
    np.testing.assert_array_equal(
        optimize.picture(optimize.start(IMAGE, solver), solver), jnp.clip(IMAGE, 0, 1)
    )


@pytest.mark.parametrize("name", ["adam", "lbfgs", "lbfgs, zoom"])
def test_lanes_are_single_runs_and_fail_alone(name):
    solver = SOLVERS[name]
    images = jnp.stack([IMAGE, 1 - IMAGE, TARGET + 0.05])
    contexts = (jnp.stack([TARGET, IMAGE, TARGET]), jnp.stack([CURVATURE] * 3))
    begun = jax.vmap(functools.partial(optimize.start, solver=solver))(images)
    go = functools.partial(optimize.advance, loss=hole, solver=solver, steps=2)
    states, history = jax.jit(jax.vmap(go))(begun, contexts)
    assert states.status.tolist() == [0, 0, optimize.NOT_FINITE]
    for lane in range(3):
        context = jax.tree.map(lambda leaf, lane=lane: leaf[lane], contexts)
        single, values = run(solver, 2, image=images[lane], context=context, loss=hole)
        np.testing.assert_allclose(states.numbers[lane], single.numbers, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(history[lane], values, rtol=1e-4)


def test_one_compilation_serves_every_chunk():
    solver = SOLVERS["lbfgs, zoom"]
    go = jax.jit(functools.partial(optimize.advance, loss=bowl, solver=solver, steps=2))
    state = optimize.start(IMAGE, solver)
    for _ in range(3):
        state, _ = go(state, (TARGET, CURVATURE))
    assert go._cache_size() == 1


def test_a_program_needs_no_second_memory_of_lbfgs():
    solver = optimize.solver("lbfgs", memory=30, parameters="pixels")
    image = jnp.full((32, 32, 3), 0.5)
    state, context = optimize.start(image, solver), (image, image)
    go = functools.partial(optimize.advance, loss=bowl, solver=solver, steps=3)
    needed = jax.jit(go, donate_argnums=0).lower(state, context).compile().memory_analysis()
    assert needed.temp_size_in_bytes < 20 * image.nbytes  # its tables are 60 pictures


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"optimizer": "lbgfs"}, "unknown optimizer 'lbgfs'; did you mean 'lbfgs'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"line_search": "wolfe"}, "unknown line search 'wolfe'"),
        ({"learning_rate": 0.0}, "the learning rate is 0.0; choose one above 0"),
        ({"learning_rate": float("inf")}, "the learning rate is inf; choose one above 0"),
        ({"memory": 0}, "memory is 0; L-BFGS keeps at least 1"),
        ({"average": 1.0}, "average is 1.0; it must be from 0 to below 1"),
        ({"tolerance": -0.1}, "tolerance is -0.1; it must be"),
        ({"decay": (1.0, 0.9)}, "Adam's b1 is 1.0; it must be"),
        ({"decay": (0.9, -1.0)}, "Adam's b2 is -1.0; it must be"),
        ({"parameters": "pixel"}, "unknown parameterization 'pixel'; did you mean 'pixels'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(settings, sentence):
    with pytest.raises(InputError) as caught:
        optimize.solver(**settings)
    assert sentence in str(caught.value)


def test_any_optimizer_of_optax_serves():
    solver = optimize.Solver(optax.sgd(0.04))
    state, _ = run(solver, 1)
    expected = jnp.clip(IMAGE - 0.04 * CURVATURE * (IMAGE - TARGET), 0, 1)
    np.testing.assert_allclose(state.numbers, expected, rtol=1e-5)
