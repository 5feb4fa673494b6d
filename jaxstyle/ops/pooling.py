"""Two-by-two pooling without `reduce_window`.

`reduce_window` is slow backward on a CPU, and its gradient (select-and-scatter) has no
deterministic form on a GPU. Four strided views and an elementwise maximum have neither problem.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxstyle.policy import cpu_formulation
from jaxstyle.types import Array, InputError, unknown_choice

MODES = ("max", "average")


def pool2d(x: Array, mode: str = "max") -> Array:
    """Pool 2x2 windows with stride 2; an odd last row or column is dropped.

    Where several entries of a window are equal to the maximum, they share its gradient.

    Args:
      x: `[..., h, w, c]` with both sides at least 2.
      mode: 'max' or 'average'.

    Returns:
      `[..., h // 2, w // 2, c]`.

    Raises:
      InputError: for an unknown mode, or a side below 2.

    Example:
      >>> pool2d(jnp.arange(4.0).reshape(2, 2, 1)).tolist()
      [[[3.0]]]
    """
    height, width = x.shape[-3] // 2 * 2, x.shape[-2] // 2 * 2
    if not height or not width:
        raise InputError(
            f"pooling needs both sides >= 2, but the map is {x.shape[-3]}x{x.shape[-2]}; "
            "use a larger picture or shallower layers."
        )
    if mode == "max":
        return _largest_cpu(x) if cpu_formulation() else _largest(x)
    if mode == "average":
        a, b, c, d = _corners(x)
        return (a + b + c + d) * 0.25
    raise unknown_choice("pooling", mode, MODES)


def _corners(x: Array) -> tuple[Array, ...]:
    """The windows' four pixels, each as a map of half the size."""
    height, width = x.shape[-3] // 2 * 2, x.shape[-2] // 2 * 2
    return tuple(x[..., i:height:2, j:width:2, :] for i in (0, 1) for j in (0, 1))


def _largest(x: Array) -> Array:
    a, b, c, d = _corners(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


@jax.custom_vjp
def _largest_cpu(x: Array) -> Array:
    """The same with a gradient that is computed apart from where its cotangent comes from.

    A CPU's compiler makes one loop of both, which computes a window's cotangent anew for each of
    its four pixels.
    """
    return _largest(x)


def _largest_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = _largest(x)
    return largest, (x, largest)


def _largest_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array]:
    x, largest = saved
    *lead, height, width, channels = x.shape
    h, w = height // 2, width // 2
    equal = sum((corner == largest).astype(g.dtype) for corner in _corners(x))
    share = lax.optimization_barrier(g / equal)
    windows = x[..., : 2 * h, : 2 * w, :].reshape(*lead, h, 2, w, 2, channels)

    def around(y: Array) -> Array:
        return y.reshape(*lead, h, 1, w, 1, channels)

    by_x = jnp.where(windows == around(largest), around(share), 0)
    by_x = by_x.reshape(*lead, 2 * h, 2 * w, channels)
    ends = [(0, 0)] * len(lead) + [(0, height - 2 * h), (0, width - 2 * w), (0, 0)]
    return (jnp.pad(by_x, ends),)


_largest_cpu.defvjp(_largest_forward, _largest_backward)
