import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from jaxstyle.metrics import directions, sliced_wasserstein
from jaxstyle.types import InputError

RNG = np.random.default_rng(13)


def _image(*shape):
    return RNG.uniform(size=(*shape, 3)).astype(np.float32)


def test_directions_are_unit_vectors_that_cover_the_sphere_evenly():
    covering = directions(64)
    np.testing.assert_allclose(np.linalg.norm(covering, axis=1), 1)
    # Second moments of the uniform sphere, and the widest hole: every axis has one within 20 deg.
    np.testing.assert_allclose(covering.T @ covering / 64, np.eye(3) / 3, atol=0.01)
    probes = RNG.normal(size=(500, 3))
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    assert np.abs(probes @ covering.T).max(1).min() > np.cos(np.radians(20))


@pytest.mark.parametrize("sizes", [((6, 4), (6, 4)), ((6, 4), (4, 9)), ((1, 1), (3, 8))])
def test_order_1_is_that_of_scipy_on_every_direction(sizes):
    image, reference = _image(*sizes[0]), _image(*sizes[1])
    expected = np.mean(
        [
            wasserstein_distance(image.reshape(-1, 3) @ d, reference.reshape(-1, 3) @ d)
            for d in directions(16)
        ]
    )
    # 72 ranks: a multiple of every number of pixels here, so the ranks are exact.
    result = sliced_wasserstein(image, reference, projections=16, quantiles=72)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_order_2_pairs_sorted_values():
    image, reference = _image(4, 6), _image(4, 9)
    squares = []
    for d in directions(8):
        x = np.sort(image.reshape(-1, 3) @ d).repeat(3)  # 24 values to 72
        y = np.sort(reference.reshape(-1, 3) @ d).repeat(2)  # 36 values to 72
        squares.append(np.mean((x - y) ** 2))
    result = sliced_wasserstein(image, reference, projections=8, quantiles=72, order=2)
    np.testing.assert_allclose(result, np.mean(squares) ** 0.5, rtol=1e-5)


@pytest.mark.parametrize(("order", "factor"), [(1, 1 / 2), (2, 1 / np.sqrt(3))])
def test_distance_of_a_shift_is_its_length_seen_from_all_sides(order, factor):
    image, shift = _image(9, 7), np.array([0.3, -0.1, 0.2], np.float32)
    result = sliced_wasserstein(image + shift, image, order=order)
    seen = np.abs(directions(64) @ shift)
    np.testing.assert_allclose(result, np.mean(seen**order) ** (1 / order), rtol=1e-5)
    np.testing.assert_allclose(result, factor * np.linalg.norm(shift), rtol=0.02)


def test_ranks_are_the_midpoints():
    """Of 3 pixels, the ranks 1/4 and 3/4 are the darkest and the lightest, not the middle one."""
    grays = np.array([0.9, 0.1, 0.2], np.float32).reshape(1, 3, 1).repeat(3, axis=2)
    result = sliced_wasserstein(grays, np.zeros((1, 1, 3)), quantiles=2)
    seen = np.abs(directions(64).sum(axis=1)).mean()
    np.testing.assert_allclose(result, seen * (0.1 + 0.9) / 2, rtol=1e-5)


def test_quantile_error_is_within_the_documented_bound():
    image, reference = _image(31, 17), _image(23, 29) ** 2
    exact = np.mean(
        [
            wasserstein_distance(image.reshape(-1, 3) @ d, reference.reshape(-1, 3) @ d)
            for d in directions(8)
        ]
    )
    for quantiles in (16, 128):
        result = sliced_wasserstein(image, reference, projections=8, quantiles=quantiles)
        assert abs(result - exact) < np.sqrt(3) / quantiles


@pytest.mark.parametrize("order", [1, 2])
def test_positions_and_repetition_do_not_matter(order):
    image, reference = _image(8, 6), _image(5, 5)
    moved = RNG.permutation(image.reshape(-1, 3)).reshape(12, 4, 3)
    tiled = np.tile(image, (3, 2, 1))
    expected = sliced_wasserstein(image, reference, order=order)
    assert sliced_wasserstein(moved, reference, order=order) == expected
    np.testing.assert_allclose(
        sliced_wasserstein(tiled, reference, order=order, quantiles=1024), expected, rtol=1e-6
    )
    assert sliced_wasserstein(tiled, image, order=order) == 0


def test_it_is_a_metric():
    a, b, c = _image(6, 6), _image(7, 5) ** 2, _image(4, 8) ** 0.5
    ab, bc, ac = (sliced_wasserstein(x, y) for x, y in ((a, b), (b, c), (a, c)))
    assert ab == sliced_wasserstein(b, a)
    assert ab > 0 and sliced_wasserstein(a, a) == 0
    assert ac <= ab + bc


@pytest.mark.parametrize("order", [1, 2])
def test_one_reference_serves_a_batch(order):
    images, reference = _image(2, 3, 5, 4), _image(6, 6)
    result = sliced_wasserstein(jnp.asarray(images), jnp.asarray(reference), order=order)
    assert result.shape == (2, 3) and result.dtype == np.float64
    np.testing.assert_allclose(
        result[1, 2], sliced_wasserstein(images[1, 2], reference, order=order), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("shape", "other", "options", "message"),
    [
        ((4, 4, 1), (4, 4, 3), {}, r"\(4, 4, 1\) has no color distribution"),
        ((0, 4, 3), (4, 4, 3), {}, "has no color distribution"),
        ((2, 4, 4, 3), (3, 4, 4, 3), {}, "one reference, or one for each picture"),
        ((4, 4, 3), (4, 4, 3), {"order": 3}, "1 or 2 here, not 3"),
        ((4, 4, 3), (4, 4, 3), {"projections": 0}, "0 projections"),
        ((4, 4, 3), (4, 4, 3), {"quantiles": 0}, "0 quantiles"),
    ],
)
def test_wrong_arguments_are_refused(shape, other, options, message):
    with pytest.raises(InputError, match=message):
        sliced_wasserstein(np.zeros(shape), np.zeros(other), **options)
