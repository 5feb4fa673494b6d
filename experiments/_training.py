"""From a config to what a training of style networks is made of."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxstyle import checkpoints, features, losses, networks, trainer, training
from jaxstyle.data import PhotoBatches, Photos, UnreadablePhoto
from jaxstyle.io import images, models
from jaxstyle.io.scenes import picture_file
from jaxstyle.training import feedforward
from jaxstyle.types import InputError, Params
from jaxstyle.weights import load_joined

Perception = tuple[Params, features.Network | features.Joined]


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


def batch_settings(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return what `make_batches` is told besides the photographs."""
    data = config.data
    settings = ("size", "batch", "flip", "scale", "workers")
    return {"seed": config.seed, **{name: data[name] for name in settings}}


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


def initial(config: ml_collections.ConfigDict, network: networks.TransformerConfig) -> dict:
    """Return the variables a network begins with: drawn, or those of another run or model."""
    variables = dict(networks.init(jax.random.key(config.seed), network))
    if config.checkpoint.restore:
        variables["params"] = _restored(config.checkpoint.restore, variables["params"])
    return variables


def _restored(where: str, params: dict) -> dict:
    if (pathlib.Path(where).expanduser() / models.CARD).exists():
        model, _ = models.load_model(where)
        if jax.tree.map(jnp.shape, dict(model.params["params"])) != jax.tree.map(jnp.shape, params):
            raise InputError(f"the model in '{where}' is of another architecture than this run's.")
        return jax.tree.map(jnp.asarray, dict(model.params["params"]))
    return checkpoints.load_params(where, params)


def ready(
    config: ml_collections.ConfigDict,
    step: Callable[..., training.TrainState],
    state: training.TrainState,
    batches: PhotoBatches,
    *,
    pictures: int,
    display_weights: Mapping[str, float],
) -> Callable[..., trainer.Outcome[training.TrainState]]:
    """Return the training run, ready but for its work folder; refuse what does not fit.

    Args:
      config: of the run.
      step: of everything but state and batch.
      state: before the first step.
      batches: of photographs.
      pictures: painted in a step, for the speed shown.
      display_weights: see `trainer.train`.
    """
    # Computes nothing, but shows a layer or a size that does not fit; the run reuses the trace.
    shape = (config.data.batch, config.data.size, config.data.size, 3)
    jax.eval_shape(step, state, jax.ShapeDtypeStruct(shape, jnp.uint8))
    return functools.partial(
        trainer.train,
        step,
        state,
        batches,
        steps=config.steps,
        batch_size=pictures,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
        display_weights=display_weights,
    )


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
