"""Color matching against NumPy's own eigenvalues, factors and sorting, and in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.images import (
    luminance,
    luminance_picture,
    match_colors,
    match_histograms,
    match_luminance,
    transfer_luminance,
)
from jaxstyle.types import InputError

MODES = ("cholesky", "pca", "symmetric")
LUMINANCE = np.array([0.299, 0.587, 0.114])


def _picture(*shape, seed=0):
    """Correlated colors, as pictures have: three channels, strong to weak, turned at random.

    The weakest is far above the epsilons here, which alone limit what is matched.
    """
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    mixture = np.array([[0.8], [0.4], [0.2]]) * turn
    return (rng.random((*shape, 3)) @ mixture + rng.random(3)).astype(np.float32)


def _moments(picture):
    pixels = np.asarray(picture, np.float64).reshape(-1, 3)
    return pixels.mean(0), np.cov(pixels.T, bias=True)


def _root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values)) @ vectors.T


def _oracle(image, reference, mode, epsilon):
    """The published formulas in float64, with explicit inverses."""
    (mean, own), (other_mean, other) = _moments(image), _moments(reference)
    own, other = own + epsilon * np.eye(3), other + epsilon * np.eye(3)
    if mode == "cholesky":
        change = np.linalg.cholesky(other) @ np.linalg.inv(np.linalg.cholesky(own))
    elif mode == "pca":
        change = _root(other) @ np.linalg.inv(_root(own))
    else:
        inverse = np.linalg.inv(_root(own))
        change = inverse @ _root(_root(own) @ other @ _root(own)) @ inverse
    return (image.astype(np.float64) - mean) @ change.T + other_mean, change


def _mapping(image, matched):
    """The linear part of what was done to a picture, by least squares."""
    x, y = (np.asarray(p, np.float64).reshape(-1, 3) for p in (image, matched))
    return np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)[0].T


@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
@pytest.mark.parametrize("mode", MODES)
def test_match_colors_is_the_published_map(mode, epsilon):
    image, reference = _picture(9, 8, seed=1), _picture(7, 12, seed=2)
    result = match_colors(jnp.asarray(image), jnp.asarray(reference), mode=mode, epsilon=epsilon)
    expected, _ = _oracle(image, reference, mode, epsilon)
    np.testing.assert_allclose(result, expected, atol=2e-5)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(MODES), st.integers(0, 10**6))
def test_mean_and_covariance_become_the_references(mode, seed):
    image, reference = _picture(16, 15, seed=seed), _picture(16, 15, seed=seed + 1)
    result = match_colors(jnp.asarray(image), jnp.asarray(reference), mode=mode, epsilon=1e-7)
    (mean, covariance), (own_mean, own_covariance) = _moments(reference), _moments(result)
    np.testing.assert_allclose(own_mean, mean, atol=1e-5)
    np.testing.assert_allclose(own_covariance, covariance, atol=1e-5)


def test_the_modes_differ_and_only_symmetric_is_symmetric():
    image, reference = _picture(16, 16, seed=3), _picture(16, 16, seed=4)
    maps = {
        mode: _mapping(image, match_colors(jnp.asarray(image), jnp.asarray(reference), mode=mode))
        for mode in MODES
    }
    for mode, mapping in maps.items():
        asymmetry = np.abs(mapping - mapping.T).max()
        assert asymmetry < 1e-3 if mode == "symmetric" else asymmetry > 0.05
    assert np.linalg.eigvalsh(maps["symmetric"]).min() > 0
    assert np.abs(np.triu(maps["cholesky"], 1)).max() < 1e-3
    assert np.abs(maps["pca"] - maps["cholesky"]).max() > 0.05


def test_symmetric_moves_the_colors_least():
    image, reference = _picture(16, 16, seed=3), _picture(16, 16, seed=4)
    moved = {
        mode: np.mean((match_colors(image, reference, mode=mode) - image) ** 2) for mode in MODES
    }
    assert moved["symmetric"] < min(moved["pca"], moved["cholesky"])
    # The squared Wasserstein distance of the two Gaussians, in closed form.
    (m, s), (n, r) = _moments(image), _moments(reference)
    distance = np.sum((m - n) ** 2) + np.trace(s + r - 2 * _root(_root(s) @ r @ _root(s)))
    np.testing.assert_allclose(3 * moved["symmetric"], distance, rtol=1e-2)


@pytest.mark.parametrize("mode", MODES)
def test_match_colors_of_a_picture_to_itself_changes_nothing(mode):
    image = jnp.asarray(_picture(8, 9))
    np.testing.assert_allclose(match_colors(image, image, mode=mode), image, atol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_match_colors_of_uncorrelated_channels_is_a_shift_and_a_scale(mode):
    signs = np.array([[-1, -1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1]], np.float32).T
    image, reference = (
        jnp.asarray((np.array(mean) + signs * np.array(deviation)).reshape(2, 2, 3), jnp.float32)
        for mean, deviation in (
            ((0.2, 0.5, 0.6), (0.1, 0.2, 0.3)),
            ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1)),
        )
    )
    result = match_colors(image, reference, mode=mode, epsilon=1e-9)
    np.testing.assert_allclose(result, reference, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_constant_pictures_are_finite(mode):
    image, gray = jnp.asarray(_picture(6, 5)), jnp.full((4, 4, 3), 0.25)
    # A constant picture takes the mean color; a picture matched to a constant one nearly so.
    result = match_colors(gray, image, mode=mode)
    np.testing.assert_allclose(
        result, jnp.broadcast_to(image.mean((0, 1)), result.shape), atol=1e-5
    )
    flat = match_colors(image, gray, mode=mode)
    assert np.abs(flat - 0.25).max() < 0.02
    np.testing.assert_allclose(match_colors(gray, 1 - gray, mode=mode), 1 - gray, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_gray_pictures_take_the_references_mean_and_stay_finite(mode):
    gray = luminance_picture(jnp.asarray(_picture(9, 9)))
    reference = jnp.asarray(_picture(7, 7, seed=5))
    result = match_colors(gray, reference, mode=mode)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result.mean((0, 1)), reference.mean((0, 1)), atol=1e-5)
    assert np.linalg.matrix_rank(_moments(result)[1], tol=1e-4) == 1
    # And back: to gray the colors differ by no more than epsilon allows.
    back = np.asarray(match_colors(reference, gray, mode=mode))
    assert np.ptp(back, axis=-1).max() < 0.05 < np.ptp(back[..., 0])


def test_match_colors_is_not_clipped():
    image = jnp.asarray(_picture(8, 8))
    reference = 6 * (image - image.mean((0, 1), keepdims=True)) + 0.5
    result = np.asarray(match_colors(image, reference))
    assert result.min() < 0 and result.max() > 1


def _levels(*shape, seed=0, levels=256):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, (*shape, 3)) / 255).astype(np.float32)


# Of few sizes, each of which is a program to compile.
matched_histograms = jax.jit(match_histograms)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.sampled_from([(7, 5), (1, 1)]), st.integers(0, 10**6), st.sampled_from([2, 5, 256]))
def test_the_references_histogram_is_reproduced_whatever_the_ties(size, seed, levels):
    image = _levels(*size, seed=seed, levels=levels)
    reference = _levels(*size[::-1], seed=seed + 1)
    result = np.asarray(matched_histograms(jnp.asarray(image), jnp.asarray(reference)))
    for channel in range(3):
        np.testing.assert_array_equal(
            np.sort(result[..., channel].ravel()), np.sort(reference[..., channel].ravel())
        )
        _assert_monotone(image[..., channel], result[..., channel])


def _assert_monotone(before, after):
    """No pixel overtakes another: within ties of `before` any order will do."""
    order = np.lexsort((after.ravel(), before.ravel()))
    assert np.all(np.diff(after.ravel()[order]) >= 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("size", "other"), [((7, 5), (3, 4)), ((3, 4), (7, 5)), ((1, 1), (2, 3)), ((6, 1), (1, 1))]
)
def test_other_sizes_take_interpolated_quantiles(size, other, seed):
    rng = np.random.default_rng(seed)
    image = rng.permuted(np.arange(np.prod(size) * 3.0)).reshape(*size, 3).astype(np.float32)
    reference = _levels(*other, seed=seed)
    result = np.asarray(matched_histograms(jnp.asarray(image), jnp.asarray(reference)))
    pixels, others = np.prod(size), np.prod(other)
    for channel in range(3):
        ranks = np.argsort(np.argsort(image[..., channel].ravel()))
        # Pixel k of n in order is the quantile (k + 1/2) / n, in both pictures.
        expected = np.interp(
            (ranks + 0.5) / pixels,
            (np.arange(others) + 0.5) / others,
            np.sort(reference[..., channel].ravel()),
        )
        np.testing.assert_allclose(result[..., channel].ravel(), expected, atol=1e-5)


def test_quantiles_of_many_pixels():
    image = np.random.default_rng(0).permutation(300 * 400 * 3).reshape(300, 400, 3) / 3.6e5
    ramp = np.broadcast_to(np.linspace(0, 1, 7 * 11).reshape(7, 11, 1) ** 2, (7, 11, 3))
    result = match_histograms(jnp.asarray(image, jnp.float32), jnp.asarray(ramp, jnp.float32))
    ranks = np.argsort(np.argsort(image[..., 1].ravel()))
    places = (ranks + 0.5) / image[..., 1].size
    expected = np.interp(places, (np.arange(77) + 0.5) / 77, np.sort(ramp[..., 1].ravel()))
    np.testing.assert_allclose(np.asarray(result)[..., 1].ravel(), expected, atol=1e-6)


def test_match_histograms_of_a_picture_to_itself_changes_nothing():
    image = jnp.asarray(_levels(9, 11, levels=8))
    np.testing.assert_array_equal(match_histograms(image, image), image)


def test_any_monotone_change_of_a_picture_is_undone():
    image = jnp.asarray(_picture(9, 11))
    np.testing.assert_array_equal(match_histograms(jnp.exp(3 * image), image), image)


@pytest.mark.parametrize("scale", [True, False])
def test_match_luminance_is_the_published_formula(scale):
    style, content = _picture(7, 6, seed=7), _picture(5, 9, seed=8)
    own, other = (picture.astype(np.float64) @ LUMINANCE for picture in (style, content))
    factor = other.std() / own.std() if scale else 1
    expected = factor * (own - own.mean()) + other.mean()
    result = np.asarray(match_luminance(jnp.asarray(style), jnp.asarray(content), scale=scale))
    for channel in range(3):
        np.testing.assert_allclose(result[..., channel], expected, atol=1e-6)
    assert np.isclose(result[..., 0].std(), other.std(), rtol=1e-5) == scale


def test_a_style_without_contrast_gets_none():
    content = jnp.asarray(_picture(5, 9))
    result = match_luminance(jnp.full((40, 40, 3), 0.7), content)
    expected = np.full((40, 40, 3), np.mean(np.asarray(content) @ LUMINANCE))
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_luminance_picture_is_gray_and_as_light():
    image = jnp.asarray(_picture(4, 5))
    gray = luminance_picture(image)
    np.testing.assert_array_equal(gray[..., 0], gray[..., 1])
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    np.testing.assert_allclose(luminance(gray), np.asarray(image) @ LUMINANCE, atol=1e-6)
    # The way back of a luminance-only transfer that changed nothing.
    image = jnp.clip(image, 0, 1)
    restored = transfer_luminance(luminance_picture(image), image)
    np.testing.assert_allclose(restored, image, atol=1e-6)


FUNCTIONS = [
    *(functools.partial(match_colors, mode=mode) for mode in MODES),
    match_histograms,
    match_luminance,
]
NAMES = [*MODES, "histograms", "luminance"]


@pytest.mark.parametrize("function", FUNCTIONS, ids=NAMES)
def test_leading_axes_broadcast_and_transformations(function):
    images, references = jnp.asarray(_picture(2, 3, 5, 4)), jnp.asarray(_picture(3, 6, 2, seed=9))
    image, reference = images[1, 2], references[2]

    @jax.jit
    def all_ways(images, references):
        return {
            "alone": function(image, reference),
            "each its own": function(images, references)[1, 2],
            "one reference": function(images, reference)[1, 2],
            "one picture": function(image, references)[2],
            "vmap": jax.vmap(function)(images[1], references)[2],
            "scan": jax.lax.scan(lambda c, x: (c, function(x, reference)), 0, images[1])[1][2],
        }

    expected = function(image, reference)
    for way, result in all_ways(images, references).items():
        np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=way)


@pytest.mark.parametrize("function", FUNCTIONS, ids=NAMES)
def test_half_precision_is_computed_in_float32(function):
    images = (_picture(20, 20), _picture(18, 18, seed=1))
    half = [jnp.asarray(image, jnp.bfloat16) for image in images]
    result = function(*half)
    assert result.dtype == jnp.bfloat16
    expected = function(*(x.astype(jnp.float32) for x in half)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("function", FUNCTIONS, ids=NAMES)
@pytest.mark.parametrize(
    ("image", "reference", "message"),
    [
        ((4, 4), (4, 4, 3), r"this one is \(4, 4\); convert it to RGB"),
        ((4, 4, 3), (4, 4, 1), r"this one is \(4, 4, 1\)"),
        ((0, 4, 3), (4, 4, 3), r"this one is \(0, 4, 3\)"),
        (
            (2, 4, 4, 3),
            (3, 4, 4, 3),
            r"\(2, 4, 4, 3\) cannot be matched .*\(3, 4, 4, 3\); give one",
        ),
    ],
)
def test_what_are_no_two_pictures_is_refused(function, image, reference, message):
    with pytest.raises(InputError, match=message):
        function(jnp.zeros(image), jnp.zeros(reference))


@pytest.mark.parametrize("function", FUNCTIONS, ids=NAMES)
def test_bytes_are_refused(function):
    with pytest.raises(InputError, match="holds uint8; convert it to float32"):
        function(jnp.zeros((4, 4, 3)), jnp.zeros((4, 4, 3), jnp.uint8))


def test_unknown_modes_and_impossible_epsilons_are_refused():
    image = jnp.zeros((4, 4, 3))
    with pytest.raises(InputError, match="color matching 'chol'; did you mean 'cholesky'"):
        match_colors(image, image, mode="chol")
    for epsilon in (0, -1e-5, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"epsilon of color matching is {epsilon}; give"):
            match_colors(image, image, epsilon=epsilon)


def test_a_photograph_and_a_painting(shared_data):
    from jaxstyle.io import images

    photo = images.read(shared_data / "content" / "golden_gate.jpg").pixels
    painting = images.read(shared_data / "styles" / "woman_with_hat.jpg").pixels
    for mode in MODES:
        matched = match_colors(jnp.asarray(painting), jnp.asarray(photo), mode=mode)
        (mean, covariance), (own_mean, own_covariance) = _moments(photo), _moments(matched)
        np.testing.assert_allclose(own_mean, mean, atol=1e-5)
        np.testing.assert_allclose(own_covariance, covariance, atol=5e-5)
