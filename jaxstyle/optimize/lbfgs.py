"""L-BFGS as a transformation of optax, safe without a line search.

`optax.scale_by_lbfgs` takes every pair of differences into its memory. Without a line search that
guarantees it, a pair may show negative curvature, and the steps then go uphill. Here such pairs are
left out, as in PyTorch's `LBFGS`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxstyle.types import Array

_LEAST_CURVATURE = 1e-10  # of a pair that is kept: its inner product


class LbfgsState(NamedTuple):
    """What the next direction is made of.

    Attributes:
      updates: int32, how many so far.
      kept: int32, pairs taken so far; the last of them are in memory, one place after another.
      numbers: what was optimized at the last update, flat `[n]`.
      gradient: there, `[n]`.
      steps: `[memory, n]`, differences of the numbers.
      changes: `[memory, n]`, differences of the gradient.
      curvatures: `[memory]`, their inner products; 0 where there is no pair yet.
    """

    updates: Array
    kept: Array
    numbers: Array
    gradient: Array
    steps: Array
    changes: Array
    curvatures: Array


def scale_by_lbfgs(memory: int) -> optax.GradientTransformation:
    """Turn gradients into quasi-Newton directions (still uphill; scale by a negative number).

    The first one has a length of 1 at most in the sum of absolute values, as PyTorch takes it; the
    later ones approximate Newton's with the last `memory` pairs and the curvature along the latest.

    Args:
      memory: pairs kept, each two times as large as what is optimized, at least 1.

    Example:
      >>> optimizer = optax.chain(scale_by_lbfgs(10), optax.scale(-1.0))

    References:
      Nocedal, Wright, Numerical Optimization, 2nd ed., algorithms 7.4 and 7.5.
    """

    def init(params: Array) -> LbfgsState:
        flat = jnp.ravel(params)
        table = jnp.zeros((memory, flat.size), flat.dtype)
        zero, none = jnp.zeros((), jnp.int32), jnp.zeros(memory, flat.dtype)
        return LbfgsState(zero, zero, flat, jnp.zeros_like(flat), table, table, none)

    def update(
        updates: Array, state: LbfgsState, params: Array | None = None
    ) -> tuple[Array, LbfgsState]:
        if params is None:
            raise ValueError("L-BFGS needs the parameters; pass them to update.")
        numbers, gradient = jnp.ravel(params), jnp.ravel(updates)
        state = _remembered(state, numbers, gradient)
        direction = _direction(state, gradient, memory)
        return direction.reshape(updates.shape), state

    return optax.GradientTransformation(init, update)


def _remembered(state: LbfgsState, numbers: Array, gradient: Array) -> LbfgsState:
    """Take the pair since the last update into the memory, if there is one and it curves up."""
    step, change = numbers - state.numbers, gradient - state.gradient
    curvature = jnp.vdot(step, change)
    taken = (state.updates > 0) & (curvature > _LEAST_CURVATURE)
    place = state.kept % state.curvatures.shape[0]

    def put(table: Array, row: Array) -> Array:
        # Rewriting a row with itself lets the compiler work in place, choosing a table does not.
        return table.at[place].set(jnp.where(taken, row, table[place]))

    return LbfgsState(
        updates=state.updates + 1,
        kept=state.kept + taken,
        numbers=numbers,
        gradient=gradient,
        steps=put(state.steps, step),
        changes=put(state.changes, change),
        curvatures=put(state.curvatures, curvature),
    )


def _direction(state: LbfgsState, gradient: Array, memory: int) -> Array:
    """Multiply the gradient by the approximate inverse Hessian: the two-loop recursion."""
    newest_first = (state.kept - 1 - jnp.arange(memory)) % memory
    weights = jnp.where(
        state.curvatures > 0, 1 / jnp.where(state.curvatures > 0, state.curvatures, 1), 0
    )

    def back(q: Array, place: Array) -> tuple[Array, Array]:
        alpha = weights[place] * jnp.vdot(state.steps[place], q)
        return q - alpha * state.changes[place], alpha

    def forth(q: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        place, alpha = pair
        beta = weights[place] * jnp.vdot(state.changes[place], q)
        return q + (alpha - beta) * state.steps[place], None

    q, alphas = jax.lax.scan(back, gradient, newest_first)
    latest = newest_first[0]
    change = state.changes[latest]
    newton = state.curvatures[latest] / jnp.maximum(jnp.vdot(change, change), 1e-30)
    first = jnp.minimum(1.0, 1 / jnp.maximum(jnp.sum(jnp.abs(gradient)), 1e-30))
    q = q * jnp.where(state.kept > 0, newton, first)
    q, _ = jax.lax.scan(forth, q, (newest_first[::-1], alphas[::-1]))
    return q
