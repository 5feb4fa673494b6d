"""Luminance and chrominance of a picture, and the exchange of one under the other.

All functions take the gamma-coded sRGB values that files hold, as television and every published
style-transfer code do; nothing here is linear light.
"""

import jax.numpy as jnp
import numpy as np

from jaxstyle.types import Array, InputError

# Y of ITU-R BT.601; U and V are its scaled color differences 0.492 (B - Y) and 0.877 (R - Y).
_Y = np.array([0.299, 0.587, 0.114])
_RGB_TO_YUV = np.stack([_Y, 0.492 * (np.eye(3)[2] - _Y), 0.877 * (np.eye(3)[0] - _Y)])
# Inverted rather than quoted: tables in print have three digits and do not round-trip.
_YUV_TO_RGB = np.linalg.inv(_RGB_TO_YUV)


def luminance(image: Array) -> Array:
    """Return how light each pixel is: `0.299 R + 0.587 G + 0.114 B`.

    Args:
      image: `[..., h, w, 3]`, gamma-coded sRGB in [0, 1].

    Returns:
      `[..., h, w]` in [0, 1], of the image's dtype.

    Raises:
      InputError: the last axis does not hold 3 channels.

    Example:
      >>> float(luminance(jnp.ones((1, 1, 3)))[0, 0])
      1.0

    References:
      ITU-R Recommendation BT.601, the luminance signal.
    """
    return _mix(image, _Y)


def rgb_to_yuv(image: Array) -> Array:
    """Return luminance and the two color differences of each pixel.

    Args:
      image: `[..., h, w, 3]`, gamma-coded sRGB in [0, 1].

    Returns:
      `[..., h, w, 3]`: Y in [0, 1], U = 0.492 (B - Y) in [-0.44, 0.44] and V = 0.877 (R - Y) in
      [-0.62, 0.62]; gray has U = V = 0.

    Raises:
      InputError: the last axis does not hold 3 channels.

    Example:
      >>> [round(float(v), 3) for v in rgb_to_yuv(jnp.array([[[1.0, 0.0, 0.0]]]))[0, 0]]
      [0.299, -0.147, 0.615]

    References:
      ITU-R Recommendation BT.601, the luminance and color-difference signals.
    """
    return _mix(image, _RGB_TO_YUV)


def yuv_to_rgb(image: Array) -> Array:
    """Undo `rgb_to_yuv`, with the inverse of its matrix. Nothing is clipped.

    Args:
      image: `[..., h, w, 3]`: Y, U and V.

    Returns:
      `[..., h, w, 3]`, gamma-coded sRGB; outside [0, 1] where Y, U, V name no color of sRGB.

    Raises:
      InputError: the last axis does not hold 3 channels.

    Example:
      >>> [round(float(v), 3) for v in yuv_to_rgb(jnp.array([[[0.5, 0.0, 0.0]]]))[0, 0]]
      [0.5, 0.5, 0.5]
    """
    return _mix(image, _YUV_TO_RGB)


def transfer_luminance(stylized: Array, original: Array) -> Array:
    """Paint in the original's colors: luminance of the first picture, chrominance of the second.

    Args:
      stylized: `[..., h, w, 3]`, gamma-coded sRGB in [0, 1].
      original: of the same shape and kind.

    Returns:
      `[..., h, w, 3]`, clipped to [0, 1]; a clipped pixel keeps neither quantity exactly.

    Raises:
      InputError: the shapes differ, or the last axis does not hold 3 channels.

    Example:
      >>> gray, red = jnp.full((1, 1, 3), 0.4), jnp.array([[[0.5, 0.1, 0.1]]])
      >>> [round(float(v), 2) for v in transfer_luminance(gray, red)[0, 0]]
      [0.68, 0.28, 0.28]

    References:
      Gatys et al., Preserving Color in Neural Artistic Style Transfer, 2016, arXiv:1606.05897,
      luminance-only transfer.
    Differs from the paper: there the transfer itself sees luminance only; here the colors of a
      finished picture are replaced, which needs no other network.
    """
    if stylized.shape != original.shape:
        raise InputError(
            f"the stylized picture is {stylized.shape} and the original {original.shape}; "
            "they must have one shape."
        )
    # Adding one number to R, G and B moves Y by that number and leaves U and V alone.
    change = luminance(stylized) - luminance(original)
    return jnp.clip(original + change[..., None], 0, 1)


def _mix(image: Array, matrix: np.ndarray) -> Array:
    if image.shape[-1:] != (3,):
        raise InputError(
            f"an image of shape {image.shape} has no 3 color channels on its last axis; "
            "convert it to RGB."
        )
    # Highest: a GPU's default would round the factors to 11 bits, less than a 16-bit picture has.
    return jnp.matmul(image, matrix.T.astype(image.dtype), precision="highest")
