"""The structural similarity index (SSIM) of two pictures."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.images.color import luminance
from jaxstyle.types import Array, InputError, unknown_choice

WINDOW, SIGMA = 11, 1.5
_CHANNELS = ("luminance", "mean")


def ssim(image: Array, reference: Array, *, channels: str = "luminance") -> Array:
    """Return how much of a picture's local structure another one keeps.

    In every window of 11x11 pixels, weighted by a Gaussian of deviation 1.5, with means `m`,
    variances `v` and the covariance `c`:

      `(2 m_x m_y + C1) (2 c + C2) / ((m_x^2 + m_y^2 + C1) (v_x + v_y + C2))`

    with `C1 = 0.01^2` and `C2 = 0.03^2`, averaged over all windows inside the picture. 1 is
    equality, 0 is no likeness, below 0 light and dark are exchanged.

    Args:
      image: `[..., h, w, 3]`, sRGB in [0, 1], sides >= 11.
      reference: `[..., h, w, 3]`, of the same size; leading axes broadcast.
      channels: 'luminance' compares brightness alone, as the paper does; 'mean' is the mean of the
        index of red, green and blue.

    Returns:
      `[...]`, one value per pair of pictures, in [-1, 1].

    Raises:
      InputError: sizes that differ or are below 11, no three channels, or unknown `channels`.

    Example:
      >>> image = jnp.linspace(0, 1, 16 * 16 * 3).reshape(16, 16, 3)
      >>> float(ssim(image, image))
      1.0

    References:
      Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment: From Error Visibility to Structural
      Similarity, 2004, IEEE Transactions on Image Processing 13(4), eq. 13 to 17, section III.C.
    """
    image, reference = jnp.asarray(image), jnp.asarray(reference)
    _check(image.shape, reference.shape)
    if channels not in _CHANNELS:
        raise unknown_choice("channels of the structural similarity", channels, _CHANNELS)
    if channels == "luminance":
        x, y = luminance(image)[..., None], luminance(reference)[..., None]
    else:
        x, y = image, reference
    rank = max(x.ndim, y.ndim)
    x, y = (jax.lax.expand_dims(v, range(rank - v.ndim)) for v in (x, y))
    # Variances are differences of means of squares: small numbers lose fewer bits to rounding.
    shift = 0.5
    x, y = x - shift, y - shift
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + shift, mean_y + shift
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return jnp.mean(light * structure, axis=(-3, -2, -1))


def _blur(x: Array) -> Array:
    """Return the weighted mean of every window inside `[..., h, w, c]`."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    for axis in (-3, -2):
        length = x.shape[axis] - WINDOW + 1
        parts = [
            weight * jax.lax.slice_in_dim(x, start, start + length, axis=axis)
            for start, weight in enumerate(weights.tolist())
        ]
        x = sum(parts[1:], parts[0])
    return x


def _check(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    for given in (shape, other):
        if len(given) < 3 or given[-1] != 3:
            raise InputError(
                f"an image has the shape [..., height, width, 3], but this one is {given}; "
                "convert it to RGB."
            )
    if shape[-3:] != other[-3:]:
        raise InputError(
            f"structural similarity compares pictures of one size, not {shape[-3]}x{shape[-2]} "
            f"with {other[-3]}x{other[-2]}; resize one of them."
        )
    if min(shape[-3:-1]) < WINDOW:
        raise InputError(
            f"a picture of {shape[-3]}x{shape[-2]} is too small for structural similarity; its "
            f"windows have {WINDOW}x{WINDOW} pixels."
        )
