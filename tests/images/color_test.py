import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.images import luminance, rgb_to_yuv, transfer_luminance, yuv_to_rgb
from jaxstyle.types import InputError

RNG = np.random.default_rng(11)
PRIMARIES = jnp.eye(3).reshape(1, 3, 3)


def _pictures(count, lo=0.0, hi=1.0, shape=(5, 4, 3)):
    return RNG.uniform(lo, hi, (count, *shape)).astype(np.float32)


def test_luminance_of_the_primaries():
    np.testing.assert_allclose(luminance(PRIMARIES)[0], [0.299, 0.587, 0.114], rtol=1e-6)


def test_yuv_of_the_primaries_is_the_published_table():
    # The table as printed, to three digits (its columns are the primaries).
    table = np.array([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]])
    np.testing.assert_allclose(rgb_to_yuv(PRIMARIES)[0].T, table, atol=6e-4)


def test_gray_has_no_chrominance():
    gray = jnp.broadcast_to(jnp.linspace(0, 1, 7)[None, :, None], (1, 7, 3))
    yuv = rgb_to_yuv(gray)
    np.testing.assert_allclose(yuv[..., 0], gray[..., 0], atol=1e-6)
    np.testing.assert_allclose(yuv[..., 1:], 0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-2, 3, width=32), min_size=3, max_size=3))
def test_yuv_round_trip_beyond_the_gamut(color):
    image = jnp.array(color, jnp.float32).reshape(1, 1, 3)
    np.testing.assert_allclose(yuv_to_rgb(rgb_to_yuv(image)), image, atol=2e-6)
    np.testing.assert_allclose(rgb_to_yuv(yuv_to_rgb(image)), image, atol=3e-6)


def test_transfer_luminance_swaps_y_and_keeps_u_and_v():
    stylized, original = _pictures(2, 0.4, 0.6)  # so near gray that nothing is clipped
    result = np.asarray(transfer_luminance(jnp.asarray(stylized), jnp.asarray(original)))
    swapped = rgb_to_yuv(jnp.asarray(original)).at[..., 0].set(luminance(jnp.asarray(stylized)))
    np.testing.assert_allclose(result, yuv_to_rgb(swapped), atol=1e-6)
    weights = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(result @ weights, stylized @ weights, rtol=1e-6)


def test_transfer_luminance_clips_to_the_gamut():
    stylized, original = _pictures(2)
    result = np.asarray(transfer_luminance(jnp.asarray(stylized), jnp.asarray(original)))
    change = (stylized - original).astype(np.float64) @ [0.299, 0.587, 0.114]
    unclipped = original + change[..., None]
    assert unclipped.min() < 0 and unclipped.max() > 1
    np.testing.assert_allclose(result, unclipped.clip(0, 1), atol=1e-6)


def test_transfer_luminance_of_a_picture_to_itself_changes_nothing():
    (image,) = _pictures(1)
    np.testing.assert_array_equal(transfer_luminance(jnp.asarray(image), jnp.asarray(image)), image)


@pytest.mark.parametrize("function", [luminance, rgb_to_yuv, yuv_to_rgb])
def test_batches_dtypes_and_transformations(function):
    images = jnp.asarray(_pictures(6).reshape(2, 3, 5, 4, 3))
    result = function(images)
    assert result.shape[:4] == (2, 3, 5, 4)
    np.testing.assert_allclose(result[1, 2], function(images[1, 2]), atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(images), result, atol=1e-6)
    assert function(images.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("function", [luminance, rgb_to_yuv, yuv_to_rgb])
def test_other_channels_are_refused(function):
    with pytest.raises(InputError, match="3 color channels"):
        function(jnp.zeros((4, 4, 1)))


def test_pictures_of_two_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(4, 4, 3\).*\(4, 5, 3\)"):
        transfer_luminance(jnp.zeros((4, 4, 3)), jnp.zeros((4, 5, 3)))
