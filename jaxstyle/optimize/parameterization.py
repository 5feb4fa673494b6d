"""What the solver moves: pixels, or numbers that pixels are made of."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle.types import Array, unknown_choice

# Sigmoid's ends are at infinity; a white pixel begins this far below 1.
_MARGIN = 1e-3


class Parameterization(NamedTuple):
    """How an image is written in the numbers that are optimized.

    Attributes:
      encode: `[..., h, w, 3]` image in [0, 1] to numbers of any shape.
      decode: numbers to the image that the loss sees.
      project: numbers to the nearest allowed ones, after every step.
    """

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    project: Callable[[Array], Array]


def _same(numbers: Array) -> Array:
    return numbers


def _clip(image: Array) -> Array:
    return jnp.clip(image, 0.0, 1.0)


def _logit(image: Array) -> Array:
    return jax.scipy.special.logit(jnp.clip(image, _MARGIN, 1 - _MARGIN))


_PARAMETERIZATIONS = {
    # Each step ends inside the cube of colors: projected gradient descent, right for Adam.
    "clipped": Parameterization(_same, _same, _clip),
    # Free; the finished image is clipped once, which changes its statistics. What published code
    # does with L-BFGS, whose memory of the curvature a projection would falsify.
    "pixels": Parameterization(_same, _same, _same),
    # Always inside, and smooth, so right for either.
    "sigmoid": Parameterization(_logit, jax.nn.sigmoid, _same),
}
PARAMETERIZATIONS = tuple(_PARAMETERIZATIONS)


def parameterization(name: str) -> Parameterization:
    """Return a parameterization by name.

    Args:
      name: 'clipped' (pixels, clipped to [0, 1] after each step), 'pixels' (never clipped while
        optimizing) or 'sigmoid' (pixels are sigmoids of what is optimized).

    Raises:
      InputError: for an unknown name.

    Example:
      >>> sigmoid = parameterization('sigmoid')
      >>> float(sigmoid.decode(sigmoid.encode(jnp.float32(0.25))))
      0.25
    """
    if name not in _PARAMETERIZATIONS:
        raise unknown_choice("parameterization", name, PARAMETERIZATIONS)
    return _PARAMETERIZATIONS[name]
