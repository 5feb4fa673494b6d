"""Two-by-two pooling without `reduce_window`.

`reduce_window` is slow backward on a CPU, and its gradient (select-and-scatter) has no
deterministic form on a GPU. Four strided views and an elementwise maximum have neither problem.
"""

import jax.numpy as jnp

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
    a, b, c, d = (x[..., i:height:2, j:width:2, :] for i in (0, 1) for j in (0, 1))
    if mode == "max":
        return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    if mode == "average":
        return (a + b + c + d) * 0.25
    raise unknown_choice("pooling", mode, MODES)
