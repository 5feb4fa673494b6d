"""L-BFGS against the textbook's two loops in NumPy, and what it leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle.optimize.lbfgs import scale_by_lbfgs

RNG = np.random.default_rng(0)
SIZE = 12
MATRIX = RNG.normal(size=(SIZE, SIZE))
HESSIAN = MATRIX @ MATRIX.T / SIZE + 0.1 * np.eye(SIZE)


def two_loops(gradient, pairs):
    """Algorithm 7.4 of Nocedal and Wright, float64, with equation 7.20."""
    q, alphas = np.float64(gradient), []
    for step, change in reversed(pairs):
        alpha = step @ q / (step @ change)
        q = q - alpha * change
        alphas.append(alpha)
    if pairs:
        step, change = pairs[-1]
        q = q * (step @ change) / (change @ change)
    else:
        q = q * min(1.0, 1 / np.abs(gradient).sum())
    for (step, change), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + (alpha - change @ q / (step @ change)) * step
    return q


@pytest.mark.parametrize("memory", [1, 3, 10])
def test_directions_are_those_of_the_textbook(memory):
    optimizer = scale_by_lbfgs(memory)
    update = jax.jit(optimizer.update)
    points = RNG.normal(size=(7, 3, 4))
    state = optimizer.init(jnp.float32(points[0]))
    pairs = []
    for k, point in enumerate(points):
        gradient = (HESSIAN @ point.ravel()).reshape(3, 4)
        if k:
            step = (point - points[k - 1]).ravel()
            pairs.append((step, HESSIAN @ step))
        direction, state = update(jnp.float32(gradient), state, jnp.float32(point))
        expected = two_loops(gradient.ravel(), pairs[-memory:])
        assert direction.shape == (3, 4)
        np.testing.assert_allclose(direction.ravel(), expected, rtol=2e-3, atol=2e-4)


def test_a_quadratic_is_solved_in_about_as_many_steps_as_it_has_dimensions():
    optimizer = optax.chain(scale_by_lbfgs(20), optax.scale(-1.0))
    hessian = jnp.float32(HESSIAN)
    x = jnp.float32(RNG.normal(size=SIZE))
    state, update = optimizer.init(x), jax.jit(optimizer.update)
    for _ in range(3 * SIZE):
        step, state = update(hessian @ x, state, x)
        x = x + step
    assert float(jnp.abs(x).max()) < 1e-3


def test_pairs_of_negative_curvature_are_left_out():
    optimizer = scale_by_lbfgs(3)
    x = jnp.float32(RNG.normal(size=SIZE))
    state = optimizer.init(x)
    _, state = optimizer.update(-x, state, x)  # a hill: the gradient falls as x grows
    direction, state = optimizer.update(-(x + 1), state, x + 1)
    assert int(state.kept) == 0 and not np.asarray(state.steps).any()
    assert float(jnp.vdot(direction, -(x + 1))) > 0  # still uphill, so minus it is downhill
    direction, state = optimizer.update(x + 2, state, x + 2)
    assert int(state.kept) == 1


def test_the_memory_goes_round():
    """After many more pairs than there are places, the last ones in any rotation are the ones."""
    optimizer = scale_by_lbfgs(4)
    update = jax.jit(optimizer.update)
    x, pairs = RNG.normal(size=SIZE), []
    state = optimizer.init(jnp.float32(x))
    for k in range(11):
        gradient = HESSIAN @ x
        direction, state = update(jnp.float32(gradient), state, jnp.float32(x))
        expected = two_loops(gradient, pairs[-4:])
        np.testing.assert_allclose(direction, expected, rtol=2e-3, atol=2e-4)
        assert int(state.kept) == k
        step = RNG.normal(size=SIZE)
        pairs.append((step, HESSIAN @ step))
        x = x + step


def test_what_is_not_accepted_leaves_no_trace():
    optimizer = scale_by_lbfgs(3)
    update = jax.jit(optimizer.update)
    x = jnp.float32(RNG.normal(size=SIZE))
    state = optimizer.init(x)
    for k in range(5):
        _, state = update(jnp.float32(HESSIAN) @ (x + k), state, x + k)
    for gradient in (jnp.ones(SIZE), jnp.full(SIZE, jnp.nan)):
        _, same = update(gradient, state, x + 9, accept=jnp.asarray(False))
        jax.tree.map(np.testing.assert_array_equal, state, same)


def test_a_point_without_gradient_is_kept():
    optimizer = scale_by_lbfgs(2)
    x = jnp.ones(4)
    state = optimizer.init(x)
    for _ in range(3):
        direction, state = optimizer.update(jnp.zeros(4), state, x)
        np.testing.assert_array_equal(direction, jnp.zeros(4))


def test_parameters_are_needed():
    optimizer = scale_by_lbfgs(2)
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(jnp.ones(3), optimizer.init(jnp.ones(3)))
