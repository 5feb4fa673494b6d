"""Optimize one picture, and show how it came to be.

WORKDIR afterwards holds `picture.png` (with the recipe in its metadata), `iterates/`, `strip.png`,
`loss.png`, `metrics.jsonl`, `config.json` and the checkpoints.
"""

import functools
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxstyle import features, losses, ops, optimize, painter, runtime, trainer, workdir
from jaxstyle.data import open_photos
from jaxstyle.io import images
from jaxstyle.io.paintings import painting_file
from jaxstyle.methods import per_image
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.reporting.plots import loss_plot
from jaxstyle.types import Array, InputError
from jaxstyle.weights import load_joined

_LONGEST_CHUNK = 20  # steps in one program, that is between looks at what came out
_SMALLEST = 16  # shorter side of a content


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Paint as configured, or go on where `folder` stands, and write the results.

    Args:
      config: from `configs/gatys.py` or like it.
      folder: the work folder.

    Returns:
      0 when finished, 1 when the numbers went bad, 128 + signal when interrupted.
    """
    # Wrong settings show in these lines, before a folder is made.
    trainer.check_counts(steps=config.steps, save_every=config.save_every)
    original, content, style = pictures(config)
    work, state, weights = prepare(config, content, style)
    with workdir.claim(folder, config.to_dict()) as claim:
        print(f"work folder: {claim.path} (the same command continues there)", flush=True)
        save = functools.partial(_save_iterate, config, claim.path, original)
        outcome = painter.paint(
            work,
            state,
            workdir=claim.path,
            steps=config.steps,
            chunk=_chunk(config),
            save_every=config.save_every,
            display_weights=weights,
            on_save=save,
        )
        if outcome.signal is not None:
            return 128 + outcome.signal
        save(outcome.step, np.asarray(work.picture(outcome.state)))
        _show(claim.path, content, style)
    return 1 if outcome.status == optimize.NOT_FINITE else 0


def pictures(config: ml_collections.ConfigDict) -> tuple[images.Picture | None, Any, Any]:
    """Return the content's file as it is, and both pictures in the size of the run."""
    if config.content:
        original = images.read(config.content)
        pixels = original.pixels
    else:
        source, original = open_photos(), None
        pixels = source[source.names.index("chelsea.png")].astype(np.float32) / 255
    longer = max(pixels.shape[:2]) if config.size == "original" else _number(config.size)
    content = images.resize_longer(pixels, longer)
    if not 0 <= config.margin < 1024:
        raise InputError(f"margin is {config.margin}; choose 0 to 1023 pixels.")
    if min(content.shape[:2]) < _SMALLEST:
        raise InputError(
            f"the content is {content.shape[1]}x{content.shape[0]} pixels; at least {_SMALLEST} "
            "each way are needed: choose a larger size or picture."
        )
    if not 0 < config.style_scale <= 8:
        raise InputError(f"style_scale is {config.style_scale}; choose one above 0, up to 8.")
    painting = images.read(painting_file(config.style)).pixels
    style = images.resize_longer(painting, max(_SMALLEST, round(longer * config.style_scale)))
    return original, content, style


def _number(size: str) -> int:
    if not str(size).isdigit() or int(size) < 1:
        raise InputError(f"size is '{size}'; give a number of pixels, e.g. 512, or 'original'.")
    return int(size)


def prepare(
    config: ml_collections.ConfigDict, content: np.ndarray, style: np.ndarray
) -> tuple[painter.Work, optimize.State, dict[str, float]]:
    """Return what to compute, where to begin and the weights of the terms."""
    deep = config.features.deep
    content = np.asarray(ops.pad2d(jnp.asarray(content), config.margin, "reflect"))
    perception, network = load_joined(
        config.features.name,
        config.features.weights,
        deep_name=deep.name,
        deep_path=deep.weights,
        deep_layers=deep.layers,
    )
    network = features.adjusted(
        network, pooling=config.features.pooling, padding=config.features.padding
    )
    problem, weights = problem_of(config, network)
    names = {name: config.solver[name] for name in config.solver}
    solver = optimize.solver(**names, steps=config.steps)
    first = per_image.first_picture(
        config.start, jnp.asarray(content), jnp.asarray(style), seed=config.seed
    )
    prepare = jax.jit(functools.partial(per_image.prepare, problem))
    targets = prepare(perception, jnp.asarray(content), jnp.asarray(style))
    context = per_image.Context(perception, targets, jax.tree.map(jnp.float32, weights))
    loss = functools.partial(per_image.loss, problem=problem)

    state = optimize.start(first, solver)

    @functools.cache
    def program(steps: int) -> jax.stages.Compiled:
        advance = functools.partial(optimize.advance, loss=loss, solver=solver, steps=steps)
        return jax.jit(advance, donate_argnums=0).lower(state, context).compile()

    @jax.jit
    def measure(state: optimize.State, context: per_image.Context) -> dict[str, Array]:
        total, terms = loss(optimize.picture(state, solver), context)
        return {"loss": total, **terms}

    _check_memory(program(min(_chunk(config), config.steps)), content.shape[:2])
    work = painter.Work(
        advance=lambda state, steps: program(steps)(state, context),
        measure=lambda state: measure(state, context),
        picture=jax.jit(lambda state: _cut(optimize.picture(state, solver), config.margin)),
    )
    return work, state, weights


def _cut(image: Array, margin: int) -> Array:
    height, width = image.shape[:2]
    return image[margin : height - margin, margin : width - margin]


def _chunk(config: ml_collections.ConfigDict) -> int:
    """Return how many steps one program does: a divisor of those between two saves."""
    return max(n for n in range(1, _LONGEST_CHUNK + 1) if config.save_every % n == 0)


def _check_memory(program: jax.stages.Compiled, size: tuple[int, ...]) -> None:
    """Refuse what would not fit, and say what would."""
    needed, free = runtime.needed_memory(program), runtime.free_memory()
    if jax.default_backend() == "cpu" and needed > free:
        fits = int(max(size) * math.sqrt(free / needed))
        raise InputError(
            f"{size[1]}x{size[0]} pixels (with the margin) need {needed / 1e9:.1f} GB, but "
            f"{free / 1e9:.1f} GB are free; a size of {fits // 16 * 16} would fit."
        )


def problem_of(
    config: ml_collections.ConfigDict, network: features.Network | features.Joined
) -> tuple[per_image.Problem, dict[str, float]]:
    """Return the objective and the weight of each of its terms."""
    part = config.objective
    objective = losses.combine(
        losses.content(part.content_layers, part.content_normalize),
        losses.style(part.style_layers, part.style_statistic, part.style_normalize),
        losses.total_variation(part.tv_kind),
    )
    weights = {"tv": part.tv}
    for kind, weight in (("content", part.alpha), ("style", part.beta)):
        shares = part[f"{kind}_layer_weights"] or None
        weights |= losses.layer_weights(kind, part[f"{kind}_layers"], weight, shares)
    losses.check_weights(weights)
    return per_image.Problem(objective, network), weights


def _save_iterate(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    original: images.Picture | None,
    step: int,
    pixels: np.ndarray,
) -> None:
    """Write the picture as it stands."""
    recipe = {"jaxstyle": json.dumps({"step": step, **workdir.flatten(config.to_dict())})}
    same = original is not None and original.pixels.shape == pixels.shape
    like = original if same else None
    (folder / "iterates").mkdir(exist_ok=True)
    images.write(folder / "iterates" / f"{step:05d}.png", pixels)
    images.write(folder / "picture.png", pixels, like=like, text=recipe)


def _show(folder: pathlib.Path, content: np.ndarray, style: np.ndarray) -> None:
    """Write the strip of iterates and the plot, and say where things are."""
    files = sorted((folder / "iterates").glob("*.png"))
    chosen = [files[round(i * (len(files) - 1) / 3)] for i in range(4)] if len(files) > 4 else files
    pictures = [content, style, *(images.read(file).pixels for file in chosen)]
    labels = ["content", "style", *(f"step {int(file.stem)}" for file in chosen)]
    contact_sheet([pictures], folder / "strip.png", column_labels=labels)
    if (folder / painter.METRICS_FILE).exists():  # not where the very first number was bad
        loss_plot(folder / painter.METRICS_FILE, folder / "loss.png")
    for what, where in {
        "picture": "picture.png",
        "iterates": "strip.png",
        "loss plot": "loss.png",
        "metrics": painter.METRICS_FILE,
        "settings": workdir.CONFIG_FILE,
    }.items():
        print(f"  {what:<14} {folder / where}", flush=True)
