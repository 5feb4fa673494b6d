"""Objectives that ask something of the pixels, whatever a network sees in them."""

import functools
from collections.abc import Callable

from jaxstyle.losses.objective import Features, Objective, Targets
from jaxstyle.losses.regularization import norm_penalty, range_penalty
from jaxstyle.types import Array, InputError


def pixel_range(*, name: str = "range") -> Objective:
    """Ask for pixels in [0, 1]: the term is `range_penalty`.

    Args:
      name: of its one term.

    Returns:
      An objective without layers or targets; `evaluate` ignores both arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> pixel_range().evaluate(jnp.full((4, 4, 3), 1.5), {}, ())["range"].item()
      0.25
    """
    return _of_pixels(range_penalty, name)


def pixel_norm(p: float = 6, *, name: str = "norm") -> Objective:
    """Ask for pixels near middle gray: the term is `norm_penalty`.

    Args:
      p: at least 1.
      name: of its one term.

    Returns:
      An objective without layers or targets; `evaluate` ignores both arguments.

    Raises:
      InputError: a `p` below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> pixel_norm().evaluate(jnp.ones((4, 4, 3)), {}, ())["norm"].item()
      1.0
    """
    if not p >= 1:
        raise InputError(f"the norm has the power {p}; give at least 1.")
    return _of_pixels(functools.partial(norm_penalty, p=p), name)


def _of_pixels(measure: Callable[[Array], Array], name: str) -> Objective:
    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del features, targets
        return {name: measure(image)}

    return Objective((), lambda references: {}, evaluate)
