"""Train an image-transformation network for one painting, then show what it does to photographs.

WORKDIR afterwards holds `model/` (what `python -m jaxstyle stylize` takes), `stylized/`,
`contact_sheet.png`, `loss.png`, `metrics.jsonl`, `config.json` and the checkpoints.
"""

import functools
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxstyle import checkpoints, features, losses, networks, trainer, training, workdir
from jaxstyle.data import PhotoBatches, Photos, UnreadablePhoto, make_batches, open_photos
from jaxstyle.io import images, models
from jaxstyle.io.paintings import painting_file
from jaxstyle.methods import StyleModel, stylize
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.reporting.plots import loss_plot
from jaxstyle.training import feedforward, optimizers
from jaxstyle.types import InputError, Params
from jaxstyle.weights import load_joined


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Train as configured, or go on where `folder` stands, and write the results.

    Args:
      config: from `configs/starry_fast.py` or like it.
      folder: the work folder.

    Returns:
      0 when finished, 128 + signal when interrupted.
    """
    # Wrong settings show in these lines, before a folder is made and long before the samples' turn.
    _check_counts(config)
    network = networks.TransformerConfig(**config.network)
    samples = open_photos(config.samples.photos)
    train, batches = _prepare(config, network)
    with workdir.claim(folder, config.to_dict()) as claim:
        print(f"work folder: {claim.path} (the same command continues there)", flush=True)
        outcome = train(workdir=claim.path)
        if batches.skipped.summary():
            print(batches.skipped.summary(), flush=True)
        if outcome.signal is not None:
            return 128 + outcome.signal
        model = StyleModel({"params": outcome.state.params, **outcome.state.extra}, network)
        _save(config, claim.path, model, outcome)
        _show(config, claim.path, model, samples)
    return 0


def _check_counts(config: ml_collections.ConfigDict) -> None:
    trainer.check_counts(
        **{
            "steps": config.steps,
            "log_every": config.log_every,
            "checkpoint.every": config.checkpoint.every,
            "checkpoint.keep": config.checkpoint.keep,
            "style.size": config.style.size,
            "samples.count": config.samples.count,
            "samples.size": config.samples.size,
        }
    )


def _prepare(
    config: ml_collections.ConfigDict, network: networks.TransformerConfig
) -> tuple[Callable[..., trainer.Outcome[training.TrainState]], PhotoBatches]:
    """Return the training run, ready but for its work folder, and its data."""
    batches = make_batches(
        open_photos(config.data.photos),
        size=config.data.size,
        batch=config.data.batch,
        seed=config.seed,
        flip=config.data.flip,
        scale=config.data.scale,
        workers=config.data.workers,
    )
    picture = _style_picture(config)
    perception, loss_network = perception_of(config)
    problem, weights = problem_of(config, loss_network)
    optimizer = optimizers.adam(
        config.optimizer.learning_rate, schedule=config.optimizer.schedule, steps=config.steps
    )
    variables = dict(networks.init(jax.random.key(config.seed), network))
    params = variables.pop("params")
    if config.checkpoint.restore:
        params = _restored(config.checkpoint.restore, params)
    state = training.create(params, optimizer, metrics=("loss", *weights), extra=variables)
    prepare = jax.jit(functools.partial(feedforward.style_targets, problem))  # 4x faster compiled
    style = prepare(perception, picture)
    step = functools.partial(
        jax.jit(feedforward.make_step(problem, network, optimizer), donate_argnums=0),
        perception=perception,
        style=style,
        weights=weights,
    )
    # Computes nothing, but shows a layer or a size that does not fit; the run reuses the trace.
    shape = (config.data.batch, config.data.size, config.data.size, 3)
    jax.eval_shape(step, state, jax.ShapeDtypeStruct(shape, jnp.uint8))
    train = functools.partial(
        trainer.train,
        step,
        state,
        batches,
        steps=config.steps,
        batch_size=config.data.batch,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
        display_weights=weights,
    )
    return train, batches


def perception_of(
    config: ml_collections.ConfigDict,
) -> tuple[Params, features.Network | features.Joined]:
    """Load the loss network; some of its layers may be another's."""
    deep = config.features.deep
    return load_joined(
        config.features.name,
        config.features.weights,
        deep_name=deep.name,
        deep_path=deep.weights,
        deep_layers=deep.layers,
    )


def problem_of(
    config: ml_collections.ConfigDict, network: features.Network | features.Joined
) -> tuple[feedforward.Problem, dict[str, float]]:
    """Return the objective and the weight of each of its terms."""
    problem = feedforward.Problem(
        losses.content(config.content.layers, config.content.normalize),
        losses.style(config.style.layers, config.style.statistic, config.style.normalize),
        losses.total_variation(config.tv.kind),
        features.adjusted(
            network, pooling=config.features.pooling, padding=config.features.padding
        ),
    )
    weights = {"tv": config.tv.weight}
    for kind in ("content", "style"):
        part = config[kind]
        shares = part.layer_weights or None
        weights |= losses.layer_weights(kind, part.layers, part.weight, shares)
    losses.check_weights(weights)
    return problem, weights


def _style_picture(config: ml_collections.ConfigDict) -> jax.Array:
    picture = images.read(painting_file(config.style.image)).pixels
    return jnp.asarray(images.resize_shorter(picture, config.style.size))


def _restored(where: str, params: dict) -> dict:
    """Take initial parameters from another run's folder or a model folder."""
    if (pathlib.Path(where).expanduser() / models.CARD).exists():
        model, _ = models.load_model(where)
        if jax.tree.map(jnp.shape, dict(model.params["params"])) != jax.tree.map(jnp.shape, params):
            raise InputError(f"the model in '{where}' is of another architecture than this run's.")
        return jax.tree.map(jnp.asarray, dict(model.params["params"]))
    return checkpoints.load_params(where, params)


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
    painting = np.asarray(_style_picture(config))
    paint = jax.jit(stylize)
    (folder / "stylized").mkdir(exist_ok=True)
    pairs: list[list[np.ndarray]] = []
    began = time.monotonic()
    for index in _spread(photos, config.samples.count):
        try:
            pixels = photos[index].astype(np.float32) / 255
        except UnreadablePhoto as error:
            print(error, flush=True)
            continue
        photo = images.resize_shorter(pixels, config.samples.size)
        painted = np.asarray(paint(model, jnp.asarray(photo)))
        images.write(folder / "stylized" / _file_name(photos, index), painted)
        pairs.append([photo, painted])
    if not pairs:
        raise InputError(
            f"none of the sample photographs of {photos.where} can be used; "
            "the model is trained and saved."
        )
    rows = [sum(pairs[i : i + 2], []) for i in range(0, len(pairs), 2)]
    labels = ["photo", "stylized"] * (len(rows[0]) // 2)
    contact_sheet([*rows, [painting]], folder / "contact_sheet.png", column_labels=labels)
    print(f"stylized {len(pairs)} photographs in {time.monotonic() - began:.1f} s")
    for what, where in {
        "model": "model",
        "pictures": "stylized",
        "contact sheet": "contact_sheet.png",
        "loss plot": "loss.png",
        "metrics": trainer.METRICS_FILE,
        "settings": workdir.CONFIG_FILE,
    }.items():
        print(f"  {what:<14} {folder / where}")
    print(
        f"next: python -m jaxstyle stylize PHOTO --model {folder / 'model'} --out OUT", flush=True
    )


def _file_name(photos: Photos, index: int) -> str:
    """Name a photograph's result, with a number where an earlier photograph has the name."""
    stems = [pathlib.PurePosixPath(name).stem for name in photos.names[: index + 1]]
    earlier = stems[:-1].count(stems[-1])
    return f"{stems[-1]}-{earlier + 1}.png" if earlier else f"{stems[-1]}.png"


def _spread(photos: Photos, count: int) -> list[int]:
    """Indices of at most `count` photographs, spread over the source."""
    count = max(1, min(count, len(photos)))
    return [i * len(photos) // count for i in range(count)]
