"""Distances against the papers' equations, written out in NumPy from raw feature maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.losses import content_distance, gram_distance, moments_distance
from jaxstyle.losses.distances import (
    CONTENT_NORMALIZATIONS,
    GRAM_NORMALIZATIONS,
    MOMENTS_NORMALIZATIONS,
)
from jaxstyle.statistics import FLOOR, gram, mean_and_covariance
from jaxstyle.types import InputError

RNG = np.random.default_rng(8)
H, W, C = 5, 6, 4


def _maps(*lead):
    return np.maximum(RNG.normal(0.3, 1, (*lead, H, W, C)), 0).astype(np.float32)


def _vectors(features):
    """The papers' `F`: one row of length M = h w for each of N = c channels."""
    return features.astype(np.float64).reshape(H * W, C).T


def _raw_gram(features):
    return _vectors(features) @ _vectors(features).T


def _content_scale_free(f, p):
    return np.mean((f - p) ** 2) / np.mean(p**2)


CONTENT = {
    "scale_free": _content_scale_free,
    "mean": lambda f, p: np.mean((f - p) ** 2),
    "gatys": lambda f, p: 0.5 * np.sum((f - p) ** 2),
    "gatys_code": lambda f, p: np.mean((f - p) ** 2),
    "johnson": lambda f, p: np.sum((f - p) ** 2) / (C * H * W),
    "johnson_code": lambda f, p: np.mean((f - p) ** 2),
}
# Functions of the unnormalized matrices F F^T of image and style.
STYLE = {
    "scale_free": lambda g, a: np.linalg.norm(g - a) ** 2 / np.linalg.norm(a) ** 2,
    "gatys": lambda g, a: np.sum((g - a) ** 2) / (4 * C**2 * (H * W) ** 2),
    "gatys_code": lambda g, a: np.mean((g / (H * W) - a / (H * W)) ** 2),
    "johnson": lambda g, a: np.linalg.norm(g / (C * H * W) - a / (C * H * W), "fro") ** 2,
    "johnson_code": lambda g, a: np.mean((g / (C * H * W) - a / (C * H * W)) ** 2),
}


def test_every_normalization_has_an_oracle():
    assert CONTENT.keys() == CONTENT_NORMALIZATIONS.keys()
    assert STYLE.keys() == GRAM_NORMALIZATIONS.keys()
    assert MOMENTS_NORMALIZATIONS.keys() == {"scale_free"}


@pytest.mark.parametrize("normalize", CONTENT)
def test_content_distance(normalize):
    features, target = _maps(), _maps()
    expected = CONTENT[normalize](_vectors(features), _vectors(target))
    result = content_distance(jnp.asarray(features), jnp.asarray(target), normalize=normalize)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("normalize", STYLE)
def test_gram_distance(normalize):
    features, target = _maps(), _maps()
    expected = STYLE[normalize](_raw_gram(features), _raw_gram(target))
    result = gram_distance(
        gram(jnp.asarray(features)), gram(jnp.asarray(target)), normalize=normalize
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_moments_distance():
    features, target = _maps(), _maps()
    f, p = _vectors(features), _vectors(target)
    mean = np.sum((f.mean(1) - p.mean(1)) ** 2) / np.sum(p.mean(1) ** 2)
    difference = np.cov(f, bias=True) - np.cov(p, bias=True)
    covariance = np.sum(difference**2) / np.sum(np.cov(p, bias=True) ** 2)
    result = moments_distance(
        mean_and_covariance(jnp.asarray(features)), mean_and_covariance(jnp.asarray(target))
    )
    np.testing.assert_allclose(result, mean + covariance, rtol=1e-5)


def test_gatys_style_of_another_size_compares_style_not_size():
    """A picture and its repetition have one style; unnormalized matrices would say otherwise."""
    features = jnp.asarray(_maps())
    tiled = jnp.tile(features, (2, 2, 1))
    distance = gram_distance(gram(features), gram(tiled), normalize="gatys")
    np.testing.assert_allclose(distance, 0, atol=1e-10)


DISTANCES = [
    *((f"content-{n}", lambda x: x, content_distance, n) for n in CONTENT),
    *((f"gram-{n}", gram, gram_distance, n) for n in STYLE),
    ("moments-scale_free", mean_and_covariance, moments_distance, "scale_free"),
]
TABLE = pytest.mark.parametrize(
    ("take", "compare", "normalize"), [d[1:] for d in DISTANCES], ids=[d[0] for d in DISTANCES]
)


@TABLE
def test_one_target_serves_every_image(take, compare, normalize):
    features, target = jnp.asarray(_maps(2, 3)), take(jnp.asarray(_maps()))
    result = compare(take(features), target, normalize=normalize)
    assert result.shape == (2, 3) and result.dtype == jnp.float32
    one = compare(take(features[1, 2]), target, normalize=normalize)
    np.testing.assert_allclose(result[1, 2], one, rtol=1e-5)


@TABLE
def test_one_target_for_each_image(take, compare, normalize):
    features, targets = jnp.asarray(_maps(3)), jnp.asarray(_maps(3))
    result = compare(take(features), take(targets), normalize=normalize)
    for k in range(3):
        one = compare(take(features[k]), take(targets[k]), normalize=normalize)
        np.testing.assert_allclose(result[k], one, rtol=1e-5)


@TABLE
def test_gradient_against_finite_differences(take, compare, normalize):
    features, target = jnp.asarray(_maps() + 0.5), take(jnp.asarray(_maps()))
    check_grads(
        lambda x: compare(take(x), target, normalize=normalize) * 10,
        (features,),
        order=1,
        modes=["rev"],
        atol=2e-2,
        rtol=2e-2,
    )


@TABLE
def test_zero_with_zero_gradient_at_the_target(take, compare, normalize):
    """To rounding, as the statistics of target and features come out of two programs."""
    features = jnp.asarray(_maps())
    target = take(features)
    run = jax.value_and_grad(lambda x: compare(take(x), target, normalize=normalize))
    value, gradient = run(features)
    other_value, other_gradient = run(jnp.asarray(_maps()))
    assert 0 <= value < 1e-12 * other_value
    assert np.abs(gradient).max() < 1e-5 * np.abs(other_gradient).max()


@TABLE
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_target_without_energy_is_finite(take, compare, normalize, level):
    target = take(jnp.zeros((H, W, C)))
    value, gradient = jax.value_and_grad(lambda x: compare(take(x), target, normalize=normalize))(
        level * jnp.asarray(_maps())
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (value == 0) == (level == 0)


@TABLE
def test_target_may_be_differentiated_too(take, compare, normalize):
    features = jnp.asarray(_maps())
    for content in (jnp.asarray(_maps()), jnp.zeros((H, W, C))):
        gradient = jax.grad(
            lambda x: compare(take(features), take(x), normalize=normalize)  # noqa: B023
        )(content)
        assert np.isfinite(gradient).all()


@TABLE
def test_only_scale_free_ignores_the_scale(take, compare, normalize):
    features, target = jnp.asarray(_maps()), jnp.asarray(_maps())
    near = compare(take(features), take(target), normalize=normalize)
    far = compare(take(100 * features), take(100 * target), normalize=normalize)
    assert np.isclose(near, far, rtol=1e-4) == (normalize == "scale_free")


def test_floor_is_the_documented_one():
    value = content_distance(jnp.ones((2, 2, 2)), jnp.zeros((2, 2, 2)))
    np.testing.assert_allclose(value, 1 / FLOOR, rtol=1e-5)


@pytest.mark.parametrize(
    ("compare", "arguments"),
    [
        (content_distance, (jnp.zeros((2, 2, 1)), jnp.zeros((2, 2, 1)))),
        (gram_distance, (jnp.zeros((2, 2)), jnp.zeros((2, 2)))),
        (moments_distance, ((jnp.zeros(2), jnp.zeros((2, 2))),) * 2),
    ],
)
def test_unknown_normalization_names_the_nearest(compare, arguments):
    with pytest.raises(InputError, match="did you mean 'scale_free'"):
        compare(*arguments, normalize="scalefree")


def test_content_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"\(4, 4, 2\).*\(4, 5, 2\)"):
        content_distance(jnp.zeros((4, 4, 2)), jnp.zeros((4, 5, 2)))
