"""Optimizers of pictures, by name."""

import functools
import math
import numbers
from typing import Any

import optax

from jaxstyle.optimize.lbfgs import scale_by_lbfgs
from jaxstyle.optimize.parameterization import parameterization
from jaxstyle.optimize.solver import Solver
from jaxstyle.types import Array, InputError, unknown_choice

OPTIMIZERS = ("adam", "lbfgs")
LINE_SEARCHES = ("zoom", "none")
SCHEDULES = ("constant", "cosine")

# Of a step of L-BFGS that no line search shortens: root mean square, in pixels (or logits).
_LONGEST = 0.25
_ZOOM_STEPS = 20  # evaluations at most, in the search along one direction


@functools.lru_cache(maxsize=64)  # the same solver for the same words, so that programs are found
def solver(
    optimizer: str = "adam",
    *,
    learning_rate: float = 0.02,
    schedule: str = "constant",
    steps: int = 1,
    decay: tuple[float, float] = (0.9, 0.999),
    memory: int = 20,
    line_search: str = "none",
    parameters: str = "",
    average: float = 0.0,
    tolerance: float = 0.0,
) -> Solver:
    """Return a solver by names and numbers.

    Args:
      optimizer: 'adam' or 'lbfgs'.
      learning_rate: of Adam, for pixels in [0, 1]; for L-BFGS the length of its steps relative to
        the quasi-Newton step, 1 as a rule.
      schedule: of Adam's learning rate: 'constant', or 'cosine', down to 0 at the last step.
      steps: of the whole run, for the schedule.
      decay: Adam's b1 and b2.
      memory: pairs of vectors that L-BFGS keeps, each two pictures large.
      line_search: of L-BFGS: 'none' evaluates the loss once a step, as PyTorch does by default;
        'zoom' looks for a point that satisfies the strong Wolfe conditions.
      parameters: see `parameterization`; '' is 'clipped' for Adam and 'sigmoid' for L-BFGS.
      average: see `Solver`.
      tolerance: see `Solver`.

    Raises:
      InputError: an unknown name, or a number out of its range.

    Example:
      >>> solver('lbfgs', learning_rate=1.0).parameters
      'sigmoid'

    References:
      Kingma, Ba, Adam, 2015. Liu, Nocedal, On the limited memory BFGS method, 1989.
    """
    if optimizer not in OPTIMIZERS:
        raise unknown_choice("optimizer", optimizer, OPTIMIZERS)
    if schedule not in SCHEDULES:
        raise unknown_choice("schedule", schedule, SCHEDULES)
    if line_search not in LINE_SEARCHES:
        raise unknown_choice("line search", line_search, LINE_SEARCHES)
    if not 0 < learning_rate < math.inf:
        raise InputError(
            f"the learning rate is {learning_rate}; choose one above 0, such as 0.02 for Adam or 1 "
            "for L-BFGS."
        )
    if len(decay) != 2:
        raise InputError(f"Adam's decay is {decay}; give b1 and b2, such as (0.9, 0.999).")
    shares = {"average": average, "tolerance": tolerance}
    shares |= {"Adam's b1": decay[0], "Adam's b2": decay[1]}
    for name, share in shares.items():
        if not (isinstance(share, numbers.Real) and 0 <= share < 1):
            raise InputError(f"{name} is {share}; it must be from 0 to below 1.")
    if memory < 1:
        raise InputError(f"memory is {memory}; L-BFGS keeps at least 1 pair of vectors.")
    parameters = parameters or {"adam": "clipped", "lbfgs": "sigmoid"}[optimizer]
    parameterization(parameters)
    search = optimizer == "lbfgs" and line_search == "zoom"
    if optimizer == "adam":
        chain = _adam(learning_rate, schedule, steps, decay)
    else:
        chain = _lbfgs(learning_rate, memory, search)
    return Solver(chain, search, parameters, average, tolerance)


def with_rate(
    fixed: Solver,
    rate: Array | float,
    optimizer: str,
    *,
    schedule: str = "constant",
    steps: int = 1,
    decay: tuple[float, float] = (0.9, 0.999),
    memory: int = 20,
    **others: Any,
) -> Solver:
    """Return a solver with another learning rate, which may be traced: one program for all rates.

    Args:
      fixed: what `solver` returned for these words.
      rate: float32 scalar; not checked.
      optimizer: as given to `solver`.
      schedule: likewise.
      steps: likewise.
      decay: likewise.
      memory: likewise.
      **others: of `solver`'s words those that have nothing to do with the rate.

    Example:
      >>> words = {"optimizer": "adam", "parameters": "pixels"}
      >>> with_rate(solver(**words), 0.5, **words).parameters
      'pixels'
    """
    del others
    if optimizer == "adam":
        return fixed._replace(optimizer=_adam(rate, schedule, steps, decay))
    return fixed._replace(optimizer=_lbfgs(rate, memory, fixed.line_search))


def _adam(
    rate: Array | float, schedule: str, steps: int, decay: tuple[float, float]
) -> optax.GradientTransformation:
    if schedule == "cosine":
        return optax.adam(optax.cosine_decay_schedule(rate, steps), b1=decay[0], b2=decay[1])
    return optax.adam(rate, b1=decay[0], b2=decay[1])


def _lbfgs(rate: Array | float, memory: int, search: bool) -> optax.GradientTransformation:
    direction, length = scale_by_lbfgs(memory), optax.scale(-rate)
    if search:
        zoom = optax.scale_by_zoom_linesearch(_ZOOM_STEPS, initial_guess_strategy="one")
        return optax.chain(direction, length, zoom)
    return optax.chain(direction, length, optax.clip_by_block_rms(_LONGEST))
