"""Let a network dream of one picture, or fall into it, frame after frame.

WORKDIR afterwards holds `picture.png` (with the recipe in its metadata), `octaves/`, `strip.png`,
`metrics.jsonl`, `config.json`, and for more than one frame `frames/00000.png` and so on, each
dreamt of the middle of the one before. Frames are read back from their files, so a run that was
stopped or killed goes on to the same bits; within a frame it goes on from `octave.npz`.
"""

import functools
import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import _memory
from jaxstyle import features, losses, ops, runtime, trainer, workdir
from jaxstyle.io import images, scenes
from jaxstyle.methods.deepdream import (
    Recipe,
    dream_octave,
    octave_sizes,
    prepare_dream,
    with_colors_of,
    zoom,
)
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.reporting.progress import Progress
from jaxstyle.signals import StopSignals
from jaxstyle.types import Array, InputError
from jaxstyle.weights import load_joined

# `(octave, original, picture after the octave before, seed) -> (picture, history)`
Program = Callable[[int, Array, Array | None, int], tuple[Array, Array]]


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Dream as configured, or go on where `folder` stands, and write the results.

    Args:
      config: from `configs/deepdream.py`.
      folder: the work folder.

    Returns:
      0 when finished, 1 when the numbers went bad, 128 + signal when interrupted.
    """
    # Wrong settings show in these lines, before a folder is made; so does a size beyond memory.
    trainer.check_counts(frames=config.frames)
    original, first = picture_of(config)
    program = prepare(config, first)
    with workdir.claim(folder, config.to_dict()) as claim:
        print(f"work folder: {claim.path} (the same command continues there)", flush=True)
        status = _dream(config, claim.path, program, original, first)
        if status == 0:
            _show(config, claim.path, first)
    return status


def picture_of(config: ml_collections.ConfigDict) -> tuple[images.Picture, np.ndarray]:
    """Return the picture's file as it is, and its pixels in the size of the run."""
    original = images.read(scenes.picture_file(config.content))
    size = str(config.size)
    if size != "original" and (not size.isdigit() or int(size) < 1):
        raise InputError(f"size is '{size}'; give a number of pixels, e.g. 512, or 'original'.")
    longer = max(original.pixels.shape) if size == "original" else int(size)
    if not 0 <= config.margin < 1024:
        raise InputError(f"margin is {config.margin}; choose 0 to 1023 pixels.")
    if not 0 <= config.keep_colors <= 1:
        raise InputError(f"keep_colors is {config.keep_colors}; choose 0 to 1.")
    zoom(jnp.zeros((1, 1, 3)), config.zoom)
    return original, images.resize_longer(original.pixels, longer)


def prepare(config: ml_collections.ConfigDict, first: np.ndarray) -> Program:
    """Return what to compute, compiled for this size."""
    deep, settings = config.features.deep, config.dream.to_dict()
    names = {"deep_name": deep.name, "deep_path": deep.weights, "deep_layers": deep.layers}
    params, network = load_joined(config.features.name, config.features.weights, **names)
    network = features.adjusted(
        network, pooling=config.features.pooling, padding=config.features.padding
    )
    weights, numbers = settings.pop("layer_weights"), {}
    for name in ("step_size", "tv"):
        numbers[name] = settings.pop(name)
        if not 0 <= numbers[name] < math.inf:
            raise InputError(f"{name} is {numbers[name]}; give 0 or more.")
    if weights:
        losses.check_weights(dict(zip(settings["layers"], weights, strict=False)))
    channel = None if settings["channel"] < 0 else settings["channel"]
    recipe = Recipe(network, **settings | {"channel": channel, "guided": bool(config.guide)})
    context = prepare_dream(
        params, recipe, guide=_guide(config), weights=weights or None, **numbers
    )
    base = ops.pad2d(jnp.asarray(first), config.margin, "reflect")
    sizes = octave_sizes(base.shape[0], base.shape[1], recipe.octaves, recipe.octave_scale)

    options = runtime.compiler_options()

    @functools.cache
    def compiled(octave: int) -> jax.stages.Compiled:
        before = jnp.zeros((*sizes[octave - 1], 3)) if octave else None
        how: dict[str, Any] = {"recipe": recipe, "octave": octave}
        return dream_octave.lower(base, before, context, 0, **how).compile(options)

    largest = compiled(recipe.octaves - 1)
    _memory.check(largest, base.shape, params, margin=config.margin)
    compiled(0)  # a layer may need a larger smallest octave
    return lambda octave, image, before, seed: compiled(octave)(image, before, context, seed)


def _guide(config: ml_collections.ConfigDict) -> Array | None:
    if not config.guide:
        return None
    pixels = images.read(scenes.picture_file(config.guide)).pixels
    return jnp.asarray(images.resize_longer(pixels, max(1, config.guide_size)))


def _dream(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    program: Program,
    original: images.Picture,
    first: np.ndarray,
) -> int:
    """Dream the frames and octaves that are missing."""
    octaves = config.dream.octaves
    total = config.frames * octaves
    done, before = _standing(config, folder)
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.cut_back(done)
    bar = Progress(start=done, steps=total, batch_size=0, enabled=done < total)
    with StopSignals() as stop, bar:
        if done:
            bar.say(f"continuing at octave {done} of {total}" if done < total else "all is done")
        while done < total and stop.signal is None:
            frame, octave = divmod(done, octaves)
            base = ops.pad2d(_seen(config, folder, frame, first), config.margin, "reflect")
            before, history = program(octave, base, before, config.seed + frame)
            values = {"first_loss": np.float32(history[0]), "loss": np.float32(history[-1])}
            if not (np.isfinite(list(values.values())).all() and jnp.isfinite(before).all()):
                bar.say(f"the loss became NaN or infinite in octave {done + 1}")
                return 1
            done += 1
            bar.advance(done)
            metrics.append(done, values)
            bar.metrics(done, values)
            _save(config, folder, done, np.asarray(before), original, first)
            before = before if done % octaves else None
    if stop.signal is None:
        return 0
    bar.say(f"stopped after octave {done} of {total}; the same command continues")
    return 128 + stop.signal


def _file(config: ml_collections.ConfigDict, folder: pathlib.Path, frame: int) -> pathlib.Path:
    return folder / (f"frames/{frame:05d}.png" if config.frames > 1 else "picture.png")


def _standing(config: ml_collections.ConfigDict, folder: pathlib.Path) -> tuple[int, Any]:
    """Return how many octaves of all frames are done, and the picture after the last."""
    frame = 0
    while frame < config.frames and _file(config, folder, frame).exists():
        frame += 1
    if (folder / "octave.npz").exists():
        with np.load(folder / "octave.npz") as state:
            if state["done"] // config.dream.octaves == frame:
                return int(state["done"]), jnp.asarray(state["picture"])
    return frame * config.dream.octaves, None


def _seen(
    config: ml_collections.ConfigDict, folder: pathlib.Path, frame: int, first: np.ndarray
) -> Array:
    """Return what a frame is dreamt of: the picture, or the middle of the frame before."""
    if not frame:
        return jnp.asarray(first)
    before = images.read(_file(config, folder, frame - 1)).pixels
    return zoom(jnp.asarray(before), config.zoom)


def _save(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    done: int,
    picture: np.ndarray,
    original: images.Picture,
    first: np.ndarray,
) -> None:
    """Write what there is after an octave."""
    frame, octave = divmod(done - 1, config.dream.octaves)
    later = config.dream.octaves - 1 - octave
    margin = math.floor(config.margin * config.dream.octave_scale**-later + 0.5)
    inner = picture[margin : len(picture) - margin, margin : picture.shape[1] - margin]
    pixels = np.asarray(with_colors_of(first, inner, config.keep_colors))
    images.write(folder / "octaves" / f"{octave + 1}.png", pixels)
    if later:
        draft = folder / ".octave.npz"  # replaced whole: a kill leaves one or the other
        with draft.open("wb") as file:
            np.savez(file, done=done, picture=picture)
            os.fsync(file.fileno())
        os.replace(draft, folder / "octave.npz")
        return
    recipe = {"jaxstyle": json.dumps({"frame": frame, **workdir.flatten(config.to_dict())})}
    same = config.frames == 1 and original.pixels.shape == pixels.shape
    images.write(_file(config, folder, frame), pixels, like=original if same else None, text=recipe)
    (folder / "octave.npz").unlink(missing_ok=True)


def _show(config: ml_collections.ConfigDict, folder: pathlib.Path, first: np.ndarray) -> None:
    """Write the strip, and say where things are."""
    if config.frames > 1:
        last = _file(config, folder, config.frames - 1)
        (folder / "picture.png").write_bytes(last.read_bytes())
        count = min(config.frames, 5)
        shown = [round(i * (config.frames - 1) / (count - 1)) for i in range(count)]
        strip = {f"frame {i}": _file(config, folder, i) for i in shown}
    else:
        numbers = range(1, config.dream.octaves + 1)
        strip = {f"octave {i}": folder / "octaves" / f"{i}.png" for i in numbers}
    pictures = [first, *(images.read(file).pixels for file in strip.values())]
    contact_sheet([pictures], folder / "strip.png", column_labels=["picture", *strip])
    what = {
        "picture": "picture.png",
        "frames": "frames",
        "octaves": "octaves",
        "strip": "strip.png",
    }
    for name, where in (what | {"metrics": "metrics.jsonl", "settings": "config.json"}).items():
        if (folder / where).exists():
            print(f"  {name:<14} {folder / where}", flush=True)
