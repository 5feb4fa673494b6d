"""From a config to what a training of style networks is made of."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxstyle import checkpoints, features, losses, networks, runtime, trainer, training
from jaxstyle.data import PhotoBatches, Photos, UnreadablePhoto
from jaxstyle.distributed import Group
from jaxstyle.io import images, models
from jaxstyle.io.scenes import picture_file
from jaxstyle.methods import StyleModel, stylize
from jaxstyle.placement import Placement
from jaxstyle.training import feedforward
from jaxstyle.types import InputError, Params
from jaxstyle.weights import load_joined

Perception = tuple[Params, features.Network | features.Joined]


class Later:
    """A pure function of arrays that is traced now, and compiled and computed when called.

    Attributes:
      shapes: shapes and dtypes of what it returns.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, precision: str = "float32"):
        """Trace.

        Args:
          function: of `args`, once.
          args: pytrees of arrays.
          precision: of its convolutions.
        """
        self._traced = jax.jit(function).trace(*args)
        self._args = args
        self._options = runtime.compiler_options(precision)
        self.shapes = self._traced.out_info

    def __call__(self) -> Any:
        """Return what the function does."""
        return self._traced.lower().compile(self._options)(*self._args)


def check_counts(config: ml_collections.ConfigDict, **more: int) -> None:
    """Refuse counts below 1, before a folder is made."""
    trainer.check_counts(
        **{
            "steps": config.steps,
            "log_every": config.log_every,
            "checkpoint.every": config.checkpoint.every,
            "checkpoint.keep": config.checkpoint.keep,
            "samples.count": config.samples.count,
            "samples.size": config.samples.size,
            **more,
        }
    )


def batch_settings(config: ml_collections.ConfigDict, group: Group) -> dict[str, Any]:
    """Return what `make_batches` is told besides the photographs: this process's share."""
    data = config.data
    settings = {name: data[name] for name in ("size", "flip", "scale", "workers")}
    share = {"process_index": group.index, "process_count": group.count}
    return {"seed": config.seed, "batch": data.batch // group.count, **settings, **share}


def perception_of(config: ml_collections.ConfigDict) -> Perception:
    """Load the loss network; some of its layers may be another's."""
    deep = config.features.deep
    return load_joined(
        config.features.name,
        config.features.weights,
        deep_name=deep.name,
        deep_path=deep.weights,
        deep_layers=deep.layers,
    )


def objective_of(
    config: ml_collections.ConfigDict, network: features.Network | features.Joined
) -> feedforward.Problem:
    """Return what networks are trained for, but for the weights."""
    return feedforward.Problem(
        losses.content(config.content.layers, config.content.normalize),
        losses.style(config.style.layers, config.style.statistic, config.style.normalize),
        losses.total_variation(config.tv.kind),
        features.adjusted(
            network, pooling=config.features.pooling, padding=config.features.padding
        ),
        config.precision,
    )


def weights_of(
    config: ml_collections.ConfigDict, *, style: float, content: float, tv: float
) -> dict[str, float]:
    """Return the weight of each term; those of style and content are divided among the layers."""
    weights = {"tv": tv}
    for kind, weight in (("content", content), ("style", style)):
        shares = config[kind].layer_weights or None
        weights |= losses.layer_weights(kind, config[kind].layers, weight, shares)
    losses.check_weights(weights)
    return weights


def style_picture(name: str, size: int) -> jax.Array:
    """Read a style picture, its shorter side `size` pixels."""
    return jnp.asarray(images.resize_shorter(images.read(picture_file(name)).pixels, size))


def initial(
    config: ml_collections.ConfigDict,
    network: networks.TransformerConfig,
    create: Callable[[dict[str, Any]], training.TrainState],
) -> Later:
    """Return what makes the state before the first step.

    Args:
      config: of the run.
      network: to train.
      create: makes the state from the variables a network begins with: drawn, or those of another
        run or model, which are read now.
    """
    seed, given = np.uint32(config.seed % 2**32), {}
    if config.checkpoint.restore:
        like = networks.init(jax.random.key(seed), network)["params"]
        given = {"params": _restored(config.checkpoint.restore, like)}

    def begin(seed: jax.Array, given: dict[str, Any]) -> training.TrainState:
        return create({**networks.init(jax.random.key(seed), network), **given})

    return Later(begin, seed, given)


def _restored(where: str, params: dict) -> dict:
    if os.path.exists(os.path.join(os.path.expanduser(where), models.CARD)):
        model, _ = models.load_model(where)
        if jax.tree.map(jnp.shape, dict(model.params["params"])) != jax.tree.map(jnp.shape, params):
            raise InputError(f"the model in '{where}' is of another architecture than this run's.")
        return jax.tree.map(jnp.asarray, dict(model.params["params"]))
    return checkpoints.load_params(where, params)


def ready(
    config: ml_collections.ConfigDict,
    step: Callable[..., training.TrainState],
    begin: Later,
    style: Later,
    constants: Mapping[str, Any],
    batches: PhotoBatches,
    placement: Placement,
    *,
    pictures: int,
    display_weights: Mapping[str, float],
) -> Callable[..., trainer.Outcome[training.TrainState]]:
    """Return the training run, ready but for its work folder; refuse what does not fit.

    Args:
      config: of the run.
      step: of state, batch and constants.
      begin: the state before the first step.
      style: what the step is given by that name, the style's targets.
      constants: what it is given by name besides, the same in every step.
      batches: of photographs.
      placement: of the run.
      pictures: painted in a step, for the speed shown.
      display_weights: see `trainer.train`.
    """
    program = jax.jit(step, donate_argnums=0, out_shardings=placement.whole)
    rest = jax.eval_shape(lambda: dict(constants))
    state, named = _placed((begin.shapes, {**rest, "style": style.shapes}), placement)

    def trace(count: int, size: int) -> jax.stages.Traced:
        shape = (count, size, size, 3)
        batch = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=placement.divided)
        return program.trace(state, batch, **named)

    options = runtime.compiler_options(config.precision)

    def other(count: int, size: int) -> jax.stages.Compiled:
        return trace(count, size).lower().compile(options)

    # Computes nothing, but shows a layer or a size that does not fit.
    traced = trace(config.data.batch, config.data.size)

    def train(*, workdir: os.PathLike[str]) -> trainer.Outcome[training.TrainState]:
        with contextlib.ExitStack() as stack:
            lowered = traced.lower()
            compiled: Callable[[], jax.stages.Compiled] = functools.cache(
                lambda: lowered.compile(options)
            )
            left = checkpoints.newest_step(workdir) < config.steps
            if placement.group.count == 1 and left:  # several processes compute in the same order
                pool = stack.enter_context(ThreadPoolExecutor(1))
                compiled = pool.submit(compiled).result  # while state and constants are computed
            values = placement.everywhere({**constants, "style": style()})
            checked = False

            def do(state: training.TrainState, batch: jax.Array) -> training.TrainState:
                nonlocal checked
                if not checked:
                    devices = placement.devices // placement.group.count
                    data = config.data
                    check_memory(compiled(), data.batch, data.size, other, devices)
                    checked = True
                return compiled()(state, batch, **values)

            return trainer.train(
                do,
                begin(),
                batches,
                workdir=workdir,
                steps=config.steps,
                batch_size=pictures,
                log_every=config.log_every,
                checkpoint_every=config.checkpoint.every,
                keep=config.checkpoint.keep,
                display_weights=display_weights,
                placement=placement,
            )

    return train


def _placed(shapes: Any, placement: Placement) -> Any:
    """Return shapes and dtypes of what lies on every device."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=placement.whole, weak_type=leaf.weak_type
        ),
        shapes,
    )


def check_memory(
    program: jax.stages.Compiled,
    batch: int,
    size: int,
    other: Callable[[int, int], jax.stages.Compiled],
    devices: int = 1,
) -> None:
    """Refuse a step that would not fit, before it is taken, and say what would.

    Args:
      program: of the step.
      batch: pictures in it.
      size: of the pictures.
      other: compiles the step for another batch and size: what is advised has been looked at.
      devices: of this process that share a batch; those of a CPU share one memory.
    """
    shared = devices if jax.default_backend() == "cpu" else 1
    needed, free = shared * runtime.needed_memory(program), runtime.free_device_memory()
    if free is None or needed <= free:
        return
    share = free / needed
    least = min(batch, devices)
    fewer = [int(batch * share / 2**n) // devices * devices for n in range(3)]
    smaller = [int(size * (share * batch / least) ** 0.5 / 2**n) // 16 * 16 for n in range(3)]
    choices = [(count, size) for count in dict.fromkeys(fewer) if count >= least]
    choices += [(least, side) for side in dict.fromkeys(smaller) if 16 <= side < size]
    advice = "make the network or the layers of the loss smaller"
    for count, side in choices:
        if shared * runtime.needed_memory(other(count, side)) <= free:
            narrower = f" with data.size={side}" if side < size else ""
            advice = f"data.batch={count}{narrower} would fit"
            break
    raise InputError(
        f"a training step with batches of {batch} at {size} pixels needs {needed / 1e9:.1f} GB, "
        f"but {free / 1e9:.1f} GB are free; {advice}."
    )


def painting(precision: str) -> Callable[[StyleModel, jax.Array], jax.Array]:
    """Return a function that stylizes a picture, compiled for each size."""
    options = runtime.compiler_options(precision)
    return jax.jit(functools.partial(stylize, precision=precision), compiler_options=options)


def samples(config: ml_collections.ConfigDict, photos: Photos) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a file name and pixels of sample photographs, spread over the source.

    What cannot be read is told and left out; the sizes and the number are `config.samples`'.

    Raises:
      InputError: none of them can be used.
    """
    count = max(1, min(config.samples.count, len(photos)))
    usable = False
    for index in [i * len(photos) // count for i in range(count)]:
        try:
            pixels = photos[index].astype(np.float32) / 255
        except UnreadablePhoto as error:
            print(error, flush=True)
            continue
        usable = True
        yield _file_name(photos, index), images.resize_shorter(pixels, config.samples.size)
    if not usable:
        raise InputError(
            f"none of the sample photographs of {photos.where} can be used; "
            "what was trained is saved."
        )


def _file_name(photos: Photos, index: int) -> str:
    """Name a photograph's result, with a number where an earlier photograph has the name."""
    stems = [pathlib.PurePosixPath(name).stem for name in photos.names[: index + 1]]
    earlier = stems[:-1].count(stems[-1])
    return f"{stems[-1]}-{earlier + 1}.png" if earlier else f"{stems[-1]}.png"


def tell_places(folder: pathlib.Path, places: Mapping[str, str]) -> None:
    """Print where the results are."""
    for what, where in places.items():
        print(f"  {what:<14} {folder / where}", flush=True)
