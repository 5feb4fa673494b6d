"""Padding of pictures and feature maps by reflection, replication, wrapping or zeros."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstyle.policy import cpu_formulation
from jaxstyle.types import Array, InputError, unknown_choice

MODES = ("reflect", "replicate", "circular", "zero")

_MOST_PLACES = 3  # to gather a pixel's gradient from

Amount = int | tuple[tuple[int, int], tuple[int, int]]


def pad2d(x: Array, amount: Amount, mode: str = "reflect") -> Array:
    """Pad height and width.

    Reflection does not repeat the edge (`dcb|abcd|cba`) and works for any amount: where it
    exceeds the picture it folds back again, and an axis of one pixel is replicated.

    Args:
      x: `[..., h, w, c]`.
      amount: pixels on every side, or `((top, bottom), (left, right))`, all >= 0.
      mode: 'reflect', 'replicate' (nearest edge pixel), 'circular' (wrap around) or 'zero'.

    Returns:
      `[..., top + h + bottom, left + w + right, c]`.

    Raises:
      InputError: for an unknown mode or a negative amount.

    Example:
      >>> pad2d(jnp.arange(3.0).reshape(1, 3, 1), ((0, 0), (2, 2)))[0, :, 0].tolist()
      [2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]
    """
    if mode not in MODES:
        raise unknown_choice("padding mode", mode, MODES)
    vertical, horizontal = (
        amount if isinstance(amount, tuple) else ((int(amount), int(amount)),) * 2
    )
    if min(*vertical, *horizontal) < 0:
        raise InputError(f"the padding is {amount}; give 0 or more pixels on every side.")
    if mode == "zero":
        widths = [(0, 0)] * (x.ndim - 3) + [vertical, horizontal, (0, 0)]
        return jnp.pad(x, widths)
    return _pad_axis(_pad_axis(x, -3, vertical, mode), -2, horizontal, mode)


def _pad_axis(x: Array, axis: int, widths: tuple[int, int], mode: str) -> Array:
    if widths == (0, 0):
        return x
    size = x.shape[axis]
    index = _folded_indices(size, widths, mode)
    if cpu_formulation() and np.bincount(index).max() <= _MOST_PLACES:
        return _show(x, axis, widths[0], tuple(index.tolist()))
    simple = {"reflect": size > max(widths), "replicate": True, "circular": size >= max(widths)}
    if simple[mode]:
        names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        full = [(0, 0)] * x.ndim
        full[axis] = widths
        return jnp.pad(x, full, mode=names[mode])
    return jnp.take(x, index, axis=axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _show(x: Array, axis: int, before: int, index: tuple[int, ...]) -> Array:
    """Take the pixels `index` along an axis: the whole map, in order, after `before` others.

    On a CPU this takes half the time of joining the map to its borders. So does its gradient,
    where each pixel gathers the cotangents of the few places that show it, instead of adding the
    borders to a map of zeros one after the other.
    """
    return jnp.take(x, np.array(index), axis=axis, mode="clip")


def _show_forward(
    x: Array, axis: int, before: int, index: tuple[int, ...]
) -> tuple[Array, tuple[()]]:
    return _show(x, axis, before, index), ()


def _show_backward(
    axis: int, before: int, index: tuple[int, ...], saved: tuple[()], g: Array
) -> tuple[Array]:
    size = max(index) + 1
    pixels = np.array(index)
    pixels[before : before + size] = -1  # the map itself; what is left are its mirror images
    total = lax.slice_in_dim(g, before, before + size, axis=axis % g.ndim)
    column = (size, *(1,) * (-1 - axis))
    while (pixels >= 0).any():
        shown, place = np.unique(pixels, return_index=True)
        shown, place = shown[shown >= 0], place[shown >= 0]
        pixels[place] = -1
        source, used = np.arange(size) + before, np.zeros(size, bool)
        source[shown], used[shown] = place, True
        more = jnp.take(g, source, axis=axis, mode="clip")
        total += jnp.where(used.reshape((1,) * (g.ndim - len(column)) + column), more, 0)
    return (total,)


_show.defvjp(_show_forward, _show_backward)


def _folded_indices(size: int, widths: tuple[int, int], mode: str) -> np.ndarray:
    """Indices into an axis of `size` for a map that is padded."""
    index = np.arange(-widths[0], size + widths[1])
    if mode == "circular":
        return index % size
    if mode == "replicate":
        return np.clip(index, 0, size - 1)
    period = max(2 * (size - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
