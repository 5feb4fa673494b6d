"""Gram matrices: how strongly each pair of feature channels is active in the same places."""

import functools

import jax
import jax.numpy as jnp

from jaxstyle.policy import cpu_formulation, product_precision
from jaxstyle.types import Array, InputError, unknown_choice

# What the sum over positions is divided by, given the numbers of positions and channels.
_DIVISORS = {
    "positions": lambda positions, channels: positions,
    "elements": lambda positions, channels: positions * channels,
    "none": lambda positions, channels: 1,
}


def gram(features: Array, *, normalize: str = "positions") -> Array:
    """Return the Gram matrix `G[i, j] = sum over positions of F[i] F[j]`, normalized.

    Args:
      features: `[..., h, w, c]`, feature maps of any range.
      normalize: 'positions' divides by `h w`, so that pictures of different sizes compare;
        'elements' by `h w c` (Johnson et al. 2016); 'none' by nothing (Gatys et al. 2016).

    Returns:
      `[..., c, c]`, symmetric; at least float32, also of half-precision features, whose products
      are summed in float32.

    Raises:
      InputError: unknown `normalize`, or features that are not floating-point `[..., h, w, c]`.

    Example:
      >>> gram(jnp.array([[[1.0, 2.0], [3.0, 0.0]]])).tolist()
      [[5.0, 1.0], [1.0, 2.0]]

    References:
      Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
      eq. 3; Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer and
      Super-Resolution, 2016, arXiv:1603.08155, eq. 3.
    Differs from the paper: Gatys et al. leave the matrix unnormalized; 'positions' is the default
      because the two pictures that are compared rarely have one size.
    """
    if normalize not in _DIVISORS:
        raise unknown_choice("Gram normalization", normalize, tuple(_DIVISORS))
    samples = flatten_positions(features)
    positions, channels = samples.shape[-2:]
    return position_products(features) / _DIVISORS[normalize](positions, channels)


def position_products(features: Array) -> Array:
    """Return the products of channels, summed over all positions.

    On a GPU or TPU, and wherever else the plain formulation is in force, over height and width as
    they are: as one list of positions, rows that are divided among devices would be gathered.

    Args:
      features: `[..., h, w, c]`.

    Returns:
      `[..., c, c]`, as `channel_products`.

    Example:
      >>> position_products(jnp.array([[[1.0, 2.0], [3.0, 0.0]]])).tolist()
      [[10.0, 2.0], [2.0, 4.0]]
    """
    if cpu_formulation():
        return channel_products(flatten_positions(features))
    return channel_products(features, 2)


def flatten_positions(features: Array) -> Array:
    """Reshape `[..., h, w, c]` to the list of its positions `[..., h w, c]`, checking it.

    Args:
      features: `[..., h, w, c]`.

    Returns:
      `[..., h w, c]`.

    Raises:
      InputError: fewer than three axes, an axis of size 0, or values that are not floating-point.

    Example:
      >>> flatten_positions(jnp.zeros((5, 2, 3, 4))).shape
      (5, 6, 4)
    """
    if features.ndim < 3 or 0 in features.shape[-3:]:
        raise InputError(
            f"features of shape {features.shape} have no statistics; "
            "give [..., height, width, channels], each at least 1."
        )
    if not jnp.issubdtype(features.dtype, jnp.floating):
        raise InputError(f"features are {features.dtype}; convert them to float32.")
    *lead, height, width, channels = features.shape
    return features.reshape(*lead, height * width, channels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def channel_products(samples: Array, axes: int = 1) -> Array:
    """Return `samples^T samples`, with a gradient that is one matrix product.

    Automatic differentiation makes two products of this, one of them in a layout that a CPU runs
    slowly: twice to four times the time, measured. First-order reverse and any order of
    reverse-over-reverse work; forward mode does not.

    Args:
      samples: `[..., n, c]`, floating-point; `[..., h, w, c]` with two axes of positions.
      axes: of positions, 1 or 2.

    Returns:
      `[..., c, c]`, summed in and of at least float32.

    Example:
      >>> channel_products(jnp.array([[1.0, 2.0], [3.0, 0.0]])).tolist()
      [[10.0, 2.0], [2.0, 4.0]]
    """
    dtype = jnp.promote_types(samples.dtype, jnp.float32)
    return jnp.einsum(
        "...ni,...nj->...ij" if axes == 1 else "...nmi,...nmj->...ij",
        samples,
        samples,
        preferred_element_type=dtype,
        precision=product_precision(samples.dtype),
    )


def _channel_products_forward(samples: Array, axes: int) -> tuple[Array, Array]:
    return channel_products(samples, axes), samples


def _channel_products_backward(axes: int, samples: Array, cotangent: Array) -> tuple[Array]:
    symmetric = cotangent + jnp.swapaxes(cotangent, -1, -2)
    if axes == 2 and symmetric.ndim > 2:
        symmetric = symmetric[..., None, :, :]
    # In the products' dtype: a half-precision cotangent of a sum over an image can overflow.
    wide = samples.astype(symmetric.dtype)
    gradient = jnp.matmul(wide, symmetric, precision=product_precision(samples.dtype))
    return (gradient.astype(samples.dtype),)


channel_products.defvjp(_channel_products_forward, _channel_products_backward)
