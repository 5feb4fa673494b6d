"""Optimize a picture: many steps in one program, bounded, averaged, and never past a bad number.

Example:
  >>> def loss(image, target):
  ...     error = jnp.mean((image - target) ** 2)
  ...     return error, {"error": error}
  >>> solver = Solver(optax.sgd(4.0))
  >>> target = jnp.full((4, 4, 3), 0.75)
  >>> state = start(jnp.zeros((4, 4, 3)), solver)
  >>> state, history = advance(state, target, loss=loss, solver=solver, steps=200)
  >>> round(float(picture(state, solver)[0, 0, 0]), 2), history.shape
  (0.75, (200,))
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from jaxstyle.optimize.lbfgs import LbfgsState
from jaxstyle.optimize.parameterization import parameterization
from jaxstyle.types import Array

# What has become of a lane. The numbers are in saved states; never renumber.
RUNNING, CONVERGED, NOT_FINITE = 0, 1, 2

# `(image [h, w, 3], context) -> (total [], {term: []})`.
Loss = Callable[[Array, Any], tuple[Array, Mapping[str, Array]]]


class Solver(NamedTuple):
    """How a picture is optimized; nothing in it is traced.

    Attributes:
      optimizer: from optax.
      line_search: whether the optimizer's update evaluates the loss itself (`optax.lbfgs` with a
        line search).
      parameters: name of the parameterization.
      average: decay of the running average of the iterates that is the finished picture; 0 takes
        the last iterate. Crowson's style-transfer-pytorch uses 0.99.
      tolerance: a call of `advance` that lowers the loss by less than this share of it ends the
        optimization; 0 goes on.
    """

    optimizer: optax.GradientTransformation
    line_search: bool = False
    parameters: str = "clipped"
    average: float = 0.0
    tolerance: float = 0.0


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """One picture under way; all of it is arrays, and all of it decides the result.

    Attributes:
      step: int32, steps done; of those that led to `numbers`.
      status: int32, `RUNNING`, `CONVERGED` or `NOT_FINITE`; past `RUNNING` nothing changes.
      numbers: what is optimized, as the parameterization writes it.
      good: the last numbers whose loss was finite.
      average: sum of the averaged iterates' shares, an image; 0 without averaging.
      solver: the optimizer's state.
    """

    step: Array
    status: Array
    numbers: Array
    good: Array
    average: Array
    solver: Any


def start(image: Array, solver: Solver) -> State:
    """Begin an optimization.

    Args:
      image: `[h, w, 3]`, sRGB in [0, 1]; for a batch, `jax.vmap` this.
      solver: how to go on.

    Raises:
      InputError: unknown parameterization.
    """
    numbers = parameterization(solver.parameters).encode(image)
    # Optimizers begin with weakly typed scalars; a second compilation would come of them.
    begun = jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), solver.optimizer.init(numbers)
    )
    state = State(
        step=jnp.zeros((), jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
        numbers=numbers,
        good=numbers,
        average=jnp.zeros_like(image) if solver.average else jnp.zeros(()),
        solver=begun,
    )
    # No array twice: a program that is given the memory of its state needs all of them.
    return jax.tree.map(jnp.copy, state)


def advance(
    state: State, context: Any, *, loss: Loss, solver: Solver, steps: int
) -> tuple[State, Array]:
    """Do some steps, as one program without a word to the host.

    A step whose loss or gradient is not finite is not taken: the state goes back to the last good
    numbers and stays there.

    Args:
      state: from `start` or an earlier call.
      context: what the loss is given besides the image: targets, weights, parameters. A pytree of
        arrays.
      loss: pure function of one image.
      solver: as given to `start`.
      steps: how many, at least 1.

    Returns:
      The state, and the loss before each step, `[steps]`; entries of steps that were not taken are
      not finite.
    """
    decode = parameterization(solver.parameters).decode

    def evaluate(numbers: Array) -> tuple[Array, Mapping[str, Array]]:
        return loss(decode(numbers), context)

    def step(state: State, _: None) -> tuple[State, Array]:
        running = state.status == RUNNING
        fine, value, moved, after = _proposal(state, evaluate, solver)
        taken = State(
            step=state.step + 1,
            status=state.status,
            numbers=moved,
            good=state.numbers,
            # Of the picture whose loss is known; the one moved to may turn out bad.
            average=_averaged(state.average, decode(state.numbers), solver.average),
            solver=after,
        )
        failed = dataclasses.replace(
            state,
            step=jnp.maximum(state.step - 1, 0),
            status=jnp.full_like(state.status, NOT_FINITE),
            numbers=state.good,
        )
        state = _where(running & fine, taken, _where(running, failed, state))
        return state, jnp.where(running & fine, value, jnp.nan)

    state, history = jax.lax.scan(step, state, None, length=steps)
    if solver.tolerance:
        slow = history[0] - history[-1] <= solver.tolerance * jnp.abs(history[0])
        ended = jnp.where(state.status == RUNNING, CONVERGED, state.status)
        state = dataclasses.replace(state, status=jnp.where(slow, ended, state.status))
    return state, history


def picture(state: State, solver: Solver) -> Array:
    """Return the picture as it stands, `[h, w, 3]` in [0, 1].

    Args:
      state: of the optimization; its last good picture if it ended on a bad number.
      solver: as given to `start`.
    """
    image = parameterization(solver.parameters).decode(state.numbers)
    if solver.average:
        share = 1 - solver.average ** state.step.astype(jnp.float32)
        image = jnp.where(state.step > 0, state.average / jnp.maximum(share, 1e-6), image)
    return jnp.clip(image, 0.0, 1.0)


def _proposal(
    state: State, evaluate: Callable[[Array], Any], solver: Solver
) -> tuple[Array, Array, Array, Any]:
    """Return whether the numbers are fine, the loss, and where the optimizer would go."""
    search: dict[str, Any] = {}
    if solver.line_search:

        def total(numbers: Array, accept: Array | None = None) -> Array:
            del accept  # for L-BFGS; the search hands on to the loss what others take
            return evaluate(numbers)[0]

        value, gradient = optax.value_and_grad_from_state(total)(state.numbers, state=state.solver)
        search = {"value": value, "grad": gradient, "value_fn": total}
    else:
        (value, _), gradient = jax.value_and_grad(evaluate, has_aux=True)(state.numbers)
    fine = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    optimizer = optax.with_extra_args_support(solver.optimizer)
    updates, after = optimizer.update(
        gradient, state.solver, state.numbers, accept=fine & (state.status == RUNNING), **search
    )
    moved = parameterization(solver.parameters).project(optax.apply_updates(state.numbers, updates))
    # A step may overflow where loss and gradient did not.
    return fine & jnp.all(jnp.isfinite(moved)), value, moved, after


def _averaged(average: Array, image: Array, decay: float) -> Array:
    return decay * average + (1 - decay) * image if decay else average


def _where(condition: Array, one: State, other: State) -> State:
    def choose(a: Any, b: Any) -> Any:
        # L-BFGS has been told whether the step counts; a choice would copy its tables.
        return a if isinstance(a, LbfgsState) else jnp.where(condition, a, b)

    def is_told(part: Any) -> bool:
        return isinstance(part, LbfgsState)

    return jax.tree.map(choose, one, other, is_leaf=is_told)
