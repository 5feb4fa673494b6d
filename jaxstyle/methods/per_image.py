"""What every method that optimizes a picture shares: the problem, its loss, the first picture."""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxstyle import features, losses, optimize, policy
from jaxstyle.types import Array, InputError, Params, unknown_choice

STARTS = ("content", "style", "noise", "gray")

_NOISE = 0.15  # standard deviation of 'noise'


class Problem(NamedTuple):
    """What is asked of a picture, and who looks at it; nothing in it is traced.

    Attributes:
      objective: the terms.
      network: the row of the table the parameters belong to, or two joined.
      rows: of a strip, see `features.features_in_strips`; 0 computes pictures at once.
      dtype: 'float32', 'bfloat16' or 'auto', what the network computes with, see
        `jaxstyle.policy.compute_dtype`.
      remat: whether the network is computed again for the gradient, see `features.features`.
      mesh: devices that the rows of the picture are divided among, see `features.features_across`
        and `jaxstyle.methods.rows`; None for one.
    """

    objective: losses.Objective
    network: features.Network | features.Joined
    rows: int = 0
    dtype: str = "float32"
    remat: bool = False
    mesh: Mesh | None = None


class Context(NamedTuple):
    """What the loss is given besides the picture: arrays, all of which a sweep may vary.

    Attributes:
      params: of the network.
      targets: from `prepare`.
      weights: number by term.
    """

    params: Params
    targets: losses.Targets
    weights: Mapping[str, Array | float]


class Solution(NamedTuple):
    """A finished picture.

    Attributes:
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      history: the loss before each step, `[..., steps]`; not finite where no step was taken.
      state: to go on from, with `optimize.advance`.
    """

    image: Array
    history: Array
    state: optimize.State


def prepare(
    problem: Problem,
    params: Params,
    pictures: Mapping[str, Array],
    guides: Mapping[str, losses.Features] | None = None,
) -> losses.Targets:
    """Return the targets of an objective.

    Args:
      problem: its objective says which layers are looked at.
      params: of the network.
      pictures: by kind, as the objective calls them: 'content' `[h, w, 3]`, sRGB in [0, 1], 'style'
        of any size, 'style/sky' and so on.
      guides: by kind and layer, from `losses.layer_guides`.

    Raises:
      InputError: as `features`.
    """
    layers = problem.objective.layers
    references: dict[str, losses.Features] = {
        kind: _maps(problem, params, picture, layers)
        for kind, picture in pictures.items()
        if layers
    }
    with _formulation(problem):
        return problem.objective.prepare(references | dict(guides or {}))


def loss(image: Array, context: Context, *, problem: Problem) -> tuple[Array, dict[str, Array]]:
    """Return the weighted loss of a picture, and its terms unweighted.

    Args:
      image: `[h, w, 3]`, sRGB in [0, 1] or a little beyond.
      context: targets, weights and parameters.
      problem: what is asked.
    """
    layers = problem.objective.layers
    maps = _maps(problem, context.params, image, (*layers, features.IMAGE)) if layers else {}
    seen = maps.get(features.IMAGE, image)  # where gradients are summed in one place
    with _formulation(problem):
        terms = problem.objective.evaluate(seen, maps, context.targets)
    return losses.weigh(terms, context.weights), terms


def _formulation(problem: Problem) -> contextlib.AbstractContextManager[None]:
    """Statistics in a form that the compiler divides among devices, where there are several."""
    return policy.formulation("plain") if problem.mesh else contextlib.nullcontext()


def _maps(
    problem: Problem, params: Params, image: Array, layers: tuple[str, ...]
) -> dict[str, Array]:
    network, dtype = problem.network, problem.dtype
    if problem.mesh:
        how: dict[str, Any] = {"mesh": problem.mesh, "dtype": dtype, "remat": problem.remat}
        return features.features_across(params, image, layers, network=network, **how)
    if problem.rows:
        return features.features_in_strips(
            params, image, layers, network=network, rows=problem.rows, dtype=dtype
        )
    return features.features(
        params, image, layers, network=network, dtype=dtype, remat=problem.remat
    )


def first_picture(
    kind: str, content: Array, style: Array | None = None, *, seed: int | Array = 0
) -> Array:
    """Return the picture an optimization begins with.

    Args:
      kind: 'content'; 'style', scaled to the content's size; 'noise', independent pixels around the
        middle gray; or 'gray'.
      content: `[h, w, 3]`, sRGB in [0, 1]; gives the size.
      style: for 'style'.
      seed: for 'noise'.

    Returns:
      `[h, w, 3]`, sRGB in [0, 1].

    Raises:
      InputError: an unknown kind, or 'style' without one.

    Example:
      >>> first_picture('gray', jnp.zeros((2, 2, 3)))[0, 0].tolist()
      [0.5, 0.5, 0.5]
    """
    if kind not in STARTS:
        raise unknown_choice("start", kind, STARTS)
    if kind == "content":
        return content
    if kind == "style":
        if style is None:
            raise InputError("the start is 'style', but there is no style picture.")
        return fitted(style, content)
    gray = jnp.full_like(content, 0.5)
    if kind == "gray":
        return gray
    noise = jax.random.normal(jax.random.key(seed), content.shape, content.dtype)
    return jnp.clip(gray + _NOISE * noise, 0.0, 1.0)


def fitted(picture: Array, content: Array) -> Array:
    """Return a picture scaled to the content's size, `[h, w, 3]` in [0, 1]."""
    return jnp.clip(jax.image.resize(picture, content.shape, "cubic"), 0.0, 1.0)


def solve(
    problem: Problem,
    params: Params,
    targets: losses.Targets,
    weights: Mapping[str, Array | float],
    first: Array,
    *,
    steps: int,
    solver: optimize.Solver,
) -> Solution:
    """Optimize one picture.

    Args:
      problem: what is asked.
      params: of the network.
      targets: from `prepare`.
      weights: number by term.
      first: `[h, w, 3]`, sRGB in [0, 1].
      steps: at least 1.
      solver: how.

    Returns:
      The solution.
    """
    state = optimize.start(first, solver)
    return resume(problem, params, targets, weights, state, steps=steps, solver=solver)


def resume(
    problem: Problem,
    params: Params,
    targets: losses.Targets,
    weights: Mapping[str, Array | float],
    state: optimize.State,
    *,
    steps: int,
    solver: optimize.Solver,
) -> Solution:
    """Go on with a picture; `solve` from a state instead of from a picture.

    Args:
      problem: what is asked.
      params: of the network.
      targets: from `prepare`.
      weights: number by term.
      state: of a solution, or from `optimize.start`.
      steps: at least 1.
      solver: how.

    Returns:
      The solution, with the history of these steps.

    Raises:
      InputError: fewer than 1 step.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; at least 1 is needed.")
    context = Context(params, targets, {name: jnp.float32(w) for name, w in weights.items()})
    return _program(problem, steps, solver)(state, context)


@functools.lru_cache(maxsize=64)  # two calls alike must find the same program
def _program(problem: Problem, steps: int, solver: optimize.Solver) -> Any:
    def run(state: optimize.State, context: Context) -> Solution:
        of_picture = functools.partial(loss, problem=problem)
        state, history = optimize.advance(
            state, context, loss=of_picture, solver=solver, steps=steps
        )
        return Solution(optimize.picture(state, solver), history, state)

    return jax.jit(run)
