"""Regularizers: what is asked of an image whatever its content and style."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxstyle.types import Array, InputError, unknown_choice


def _mean(x: Array) -> Array:
    """Mean over height, width and channels; 0 where a one-pixel side leaves no differences."""
    count = max(x.shape[-3] * x.shape[-2] * x.shape[-1], 1)
    return jnp.sum(x, axis=(-3, -2, -1)) / count


def _sum(x: Array) -> Array:
    return jnp.sum(x, axis=(-3, -2, -1))


def _absolute(x: Array) -> Array:
    """|x| whose derivative at 0 is 0 (that of `jnp.abs` is 1), so flat areas are left alone."""
    return x * jnp.sign(x)


# From the differences to the neighbor below (h - 1 rows) and to the right (w - 1 columns).
VARIATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "mean": lambda down, right: _mean(down**2) + _mean(right**2),
    "l1": lambda down, right: _mean(_absolute(down)) + _mean(_absolute(right)),
    "johnson": lambda down, right: _sum(down**2) + _sum(right**2),
    # Where both neighbors exist, and half the squares: the gradient is the plain differences.
    "johnson_code": lambda down, right: (
        (_sum(down[..., : right.shape[-2], :] ** 2) + _sum(right[..., : down.shape[-3], :, :] ** 2))
        / 2
    ),
}


def variation(image: Array, *, kind: str = "mean", wrap: bool = False) -> Array:
    """Return the total variation: how much neighboring pixels differ.

    Differences are between pixels of the image only, nothing is assumed outside its borders; where
    it wraps, the first row is below the last, and the first column right of the last. With
    `D` those to the pixel below and `R` those to the right:

      'mean': `mean D^2 + mean R^2`, the same for a picture and its repetition at any size.
      'l1': `mean |D| + mean |R|`, gentler to edges.
      'johnson': `sum D^2 + sum R^2`.
      'johnson_code': `1/2 sum (D^2 + R^2)` over the pixels that have both neighbors, which is what
        the released code differentiates.

    Args:
      image: `[..., h, w, c]`, sRGB in [0, 1] or any other range.
      kind: one of the above.
      wrap: whether the image is a tile that continues itself.

    Returns:
      `[...]`, at least float32, one value per image; 0 for a constant or one-pixel image.

    Raises:
      InputError: unknown `kind`, or an image of fewer than three axes.

    Example:
      >>> float(variation(jnp.array([[[0.0], [0.5], [1.0]]])))
      0.25

    References:
      Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution,
      2016, arXiv:1603.08155, section 3.2 (weight 1e-6 to 1e-4); Rudin, Osher, Fatemi, Nonlinear
      Total Variation Based Noise Removal Algorithms, 1992.
    Differs from the paper: Rudin et al. take the length of the gradient, here both directions count
      apart. Johnson et al. have pixels in [0, 255]: for images in [0, 1] their weight is to be
      multiplied by 255^2. Their code, besides, does not divide this term by the batch size as it
      does the others.
    """
    if kind not in VARIATIONS:
        raise unknown_choice("total variation", kind, tuple(VARIATIONS))
    image = _image(image, "variation")
    if wrap:
        down, right = jnp.roll(image, -1, axis=-3) - image, jnp.roll(image, -1, axis=-2) - image
    else:
        down = image[..., 1:, :, :] - image[..., :-1, :, :]
        right = image[..., :, 1:, :] - image[..., :, :-1, :]
    return VARIATIONS[kind](down, right)


def range_penalty(image: Array) -> Array:
    """Return how far an image leaves [0, 1]: the mean squared excess.

    `mean max(x - 1, -x, 0)^2`, 0 and flat inside. For images that are not clipped while they are
    optimized.

    Args:
      image: `[..., h, w, c]`, sRGB, meant for [0, 1].

    Returns:
      `[...]`, at least float32, one value per image.

    Raises:
      InputError: an image of fewer than three axes.

    Example:
      >>> float(range_penalty(jnp.array([[[0.5], [1.5], [-1.0], [1.0]]])))
      0.3125
    """
    image = _image(image, "range penalty")
    return _mean((image - jnp.clip(image, 0.0, 1.0)) ** 2)


def norm_penalty(image: Array, p: float = 6) -> Array:
    """Return how bright or dark an image is: the mean of `|2 x - 1|^p`, 0 for middle gray.

    A large `p` leaves moderate values alone and keeps extreme ones from running away.

    Args:
      image: `[..., h, w, c]`, sRGB in [0, 1], or a little beyond.
      p: at least 1.

    Returns:
      `[...]`, at least float32, one value per image; 1 for black and white.

    Raises:
      InputError: a `p` below 1, or an image of fewer than three axes.

    Example:
      >>> float(norm_penalty(jnp.array([[[0.5], [0.75]]]), p=2))
      0.125

    References:
      Mahendran, Vedaldi, Understanding Deep Image Representations by Inverting Them, 2015,
      arXiv:1412.0035, section 3.1, with `p = 6`.
    Differs from the paper: the mean instead of the sum, of an image centered at middle gray and
      scaled to [-1, 1] instead of its mean subtracted.
    """
    if not p >= 1:
        raise InputError(f"the norm has the power {p}; give at least 1.")
    image = _image(image, "norm penalty")
    return _mean(_absolute(2 * image - 1) ** p)


def _image(image: Array, what: str) -> Array:
    if image.ndim < 3:
        raise InputError(
            f"an image of shape {image.shape} has no {what}; give [..., height, width, channels]."
        )
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))
