"""From coarse to fine: sizes, and an optimization that goes on at another size."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxstyle import ops
from jaxstyle.images import resize
from jaxstyle.optimize.parameterization import parameterization
from jaxstyle.optimize.solver import Solver, State, picture, start
from jaxstyle.types import Array, InputError


def scales(largest: int, smallest: int, ratio: float = math.sqrt(2)) -> tuple[int, ...]:
    """Return the sizes of a coarse-to-fine run.

    Args:
      largest: the last one.
      smallest: none is below it, except the last if that is.
      ratio: of one to the one before, above 1.

    Returns:
      Sizes that grow, `largest / ratio^i` rounded.

    Raises:
      InputError: sizes below 1, or a ratio that is not above 1.

    Example:
      >>> scales(512, 128)
      (128, 181, 256, 362, 512)

    References:
      Crowson, `style-transfer-pytorch`, 2020-2022 (code, MIT license).
    """
    if min(largest, smallest) < 1:
        raise InputError(f"sizes from {smallest} to {largest}; give at least 1.")
    if not 1.01 <= ratio < math.inf:
        raise InputError(f"the ratio of scales is {ratio}; give one above 1, such as 1.414.")
    sizes = [largest]
    while (size := round(largest / ratio ** len(sizes))) >= smallest:
        sizes.append(size)
    return tuple(dict.fromkeys(reversed(sizes)))


def rescaled(state: State, size: tuple[int, int], solver: Solver, *, margin: int = 0) -> State:
    """Begin at another size where an optimization stands.

    The picture as it stands (the average, where the solver takes one) is resampled. What Adam knows
    goes along: the mean of the gradients like a picture, that of their squares linearly and never
    below 0, and the number of its steps. Of L-BFGS nothing does, since its pairs belong to another
    function; schedules begin anew.

    Args:
      state: `[h, w, 3]`; for a batch, `jax.vmap` this.
      size: new height and width (static), without the margin.
      solver: as given to `start`.
      margin: pixels around the picture, the same in both sizes; made anew by reflection.

    Returns:
      The state at step 0 of the next scale.

    Example:
      >>> solver = Solver(optax.adam(0.1))
      >>> rescaled(start(jnp.zeros((4, 6, 3)), solver), (6, 9), solver).numbers.shape
      (6, 9, 3)

    References:
      Crowson, `style-transfer-pytorch`, 2020-2022 (code, MIT license).
    """

    def moved(x: Array, method: str) -> Array:
        height, width = x.shape[-3] - 2 * margin, x.shape[-2] - 2 * margin
        inner = x[..., margin : margin + height, margin : margin + width, :]
        return ops.pad2d(resize(inner, size, method), margin, "reflect")

    image = jnp.clip(moved(picture(state, solver), "cubic"), 0.0, 1.0)
    begun = start(image, solver)

    def carried(old: Any, new: Any) -> Any:
        if not isinstance(old, optax.ScaleByAdamState):
            return new
        squares = jnp.maximum(moved(old.nu, "linear"), 0.0)
        return old._replace(mu=moved(old.mu, "cubic"), nu=squares)

    def is_adam(part: Any) -> bool:
        return isinstance(part, optax.ScaleByAdamState)

    kept = jax.tree.map(carried, state.solver, begun.solver, is_leaf=is_adam)
    numbers = parameterization(solver.parameters).project(begun.numbers)
    return dataclasses.replace(begun, numbers=numbers, solver=kept)
