"""Distances between two statistics, one value per image, absolute or relative to a target."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.types import Array, InputError

# The least mean square of a target that a relative distance divides by: root mean square 1e-6.
# Real feature maps are far above it; a target of exact zeros gets a large finite value, not NaN.
FLOOR = 1e-12


def squared_distance(value: Array, target: Array, *, axes: int) -> Array:
    """Return the sum of `(value - target)^2` over the last axes.

    Args:
      value: `[..., *shape]` with `len(shape) == axes`, any range.
      target: `[..., *shape]`; leading axes broadcast against the value's from the right, so a
        target without any serves every image.
      axes: how many last axes make one statistic.

    Returns:
      `[...]`, at least float32.

    Raises:
      InputError: the last axes differ, or the leading ones do not broadcast.

    Example:
      >>> squared_distance(jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.ones(2), axes=1).tolist()
      [1.0, 2.0]
    """
    value, target = _align(value, target, axes)
    return _sum_of_squares(value - target, axes)


def relative_distance(value: Array, target: Array, *, axes: int) -> Array:
    """Return the squared distance divided by the target's own energy, the sum of its squares.

    Does not change when value and target are scaled by one factor: 0 is equality, 1 is as far as a
    value of zero is. The energy is taken to be at least `FLOOR` times the number of entries, so a
    target of zeros gives a finite value and gradient.

    Args:
      value: `[..., *shape]` with `len(shape) == axes`, any range.
      target: `[..., *shape]`; broadcasts as in `squared_distance`.
      axes: how many last axes make one statistic.

    Returns:
      `[...]`, at least float32.

    Raises:
      InputError: the last axes differ, or the leading ones do not broadcast.

    Example:
      >>> float(relative_distance(jnp.array([3.0, 0.0]), jnp.array([2.0, 0.0]), axes=1))
      0.25
    """
    value, target = _align(value, target, axes)
    least = FLOOR * math.prod(target.shape[-axes:])
    energy = jnp.maximum(_sum_of_squares(target, axes), least)
    return _sum_of_squares(value - target, axes) / energy


def _sum_of_squares(x: Array, axes: int) -> Array:
    return jnp.sum(jnp.square(x), axis=tuple(range(-axes, 0)))


def _align(value: Array, target: Array, axes: int) -> tuple[Array, Array]:
    """Bring both to one dtype and one rank; size-1 leading axes are left to broadcasting."""
    value, target = jnp.asarray(value), jnp.asarray(target)
    if min(value.ndim, target.ndim) < axes or value.shape[-axes:] != target.shape[-axes:]:
        raise InputError(
            f"{value.shape} cannot be compared with a target of {target.shape}: the last {axes} "
            "axes must be equal; take both from one layer, and positions from images of one size."
        )
    try:
        np.broadcast_shapes(value.shape, target.shape)
    except ValueError:
        raise InputError(
            f"{value.shape} cannot be compared with targets of {target.shape}: give one target, "
            "or one for each image."
        ) from None
    dtype = jnp.promote_types(jnp.promote_types(value.dtype, target.dtype), jnp.float32)
    rank = max(value.ndim, target.ndim)
    return _with_rank(value, rank).astype(dtype), _with_rank(target, rank).astype(dtype)


def _with_rank(x: Array, rank: int) -> Array:
    return jax.lax.expand_dims(x, range(rank - x.ndim))
