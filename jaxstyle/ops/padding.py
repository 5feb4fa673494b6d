"""Padding of pictures and feature maps by reflection, replication, wrapping or zeros."""

import jax.numpy as jnp
import numpy as np

from jaxstyle.types import Array, unknown_choice

MODES = ("reflect", "replicate", "circular", "zero")

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
      InputError: for an unknown mode.

    Example:
      >>> pad2d(jnp.arange(3.0).reshape(1, 3, 1), ((0, 0), (2, 2)))[0, :, 0].tolist()
      [2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]
    """
    if mode not in MODES:
        raise unknown_choice("padding mode", mode, MODES)
    vertical, horizontal = ((amount, amount),) * 2 if isinstance(amount, int) else amount
    if mode == "zero":
        widths = [(0, 0)] * (x.ndim - 3) + [vertical, horizontal, (0, 0)]
        return jnp.pad(x, widths)
    return _pad_axis(_pad_axis(x, -3, vertical, mode), -2, horizontal, mode)


def _pad_axis(x: Array, axis: int, widths: tuple[int, int], mode: str) -> Array:
    if widths == (0, 0):
        return x
    size = x.shape[axis]
    simple = {"reflect": size > max(widths), "replicate": True, "circular": size >= max(widths)}
    if simple[mode]:
        names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        full = [(0, 0)] * x.ndim
        full[axis] = widths
        return jnp.pad(x, full, mode=names[mode])
    return jnp.take(x, _folded_indices(size, widths, mode), axis=axis)


def _folded_indices(size: int, widths: tuple[int, int], mode: str) -> np.ndarray:
    """Indices into an axis of `size` for padding that reaches beyond it."""
    index = np.arange(-widths[0], size + widths[1])
    if mode == "circular":
        return index % size
    period = max(2 * (size - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
