"""Filters against SciPy's and NumPy's, against Pillow's resampling, and in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from PIL import Image

from jaxstyle.images import filters, fit_size, gaussian_blur, resize, roll2d
from jaxstyle.types import InputError

RNG = np.random.default_rng(5)


def _maps(*shape):
    return RNG.normal(0.3, 1, shape).astype(np.float32)


def _scipy_blur(x, sigma):
    """`mirror` is reflection about the middle of the edge pixels; sums end at 4 sigma too."""
    sigmas = (0,) * (x.ndim - 3) + (sigma, sigma, 0)
    return scipy.ndimage.gaussian_filter(x.astype(np.float64), sigmas, mode="mirror", truncate=4.0)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1, 2.5, 7])
@pytest.mark.parametrize("shape", [(9, 30, 3), (1, 6, 1), (2, 1, 4), (2, 3, 12, 5, 2)])
def test_gaussian_blur_is_scipys(shape, sigma):
    x = _maps(*shape)
    np.testing.assert_allclose(
        gaussian_blur(jnp.asarray(x), sigma), _scipy_blur(x, sigma), atol=2e-6
    )


@pytest.mark.parametrize("block", [1, 3, 64])
def test_blocks_do_not_show(monkeypatch, block):
    monkeypatch.setattr(filters, "_BLOCK", block)
    x = _maps(31, 40, 2)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(x), 0.7), _scipy_blur(x, 0.7), atol=2e-6)


def test_axes_longer_than_a_block():
    x = _maps(600, 3, 1)
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(x), 2), _scipy_blur(x, 2), atol=2e-6)


@pytest.mark.parametrize("sigma", [0.5, 3, 30])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6])
def test_a_constant_is_not_changed_in_a_bit(value, sigma):
    x = jnp.full((7, 9, 2), value)
    np.testing.assert_array_equal(gaussian_blur(x, sigma), x)


def test_weights_sum_to_one_and_fall_as_a_gaussian():
    point = jnp.zeros((41, 41, 1)).at[20, 20, 0].set(1.0)
    blurred = np.asarray(gaussian_blur(point, 2.0))[..., 0]
    np.testing.assert_allclose(blurred.sum(), 1, rtol=1e-6)
    steps = np.arange(9)
    expected = np.exp(-(steps**2) / 8)
    np.testing.assert_allclose(blurred[20, 20:29] / blurred[20, 20], expected, rtol=1e-4)
    np.testing.assert_allclose(blurred[20:29, 20] / blurred[20, 20], expected, rtol=1e-4)
    assert np.all(blurred[20, 29:] == 0)


def test_sigma_zero_changes_nothing():
    x = jnp.asarray(_maps(4, 5, 2))
    np.testing.assert_array_equal(gaussian_blur(x, 0), x)


@pytest.mark.parametrize("shape", [(6, 5, 2), (1, 2, 1), (2, 3, 4, 1)])
def test_gradients_of_the_blur(shape):
    check_grads(
        jax.jit(lambda x: jnp.sum(gaussian_blur(x, 0.8) ** 2)),
        (jnp.asarray(_maps(*shape)),),
        order=2,
        atol=2e-2,
        rtol=2e-2,
    )


def test_blur_under_transformations():
    x = jnp.asarray(_maps(3, 8, 6, 2))

    slope = jax.grad(lambda x: jnp.sum(jnp.sin(gaussian_blur(x, 1.0))))

    @jax.jit
    def all_ways(x):
        one_by_one = jnp.stack([slope(one) for one in x])
        _, scanned = jax.lax.scan(lambda c, x: (c, slope(x)), 0, x)
        return one_by_one, slope(x), jax.vmap(slope)(x), scanned

    expected, *others = all_ways(x)
    for result in others:
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    x = jnp.asarray(_maps(30, 30, 2), jnp.bfloat16)
    result = gaussian_blur(x, 2)
    assert result.dtype == jnp.bfloat16
    expected = _scipy_blur(np.asarray(x.astype(jnp.float32)), 2)
    np.testing.assert_allclose(result.astype(jnp.float32), expected, rtol=1 / 256, atol=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.integers(-20, 20), st.integers(-20, 20))
def test_roll2d_is_numpys_whatever_the_shift(down, right):
    x = np.arange(2 * 5 * 3 * 2.0, dtype=np.float32).reshape(2, 5, 3, 2)
    expected = np.roll(x, (down, right), axis=(1, 2))
    np.testing.assert_array_equal(roll2d(jnp.asarray(x), (down, right)), expected)
    np.testing.assert_array_equal(_rolled(x, jnp.array([down, right])), expected)


_rolled = jax.jit(roll2d)


def test_shifts_are_traced():
    x = jnp.asarray(_maps(5, 4, 2))
    shifts = jnp.array([[0, 0], [1, -1], [-7, 9]])
    lanes = jax.vmap(roll2d, in_axes=(None, 0))(x, shifts)
    _, scanned = jax.lax.scan(lambda c, s: (c, roll2d(x, (s[0], s[1]))), 0, shifts)
    for lane, step, (down, right) in zip(lanes, scanned, shifts.tolist(), strict=True):
        expected = np.roll(x, (down, right), axis=(0, 1))
        np.testing.assert_array_equal(lane, expected)
        np.testing.assert_array_equal(step, expected)
    np.testing.assert_array_equal(roll2d(lanes[2], -shifts[2]), x)


def test_the_gradient_rolls_back():
    x, cotangent = jnp.asarray(_maps(2, 5, 4, 2))
    shift = jnp.array([2, -1])
    _, pull = jax.vjp(lambda x: roll2d(x, shift), x)
    np.testing.assert_array_equal(pull(cotangent)[0], np.roll(cotangent, (-2, 1), axis=(0, 1)))


PILLOW = {"cubic": Image.Resampling.BICUBIC, "linear": Image.Resampling.BILINEAR}


@pytest.mark.parametrize("method", PILLOW)
@pytest.mark.parametrize("size", [(5, 4), (12, 17), (40, 9), (1, 1)])
def test_resize_is_pillows(size, method):
    """Pillow's cubic has a = -1/2 too, and its kernels widen on reduction."""
    x = RNG.random((12, 17)).astype(np.float32)
    height, width = size
    expected = np.asarray(Image.fromarray(x).resize((width, height), PILLOW[method]))
    result = resize(jnp.asarray(x)[..., None], size, method)
    # Pillow cuts a kernel off at whole pixels and rounds in between.
    np.testing.assert_allclose(result[..., 0], expected, atol=1e-5)


def test_resize_without_antialias_takes_neighbors_alone():
    x = jnp.asarray(_maps(16, 16, 1))
    result = resize(x, (8, 8), "linear", antialias=False)
    expected = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert np.abs(resize(x, (8, 8), "linear") - expected).max() > 0.05


def test_resize_keeps_constants_and_leading_axes():
    x = jnp.full((2, 3, 5, 4, 2), 0.3)
    for method in PILLOW:
        result = jax.jit(lambda x, m=method: resize(x, (7, 3), m))(x)
        np.testing.assert_allclose(result, np.full((2, 3, 7, 3, 2), 0.3), atol=1e-6)
    x = jnp.asarray(_maps(3, 5, 4, 2))
    lanes = jax.vmap(lambda x: resize(x, (9, 2)))(x)
    np.testing.assert_allclose(resize(x, (9, 2)), lanes, atol=1e-6)
    assert resize(x.astype(jnp.bfloat16), (9, 2)).dtype == jnp.bfloat16


def test_resize_to_the_same_size_changes_nothing():
    x = jnp.asarray(_maps(5, 6, 3))
    np.testing.assert_array_equal(resize(x, (5, 6)), x)


def test_cubic_is_not_clipped():
    edge = jnp.zeros((1, 8, 1)).at[:, 4:].set(1.0)
    result = np.asarray(resize(edge, (1, 32)))
    assert result.min() < -0.01 and result.max() > 1.01


sides = st.integers(1, 5000)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(sides, sides, sides)
def test_fit_size_has_the_side_and_the_aspect_ratio(height, width, side):
    shorter, longer = fit_size(height, width, shorter=side), fit_size(height, width, longer=side)
    assert min(shorter) == side and max(longer) == side
    for new in (shorter, longer):
        scale = side / (min if new is shorter else max)(height, width)
        for before, after in zip((height, width), new, strict=True):
            assert isinstance(after, int) and after >= 1
            assert abs(after - before * scale) <= 0.5 + 1e-9 or after == 1 > before * scale


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(50, 4000), st.integers(50, 4000), st.integers(10**4, 10**7))
def test_fit_size_has_the_area(height, width, area):
    new_height, new_width = fit_size(height, width, area=area)
    # Half a pixel on either side, at most.
    assert abs(new_height * new_width - area) <= 0.5 * (new_height + new_width) + 1
    scale = math.sqrt(area / (height * width))
    assert abs(new_height - height * scale) <= 0.5 + 1e-9


def test_fit_size_of_a_picture_of_that_size_changes_nothing():
    for height, width in ((1, 1), (480, 640), (1, 999), (1081, 721)):
        for measure in (
            {"shorter": min(height, width)},
            {"longer": max(height, width)},
            {"area": height * width},
        ):
            assert fit_size(height, width, **measure) == (height, width)
    assert fit_size(1, 1000, longer=10) == (1, 10)


BAD = [
    (lambda: gaussian_blur(jnp.ones((3, 3, 1)), -1), "sigma is -1; give 0 or more pixels"),
    (lambda: gaussian_blur(jnp.ones((3, 3, 1)), float("nan")), "sigma is nan"),
    (lambda: gaussian_blur(jnp.ones((3, 3, 1)), float("inf")), "sigma is inf"),
    (lambda: gaussian_blur(jnp.ones((3, 3)), 1), r"a picture of shape \(3, 3\) has no pixels"),
    (lambda: gaussian_blur(jnp.ones((0, 3, 1)), 1), r"\(0, 3, 1\) has no pixels to work on; give"),
    (lambda: gaussian_blur(jnp.ones((3, 3, 1), int), 1), "holds int32; convert it to float32"),
    (lambda: roll2d(jnp.ones((3, 3, 1)), jnp.ones(2)), "float32 of shape .* give two integers"),
    (lambda: roll2d(jnp.ones((3, 3, 1)), 1), r"int32 of shape \(\); give two integers"),
    (lambda: roll2d(jnp.ones((3, 3)), (1, 1)), r"shape \(3, 3\) has no pixels"),
    (lambda: resize(jnp.ones((3, 3, 1)), (0, 3)), r"new size is \(0, 3\); give height and width"),
    (lambda: resize(jnp.ones((3, 3, 1)), (2.0, 3)), r"new size is \(2.0, 3\)"),
    (lambda: resize(jnp.ones((3, 3, 1)), (2, 3, 1)), r"new size is \(2, 3, 1\)"),
    (lambda: resize(jnp.ones((3, 3, 1)), (2, 3), "bicubic"), "'bicubic'; did you mean 'cubic'"),
    (lambda: resize(jnp.ones((3, 3, 1), jnp.uint8), (2, 3)), "holds uint8; convert it"),
    (lambda: resize(jnp.ones((3, 3)), (2, 3)), "has no pixels to work on"),
    (lambda: fit_size(3, 4), "one of shorter, longer and area, but given is nothing"),
    (lambda: fit_size(3, 4, shorter=2, area=9), "but given is shorter and area"),
    (lambda: fit_size(0, 4, longer=2), "height is 0; give at least 1"),
    (lambda: fit_size(3, 4, longer=0), "longer is 0; give at least 1"),
    (lambda: fit_size(3, 4, area=float("nan")), "area is nan; give at least 1"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
