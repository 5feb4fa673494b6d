import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.images import (
    luminance_picture,
    match_colors,
    match_histograms,
    recolor,
    recoloring,
    transfer_luminance,
)
from jaxstyle.types import InputError

RNG = np.random.default_rng(3)


def _pictures(shape=(6, 7, 3)):
    painted, photo = RNG.random((2, *shape)).astype(np.float32)
    return jnp.asarray(1.6 * painted - 0.3), jnp.asarray(photo)  # networks leave [0, 1]


def test_what_users_give():
    assert [recoloring(given) for given in (False, True)] == [None, "luminance"]
    for way in ("luminance", "match", "histogram"):
        assert recoloring(way) == way
    with pytest.raises(InputError, match="preserve color 'histogramm'; did you mean 'histogram'"):
        recoloring("histogramm")


def test_luminance_is_the_default_and_the_exchange_of_brightness():
    painted, photo = _pictures()
    expected = transfer_luminance(jnp.clip(painted, 0, 1), photo)
    np.testing.assert_array_equal(recolor(painted, photo), expected)
    np.testing.assert_array_equal(recolor(painted, photo, "luminance"), expected)


def test_match_is_of_the_finished_picture_and_clipped():
    painted, photo = _pictures()
    matched = match_colors(jnp.clip(painted, 0, 1), photo, mode="symmetric")
    assert matched.min() < 0 or matched.max() > 1
    np.testing.assert_array_equal(recolor(painted, photo, "match"), jnp.clip(matched, 0, 1))


def test_histogram_is_the_photographs_in_the_order_of_the_matched_colors():
    painted, photo = _pictures()
    result = np.asarray(recolor(painted, photo, "histogram"))
    matched = np.asarray(match_colors(painted, photo, mode="symmetric"))
    for channel in range(3):
        values = np.sort(np.asarray(photo)[..., channel].ravel())
        ranks = np.argsort(np.argsort(matched[..., channel].ravel()))
        np.testing.assert_array_equal(result[..., channel].ravel(), values[ranks])


@pytest.mark.parametrize("way", ["luminance", "match", "histogram"])
def test_a_painting_of_a_gray_photograph_becomes_gray(way):
    painted, photo = _pictures((40, 40, 3))
    gray = luminance_picture(photo)
    result = np.asarray(recolor(painted, gray, way))
    assert np.ptp(result, axis=-1).max() < 0.03 < 0.5 < np.ptp(result[..., 0])
    assert np.ptp(np.asarray(match_histograms(painted, gray)), axis=-1).max() > 0.5


def test_unknown_ways_are_refused():
    with pytest.raises(InputError, match="way to preserve color 'mach'; did you mean 'match'"):
        recolor(*_pictures(), "mach")
