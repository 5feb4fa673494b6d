"""Distill perceptual networks into a small one with the same layer names.

WORKDIR afterwards holds `embedded.safetensors` (float16, what `--config.features.weights` takes),
`loss.png`, `metrics.jsonl`, `config.json` and the checkpoints.
"""

import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxstyle import features, trainer, training, workdir
from jaxstyle.data import PhotoBatches, make_batches, open_photos
from jaxstyle.reporting.plots import loss_plot
from jaxstyle.training import counterexamples, distillation, optimizers
from jaxstyle.types import InputError
from jaxstyle.weights import formats, load_weights

_LOOKED_AT = 4  # batches, to see which channels of the readouts say most


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Distill as configured, or go on where `folder` stands, and write the student.

    Args:
      config: from `configs/distill.py`.
      folder: the work folder.

    Returns:
      0 when finished, 128 + signal when interrupted.
    """
    # Wrong settings show in these lines, before a folder is made.
    trainer.check_counts(
        **{
            "steps": config.steps,
            "log_every": config.log_every,
            "checkpoint.every": config.checkpoint.every,
            "checkpoint.keep": config.checkpoint.keep,
        }
    )
    if not 0 <= 2 * config.counterexamples <= config.data.batch:
        raise InputError(
            f"counterexamples is {config.counterexamples}; a batch of {config.data.batch} has room "
            f"for 0 to {config.data.batch // 2}."
        )
    student = features.network(config.student)
    train, batches = _prepare(config, student)
    with workdir.claim(folder, config.to_dict()) as claim:
        print(f"work folder: {claim.path} (the same command continues there)", flush=True)
        outcome = train(workdir=claim.path)
        if batches.skipped.summary():
            print(batches.skipped.summary(), flush=True)
        if outcome.signal is not None:
            return 128 + outcome.signal
        _save(config, claim.path, student, outcome.state, _some(batches))
    return 0


def _prepare(
    config: ml_collections.ConfigDict, student: features.Network
) -> tuple[Callable[..., trainer.Outcome[training.TrainState]], PhotoBatches]:
    """Return the training run, ready but for its work folder, and its data."""
    teachers = [_teacher(part, config.seed) for part in config.teachers.values()]
    blank = jax.ShapeDtypeStruct((1, config.data.size, config.data.size, 3), jnp.float32)
    maps = jax.eval_shape(functools.partial(distillation.targets, teachers), blank)
    channels = {layer: spec.shape[-1] for layer, spec in maps.items()}
    params = distillation.initialize(jax.random.key(config.seed), student, channels)
    optimizer = optimizers.adam(
        config.optimizer.learning_rate, schedule="cosine", steps=config.steps
    )
    step = distillation.make_step(
        teachers, student, optimizer, config.seed, gram_weight=config.gram_weight
    )
    count = config.counterexamples
    extra = {"pool": counterexamples.start(count, config.data.size)} if count else {}
    batches = make_batches(
        open_photos(config.data.photos),
        size=config.data.size,
        batch=config.data.batch,
        seed=config.seed,
        scale=config.data.scale,
    )
    train = functools.partial(
        trainer.train,
        functools.partial(
            jax.jit(step, donate_argnums=0), params=[teacher.params for teacher in teachers]
        ),
        training.create(
            params, optimizer, metrics=("loss", *distillation.terms(tuple(channels))), extra=extra
        ),
        batches,
        steps=config.steps,
        batch_size=config.data.batch,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
    )
    return train, batches


def _teacher(part: ml_collections.ConfigDict, seed: int) -> distillation.Teacher:
    if part.weights != "random":
        return distillation.Teacher(*load_weights(part.name, part.weights), tuple(part.layers))
    network = features.network(part.name)
    params = features.initialize(jax.random.key(seed), network)
    return distillation.Teacher(params, network, tuple(part.layers))


def _some(batches: PhotoBatches) -> jax.Array:
    """Return the first pictures of the training, as `[b, h, w, 3]` in [0, 1]."""
    stream = iter(batches)
    first = np.concatenate([next(stream) for _ in range(_LOOKED_AT)])
    stream.close()
    return jnp.asarray(first, jnp.float32) / 255


def _save(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    student: features.Network,
    state: training.TrainState,
    photos: jax.Array,
) -> None:
    params = jax.jit(distillation.finish, static_argnames="student")(
        state.params, student=student, image=photos
    )
    file = folder / f"{config.student}.safetensors"
    formats.write(file, params, {"network": config.student, "steps": str(config.steps)})
    loss_plot(folder / trainer.METRICS_FILE, folder / "loss.png", title="relative errors")
    size = file.stat().st_size / 2**20
    print(f"  weights        {file} ({size:.2f} MiB)")
    print(f"  loss plot      {folder / 'loss.png'}")
    print(f"  metrics        {folder / trainer.METRICS_FILE}", flush=True)
