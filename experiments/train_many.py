"""Train several style networks at once on the same photographs, and show what they do.

WORKDIR afterwards holds `models/NAME/` (what `python -m jaxstyle stylize` takes, one or all),
`stylized/NAME/`, `contact_sheet.png` (photographs by networks), `losses/NAME.png` and `.jsonl`,
`metrics.jsonl` (of all), `config.json` and the checkpoints.
"""

import dataclasses
import json
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import _training
from jaxstyle import distributed, networks, trainer, training, workdir
from jaxstyle.data import PhotoBatches, Photos, make_batches, open_photos
from jaxstyle.io import images, models
from jaxstyle.methods import StyleModel
from jaxstyle.placement import Placement, place
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.reporting.metrics_file import read_metrics
from jaxstyle.reporting.plots import loss_plot
from jaxstyle.training import feedforward, many, optimizers
from jaxstyle.types import InputError, Params


@dataclasses.dataclass(frozen=True)
class Wish:
    """What one network is trained for: a picture, its shorter side, and weights of the loss."""

    image: str
    size: int
    style: float
    content: float
    tv: float


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Train as configured, or go on where `folder` stands, and write the results.

    Args:
      config: from `configs/starry_many.py` or like it.
      folder: the work folder.

    Returns:
      0 when finished, 128 + signal when interrupted.
    """
    _training.check_counts(config)
    wishes = wishes_of(config)
    network = networks.TransformerConfig(**config.network)
    samples = open_photos(config.samples.photos)
    placement = place(config.data.batch)
    train, batches = _prepare(config, network, wishes, placement)
    with distributed.claim(folder, config.to_dict(), placement.group) as path:
        placement.group.say(f"work folder: {path} (the same command continues there)")
        outcome = train(workdir=path)
        if batches.skipped.summary():
            print(batches.skipped.summary(), flush=True)
        if outcome.signal is not None:
            return 128 + outcome.signal
        if not placement.group.first:
            return 0
        variables = {"params": outcome.state.params, **outcome.state.extra}
        trained = {
            name: StyleModel(many.network_of(variables, i), network)
            for i, name in enumerate(wishes)
        }
        _save(config, path, trained, wishes)
        _show(config, path, trained, wishes, samples)
    return 0


def wishes_of(config: ml_collections.ConfigDict) -> dict[str, Wish]:
    """Return what each network is trained for, by its name.

    Raises:
      InputError: tuples of several lengths, two networks for the same thing, or names that cannot
        be folders.
    """
    columns = {
        "style.images": config.style.images,
        "style.sizes": config.style.sizes,
        "style.weights": config.style.weights,
        "content.weights": config.content.weights,
        "tv.weights": config.tv.weights,
    }
    count = max(map(len, columns.values()))
    for key, column in columns.items():
        if len(column) not in (1, count) or isinstance(column, str):
            raise InputError(
                f"{key} has {len(column)} entries for {count} networks; give one for each, or one "
                "for all."
            )
    full = [tuple(column) * (count if len(column) == 1 else 1) for column in columns.values()]
    wishes = [
        Wish(str(image), int(size), float(style), float(content), float(tv))
        for image, size, style, content, tv in zip(*full, strict=True)
    ]
    trainer.check_counts(**{"style.sizes": min(wish.size for wish in wishes)})
    names = list(config.names) or _names(wishes)
    _check_names(names, count)
    return dict(zip(names, wishes, strict=True))


def _names(wishes: Sequence[Wish]) -> list[str]:
    """Name networks by their pictures, and those of one picture by what else they differ in."""
    stems = [pathlib.PurePath(wish.image).stem for wish in wishes]
    named = []
    for stem, wish in zip(stems, wishes, strict=True):
        alike = [w for s, w in zip(stems, wishes, strict=True) if s == stem]
        parts = [
            f"{key}={getattr(wish, key):g}"
            for key in ("size", "style", "content", "tv")
            if len({getattr(other, key) for other in alike}) > 1
        ]
        named.append("_".join([stem, *parts]))
    return named


def _check_names(names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise InputError(f"{len(names)} names are given for {count} networks; give one for each.")
    (name, times), *_ = Counter(name.casefold() for name in names).most_common(1)
    if times > 1:
        raise InputError(
            f"{times} networks are called '{name}'; let them differ, or name them, e.g. "
            "--config.names=\"('one', 'two')\"."
        )
    for name in names:
        if not name or name[0] == "." or set(name) & set("/\\,"):
            raise InputError(
                f"a network cannot be called '{name}'; its name is a folder's, without '/', ',' or "
                "a dot at the beginning."
            )


def _prepare(
    config: ml_collections.ConfigDict,
    network: networks.TransformerConfig,
    wishes: Mapping[str, Wish],
    placement: Placement,
) -> tuple[Callable[..., trainer.Outcome[training.TrainState]], PhotoBatches]:
    """Return the training run, ready but for its work folder, and its data."""
    settings = _training.batch_settings(config, placement.group)
    batches = make_batches(open_photos(config.data.photos), **settings)
    pictures = [_training.style_picture(wish.image, wish.size) for wish in wishes.values()]
    perception, loss_network = _training.perception_of(config)
    problem = _training.objective_of(config, loss_network)
    weights = [
        _training.weights_of(config, style=wish.style, content=wish.content, tv=wish.tv)
        for wish in wishes.values()
    ]
    optimizer = optimizers.adam(
        config.optimizer.learning_rate, schedule=config.optimizer.schedule, steps=config.steps
    )
    names = tuple(wishes)
    formulation = config.formulation or many.formulation_for(jax.default_backend())
    step = many.make_step(problem, network, optimizer, names, formulation=formulation)

    def create(variables: dict[str, Any]) -> training.TrainState:
        every, terms = [variables] * len(names), tuple(weights[0])
        return many.create(every, optimizer, names=names, terms=terms)

    def look(perception: Params, pictures: Sequence[jax.Array]) -> Any:
        targets = [feedforward.style_targets(problem, perception, one) for one in pictures]
        return many.stacked(targets)

    stacked = many.stacked([jax.tree.map(jnp.float32, own) for own in weights])
    train = _training.ready(
        config,
        step,
        _training.initial(config, network, create),
        _training.Later(look, perception, pictures, precision=config.precision),
        {"perception": perception, "weights": stacked},
        batches,
        placement,
        pictures=config.data.batch * len(names),
        display_weights={f"{name}/loss": 1.0 for name in names},
    )
    return train, batches


def _save(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    trained: Mapping[str, StyleModel],
    wishes: Mapping[str, Wish],
) -> None:
    records = read_metrics(folder / trainer.METRICS_FILE)
    (folder / "losses").mkdir(exist_ok=True)
    for name, model in trained.items():
        wish = dataclasses.asdict(wishes[name]) | {"image": pathlib.Path(wishes[name].image).name}
        card = {
            "style": wish,
            "config": workdir.flatten(config.to_dict()),
            "training": {"steps": config.steps, "images": config.steps * config.data.batch},
            "license": "as the style picture and the photographs it was trained on allow",
        }
        models.save_model(folder / "models" / name, model, card)
        own = folder / "losses" / f"{name}.jsonl"
        own.write_text("".join(json.dumps(_own(record, name)) + "\n" for record in records))
        loss_plot(own, own.with_name(f"{name}.png"), title=name)


def _own(record: Mapping[str, float], name: str) -> dict[str, float]:
    """Return one network's part of a line of the metrics file."""
    start = f"{name}/"
    parts = {key.removeprefix(start): record[key] for key in record if key.startswith(start)}
    return {"step": record["step"], "loss": parts["loss"], **parts}


def _show(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    trained: Mapping[str, StyleModel],
    wishes: Mapping[str, Wish],
    photos: Photos,
) -> None:
    """Stylize sample photographs, each a file and all on one sheet, and say where things are."""
    paint = _training.painting(config.precision)
    began = time.monotonic()
    styles = [np.asarray(_training.style_picture(w.image, w.size)) for w in wishes.values()]
    blank = np.ones((1, 1, 3), np.float32)
    rows = [[blank, *styles]]
    for file, photo in _training.samples(config, photos):
        row = [photo]
        for name, model in trained.items():
            row.append(np.asarray(paint(model, jnp.asarray(photo))))
            (folder / "stylized" / name).mkdir(parents=True, exist_ok=True)
            images.write(folder / "stylized" / name / file, row[-1])
        rows.append(row)
    contact_sheet(rows, folder / "contact_sheet.png", column_labels=["photo", *trained])
    count, seconds = len(rows) - 1, time.monotonic() - began
    print(f"stylized {count} photographs in {len(trained)} styles in {seconds:.1f} s")
    places = {
        "models": "models",
        "pictures": "stylized",
        "contact sheet": "contact_sheet.png",
        "loss plots": "losses",
        "metrics": trainer.METRICS_FILE,
        "settings": workdir.CONFIG_FILE,
    }
    _training.tell_places(folder, places)
    models_folder = folder / "models"
    print(f"next: python -m jaxstyle stylize PHOTO --model {models_folder} --out OUT", flush=True)
