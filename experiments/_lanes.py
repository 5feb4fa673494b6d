"""Several cells of a sweep as lanes of one program.

What may differ between lanes is an argument of the program: pictures of one size (the painting's
may be any), weights, which of the layers count (the others' weights are 0), the learning rate, the
seed, the start and the colors. `static` names the rest: cells that agree in it share a program.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from experiments import _scene, _work
from jaxstyle import losses, optimize, runtime, workdir
from jaxstyle.io import scenes
from jaxstyle.methods import per_image
from jaxstyle.sweeps import lanes
from jaxstyle.types import Array, InputError

# Keys of a config that are arguments of the program.
TRACED = (
    "content",
    "style",
    "style_scale",
    "style_weights",
    "masks",
    "style_masks",
    "start",
    "seed",
    "color.style",
    "color.result",
    "objective.alpha",
    "objective.beta",
    "objective.tv",
    "objective.content_layers",
    "objective.content_layer_weights",
    "objective.style_layers",
    "objective.style_layer_weights",
    "objective.weighting",
    "solver.learning_rate",
)


class Cell(NamedTuple):
    """A cell in the size of one scale.

    Attributes:
      config: its own.
      scene: its pictures.
    """

    config: ml_collections.ConfigDict
    scene: scenes.Scene


class Own(NamedTuple):
    """What a lane's loss is given beside the shared parameters of the network.

    Attributes:
      targets: of its pictures.
      weights: by term.
      rate: of its learning.
    """

    targets: losses.Targets
    weights: dict[str, Array]
    rate: Array


def static(config: ml_collections.ConfigDict, scene: scenes.Scene) -> str:
    """Return as a text all that a program is made of; cells of equal texts share one."""
    fixed = {k: v for k, v in workdir.flatten(config.to_dict()).items() if k not in TRACED}
    objective = config.objective
    fixed["content"] = scene.content.shape
    fixed["regions"] = len(scene.regions)
    fixed["asks"] = (bool(objective.content_layers), bool(objective.style_layers))
    fixed["content is none"] = config.content == _scene.NONE
    if objective.chain:  # of each layer with the next: which ones is in the program
        fixed["chained"] = objective.style_layers
    if objective.style_statistic in ("patches", "sliced"):  # as many as the painting has
        fixed["styles"] = [style.shape for style in scene.styles]
    return json.dumps(fixed, sort_keys=True, default=str)


def together(configs: Sequence[ml_collections.ConfigDict]) -> ml_collections.ConfigDict:
    """Return a config that asks for the layers of all: weights then choose among them."""
    wide = configs[0].copy_and_resolve_references()
    with wide.ignore_type(), wide.unlocked():
        for kind in ("content_layers", "style_layers"):
            wanted = dict.fromkeys(tuple(config.objective[kind]) for config in configs)
            named = {layer for layers in wanted for layer in layers}
            wide.objective[kind] = next(iter(wanted)) if len(wanted) == 1 else tuple(sorted(named))
        wide.objective.content_layer_weights = wide.objective.style_layer_weights = ()
    return wide


def weights_of(cell: Cell, terms: Sequence[str]) -> dict[str, float]:
    """Return the weight of every term, 0 for those of layers the cell does not ask for."""
    own = _work.objective_of(cell.config, cell.scene, 0)[1]
    return {term: own.get(term, 0.0) for term in terms}


class Group:
    """Cells that share all that is static, and the program for any of them.

    Args:
      wide: from `together`.
      sample: a cell of the group, for shapes.
      loaded: the loss network.
      steps: of this scale.
    """

    def __init__(
        self,
        wide: ml_collections.ConfigDict,
        sample: Cell,
        loaded: _work.Perception,
        steps: int,
    ):
        if wide.features.devices != 1:
            raise InputError("a sweep paints on one device; set features.devices to 1.")
        self.steps, self._wide, self._loaded, self._sample = steps, wide, loaded, sample
        self.params = loaded[0]
        self._solver = _work.solver_of(wide, steps)
        objective, weights = _work.objective_of(wide, sample.scene, wide.seed)
        self.terms = tuple(weights)
        problem = _work.problem_of(wide, objective, loaded[1])
        self._loss = functools.partial(per_image.loss, problem=problem)
        self._prepare = _work.preparation(wide, sample.scene, loaded[1])
        self._compiled: dict[tuple[str, int, int], jax.stages.Compiled] = {}
        self._measures: dict[str, Any] = {}
        self._picture = jax.jit(
            jax.vmap(lambda state: _work.cut(optimize.picture(state, self._solver), wide.margin))
        )

    def work(self, cells: Sequence[Cell], form: str) -> lanes.Work:
        """Return the functions that paint some cells of the group together.

        Args:
          cells: as many as lanes.
          form: see `jaxstyle.sweeps.lanes.FORMS`.
        """
        owns = [self._own(cell) for cell in cells]

        @functools.lru_cache(maxsize=2)
        def drawn(draw: int) -> Own:
            return lanes.stacked([own(draw) for own in owns])

        def own_at(step: int) -> Own:
            return drawn(step // self._chunk if self._draws else 0)

        def start() -> optimize.State:
            firsts = [_work.first_of(cell.config, cell.scene) for cell in cells]
            return lanes.stacked([optimize.start(first, self._solver) for first in firsts])

        def advance(state: optimize.State, step: int, steps: int) -> Any:
            program = self.program(form, len(cells), steps)
            return program(self.params, state, own_at(step))

        measure = self._measure(form)
        return lanes.Work(
            advance, lambda state: measure(self.params, (state, own_at(0))), self._picture, start
        )

    def moved(self, state: optimize.State, steps: int) -> optimize.State:
        """Return the lanes of the scale before in the size of this one.

        Bad ones stay bad, and at the step where they became so.

        Args:
          state: of the scale before.
          steps: that it had.
        """
        height, width = self._sample.scene.content.shape[:2]
        margin = self._wide.margin

        def one(state: optimize.State) -> optimize.State:
            begun = optimize.rescaled(state, (height, width), self._solver, margin=margin)
            bad = state.status == optimize.NOT_FINITE
            status = jnp.where(bad, state.status, begun.status)
            step = jnp.where(bad, state.step - steps, begun.step)
            return dataclasses.replace(begun, status=status, step=step)

        return jax.vmap(one)(state)

    def program(self, form: str, count: int, steps: int = 0) -> jax.stages.Compiled:
        """Return the compiled program of so many lanes and steps, by default a whole chunk."""
        key = (form, count, steps or min(self._chunk, self.steps))
        if key not in self._compiled:
            runtime.return_large_blocks()  # of what one program works in, the next finds a place
            self._compiled[key] = self._compile(*key)
        return self._compiled[key]

    @property
    def _chunk(self) -> int:
        return _work.chunk(self._wide)

    @property
    def _draws(self) -> bool:
        return self._wide.objective.style_statistic == "sliced"

    def _own(self, cell: Cell) -> Callable[[int], Own]:
        """Return a function from a draw of directions to what the cell's lane is given."""
        wide = cell.config.copy_and_resolve_references()
        with wide.ignore_type(), wide.unlocked():
            wide.objective = self._wide.objective
        targets = _work.targets_of(wide, cell.scene, self._loaded, self._prepare)
        numbers = weights_of(cell, self.terms)
        weights = {term: jnp.float32(weight) for term, weight in numbers.items()}
        rate = jnp.float32(cell.config.solver.learning_rate)
        return lambda draw: Own(targets(draw * self._chunk), weights, rate)

    def _compile(self, form: str, count: int, steps: int) -> jax.stages.Compiled:
        words = self._wide.solver.to_dict() | {"steps": self.steps}
        del words["learning_rate"]  # each lane's own

        def one(params: Any, lane: tuple[optimize.State, Own]) -> tuple[optimize.State, Array]:
            state, own = lane
            solver = optimize.with_rate(self._solver, own.rate, **words)
            context = per_image.Context(params, own.targets, own.weights)
            return optimize.advance(state, context, loss=self._loss, solver=solver, steps=steps)

        def all_of(params: Any, state: optimize.State, own: Own) -> Any:
            return lanes.in_form(form, one)(params, (state, own))

        state, own = self._shapes(count)
        lowered = jax.jit(all_of, donate_argnums=1).lower(self.params, state, own)
        return lowered.compile(runtime.compiler_options(self._wide.features.dtype))

    def _shapes(self, count: int) -> tuple[Any, Any]:
        """Return shapes and dtypes of a state and of what lanes are given."""
        around = 2 * self._wide.margin
        height, width = (side + around for side in self._sample.scene.content.shape[:2])
        first = jax.ShapeDtypeStruct((height, width, 3), jnp.float32)
        state = jax.eval_shape(lambda image: optimize.start(image, self._solver), first)
        own = self._own(self._sample)(0)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), (state, own)
        )

    def _measure(self, form: str) -> Any:
        def one(params: Any, lane: Any) -> dict[str, Array]:
            state, own = lane
            context = per_image.Context(params, own.targets, own.weights)
            total, terms = self._loss(optimize.picture(state, self._solver), context)
            return {"loss": total, **terms}

        if form not in self._measures:
            self._measures[form] = jax.jit(lanes.in_form(form, one))
        return self._measures[form]
