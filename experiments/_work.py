"""From a config and a scene to the programs that paint it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import _memory, _scene
from jaxstyle import features, losses, ops, optimize, painter, runtime
from jaxstyle.io import scenes
from jaxstyle.methods import per_image
from jaxstyle.methods.rows import Rows, fetched, mesh_of, of_maps, of_state
from jaxstyle.types import Array, InputError
from jaxstyle.weights import load_joined

_LONGEST_CHUNK = 20  # steps in one program, that is between looks at what came out
_ONE_DEVICE = Rows()
_INDIVISIBLE = ("patches", "sliced")  # they look at all positions at once

Perception = tuple[Any, features.Network | features.Joined]


def perception(config: ml_collections.ConfigDict) -> Perception:
    """Return the loss network of a config's `features`, its parameters first."""
    deep = config.deep
    params, network = load_joined(
        config.name,
        config.weights,
        deep_name=deep.name,
        deep_path=deep.weights,
        deep_layers=deep.layers,
    )
    return params, features.adjusted(network, pooling=config.pooling, padding=config.padding)


def solver_of(config: ml_collections.ConfigDict, steps: int) -> optimize.Solver:
    """Return the solver of a config, whose schedule is of `steps` steps."""
    return optimize.solver(**config.solver.to_dict(), steps=steps)


def chunk(config: ml_collections.ConfigDict) -> int:
    """Return how many steps one program does: a divisor of those between two saves."""
    return max(n for n in range(1, _LONGEST_CHUNK + 1) if config.save_every % n == 0)


def build(
    config: ml_collections.ConfigDict,
    scene: scenes.Scene,
    loaded: Perception,
    *,
    steps: int | None = None,
) -> tuple[painter.Work, dict[str, float]]:
    """Return what to compute for a scene, and the weights of the terms.

    Args:
      config: with `configs.common.per_image`'s keys.
      scene: in the size of the run.
      loaded: the loss network.
      steps: that it will take, `config.steps` if not given.
    """
    weights = objective_of(config, scene, config.seed)[1]
    return build_many(config, scene, loaded, steps=steps)(weights), weights


def build_many(
    config: ml_collections.ConfigDict,
    scene: scenes.Scene,
    loaded: Perception,
    *,
    steps: int | None = None,
) -> Callable[[Mapping[str, float]], painter.Work]:
    """Return a function from the weights of the terms to what to compute: one program for all."""
    steps, network = steps or config.steps, loaded[1]
    solver = solver_of(config, steps)
    objective, _ = objective_of(config, scene, config.seed)
    first = first_of(config, scene)
    rows = rows_of(config, scene, first.shape[0])
    problem = problem_of(config, objective, network)._replace(mesh=rows.mesh)
    loss = functools.partial(per_image.loss, problem=problem)
    targets = _targets(config, scene, loaded, rows)
    axis, params = of_state(first.shape), rows.divided(loaded[0], lambda shape: None)

    def start() -> optimize.State:
        return begin(rows.divided(first, axis)) if rows.mesh else optimize.start(first, solver)

    @jax.jit
    def begin(first: Any) -> optimize.State:
        return rows.within(optimize.start(rows.joined(first), solver), axis)

    def context(weights: Mapping[str, float], step: int) -> per_image.Context:
        numbers = {name: jnp.float32(weight) for name, weight in weights.items()}
        return per_image.Context(params, targets(step), numbers)

    @functools.cache
    def program(steps: int) -> jax.stages.Compiled:
        def advance(state: Any, context: Any) -> tuple[Any, Array]:
            how: dict[str, Any] = {"loss": loss, "solver": solver, "steps": steps}
            state, history = optimize.advance(rows.joined(state), rows.joined(context), **how)
            return rows.within(state, axis), history

        weights = dict.fromkeys(objective_of(config, scene, config.seed)[1], 0.0)
        lowered = jax.jit(advance, donate_argnums=0).lower(start(), context(weights, 0))
        return lowered.compile(runtime.compiler_options(config.features.dtype))

    @jax.jit
    def measure(state: optimize.State, context: per_image.Context) -> dict[str, Array]:
        image = optimize.picture(rows.joined(state), solver)
        total, terms = loss(image, rows.joined(context))
        return {"loss": total, **terms}

    def work_of(weights: Mapping[str, float]) -> painter.Work:
        def advance(state: optimize.State, steps: int) -> tuple[optimize.State, Array]:
            return program(steps)(state, context(weights, int(state.step)))

        return painter.Work(
            advance=advance,
            measure=lambda state: measure(state, context(weights, 0)),
            picture=picture if rows.mesh is None else of_divided,
            start=start,
            whole=_on_host if rows.mesh else lambda state: state,
            placed=lambda state: rows.divided(state, axis),
        )

    @jax.jit
    def longer(state: Any) -> Any:
        return rows.within(optimize.picture(rows.joined(state), solver), axis)

    def of_divided(state: Any) -> Any:
        return cut(fetched(longer(state)), config.margin)

    picture = jax.jit(lambda state: cut(optimize.picture(state, solver), config.margin))
    runtime.return_large_blocks()  # of what one program works in, the next finds a place
    _memory.check(
        program(min(chunk(config), steps)),
        first.shape,
        loaded[0],
        margin=config.margin,
        devices=rows.devices,
        more=_memory.PER_IMAGE,
    )
    return work_of


def rows_of(config: ml_collections.ConfigDict, scene: scenes.Scene, height: int) -> Rows:
    """Return what divides the picture among devices; refuse what cannot be divided."""
    rows = Rows(mesh_of(config.features.devices, height))
    if rows.mesh is None:
        return rows
    goal = config.objective
    for what, found, instead in (
        ("computed in strips", config.features.rows, "features.rows to 0"),
        ("matched in regions", bool(scene.regions), "masks and style_masks to ()"),
        ("asked for chains of layers", goal.chain, "objective.chain to 0"),
        (
            f"asked for '{goal.style_statistic}'",
            goal.style_statistic in _INDIVISIBLE and goal.style_layers,
            "objective.style_statistic to gram, moments or wasserstein",
        ),
    ):
        if found:
            raise InputError(
                f"a picture that is {what} cannot be divided among devices; set {instead}, or "
                "features.devices to 1."
            )
    return rows


def _on_host(state: Any) -> Any:
    """Return a state in the host's memory, as arrays that checkpoints take."""
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX was told not to use it
        host = jax.local_devices()[0]
    return jax.device_put(fetched(state), host)


def problem_of(
    config: ml_collections.ConfigDict,
    objective: losses.Objective,
    network: features.Network | features.Joined,
) -> per_image.Problem:
    """Return what is asked of the picture itself, which may continue right at left."""
    how = config.features
    if config.seamless and how.rows:
        raise InputError("a seamless picture cannot be seen in strips; set features.rows to 0.")
    if how.rows < 0:
        raise InputError(f"features.rows is {how.rows}; give 0, or rows of a strip, such as 64.")
    seen = features.adjusted(network, padding="circular") if config.seamless else network
    return per_image.Problem(objective, seen, how.rows, how.dtype, how.remat)


def first_of(config: ml_collections.ConfigDict, scene: scenes.Scene) -> Array:
    """Return the picture to begin with, `[h, w, 3]`, its margin around it."""
    return ops.pad2d(_scene.first(config, scene), config.margin, "reflect")


def objective_of(
    config: ml_collections.ConfigDict, scene: scenes.Scene, seed: Array | int
) -> tuple[losses.Objective, dict[str, float]]:
    """Return the objective of a scene, and the weight of each of its terms."""
    wanted = losses.ObjectiveConfig(**config.objective.to_dict())
    if config.content == _scene.NONE and wanted.content_layers:
        raise InputError(
            "the content is 'none', but objective.content_layers asks for one; set it to ()."
        )
    return losses.assemble(
        wanted,
        regions=scene.regions,
        region_shares=config.style_weights,
        patches_of=("style", *_turns(config, scene)),
        seed=seed,
        wrap=config.seamless,
    )


def _targets(
    config: ml_collections.ConfigDict, scene: scenes.Scene, loaded: Perception, rows: Rows
) -> Callable[[int], losses.Targets]:
    """Return a function from a step to the targets there."""
    prepare = preparation(config, scene, loaded[1], rows)
    return targets_of(config, scene, loaded, prepare, rows)


def preparation(
    config: ml_collections.ConfigDict,
    scene: scenes.Scene,
    network: features.Network | features.Joined,
    rows: Rows = _ONE_DEVICE,
) -> Callable[..., losses.Targets]:
    """Return the jitted `(params, pictures, guides, seed) -> targets` of scenes like this one."""

    @jax.jit
    def prepare(params: Any, pictures: Any, guides: Any, seed: Array) -> losses.Targets:
        how = config.features
        objective = objective_of(config, scene, seed)[0]
        problem = per_image.Problem(
            objective, network, how.rows, how.dtype, how.remat, mesh=rows.mesh
        )
        targets = per_image.prepare(problem, params, rows.joined(pictures), guides)
        return rows.within(targets, of_maps)

    return prepare


def targets_of(
    config: ml_collections.ConfigDict,
    scene: scenes.Scene,
    loaded: Perception,
    prepare: Callable[..., losses.Targets],
    rows: Rows = _ONE_DEVICE,
) -> Callable[[int], losses.Targets]:
    """Return a function from a step to the targets there: directions are drawn for every chunk."""
    params, network = loaded
    references = _references(config, scene)
    pictures = rows.divided(references, of_maps) if rows.mesh else _arrays(references)
    params = rows.divided(params, lambda shape: None)
    guides = _guides(config, scene, network)

    @functools.lru_cache(maxsize=2)
    def of_draw(draw: int) -> losses.Targets:
        return prepare(params, pictures, guides, jnp.int32(config.seed + draw))

    drawn = config.objective.style_statistic == "sliced"
    return lambda step: of_draw(step // chunk(config) if drawn else 0)


def _arrays(pictures: Mapping[str, np.ndarray]) -> dict[str, Array]:
    return {kind: jnp.asarray(picture) for kind, picture in pictures.items()}


def _references(config: ml_collections.ConfigDict, scene: scenes.Scene) -> dict[str, np.ndarray]:
    pictures = {f"style/{name}": s for name, s in zip(scene.regions, scene.styles, strict=False)}
    if not scene.regions:
        pictures = {"style": scene.styles[0], **_turns(config, scene)}
    if config.objective.content_layers:
        content = jnp.asarray(_scene.painted(config, scene.content))
        pictures["content"] = np.asarray(ops.pad2d(content, config.margin, "reflect"))
    return pictures


def _turns(config: ml_collections.ConfigDict, scene: scenes.Scene) -> dict[str, np.ndarray]:
    """Return the style turned, more pictures to take patches of."""
    if config.objective.style_statistic != "patches":
        return {}
    return {f"style {by} degrees": scenes.turned(scene.styles[0], by) for by in config.patch_turns}


def _guides(
    config: ml_collections.ConfigDict,
    scene: scenes.Scene,
    network: features.Network | features.Joined,
) -> dict[str, dict[str, Array]]:
    """Return by kind and layer how much each neuron belongs to a region."""
    guides = {}
    layers = config.objective.style_layers
    how = {"mode": config.mask_mode, "grow": config.mask_grow}
    for name, mask, own in zip(scene.regions, scene.masks, scene.style_masks, strict=False):
        mask = np.ones(scene.content.shape[:2], np.float32) if mask is None else mask
        wide = ops.pad2d(jnp.asarray(mask)[..., None], config.margin, "reflect")[..., 0]
        guides[f"guide/{name}"] = losses.layer_guides(wide, layers, network, **how)
        if own is not None:
            guides[f"style/{name}/guide"] = losses.layer_guides(
                jnp.asarray(own), layers, network, **how
            )
    return guides


def cut(image: Array, margin: int) -> Array:
    """Return a picture, or several, without the margin."""
    height, width = image.shape[-3:-1]
    return image[..., margin : height - margin, margin : width - margin, :]
