"""Roots against SciPy's in float64, of what the docstring says: the matrix with its shift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from jaxstyle import statistics
from jaxstyle.statistics import FLOOR, mean_and_covariance
from jaxstyle.statistics.square_root import EPSILON, _scalings
from jaxstyle.types import InputError

# Compiled: op by op, an iteration takes longer than all its tests.
matrix_square_root = jax.jit(statistics.matrix_square_root)
square_root_and_inverse = jax.jit(statistics.square_root_and_inverse)
orthogonal_factor = jax.jit(statistics.orthogonal_factor)
RNG = np.random.default_rng(21)


def _covariance(*lead, channels=5, samples=40):
    points = RNG.normal(size=(*lead, samples, channels)) * np.geomspace(1, 0.2, channels)
    points -= points.mean(-2, keepdims=True)
    return (np.swapaxes(points, -1, -2) @ points / samples).astype(np.float32)


def _shifted(matrix):
    matrix = matrix.astype(np.float64)
    return matrix + (EPSILON * np.trace(matrix) + FLOOR) * np.eye(len(matrix))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_root_and_inverse_are_scipys(lead):
    matrix = _covariance(*lead)
    root, inverse = square_root_and_inverse(jnp.asarray(matrix))
    assert root.shape == inverse.shape == matrix.shape and root.dtype == jnp.float32
    for index in np.ndindex(lead):
        expected = scipy.linalg.sqrtm(matrix[index].astype(np.float64))
        np.testing.assert_allclose(root[index], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            inverse[index], np.linalg.inv(expected), rtol=1e-3, atol=1e-3 * np.abs(expected).max()
        )


@pytest.mark.parametrize("channels", [64, 256])
def test_spectrum_over_six_orders_of_magnitude(channels):
    basis = np.linalg.qr(RNG.normal(size=(channels, channels)))[0]
    matrix = ((basis * np.geomspace(1, 1e-6, channels)) @ basis.T).astype(np.float32)
    root, inverse = square_root_and_inverse(jnp.asarray(matrix))
    expected = scipy.linalg.sqrtm(_shifted(matrix))
    # The largest root is 1, the smallest a thousandth.
    assert np.linalg.norm(root - expected, 2) < 3e-5
    assert np.linalg.norm(inverse @ root - np.eye(channels), 2) < 3e-3


def test_more_channels_than_positions():
    """Zero eigenvalues become the shift, no less and no NaN."""
    features = RNG.normal(size=(4, 4, 64)).astype(np.float32)
    _, covariance = mean_and_covariance(jnp.asarray(features))
    root = matrix_square_root(covariance)
    eigenvalues = np.linalg.eigvalsh(root)
    zero = np.sqrt(EPSILON * np.trace(covariance))
    np.testing.assert_allclose(eigenvalues[:49], zero, rtol=0.03)
    expected = scipy.linalg.sqrtm(_shifted(np.asarray(covariance)))
    assert np.linalg.norm(root - expected, 2) < 0.03 * zero


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_scale_comes_out_as_its_root(scale):
    matrix = _covariance()
    root = matrix_square_root(jnp.asarray(scale * matrix))
    expected = np.sqrt(scale) * scipy.linalg.sqrtm(matrix.astype(np.float64))
    np.testing.assert_allclose(root, expected, rtol=1e-4, atol=1e-5 * np.sqrt(scale))


def test_zeros_have_the_root_of_the_floor_and_a_finite_gradient():
    root, pull = jax.vjp(matrix_square_root, jnp.zeros((3, 3)))
    np.testing.assert_allclose(root, np.sqrt(FLOOR) * np.eye(3), rtol=1e-5)
    assert np.isfinite(pull(jnp.ones((3, 3)))[0]).all()


def test_only_the_symmetric_half_counts():
    matrix, other = _covariance(), RNG.normal(size=(5, 5)).astype(np.float32)
    expected = matrix_square_root(jnp.asarray(matrix))
    result = matrix_square_root(jnp.asarray(matrix + other - other.T))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def _spread():
    return _covariance(channels=6)


def _identity():
    return np.eye(6, dtype=np.float32)


def _deficient():
    return _covariance(channels=12, samples=5)


# Of the deficient one: float32 has the shift, which is its zero eigenvalues, to a percent or so.
@pytest.mark.parametrize(
    ("make", "tolerance"), [(_spread, 1e-5), (_identity, 1e-5), (_deficient, 1e-2)]
)
def test_gradient_solves_the_lyapunov_equation(make, tolerance):
    """Also where eigenvalues are equal, whose differences a gradient by `eigh` divides by."""
    matrix = make()
    channels = len(matrix)
    cotangent = RNG.normal(size=matrix.shape).astype(np.float32)
    gradient = jax.vjp(matrix_square_root, jnp.asarray(matrix))[1](jnp.asarray(cotangent))[0]
    root = scipy.linalg.sqrtm(_shifted(matrix))
    expected = scipy.linalg.solve_continuous_lyapunov(root, (cotangent + cotangent.T) / 2)
    expected += EPSILON * np.trace(expected) * np.eye(channels)
    np.testing.assert_allclose(gradient, expected, atol=tolerance * np.abs(expected).max())


def test_gradients_against_finite_differences():
    matrix = jnp.asarray(_covariance(2, channels=4)) + 0.1 * jnp.eye(4)[None]
    weights = jnp.asarray(RNG.normal(size=(2, 2, 4, 4)), jnp.float32)

    def loss(x):
        root, inverse = square_root_and_inverse(x)
        return jnp.sum(weights[0] * root) + jnp.sum(weights[1] * inverse)

    check_grads(jax.jit(loss), (matrix,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_vmap_and_scan_with_gradients():
    matrices = jnp.asarray(_covariance(3))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(matrix_square_root(x))))
    looped = jnp.stack([gradient(x) for x in matrices])
    np.testing.assert_allclose(jax.vmap(gradient)(matrices), looped, rtol=1e-3, atol=1e-4)
    _, scanned = jax.jit(lambda x: jax.lax.scan(lambda c, y: (c, gradient(y)), None, x))(matrices)
    np.testing.assert_allclose(scanned, looped, rtol=1e-3, atol=1e-4)


def test_half_precision_is_computed_in_float32():
    matrix = jnp.asarray(_covariance(), jnp.bfloat16)
    root = matrix_square_root(matrix)
    assert root.dtype == jnp.float32
    np.testing.assert_allclose(root, matrix_square_root(matrix.astype(jnp.float32)), rtol=1e-6)


@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_orthogonal_factor_is_scipys(lead):
    matrix = RNG.normal(size=(*lead, 6, 6)).astype(np.float32)
    factor = orthogonal_factor(jnp.asarray(matrix))
    for index in np.ndindex(lead):
        expected, _ = scipy.linalg.polar(matrix[index].astype(np.float64))
        np.testing.assert_allclose(factor[index], expected, atol=1e-4)


def test_orthogonal_factor_over_six_orders_of_magnitude():
    left, right = (np.linalg.qr(RNG.normal(size=(48, 48)))[0] for _ in range(2))
    matrix = (left * np.geomspace(1, 2e-6, 48)) @ right
    factor = np.asarray(orthogonal_factor(jnp.asarray(matrix, jnp.float32)), np.float64)
    np.testing.assert_allclose(factor @ factor.T, np.eye(48), atol=1e-5)
    # The sum of the singular values, which no other orthogonal matrix reaches.
    np.testing.assert_allclose(np.sum(factor * matrix), np.linalg.norm(matrix, "nuc"), rtol=1e-5)


def test_orthogonal_factor_of_zeros_is_zero():
    np.testing.assert_array_equal(orthogonal_factor(jnp.zeros((3, 3))), 0)


@pytest.mark.parametrize("least", [EPSILON, EPSILON**0.5, 0.5])
def test_scaled_steps_take_all_values_to_one(least):
    x = np.geomspace(least, 1, 1000)
    for scaling in _scalings(least):
        x = scaling * x * (3 - (scaling * x) ** 2) / 2
        assert x.max() <= 1 + 1e-12 and x.min() > 0
    np.testing.assert_allclose(x, 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (0, 0)])
@pytest.mark.parametrize("function", [matrix_square_root, orthogonal_factor])
def test_shapes_without_roots_are_refused(function, shape):
    with pytest.raises(InputError, match="has no square root"):
        function(jnp.zeros(shape))
