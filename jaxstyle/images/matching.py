"""Give a picture the colors of another one: by mean and covariance, by histogram, by brightness.

Before a style transfer these recolor the style to the content's colors (or the reverse), after it
they recolor the result. All work on the gamma-coded sRGB values that files hold, all leave a
picture's size alone, and the two pictures need not have one size.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstyle.images.color import luminance
from jaxstyle.types import Array, InputError, unknown_choice

_FLAT = 1e-3  # deviation of a picture without contrast: a quarter of a step of an 8-bit file


def match_colors(
    image: Array, reference: Array, *, mode: str = "pca", epsilon: float = 1e-5
) -> Array:
    """Recolor by the linear map that gives a picture the reference's mean color and covariance.

    Each pixel `p` becomes `A (p - mean) + mean of the reference`, with `A S A^T = R` for the
    covariances `S` of the picture and `R` of the reference, over positions. There are many such
    `A`, the three modes:

      'cholesky'   `L_R L_S^-1` with the lower triangular factors
      'pca'        `R^1/2 S^-1/2`
      'symmetric'  `S^-1/2 (S^1/2 R S^1/2)^1/2 S^-1/2`

    'symmetric' moves the colors least: it is the optimal transport between Gaussians. 'pca' is
    close to it as a rule. 'cholesky' depends on the order of red, green and blue.

    Args:
      image: `[..., h, w, 3]`, sRGB in [0, 1], floating-point.
      reference: `[..., h', w', 3]`, of the same kind and any size; leading axes broadcast, so one
        reference serves a batch.
      mode: see above.
      epsilon: variance added to every color of both pictures, > 0, so that the map stays finite for
        gray and constant pictures. The result's covariance is off by about this much.

    Returns:
      `[..., h, w, 3]`, of the image's dtype, sRGB but **not clipped** to [0, 1]: clip it yourself.
      A constant picture becomes the reference's mean color. Gradients are undefined where
      eigenvalues are equal.

    Raises:
      InputError: unknown mode, an epsilon that is not positive, pictures that are not
        floating-point with 3 channels, or leading axes that do not broadcast.

    Example:
      >>> blue = jnp.array([[[0.1, 0.1, 0.4], [0.3, 0.3, 0.6]]])
      >>> red = jnp.array([[[0.4, 0.1, 0.1], [0.6, 0.3, 0.3]]])
      >>> [round(v, 2) for v in match_colors(blue, red).ravel().tolist()]
      [0.4, 0.1, 0.1, 0.6, 0.3, 0.3]

    References:
      Gatys, Bethge, Hertzmann, Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016,
      arXiv:1606.05897, color histogram matching; Hertzmann, Algorithms for Rendering in Artistic
      Styles, PhD thesis, New York University, 2001 ('pca'); Pitie, Kokaram, The Linear
      Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour Transfer, 2007
      ('symmetric').
    Differs from the paper: 'symmetric' is from its authors' code, which also clips.
    """
    if mode not in _MAPS:
        raise unknown_choice("color matching", mode, tuple(_MAPS))
    if isinstance(epsilon, int | float) and not 0 < epsilon < math.inf:
        raise InputError(f"the epsilon of color matching is {epsilon}; give a small number > 0.")
    lead = _check(image, reference)
    mean, covariance = _moments(image, epsilon)
    other_mean, other_covariance = _moments(reference, epsilon)
    # One reference for many pictures gets its copies here, where they are small.
    covariances = (jnp.broadcast_to(c, (*lead, 3, 3)) for c in (covariance, other_covariance))
    mapping = _MAPS[mode](*covariances)
    centered = jnp.broadcast_to(image, (*lead, *image.shape[-3:])) - _per_pixel(mean, lead)
    moved = jnp.einsum("...ij,...hwj->...hwi", mapping, centered, precision="highest")
    return (moved + _per_pixel(other_mean, lead)).astype(image.dtype)


def _moments(image: Array, epsilon: float) -> tuple[Array, Array]:
    """Return the mean color `[..., 3]` and the covariance, plus epsilon, `[..., 3, 3]`."""
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    height, width, _ = image.shape[-3:]
    mean = jnp.mean(image, axis=(-3, -2))
    centered = image - mean[..., None, None, :]
    products = jnp.einsum("...hwi,...hwj->...ij", centered, centered, precision="highest")
    floor = jnp.broadcast_to(epsilon * np.eye(3, dtype=mean.dtype), products.shape)
    return mean, products / (height * width) + floor


def _per_pixel(color: Array, lead: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(color, (*lead, 3))[..., None, None, :]


def _cholesky_map(own: Array, other: Array) -> Array:
    own, other = jnp.linalg.cholesky(own), jnp.linalg.cholesky(other)
    return lax.linalg.triangular_solve(own, other, left_side=False, lower=True)


def _pca_map(own: Array, other: Array) -> Array:
    return _product(_power(other, 0.5), _power(own, -0.5))


def _symmetric_map(own: Array, other: Array) -> Array:
    # With R^1/2 S^1/2 = U D V^T, the root in the middle is V D V^T = V U^T R^1/2 S^1/2. Taken from
    # its square, as written in the docstring, it would have half the digits.
    root = _power(other, 0.5)
    u, _, vt = jnp.linalg.svd(_product(root, _power(own, 0.5)))
    return _product(_power(own, -0.5), jnp.swapaxes(_product(u, vt), -1, -2), root)


_MAPS = {"cholesky": _cholesky_map, "pca": _pca_map, "symmetric": _symmetric_map}


def _power(matrix: Array, exponent: float) -> Array:
    """Return a power of symmetric positive definite matrices `[..., 3, 3]`."""
    values, vectors = jnp.linalg.eigh(matrix)
    # The least ones can come out negative by a rounding of the greatest.
    values = jnp.maximum(values, jnp.finfo(values.dtype).eps * values[..., -1:])
    return _product(vectors * (values**exponent)[..., None, :], jnp.swapaxes(vectors, -1, -2))


def _product(*matrices: Array) -> Array:
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def match_histograms(image: Array, reference: Array) -> Array:
    """Give red, green and blue the reference's histogram each, by the ranks of their values.

    In each channel the darkest pixel gets the darkest value of the reference, and so on up. With as
    many pixels in both, the result's values are exactly the reference's in another order;
    otherwise the pixel at the fraction `u = (rank + 1/2) / pixels` of the order gets the
    reference's value there, interpolated linearly between the pixels of the reference.

    Args:
      image: `[..., h, w, 3]`, sRGB in [0, 1], floating-point.
      reference: `[..., h', w', 3]`, of the same kind and any size; leading axes broadcast, so one
        reference serves a batch.

    Returns:
      `[..., h, w, 3]`, of the image's dtype, within the reference's range. Of two pixels the
      brighter one in a channel stays the brighter or becomes equal; equal ones, which the exact
      histogram may tear apart, are ranked from top left to bottom right.

    Raises:
      InputError: pictures that are not floating-point with 3 channels, or leading axes that do not
        broadcast.

    Example:
      >>> image = jnp.array([0.5, 0.1, 0.3]).reshape(1, 3, 1) * jnp.ones(3).reshape(1, 1, 3)
      >>> reference = jnp.array([0.0, 0.25, 1.0]).reshape(3, 1, 1) * jnp.ones(3).reshape(1, 1, 3)
      >>> match_histograms(image, reference)[0, :, 0].tolist()
      [1.0, 0.0, 0.25]

    References:
      Gonzalez, Woods, Digital Image Processing, 2008, section 3.3.2, of which this is the form
      without bins.
    """
    lead = _check(image, reference)
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    values, others = _channels(image.astype(dtype)), _channels(reference.astype(dtype))
    # Stable, so that equal pixels have one order on every device.
    order = jnp.argsort(values, axis=-1, stable=True)
    quantiles = _quantiles(jnp.sort(others, axis=-1), values.shape[-1])
    shape = (*lead, 3, values.shape[-1])
    matched = jax.vmap(_put)(
        jnp.broadcast_to(order, shape).reshape(-1, shape[-1]),
        jnp.broadcast_to(quantiles, shape).reshape(-1, shape[-1]),
    )
    matched = jnp.moveaxis(matched.reshape(shape), -2, -1)
    return matched.reshape(*lead, *image.shape[-3:]).astype(image.dtype)


def _channels(image: Array) -> Array:
    """Return the values of each channel in one row, `[..., 3, h w]`."""
    return jnp.moveaxis(image, -1, -3).reshape(*image.shape[:-3], 3, -1)


def _put(order: Array, values: Array) -> Array:
    return jnp.zeros_like(values).at[order].set(values, unique_indices=True)


def _quantiles(ordered: Array, count: int) -> Array:
    """Return the values at the midpoints of `count` equal parts of ordered ones `[..., n]`."""
    size = ordered.shape[-1]
    if size == count:
        return ordered
    # Counted in the graph: for a large picture a table would be larger than the program. From 2^23
    # pixels on this is off by a rank or two, in order all the same.
    place = (jnp.arange(count, dtype=ordered.dtype) + 0.5) * (size / count) - 0.5
    place = jnp.clip(place, 0, size - 1)
    below = jnp.floor(place)
    fraction = place - below
    index = jnp.minimum(below.astype(jnp.int32), size - 1)
    low = jnp.take(ordered, index, axis=-1, mode="clip")
    high = jnp.take(ordered, index + 1, axis=-1, mode="clip")
    fraction = jnp.broadcast_to(fraction, low.shape)
    return (1 - fraction) * low + fraction * high


def luminance_picture(image: Array) -> Array:
    """Return a picture in shades of gray: its luminance as red, green and blue.

    Args:
      image: `[..., h, w, 3]`, sRGB in [0, 1].

    Returns:
      `[..., h, w, 3]` in [0, 1], of the image's dtype.

    Raises:
      InputError: the last axis does not hold 3 channels.

    Example:
      >>> [round(v, 3) for v in luminance_picture(jnp.array([[[0.0, 1.0, 0.0]]]))[0, 0].tolist()]
      [0.587, 0.587, 0.587]
    """
    gray = luminance(image)
    return jnp.stack([gray] * 3, axis=-1)


def match_luminance(style: Array, content: Array, *, scale: bool = True) -> Array:
    """Return the style in shades of gray, as light and as rich in contrast as the content.

    This prepares a luminance-only transfer: transfer this to `luminance_picture(content)`, then
    give the result the content's colors with `transfer_luminance(result, content)`. With `Y` the
    luminance, `mu` and `sigma` its mean and standard deviation over positions:

      `sigma_content / sigma_style * (Y_style - mu_style) + mu_content`

    Args:
      style: `[..., h, w, 3]`, sRGB in [0, 1], floating-point.
      content: `[..., h', w', 3]`, of the same kind and any size; leading axes broadcast.
      scale: whether to match the deviation too; False only shifts. A style without contrast
        (deviation below 0.001) gets none.

    Returns:
      `[..., h, w, 3]` of the style's size and dtype, three equal channels, **not clipped** to
      [0, 1].

    Raises:
      InputError: pictures that are not floating-point with 3 channels, or leading axes that do not
        broadcast.

    Example:
      >>> style = jnp.array([0.0, 0.2]).reshape(1, 2, 1) * jnp.ones(3).reshape(1, 1, 3)
      >>> content = jnp.array([0.4, 0.8]).reshape(1, 2, 1) * jnp.ones(3).reshape(1, 1, 3)
      >>> [round(v, 2) for v in match_luminance(style, content)[0, :, 0].tolist()]
      [0.4, 0.8]
      >>> [round(float(v), 2) for v in match_luminance(style, content, scale=False)[0, :, 0]]
      [0.5, 0.7]

    References:
      Gatys, Bethge, Hertzmann, Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016,
      arXiv:1606.05897, luminance-only transfer.
    Differs from the paper: nothing with `scale`; its authors' code shifts only, and clips.
    """
    lead = _check(style, content)
    gray, other = (_luminance_in_float32(picture) for picture in (style, content))
    mean, deviation = _light_and_contrast(gray, lead)
    other_mean, other_deviation = _light_and_contrast(other, lead)
    centered = jnp.broadcast_to(gray, (*lead, *gray.shape[-2:])) - mean
    if scale:
        centered *= other_deviation / jnp.maximum(deviation, _FLAT)
    matched = (centered + other_mean).astype(style.dtype)
    return jnp.stack([matched] * 3, axis=-1)


def _luminance_in_float32(picture: Array) -> Array:
    return luminance(picture.astype(jnp.promote_types(picture.dtype, jnp.float32)))


def _light_and_contrast(gray: Array, lead: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of `[..., h, w]`, `[*lead, 1, 1]` each."""
    mean, deviation = jnp.mean(gray, axis=(-2, -1)), jnp.std(gray, axis=(-2, -1))
    mean, deviation = (jnp.broadcast_to(value, lead) for value in (mean, deviation))
    return mean[..., None, None], deviation[..., None, None]


def _check(image: Array, reference: Array) -> tuple[int, ...]:
    """Refuse what are not two pictures; return the leading axes of both together."""
    for picture in (image, reference):
        if picture.ndim < 3 or picture.shape[-1] != 3 or 0 in picture.shape[-3:-1]:
            raise InputError(
                "a picture has the shape [..., height, width, 3], but this one is "
                f"{picture.shape}; convert it to RGB."
            )
        if not jnp.issubdtype(picture.dtype, jnp.floating):
            raise InputError(f"a picture holds {picture.dtype}; convert it to float32 in [0, 1].")
    try:
        return np.broadcast_shapes(image.shape[:-3], reference.shape[:-3])
    except ValueError:
        raise InputError(
            f"pictures of {image.shape} cannot be matched with references of {reference.shape}; "
            "give one reference, or one for each picture."
        ) from None
