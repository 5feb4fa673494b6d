"""L-BFGS as a transformation of optax, safe without a line search.

`optax.scale_by_lbfgs` takes every pair of differences into its memory. Without a line search that
guarantees it, a pair may show negative curvature, and the steps then go uphill. Here such pairs are
left out, as in PyTorch's `LBFGS`.

The direction is computed in the compact form: the two loops over the pairs become four products of
their tables with a vector and two small triangular systems. The textbook's loops read and write a
vector of the picture's size for every pair, 200 of them at a memory of 20; the products read 80.
"""

from typing import Any, NamedTuple

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
      products: `[memory, memory]`, inner products of steps (rows) with changes that are as old or
        younger, in the places of the tables; 0 where there is no pair yet, and what was there
        before where the change is older.
    """

    updates: Array
    kept: Array
    numbers: Array
    gradient: Array
    steps: Array
    changes: Array
    products: Array


def scale_by_lbfgs(memory: int) -> optax.GradientTransformationExtraArgs:
    """Turn gradients into quasi-Newton directions (still uphill; scale by a negative number).

    The first one has a length of 1 at most in the sum of absolute values, as PyTorch takes it; the
    later ones approximate Newton's with the last `memory` pairs and the curvature along the latest.

    The update takes one more argument, `accept`: where it is false, the state stays as it is. That
    costs nothing, while choosing between two states afterwards copies `2 memory` pictures.

    Args:
      memory: pairs kept, each two times as large as what is optimized, at least 1.

    Example:
      >>> optimizer = optax.chain(scale_by_lbfgs(10), optax.scale(-1.0))

    References:
      Nocedal, Wright, Numerical Optimization, 2nd ed., algorithms 7.4 and 7.5 (two loops) and
      theorem 7.4; Byrd, Nocedal, Schnabel, Representations of quasi-Newton matrices and their use
      in limited memory methods, 1994, theorem 2.2 (compact form).
    """

    def init(params: Array) -> LbfgsState:
        flat = jnp.ravel(params)
        table = jnp.zeros((memory, flat.size), flat.dtype)
        zero, none = jnp.zeros((), jnp.int32), jnp.zeros((memory, memory), flat.dtype)
        return LbfgsState(zero, zero, flat, jnp.zeros_like(flat), table, table, none)

    def update(
        updates: Array,
        state: LbfgsState,
        params: Array | None = None,
        *,
        accept: Array | bool = True,
        **others: Any,
    ) -> tuple[Array, LbfgsState]:
        del others  # a chain hands everyone what one of them needs
        if params is None:
            raise ValueError("L-BFGS needs the parameters; pass them to update.")
        numbers, gradient = jnp.ravel(params), jnp.ravel(updates)
        state = _remembered(state, numbers, gradient, jnp.asarray(accept))
        return _direction(state, gradient).reshape(updates.shape), state

    return optax.GradientTransformationExtraArgs(init, update)


def _remembered(state: LbfgsState, numbers: Array, gradient: Array, accept: Array) -> LbfgsState:
    """Take the pair since the last update into the memory, if there is one and it curves up."""
    step, change = numbers - state.numbers, gradient - state.gradient
    taken = accept & (state.updates > 0) & (jnp.vdot(step, change) > _LEAST_CURVATURE)
    place = state.kept % state.products.shape[0]

    def put(table: Array, row: Array) -> Array:
        # Rewriting a row with itself lets the compiler work in place, choosing a table does not.
        return table.at[place].set(jnp.where(taken, row, table[place]))

    steps = put(state.steps, step)
    products = put(state.products.T, _times(steps, change)).T
    return LbfgsState(
        updates=state.updates + accept,
        kept=state.kept + taken,
        numbers=jnp.where(accept, numbers, state.numbers),
        gradient=jnp.where(accept, gradient, state.gradient),
        steps=steps,
        changes=put(state.changes, change),
        products=products,
    )


def _direction(state: LbfgsState, gradient: Array) -> Array:
    """Multiply the gradient by the approximate inverse Hessian.

    With steps `S` and changes `Y` as rows, oldest first, `R` the upper triangle of `S Y^T`, `D` its
    diagonal and `c` the scale of the first guess, the two loops are

        a = R^-1 S g,    q = g - Y^T a,    b = R^-T (D a - c Y q),    result = c q + S^T b.
    """
    memory = state.products.shape[0]
    oldest_first = (state.kept + jnp.arange(memory)) % memory
    places = jnp.argsort(oldest_first)  # of the tables' rows, in that order
    products = state.products[oldest_first][:, oldest_first]
    curvatures = jnp.diagonal(products)
    triangle = products + jnp.diag(jnp.where(curvatures > 0, 0, 1).astype(products.dtype))

    latest = state.changes[(state.kept - 1) % memory]
    newton = curvatures[-1] / jnp.maximum(_times(latest[None], latest)[0], 1e-30)
    first = jnp.minimum(1.0, 1 / jnp.maximum(jnp.sum(jnp.abs(gradient)), 1e-30))
    scale = jnp.where(state.kept > 0, newton, first)

    solve = jax.scipy.linalg.solve_triangular
    alphas = solve(triangle, _times(state.steps, gradient)[oldest_first])
    q = gradient - _times(alphas[places], state.changes)
    rest = curvatures * alphas - scale * _times(state.changes, q)[oldest_first]
    return scale * q + _times(solve(triangle, rest, trans="T")[places], state.steps)


def _times(one: Array, other: Array) -> Array:
    """Product of a table and a vector, in full float32 wherever it runs."""
    return jnp.matmul(one, other, precision=jax.lax.Precision.HIGHEST)
