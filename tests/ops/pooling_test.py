"""Pooling against its definition, ties included, and without the operations it avoids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import ops
from jaxstyle.policy import formulation
from jaxstyle.types import InputError

REDUCTIONS = {"max": np.max, "average": np.mean}


def _distinct(seed, *shape):
    """Whole numbers, none twice: no window has a tie."""
    return np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("mode", REDUCTIONS)
@pytest.mark.parametrize("shape", [(2, 2, 1), (5, 6, 3), (7, 9, 2), (3, 4, 5, 2), (2, 3, 2, 3, 1)])
def test_pool2d_reduces_windows_and_drops_the_odd_edge(shape, mode):
    x = _distinct(0, *shape)
    h, w = shape[-3] // 2, shape[-2] // 2
    windows = x[..., : 2 * h, : 2 * w, :].reshape(*shape[:-3], h, 2, w, 2, shape[-1])
    expected = REDUCTIONS[mode](windows, axis=(-4, -2))
    np.testing.assert_array_equal(ops.pool2d(jnp.asarray(x), mode), expected)


def test_max_gradient_goes_to_the_maximum_and_average_gradient_to_all():
    x = jnp.asarray(_distinct(1, 5, 4, 2))
    weights = _distinct(2, 2, 2, 2) + 1
    by_max = np.asarray(jax.grad(lambda x: jnp.sum(ops.pool2d(x) * weights))(x))
    by_average = jax.grad(lambda x: jnp.sum(ops.pool2d(x, "average") * weights))(x)
    spread = np.repeat(np.repeat(weights, 2, 0), 2, 1)
    highest = np.repeat(np.repeat(ops.pool2d(x), 2, 0), 2, 1) == x[:4]
    np.testing.assert_array_equal(by_max[:4], np.where(highest, spread, 0))
    np.testing.assert_array_equal(by_average[:4], spread / 4)
    assert not np.any(by_max[4]) and not np.any(by_average[4])


@pytest.mark.parametrize("equal", [[0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 0]])
def test_equal_maxima_share_the_gradient(equal):
    """Only they get a part, every one of them, and the parts add up to 1."""
    x = jnp.asarray(equal, jnp.float32).reshape(2, 2, 1)
    gradient = np.asarray(jax.grad(lambda x: jnp.sum(ops.pool2d(x)))(x)).ravel()
    np.testing.assert_array_equal(gradient > 0, np.array(equal) == max(equal))
    assert gradient.sum() == 1


@pytest.mark.parametrize("mode", REDUCTIONS)
def test_vmap_and_jit(mode):
    x = jnp.asarray(_distinct(3, 3, 4, 5, 2))
    result = jax.jit(jax.vmap(lambda x: ops.pool2d(x, mode)))(x)
    np.testing.assert_array_equal(result, ops.pool2d(x, mode))


def _program(function, x):
    return jax.jit(jax.grad(lambda x: jnp.sum(function(x) ** 2))).lower(x).compile().as_text()


@pytest.mark.parametrize("mode", REDUCTIONS)
def test_the_program_has_no_window_reduction(mode):
    """`reduce_window` and its gradient, scatter, are what this file exists to avoid."""
    x = jnp.ones((2, 6, 6, 3))
    slow = ("reduce-window", "select-and-scatter")
    text = _program(lambda x: ops.pool2d(x, mode), x)
    assert not any(name in text for name in slow)

    def with_windows(x):
        window, step = (1, 2, 2, 1), (1, 2, 2, 1)
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, step, "VALID")

    assert any(name in _program(with_windows, x) for name in slow)


def test_errors():
    with pytest.raises(InputError, match="both sides >= 2, but the map is 1x8"):
        ops.pool2d(jnp.ones((1, 8, 3)))
    with pytest.raises(InputError, match="unknown pooling 'mean'.*Choices: max, average"):
        ops.pool2d(jnp.ones((4, 4, 3)), "mean")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(4, 6, 3), (5, 7, 2), (2, 3, 4, 5, 1)])
def test_the_gradient_for_a_cpu_is_that_of_the_definition(shape, dtype):
    x = jnp.asarray(_distinct(5, *shape) % 251, dtype)  # exact in bfloat16
    weights = jnp.asarray(_distinct(6, *ops.pool2d(x).shape) % 13, dtype)

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(ops.pool2d(x) * weights))(x)

    by_cpu = gradient(x)
    with formulation("plain"):
        by_definition = gradient(x)
    assert by_cpu.dtype == dtype
    np.testing.assert_array_equal(by_cpu, by_definition)
    lanes = jax.vmap(gradient)(jnp.stack([x, x[::-1]]))
    np.testing.assert_array_equal(lanes[0], by_cpu)
    np.testing.assert_array_equal(lanes[1], gradient(x[::-1]))
