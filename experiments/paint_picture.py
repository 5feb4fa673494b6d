"""Optimize one picture, and show how it came to be.

WORKDIR afterwards holds `picture.png` (with the recipe in its metadata), `iterates/`, `strip.png`,
`loss.png`, `metrics.jsonl`, `config.json` and the checkpoints.
"""

import functools
import os
import pathlib
from typing import Any

import ml_collections
import numpy as np

from experiments import _scene, _work
from jaxstyle import optimize, painter, trainer, workdir
from jaxstyle.io import images, scenes
from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.reporting.plots import loss_plot


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Paint as configured, or go on where `folder` stands, and write the results.

    Args:
      config: with the keys of `configs.common.per_image`.
      folder: the work folder.

    Returns:
      0 when finished, 1 when the numbers went bad, 128 + signal when interrupted.
    """
    # Wrong settings show in these lines, before a folder is made; so does a size beyond memory.
    first_steps = config.scales.first_steps or config.steps
    trainer.check_counts(steps=config.steps, save_every=config.save_every, first_steps=first_steps)
    _scene.check(config)
    original, scene = _scene.read(config)
    scales = _scene.plan(config, scene, pathlib.Path(os.path.expanduser(folder)))
    loaded = _work.perception(config.features)

    @functools.cache
    def build(index: int) -> tuple[painter.Work, dict[str, float]]:
        scale = scales[index]
        return _work.build(config, scale.scene, loaded, steps=scale.steps)

    build(0), build(len(scales) - 1)
    settings = config.to_dict()
    del settings["features"]["devices"]  # decides where, not what: another number may go on
    with workdir.claim(folder, settings) as claim:
        print(f"work folder: {claim.path} (the same command continues there)", flush=True)
        save = functools.partial(_save_iterate, config, claim.path, original)
        outcome = _through(config, claim.path, scales, build, save)
        if outcome.signal is not None:
            return 128 + outcome.signal
        _show(claim.path, config, scales[-1].scene)
    return 1 if outcome.status == optimize.NOT_FINITE else 0


def _through(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    scales: list[_scene.Scale],
    build: Any,
    save: Any,
) -> painter.Outcome:
    """Paint scale by scale, from the last that was begun."""
    begun = [index for index, scale in enumerate(scales) if scale.part.begun]
    outcome, state = None, None
    for index in range(begun[-1] if begun else 0, len(scales)):
        scale = scales[index]
        work, weights = build(index)
        if state is not None:
            height, width = scale.scene.content.shape[:2]
            solver = _work.solver_of(config, scale.steps)
            moved = optimize.rescaled(state, (height, width), solver, margin=config.margin)
            work = painter.begun_at(work, moved)
        if len(scales) > 1:
            height, width = scale.scene.content.shape[:2]
            print(f"scale {index + 1} of {len(scales)}: {width}x{height} pixels", flush=True)
        outcome = painter.paint(
            work,
            workdir=folder,
            steps=scale.steps,
            chunk=_work.chunk(config),
            save_every=config.save_every,
            display_weights=weights,
            on_save=functools.partial(save, scale),
            part=scale.part,
        )
        if outcome.signal is not None or outcome.status == optimize.NOT_FINITE:
            break
        state = work.whole(outcome.state)
    assert outcome is not None
    save(scale, scale.part.before + outcome.step, np.asarray(work.picture(outcome.state)))
    return outcome


def _save_iterate(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    original: images.Picture | None,
    scale: _scene.Scale,
    step: int,
    pixels: np.ndarray,
) -> None:
    """Write the picture as it stands."""
    pixels = _scene.finished(config, scale.scene, pixels)
    (folder / "iterates").mkdir(exist_ok=True)
    images.write(folder / "iterates" / f"{step:05d}.png", pixels)
    _scene.write(folder / "picture.png", pixels, config, original, step)


def _show(folder: pathlib.Path, config: ml_collections.ConfigDict, scene: scenes.Scene) -> None:
    """Write the strip of iterates and the plot, and say where things are."""
    files = sorted((folder / "iterates").glob("*.png"))
    chosen = [files[round(i * (len(files) - 1) / 3)] for i in range(4)] if len(files) > 4 else files
    given = {} if config.content == _scene.NONE else {"content": scene.content}
    given |= {
        f"style {name}".strip(): style
        for name, style in zip(scene.regions or ("",), scene.styles, strict=True)
    }
    shown = given | {f"step {int(file.stem)}": images.read(file).pixels for file in chosen}
    contact_sheet([list(shown.values())], folder / "strip.png", column_labels=list(shown))
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
