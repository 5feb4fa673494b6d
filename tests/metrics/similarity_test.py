"""Structural similarity: against scikit-image's, and by its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data
from skimage.metrics import structural_similarity

from jaxstyle.metrics import ssim
from jaxstyle.types import InputError

RNG = np.random.default_rng(8)
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
GRAY = np.array([0.299, 0.587, 0.114])


def photo(height, width):
    return data.astronaut()[60 : 60 + height, 150 : 150 + width].astype(np.float32) / 255


CHANGES = {
    "noise": lambda x: np.clip(x + RNG.normal(0, 0.1, x.shape), 0, 1),
    "darker": lambda x: x * 0.5,
    "negative": lambda x: 1 - x,
    "shifted": lambda x: np.roll(x, 3, axis=1),
    "flat": lambda x: np.full_like(x, 0.7),
    "unrelated": lambda x: RNG.random(x.shape),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [(11, 11), (37, 52)])
def test_as_scikit_image(size, change):
    x = photo(*size)
    y = CHANGES[change](x).astype(np.float32)
    gray = structural_similarity(x.astype(float) @ GRAY, y.astype(float) @ GRAY, **WANG)
    color = structural_similarity(x.astype(float), y.astype(float), channel_axis=-1, **WANG)
    np.testing.assert_allclose(ssim(x, y), gray, rtol=0, atol=2e-5)
    np.testing.assert_allclose(ssim(x, y, channels="mean"), color, rtol=0, atol=2e-5)


def test_a_picture_is_like_itself_and_unlike_its_negative():
    x = photo(40, 48)
    assert float(ssim(x, x)) == pytest.approx(1, abs=1e-6)
    assert float(ssim(x, 1 - x)) < -0.2


def test_the_order_does_not_matter():
    x, y = photo(20, 24), CHANGES["noise"](photo(20, 24)).astype(np.float32)
    assert float(ssim(x, y)) == float(ssim(y, x))


def test_one_value_per_picture():
    stack = RNG.random((2, 3, 16, 20, 3)).astype(np.float32)
    reference = stack[1, 2]
    values = jax.jit(ssim)(stack, reference)
    assert values.shape == (2, 3)
    np.testing.assert_allclose(values[0, 1], ssim(stack[0, 1], reference), atol=1e-6)
    assert float(values[1, 2]) == pytest.approx(1, abs=1e-6)


def test_the_gradient_is_finite_even_where_nothing_varies():
    flat = jnp.full((12, 12, 3), 0.5)
    assert np.isfinite(jax.grad(lambda x: ssim(x, flat))(flat)).all()


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        ((10, 40, 3), (10, 40, 3), {}, "10x40 is too small"),
        ((20, 40, 3), (40, 20, 3), {}, "not 20x40 with 40x20"),
        ((20, 40), (20, 40), {}, "convert it to RGB"),
        ((20, 40, 4), (20, 40, 4), {}, "convert it to RGB"),
        ((20, 40, 3), (20, 40, 3), {"channels": "lumen"}, "luminance"),
    ],
)
def test_what_cannot_be_compared(first, second, options, message):
    with pytest.raises(InputError, match=message):
        ssim(jnp.zeros(first), jnp.zeros(second), **options)
