import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.images import match_colors, match_histograms, recolor, recoloring, transfer_luminance
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


def test_histogram_is_the_photographs_and_ranks_what_was_not_clipped():
    painted, photo = _pictures()
    result = np.asarray(recolor(painted, photo, "histogram"))
    for channel in range(3):
        values = np.sort(np.asarray(photo)[..., channel].ravel())
        ranks = np.argsort(np.argsort(np.asarray(painted)[..., channel].ravel()))
        np.testing.assert_array_equal(result[..., channel].ravel(), values[ranks])
    clipped = match_histograms(jnp.clip(painted, 0, 1), photo)
    assert np.abs(result - clipped).max() > 0.01


def test_unknown_ways_are_refused():
    with pytest.raises(InputError, match="way to preserve color 'mach'; did you mean 'match'"):
        recolor(*_pictures(), "mach")
