import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.networks.normalization import BatchNorm, instance_norm

RNG = np.random.default_rng(5)


def _expected(x, scale, bias, epsilon, axes):
    x = x.astype(np.float64)
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axes, keepdims=True) + epsilon) * scale + bias


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_instance_norm_formula(lead, epsilon):
    x = RNG.normal(2, 3, (*lead, 5, 4, 6)).astype(np.float32)
    scale, bias = RNG.normal(size=(2, 6)).astype(np.float32)
    result = instance_norm(jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias), epsilon=epsilon)
    np.testing.assert_allclose(
        result, _expected(x, scale, bias, epsilon, (-3, -2)), rtol=1e-5, atol=1e-5
    )


def test_instance_norm_takes_a_scale_and_bias_for_each_image():
    x = RNG.normal(size=(3, 5, 4, 6)).astype(np.float32)
    scale, bias = RNG.normal(size=(2, 3, 6)).astype(np.float32)
    result = instance_norm(jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias))
    expected = _expected(x, scale[:, None, None], bias[:, None, None], 1e-5, (-3, -2))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_variance_survives_a_large_mean():
    """E[x^2] - E[x]^2 in float32 gives 0 or less than 0 here."""
    pattern = np.array([-1.0, 1.0], np.float32).reshape(1, 2, 1)
    result = instance_norm(jnp.asarray(pattern + 10_000), jnp.ones(1), jnp.zeros(1))
    np.testing.assert_allclose(result, pattern, atol=1e-4)


def test_constant_map_becomes_the_bias_with_a_finite_gradient():
    x = jnp.full((4, 4, 2), 7.0)
    scale, bias = jnp.ones(2), jnp.array([0.5, -1.0])
    np.testing.assert_allclose(instance_norm(x, scale, bias)[1, 2], bias)
    gradient = jax.grad(lambda x: jnp.sum(instance_norm(x, scale, bias) ** 2))(x)
    assert np.isfinite(gradient).all()


def test_low_precision_maps_keep_their_dtype_and_float32_statistics():
    x = jnp.asarray(100 + RNG.normal(size=(64, 64, 1)), jnp.bfloat16)
    result = instance_norm(x, jnp.ones(1), jnp.zeros(1))
    assert result.dtype == jnp.bfloat16
    expected = _expected(np.asarray(x, np.float64), 1, 0, 1e-5, (-3, -2))
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, atol=0.02)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_batch_norm_formula_and_running_averages(momentum):
    module = BatchNorm(epsilon=1e-3, momentum=momentum)
    x = RNG.normal(2, 3, (2, 3, 5, 4, 6)).astype(np.float32)
    scale, bias, old_mean = RNG.normal(size=(3, 6)).astype(np.float32)
    old_var = RNG.uniform(0.5, 2, 6).astype(np.float32)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": old_mean, "var": old_var},
    }
    result, changed = module.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    axes = (0, 1, 2, 3)
    np.testing.assert_allclose(result, _expected(x, scale, bias, 1e-3, axes), rtol=1e-5, atol=1e-5)
    for name, old, batch in (("mean", old_mean, x.mean(axes)), ("var", old_var, x.var(axes))):
        expected = momentum * old + (1 - momentum) * batch
        np.testing.assert_allclose(changed["batch_stats"][name], expected, rtol=1e-5)
    still = module.apply(variables, jnp.asarray(x), train=False)
    expected = (x - old_mean) / np.sqrt(old_var + 1e-3) * scale + bias
    np.testing.assert_allclose(still, expected, rtol=1e-5, atol=1e-5)
