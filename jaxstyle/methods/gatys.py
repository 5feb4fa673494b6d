"""Paint a picture by optimizing its pixels (Gatys et al. 2016)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle import features, losses, optimize
from jaxstyle.methods.per_image import Context, Problem, Solution, first_picture, loss, prepare
from jaxstyle.types import Array, InputError, Params

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYERS = ("relu4_2",)


def gatys(
    content: Array,
    style: Array,
    perception: tuple[Params, features.Network | features.Joined],
    *,
    content_layers: Sequence[str] = CONTENT_LAYERS,
    style_layers: Sequence[str] = STYLE_LAYERS,
    statistic: str = "gram",
    normalize: str = "scale_free",
    content_weight: float | Array = 0.1,
    style_weight: float | Array = 5.0,
    tv_weight: float | Array = 0.0,
    start: str | Array = "content",
    seed: int | Array = 0,
    steps: int = 300,
    solver: optimize.Solver | None = None,
) -> Solution:
    """Return a picture with the content of one and the style of another.

    Pictures may have a leading axis, and so may weights and the seed: one program then optimizes
    all of them at once, and lane k is what a call with the k-th of everything gives. Jit it with
    everything but the arrays static, or call it as it is: the steps run compiled either way.

    Args:
      content: `[..., h, w, 3]`, sRGB in [0, 1].
      style: `[..., h', w', 3]`.
      perception: parameters and network, as `jaxstyle.load_weights` returns them.
      content_layers: names such as 'relu4_2'.
      style_layers: names.
      statistic: of the style: see `losses.style`.
      normalize: of both distances, see `losses.content_distance`.
      content_weight: alpha, divided among the content layers.
      style_weight: beta, divided among the style layers.
      tv_weight: of the total variation.
      start: as `first_picture` takes it, or a picture of the content's shape.
      seed: of the noise to start with.
      steps: of the solver.
      solver: from `optimize.solver`; L-BFGS if none is given.

    Returns:
      The solution.

    Raises:
      InputError: an unknown name, a picture too small for a layer, or axes that do not agree.

    Example:
      >>> from jaxstyle import load_weights
      >>> photo, painting = jnp.full((16, 24, 3), 0.2), jnp.full((20, 20, 3), 0.7)
      >>> layers = {'content_layers': ('relu2_1',), 'style_layers': ('relu1_1',)}
      >>> solution = gatys(photo, painting, load_weights('embedded'), steps=2, **layers)
      >>> solution.image.shape, solution.history.shape
      ((16, 24, 3), (2,))

    References:
      Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, 2016.
    Differs from the paper: distances are relative to their targets by default, so that weights mean
      the same on every network; `normalize='gatys'` is the paper's equations 1 and 4.
    """
    params, network = perception
    objective = _objective(tuple(content_layers), tuple(style_layers), statistic, normalize)
    weights = {
        **losses.layer_weights("content", content_layers, content_weight),
        **losses.layer_weights("style", style_layers, style_weight),
        "tv": tv_weight,
    }
    if steps < 1:
        raise InputError(f"steps is {steps}; at least 1 is needed.")
    solver = solver or optimize.solver("lbfgs", learning_rate=1.0)
    lanes = {
        "content": (content, 3),
        "style": (style, 3),
        "seed": (jnp.asarray(seed), 0),
        "weights": (jax.tree.map(jnp.float32, weights), 0),
    }
    if not isinstance(start, str):
        lanes["start"] = (start, 3)
    program = _program(
        Problem(objective, network),
        start if isinstance(start, str) else "",
        steps,
        solver,
        _axes(lanes),
    )
    return program({name: value for name, (value, _) in lanes.items()}, params)


# Two calls alike must find the same program: a new closure would be compiled anew.
@functools.lru_cache(maxsize=64)
def _objective(
    content_layers: tuple[str, ...], style_layers: tuple[str, ...], statistic: str, normalize: str
) -> losses.Objective:
    return losses.combine(
        losses.content(content_layers, normalize),
        losses.style(style_layers, statistic, normalize),
        losses.total_variation(),
    )


@functools.lru_cache(maxsize=64)
def _program(
    problem: Problem, kind: str, steps: int, solver: optimize.Solver, batched: tuple[str, ...]
) -> Any:
    """Return the compiled function `(values, params) -> Solution`.

    Args:
      problem: what is asked.
      kind: of start; '' is a picture among the values.
      steps: of the solver.
      solver: how.
      batched: names of the values with a leading axis; a weight's is 'weights/' and its term.
    """

    def one(values: dict[str, Any], params: Params) -> Solution:
        settings: dict[str, Any] = {"problem": problem, "kind": kind, "steps": steps}
        return _solve(**values, **settings, solver=solver, params=params)

    def run(values: dict[str, Any], params: Params) -> Solution:
        if not batched:
            return one(values, params)
        axes: dict[str, Any] = {name: 0 if name in batched else None for name in values}
        axes["weights"] = {
            term: 0 if f"weights/{term}" in batched else None for term in values["weights"]
        }
        return jax.vmap(one, in_axes=(axes, None))(values, params)

    return jax.jit(run)


def _solve(
    *,
    content: Array,
    style: Array,
    seed: Array,
    weights: Mapping[str, Array],
    params: Params,
    problem: Problem,
    kind: str,
    steps: int,
    solver: optimize.Solver,
    start: Array | None = None,
) -> Solution:
    first = first_picture(kind, content, style, seed=seed) if start is None else start
    targets = prepare(problem, params, {"content": content, "style": style})
    context = Context(params, targets, weights)
    state, history = optimize.advance(
        optimize.start(first, solver),
        context,
        loss=functools.partial(loss, problem=problem),
        solver=solver,
        steps=steps,
    )
    return Solution(optimize.picture(state, solver), history, state)


def _axes(lanes: Mapping[str, tuple[Any, int]]) -> tuple[str, ...]:
    """Return the names of the values that have a leading axis; refuse what does not agree."""
    leaves = {name: (value, rank) for name, (value, rank) in lanes.items() if name != "weights"}
    weights, rank = lanes["weights"]
    leaves |= {f"weights/{term}": (weight, rank) for term, weight in weights.items()}
    counts = {}
    for name, (value, rank) in leaves.items():
        shape = jnp.shape(value)
        if len(shape) not in (rank, rank + 1):
            raise InputError(
                f"{name} has the shape {shape}; give it {rank} axes, or one more before them for a "
                "batch."
            )
        if len(shape) > rank:
            counts[name] = shape[0]
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"the leading axes do not agree ({said}); make them the same.")
    return tuple(sorted(counts))
