"""Padding against `numpy.pad`, for any amount, and its gradient against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle import ops, policy
from jaxstyle.types import InputError

NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "zero": "constant"}


def _expected(x, widths, mode):
    full = [(0, 0)] * (x.ndim - 3) + [*widths, (0, 0)]
    return np.pad(x, full, mode=NUMPY_MODES[mode])


sides = st.integers(0, 23)
widths = st.tuples(st.tuples(sides, sides), st.tuples(sides, sides))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 6), st.integers(1, 6), widths, st.sampled_from(list(NUMPY_MODES)))
def test_pad2d_equals_numpy(height, width, widths, mode):
    x = np.arange(height * width * 2, dtype=np.float32).reshape(height, width, 2)
    np.testing.assert_array_equal(
        ops.pad2d(jnp.asarray(x), widths, mode), _expected(x, widths, mode)
    )


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_one_amount_for_all_sides_and_leading_dimensions(mode, lead):
    x = np.random.default_rng(0).normal(size=(*lead, 3, 4, 2)).astype(np.float32)
    result = jax.jit(lambda x: ops.pad2d(x, 2, mode))(x)
    np.testing.assert_array_equal(result, _expected(x, ((2, 2), (2, 2)), mode))


def test_nothing_to_pad_changes_nothing():
    x = jnp.ones((2, 3, 1))
    for mode in NUMPY_MODES:
        assert ops.pad2d(x, 0, mode).shape == x.shape


@pytest.mark.parametrize("formulation", ["cpu", "plain"])
@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("widths", [((1, 2), (2, 0)), ((2, 2), (3, 3)), ((9, 4), (0, 11))])
def test_gradient_counts_how_often_a_pixel_was_used(mode, widths, formulation):
    """Of pixels numbered from 1, each takes the cotangents of all places that show its number."""
    numbers = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    shown = _expected(numbers, widths, mode)
    cotangent = np.random.default_rng(1).integers(1, 5, shown.shape).astype(np.float32)
    with policy.formulation(formulation):
        padded, pull = jax.vjp(lambda x: ops.pad2d(x, widths, mode), jnp.asarray(numbers))
    np.testing.assert_array_equal(padded, shown)
    expected = [cotangent[shown == number].sum() for number in numbers.ravel()]
    np.testing.assert_array_equal(pull(jnp.asarray(cotangent))[0].ravel(), expected)


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_vmap(mode):
    x = jnp.arange(2 * 3 * 2 * 1.0).reshape(2, 3, 2, 1)
    for amount in (1, 5):
        result = jax.vmap(lambda x, a=amount: ops.pad2d(x, a, mode))(x)
        np.testing.assert_array_equal(result, ops.pad2d(x, amount, mode))


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_gradients_of_both_formulations_are_equal_to_second_order(mode, lead):
    x, along = (
        np.random.default_rng(seed).integers(-3, 4, (*lead, 6, 5, 2)).astype(np.float32)
        for seed in (0, 1)
    )

    def results(x):
        def loss(x):
            return jnp.sum(ops.pad2d(x, ((1, 2), (4, 0)), mode) ** 3)

        slope = jax.grad(loss)
        return slope(x), jax.grad(lambda x: jnp.vdot(slope(x), along))(x)

    with policy.formulation("plain"):
        expected = results(x)
    with policy.formulation("cpu"):
        for ours in (results(x), jax.jit(results)(x)):
            jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_the_gradient_on_a_cpu_adds_no_maps_of_zeros():
    """Each addition of a border to a map of zeros is a pass over the whole map."""
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(ops.pad2d(x, 2))))
    with policy.formulation("cpu"):
        program = str(jax.make_jaxpr(gradient)(jnp.ones((1, 6, 6, 2))))
    assert "gather" in program
    assert not any(f" {name}[" in program for name in ("pad", "scatter-add", "rev"))


def test_unknown_mode():
    with pytest.raises(InputError, match="'mirror'.*Choices: reflect, replicate, circular, zero"):
        ops.pad2d(jnp.ones((2, 2, 1)), 1, "mirror")


@pytest.mark.parametrize("amount", [-1, ((0, 1), (2, -3))])
def test_negative_amounts_are_refused(amount):
    with pytest.raises(InputError, match="give 0 or more pixels on every side"):
        ops.pad2d(jnp.ones((9, 9, 1)), amount)


def test_amounts_of_numpy_are_numbers():
    x = jnp.ones((4, 4, 1))
    np.testing.assert_array_equal(ops.pad2d(x, np.int64(2)), ops.pad2d(x, 2))
