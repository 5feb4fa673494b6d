import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.statistics import gram
from jaxstyle.statistics.gram import channel_products
from jaxstyle.types import InputError

RNG = np.random.default_rng(3)


def _features(*shape, dtype=np.float32):
    return RNG.normal(0.3, 1, shape).astype(dtype)


def _oracle(features, divisor):
    """Gatys et al. 2016, eq. 3, entry by entry in float64, divided."""
    maps = features.astype(np.float64)
    channels = maps.shape[-1]
    result = np.zeros((*maps.shape[:-3], channels, channels))
    for i in range(channels):
        for j in range(channels):
            result[..., i, j] = (maps[..., i] * maps[..., j]).sum((-2, -1)) / divisor
    return result


@pytest.mark.parametrize(
    ("normalize", "divisor"), [("positions", 35), ("elements", 35 * 4), ("none", 1)]
)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_gram_is_the_sum_of_products(normalize, divisor, lead):
    features = _features(*lead, 5, 7, 4)
    result = gram(jnp.asarray(features), normalize=normalize)
    np.testing.assert_allclose(result, _oracle(features, divisor), rtol=1e-5, atol=1e-5)
    assert result.dtype == jnp.float32


def test_positions_are_the_default():
    features = jnp.asarray(_features(5, 7, 4))
    np.testing.assert_array_equal(gram(features), gram(features, normalize="positions"))


def test_spatial_permutation_changes_nothing():
    features = _features(6, 5, 4)
    shuffled = RNG.permutation(features.reshape(30, 4)).reshape(3, 10, 4)
    np.testing.assert_allclose(
        gram(jnp.asarray(shuffled)), gram(jnp.asarray(features)), rtol=1e-5, atol=1e-6
    )


def test_repetition_changes_only_the_unnormalized_matrix():
    features = jnp.asarray(_features(4, 3, 5))
    tiled = jnp.tile(features, (2, 3, 1))
    np.testing.assert_allclose(gram(tiled), gram(features), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        gram(tiled, normalize="none"), 6 * gram(features, normalize="none"), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 2), (33, 31, 8), (2, 16, 16, 64)])
def test_half_precision_products_are_summed_in_float32(dtype, shape):
    features = jnp.asarray(_features(*shape) + 1, dtype)

    @jax.jit
    def run(x):
        return gram(x), jax.grad(lambda x: jnp.sum(gram(x) ** 2))(x)

    result, gradient = run(features)
    assert result.dtype == jnp.float32
    rounded = np.asarray(features.astype(jnp.float32))
    np.testing.assert_allclose(
        result, _oracle(rounded, shape[-3] * shape[-2]), rtol=2e-5, atol=1e-5
    )
    assert gradient.dtype == dtype


def test_half_precision_gradient_of_a_large_sum_does_not_overflow():
    """Cotangents beyond 65504, the largest float16, occur with unnormalized matrices."""
    features = jnp.full((8, 8, 2), 1.0, jnp.float16)
    gradient = jax.grad(lambda x: 1e6 * jnp.mean(gram(x, normalize="none")) / 1e6)(features)
    np.testing.assert_allclose(gradient, 1.0)  # d/dx mean_ij sum_n x_i x_j = sum_j x_j / 2


@pytest.mark.parametrize(
    ("normalize", "lead", "order"), [("positions", (2,), 2), ("elements", (), 1), ("none", (), 1)]
)
def test_gradient_against_finite_differences(normalize, lead, order):
    features = jnp.asarray(_features(*lead, 3, 2, 3))
    weights = jnp.asarray(_features(*lead, 3, 3))  # not symmetric: both halves must arrive

    def loss(x):
        return jnp.sum(weights * gram(x, normalize=normalize))

    check_grads(jax.jit(loss), (features,), order=order, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_gradient_is_that_of_automatic_differentiation():
    samples, cotangent = jnp.asarray(_features(2, 12, 4)), jnp.asarray(_features(2, 4, 4))
    _, pull = jax.vjp(channel_products, samples)
    _, plain_pull = jax.vjp(lambda x: jnp.einsum("bni,bnj->bij", x, x), samples)
    np.testing.assert_allclose(pull(cotangent)[0], plain_pull(cotangent)[0], rtol=1e-5, atol=1e-5)


def test_backward_pass_is_one_matrix_product():
    """The cost is the reason for the custom gradient; automatic differentiation takes two."""
    samples = jnp.asarray(_features(12, 4))

    def products(function):
        _, pull = jax.vjp(function, samples)
        return str(jax.make_jaxpr(pull)(jnp.ones((4, 4)))).count("dot_general[")

    assert products(channel_products) == 1
    assert products(lambda x: jnp.einsum("ni,nj->ij", x, x)) == 2


def test_vmap_over_features_and_over_cotangents():
    features, weights = jnp.asarray(_features(3, 4, 5, 2)), jnp.asarray(_features(3, 2, 2))

    def loss(x, w):
        return jnp.sum(w * gram(x))

    gradient = jax.grad(loss)
    both = jax.vmap(gradient)(features, weights)
    sweep = jax.vmap(gradient, (None, 0))(features[0], weights)
    for k in range(3):
        np.testing.assert_allclose(both[k], gradient(features[k], weights[k]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            sweep[k], gradient(features[0], weights[k]), rtol=1e-5, atol=1e-6
        )


def test_gradient_inside_scan_is_that_outside():
    features, target = jnp.asarray(_features(4, 5, 3)), jnp.eye(3)
    gradient = jax.grad(lambda x: jnp.sum((gram(x) - target) ** 2))

    def step(x, _):
        return x - 0.1 * gradient(x), None

    scanned, _ = jax.jit(lambda x: jax.lax.scan(step, x, length=5))(features)
    looped = features
    for _ in range(5):
        looped, _ = step(looped, None)
    np.testing.assert_allclose(scanned, looped, rtol=1e-5, atol=1e-6)


def test_unknown_normalization_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'positions'.*elements, none"):
        gram(jnp.zeros((2, 2, 3)), normalize="position")


@pytest.mark.parametrize("shape", [(4, 3), (0, 4, 3), (4, 4, 0)])
def test_shapes_without_statistics_are_refused(shape):
    with pytest.raises(InputError, match="have no statistics"):
        gram(jnp.zeros(shape))


def test_bytes_are_refused():
    with pytest.raises(InputError, match="uint8"):
        gram(jnp.zeros((2, 2, 3), jnp.uint8))
