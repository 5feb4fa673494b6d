import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.statistics import gram, mean_and_covariance
from jaxstyle.types import InputError

RNG = np.random.default_rng(4)


def _features(*shape):
    return RNG.normal(0.5, 1, shape).astype(np.float32)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_moments_are_those_of_numpy(lead):
    features = _features(*lead, 5, 7, 4)
    mean, covariance = mean_and_covariance(jnp.asarray(features))
    assert mean.shape == (*lead, 4) and covariance.shape == (*lead, 4, 4)
    for index in np.ndindex(lead):
        samples = features[index].reshape(-1, 4).T.astype(np.float64)
        np.testing.assert_allclose(mean[index], samples.mean(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            covariance[index], np.cov(samples, bias=True), rtol=1e-5, atol=1e-6
        )


def test_gram_is_covariance_plus_product_of_means():
    features = jnp.asarray(_features(2, 6, 5, 3))
    mean, covariance = mean_and_covariance(features)
    product = mean[..., :, None] * mean[..., None, :]
    np.testing.assert_allclose(gram(features), covariance + product, rtol=1e-5, atol=1e-6)


def test_large_mean_costs_no_digits():
    """E[xx] - E[x]E[x] in float32 is off by more than 100% here."""
    features = (_features(16, 16, 3) + 20_000).astype(np.float32)
    samples = features.reshape(-1, 3).astype(np.float64)
    _, covariance = mean_and_covariance(jnp.asarray(features))
    np.testing.assert_allclose(covariance, np.cov(samples.T, bias=True), rtol=1e-4, atol=1e-4)
    naive = np.asarray(gram(jnp.asarray(features))) - np.outer(samples.mean(0), samples.mean(0))
    assert np.abs(naive - np.cov(samples.T, bias=True)).max() > 1


def test_one_position_has_no_covariance():
    mean, covariance = mean_and_covariance(jnp.asarray([[[2.0, 3.0]]]))
    np.testing.assert_array_equal(mean, [2, 3])
    np.testing.assert_array_equal(covariance, np.zeros((2, 2)))


def test_shift_moves_the_mean_only():
    features = jnp.asarray(_features(6, 5, 3))
    mean, covariance = mean_and_covariance(features)
    moved_mean, moved_covariance = mean_and_covariance(features + 4)
    np.testing.assert_allclose(moved_mean, mean + 4, rtol=1e-6)
    np.testing.assert_allclose(moved_covariance, covariance, rtol=1e-4, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    features = jnp.asarray(_features(40, 40, 3) + 8, jnp.bfloat16)
    mean, covariance = mean_and_covariance(features)
    assert mean.dtype == covariance.dtype == jnp.float32
    samples = np.asarray(features.astype(jnp.float32)).reshape(-1, 3).T.astype(np.float64)
    np.testing.assert_allclose(mean, samples.mean(1), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(samples, bias=True), rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(mean_and_covariance(x)[1] ** 2))(features)
    assert gradient.dtype == jnp.bfloat16


def test_gradient_against_finite_differences():
    features = jnp.asarray(_features(2, 3, 2, 3))
    of_mean, of_covariance = jnp.asarray(_features(2, 3)), jnp.asarray(_features(2, 3, 3))

    def loss(x):
        mean, covariance = mean_and_covariance(x)
        return jnp.sum(of_mean * mean) + jnp.sum(of_covariance * covariance)

    check_grads(jax.jit(loss), (features,), order=2, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_vmap_and_scan():
    features = jnp.asarray(_features(3, 4, 5, 2))
    batched = jax.vmap(mean_and_covariance)(features)
    _, scanned = jax.lax.scan(lambda c, x: (c, mean_and_covariance(x)), None, features)
    for one, other in zip(batched, scanned, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_shapes_without_statistics_are_refused():
    with pytest.raises(InputError, match="have no statistics"):
        mean_and_covariance(jnp.zeros((4, 3)))
