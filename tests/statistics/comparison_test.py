import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.statistics import FLOOR, relative_distance, squared_distance
from jaxstyle.types import InputError

RNG = np.random.default_rng(6)


def _arrays(*shapes):
    return [RNG.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(
    ("value_shape", "target_shape", "lead"),
    [
        ((3, 4), (3, 4), ()),
        ((5, 3, 4), (3, 4), (5,)),
        ((3, 4), (5, 3, 4), (5,)),
        ((5, 3, 4), (1, 3, 4), (5,)),
        ((2, 1, 3, 4), (5, 3, 4), (2, 5)),
    ],
)
def test_distances_of_every_pair_of_statistics(value_shape, target_shape, lead):
    value, target = _arrays(value_shape, target_shape)
    squared = ((value.astype(np.float64) - target) ** 2).sum((-2, -1))
    energy = (target.astype(np.float64) ** 2).sum((-2, -1))
    assert squared.shape == lead
    value, target = jnp.asarray(value), jnp.asarray(target)
    np.testing.assert_allclose(squared_distance(value, target, axes=2), squared, rtol=1e-5)
    np.testing.assert_allclose(
        relative_distance(value, target, axes=2), squared / energy, rtol=1e-5
    )


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_relative_distance_has_no_scale(scale):
    value, target = map(jnp.asarray, _arrays((7,), (7,)))
    np.testing.assert_allclose(
        relative_distance(scale * value, scale * target, axes=1),
        relative_distance(value, target, axes=1),
        rtol=1e-5,
    )


def test_relative_distance_of_nothing_is_one():
    (target,) = _arrays((3, 3))
    assert relative_distance(jnp.zeros((3, 3)), jnp.asarray(target), axes=2) == 1


def test_target_of_zeros_is_divided_by_the_floor():
    value = jnp.array([3e-6, 4e-6])
    distance, gradient = jax.value_and_grad(lambda x: relative_distance(x, jnp.zeros(2), axes=1))(
        value
    )
    np.testing.assert_allclose(distance, 25e-12 / (2 * FLOOR), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * value / (2 * FLOOR), rtol=1e-5)


def test_zeros_at_a_target_of_zeros():
    for argument in (0, 1):
        distance, gradient = jax.value_and_grad(
            lambda x, y: relative_distance(x, y, axes=1), argument
        )(jnp.zeros(3), jnp.zeros(3))
        assert distance == 0
        np.testing.assert_array_equal(gradient, 0)


def test_half_precision_is_compared_in_float32():
    value, target = jnp.full((100, 100), 1.0, jnp.bfloat16), jnp.zeros((100, 100), jnp.bfloat16)
    distance = squared_distance(value, target, axes=2)
    assert distance.dtype == jnp.float32 and distance == 10_000


@pytest.mark.parametrize("distance", [squared_distance, relative_distance])
@pytest.mark.parametrize(
    ("value_shape", "target_shape", "message"),
    [
        ((3, 4), (3, 1), "last 2 axes must be equal"),  # would broadcast silently
        ((4,), (3, 4), "last 2 axes must be equal"),
        ((2, 3, 4), (5, 3, 4), "one target, or one for each image"),
    ],
)
def test_statistics_of_two_kinds_are_refused(distance, value_shape, target_shape, message):
    with pytest.raises(InputError, match=message):
        distance(jnp.zeros(value_shape), jnp.zeros(target_shape), axes=2)
