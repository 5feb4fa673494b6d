"""Train an image-transformation network for one painting, then show what it does to photographs.

WORKDIR afterwards holds `model/` (what `python -m jaxstyle stylize` takes), `stylized/`,
`contact_sheet.png`, `loss.png`, `metrics.jsonl`, `config.json` and the checkpoints.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import _training
from experiments._training import perception_of
from jaxstyle import distributed, features, networks, trainer, training, workdir
from jaxstyle.data import PhotoBatches, Photos, make_batches, open_photos
from jaxstyle.io import images, models
from jaxstyle.methods import StyleModel
from jaxstyle.placement import Placement, place
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.reporting.plots import loss_plot
from jaxstyle.training import feedforward, optimizers


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Train as configured, or go on where `folder` stands, and write the results.

    Args:
      config: from `configs/starry_fast.py` or like it.
      folder: the work folder.

    Returns:
      0 when finished, 128 + signal when interrupted.
    """
    # Wrong settings show in these lines, before a folder is made and long before the samples' turn.
    _training.check_counts(config, **{"style.size": config.style.size})
    network = networks.TransformerConfig(**config.network)
    samples = open_photos(config.samples.photos)
    placement = place(config.data.batch)
    train, batches = _prepare(config, network, placement)
    with distributed.claim(folder, config.to_dict(), placement.group) as path:
        placement.group.say(f"work folder: {path} (the same command continues there)")
        outcome = train(workdir=path)
        if batches.skipped.summary():
            print(batches.skipped.summary(), flush=True)
        if outcome.signal is not None:
            return 128 + outcome.signal
        if not placement.group.first:
            return 0
        model = StyleModel({"params": outcome.state.params, **outcome.state.extra}, network)
        _save(config, path, model, outcome)
        _show(config, path, model, samples)
    return 0


def _prepare(
    config: ml_collections.ConfigDict,
    network: networks.TransformerConfig,
    placement: Placement,
) -> tuple[Callable[..., trainer.Outcome[training.TrainState]], PhotoBatches]:
    """Return the training run, ready but for its work folder, and its data."""
    settings = _training.batch_settings(config, placement.group)
    batches = make_batches(open_photos(config.data.photos), **settings)
    picture = _training.style_picture(config.style.image, config.style.size)
    perception, loss_network = perception_of(config)
    problem, weights = problem_of(config, loss_network)
    optimizer = optimizers.adam(
        config.optimizer.learning_rate, schedule=config.optimizer.schedule, steps=config.steps
    )

    def create(variables: dict[str, Any]) -> training.TrainState:
        params = variables.pop("params")
        return training.create(params, optimizer, metrics=("loss", *weights), extra=variables)

    look = functools.partial(feedforward.style_targets, problem)
    train = _training.ready(
        config,
        feedforward.make_step(problem, network, optimizer),
        _training.initial(config, network, create),
        _training.Later(look, perception, picture, precision=config.precision),
        {"perception": perception, "weights": weights},
        batches,
        placement,
        pictures=config.data.batch,
        display_weights=weights,
    )
    return train, batches


def problem_of(
    config: ml_collections.ConfigDict, network: features.Network | features.Joined
) -> tuple[feedforward.Problem, dict[str, float]]:
    """Return the objective and the weight of each of its terms."""
    weights = _training.weights_of(
        config, style=config.style.weight, content=config.content.weight, tv=config.tv.weight
    )
    return _training.objective_of(config, network), weights


def _save(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    model: StyleModel,
    outcome: trainer.Outcome[training.TrainState],
) -> None:
    card = {
        "style": {"image": pathlib.Path(config.style.image).name, "size": config.style.size},
        "config": workdir.flatten(config.to_dict()),
        "training": {"steps": outcome.step, "images": outcome.step * config.data.batch},
        "license": "as the style picture and the photographs it was trained on allow",
    }
    models.save_model(folder / "model", model, card)
    loss_plot(folder / trainer.METRICS_FILE, folder / "loss.png", title=str(config.style.image))


def _show(
    config: ml_collections.ConfigDict, folder: pathlib.Path, model: StyleModel, photos: Photos
) -> None:
    """Stylize sample photographs, each a file and all on one sheet, and say where things are."""
    painting = np.asarray(_training.style_picture(config.style.image, config.style.size))
    paint = _training.painting(config.precision)
    (folder / "stylized").mkdir(exist_ok=True)
    pairs: list[list[np.ndarray]] = []
    began = time.monotonic()
    for name, photo in _training.samples(config, photos):
        painted = np.asarray(paint(model, jnp.asarray(photo)))
        images.write(folder / "stylized" / name, painted)
        pairs.append([photo, painted])
    rows = [sum(pairs[i : i + 2], []) for i in range(0, len(pairs), 2)]
    labels = ["photo", "stylized"] * (len(rows[0]) // 2)
    contact_sheet([*rows, [painting]], folder / "contact_sheet.png", column_labels=labels)
    print(f"stylized {len(pairs)} photographs in {time.monotonic() - began:.1f} s")
    places = {
        "model": "model",
        "pictures": "stylized",
        "contact sheet": "contact_sheet.png",
        "loss plot": "loss.png",
        "metrics": trainer.METRICS_FILE,
        "settings": workdir.CONFIG_FILE,
    }
    _training.tell_places(folder, places)
    print(
        f"next: python -m jaxstyle stylize PHOTO --model {folder / 'model'} --out OUT", flush=True
    )
