"""What is computed together in a sweep: from a launch of its plan to finished cells."""

import dataclasses
import functools
import importlib
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import _lanes, _scene, _work
from jaxstyle import features, optimize, painter, trainer, workdir
from jaxstyle.io import images
from jaxstyle.reporting.metrics_file import read_metrics
from jaxstyle.sweeps import lanes, results
from jaxstyle.sweeps.plan import CELLS, Launch, cell_name
from jaxstyle.sweeps.store import Store, open_store
from jaxstyle.whole_files import json_bytes

WORK = "experiments._launches:work"
PAINTED = "paint_picture"  # the experiment whose cells can be lanes
ALONE = "run"  # the form of cells that are runs of their own
# What a run leaves to look at, the best first.
_SHOWN = ("picture.png", "contact_sheet.png", "grid.png", "strip.png")


class Piece(NamedTuple):
    """A cell of a painted sweep.

    Attributes:
      config: its own.
      original: the content's file, if there is one.
      scales: in which it is painted.
    """

    config: ml_collections.ConfigDict
    original: images.Picture | None
    scales: list[_scene.Scale]


def configured(base: Mapping[str, Any], values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Return the config of a cell, which may have gone through JSON.

    Args:
      base: the recipe, nested.
      values: by dotted key.
    """
    config = ml_collections.ConfigDict(results.frozen(base))
    with config.ignore_type():  # `grammar` has checked the types
        config.update_from_flattened_dict(results.frozen(values))
    return config


def piece(config: ml_collections.ConfigDict) -> Piece:
    """Read the pictures of a cell and refuse settings that cannot be.

    Raises:
      InputError: as the experiment itself would.
    """
    first_steps = config.scales.first_steps or config.steps
    trainer.check_counts(steps=config.steps, save_every=config.save_every, first_steps=first_steps)
    # Most cells of a sweep share their pictures, and differ in numbers.
    pictures = {k: v for k, v in config.to_dict().items() if k not in _NUMBERS}
    original, scales = _scales_of(json.dumps(pictures))
    _scene.check(config)
    scene = scales[-1].scene
    objective, _ = _work.objective_of(config, scene, 0)
    _work.solver_of(config, config.steps)
    _work.problem_of(config, objective, _loaded(config.features)[1])
    _check_layers(config, objective.layers, scene.content.shape)
    return Piece(config, original, list(scales))


def _check_layers(
    config: ml_collections.ConfigDict, layers: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    """Refuse layers and a type of numbers that the network does not have."""
    how = config.features
    key = json.dumps([how.to_dict(), layers, shape])
    if layers and key not in _CHECKED:
        params, network = _loaded(how)
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        see = functools.partial(features.features, layers=layers, network=network, dtype=how.dtype)
        jax.eval_shape(see, params, image)
        _CHECKED.add(key)


def work(payload: Mapping[str, Any], report: Callable[[int], None]) -> dict[str, Any]:
    """Compute a launch, or what of it is not finished; the executors call it.

    Args:
      payload: 'where' the sweep is, 'base' settings, 'launch', the 'cells' of it and 'together',
        the config of its program.
      report: told how many steps are done.

    Returns:
      `{}`, `{'signal': number}` when interrupted, `{'busy': True}` when another process has it.
    """
    launch = Launch(**{**payload["launch"], "cells": tuple(payload["launch"]["cells"])})
    store = open_store(payload["where"])
    cells = dict(zip(launch.cells, results.frozen(payload["cells"]), strict=True))
    with workdir.claimed(store.local / launch.folder, wait=payload["wait"]) as mine:
        if not mine:
            return {"busy": True}
        began, signal = time.monotonic(), None
        if not all(_is_done(store, index, values) for index, values in cells.items()):
            compute = _run_alone if launch.form == ALONE else _paint
            signal = compute(store, launch, cells, payload, began, report)
        if signal is not None:
            return {"signal": signal}
        for index, values in cells.items():
            store.publish(f"{CELLS}/{cell_name(index, values)}")
        shutil.rmtree(store.local / launch.folder, ignore_errors=True)  # its checkpoints
    return {}


def _is_done(store: Store, index: int, values: Mapping[str, Any]) -> bool:
    result = results.read_result(store.local / CELLS / cell_name(index, values))
    return result is not None and result.status != results.FAILED


def _run_alone(
    store: Store,
    launch: Launch,
    cells: Mapping[int, Mapping[str, Any]],
    payload: Mapping[str, Any],
    began: float,
    report: Callable[[int], None],
) -> int | None:
    """Run the experiment itself, in the folder of its one cell."""
    del report  # it has a bar of its own
    ((index, values),) = cells.items()
    config = configured(payload["base"], values)
    folder = store.local / CELLS / cell_name(index, values)
    status = importlib.import_module(f"experiments.{config.experiment}").run(config, folder)
    if status > 128:
        return status - 128
    result = results.Result(
        index,
        folder.name,
        values,
        results.NOT_FINITE if status else results.DONE,
        "the loss became NaN or infinite." if status else "",
        _last_metrics(folder),
        launch.steps,
        time.monotonic() - began,
        next((folder / name for name in _SHOWN if (folder / name).exists()), None),
    )
    results.write_result(folder, result)
    return None


def _paint(
    store: Store,
    launch: Launch,
    cells: Mapping[int, Mapping[str, Any]],
    payload: Mapping[str, Any],
    began: float,
    report: Callable[[int], None],
) -> int | None:
    """Paint the cells as lanes of one program."""
    wide = configured(payload["together"], {})
    pieces = [piece(configured(payload["base"], values)) for values in cells.values()]
    folders = [store.local / CELLS / cell_name(index, values) for index, values in cells.items()]
    for folder, own in zip(folders, pieces, strict=True):
        _record(folder, own.config)
    outcome, pictures = _through(wide, pieces, folders, launch, store.local / launch.folder, report)
    if outcome.signal is not None:
        return outcome.signal
    seconds = (time.monotonic() - began) / len(pieces)
    for lane, (index, values) in enumerate(cells.items()):
        own, file, steps = pieces[lane], folders[lane] / "picture.png", outcome.steps[lane]
        finished = _scene.finished(own.config, own.scales[-1].scene, pictures[lane])
        _scene.write(file, finished, own.config, own.original, steps)
        bad = outcome.statuses[lane] == optimize.NOT_FINITE
        result = results.Result(
            index,
            folders[lane].name,
            values,
            results.NOT_FINITE if bad else results.DONE,
            f"the loss became NaN or infinite in step {steps + 1}; the picture before it is kept."
            if bad
            else "",
            outcome.metrics[lane],
            steps,
            seconds,
            file,
        )
        results.write_result(folders[lane], result)
    return None


def _through(
    wide: ml_collections.ConfigDict,
    pieces: Sequence[Piece],
    folders: Sequence[pathlib.Path],
    launch: Launch,
    folder: pathlib.Path,
    report: Callable[[int], None],
) -> tuple[lanes.Outcome, np.ndarray]:
    """Paint scale by scale, from the last that was begun; return the pictures too."""
    sample = pieces[0].scales
    parts = [dataclasses.replace(s.part, folder=folder / s.part.folder) for s in sample]
    begun = [number for number, part in enumerate(parts) if part.begun]
    outcome = None
    for number in range(begun[-1] if begun else 0, len(parts)):
        cells = [_lanes.Cell(own.config, own.scales[number].scene) for own in pieces]
        cells += cells[-1:] * (launch.lanes - len(cells))  # what has no cell is painted for nothing
        group = group_of(wide, cells[0], sample[number].steps)
        functions = group.work(cells, launch.form)
        if outcome is not None:
            moved = group.moved(outcome.state, sample[number - 1].steps)
            functions = functions._replace(start=functools.partial(jax.tree.map, jnp.copy, moved))
        outcome = lanes.paint_lanes(
            functions,
            folders,
            steps=sample[number].steps,
            chunk=_work.chunk(wide),
            save_every=wide.save_every,
            part=parts[number],
            report=report,
        )
        if outcome.signal is not None:
            break
    assert outcome is not None
    return outcome, np.asarray(functions.picture(outcome.state))


def _record(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Write the settings of a cell, as a run of its own would."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = workdir.flatten(config.to_dict())
    settings.pop("features.devices", None)  # decides where, not what
    content = json_bytes(settings, indent=2, sort_keys=True)
    (folder / workdir.CONFIG_FILE).write_bytes(content)


def _last_metrics(folder: pathlib.Path) -> dict[str, float]:
    file = folder / painter.METRICS_FILE
    records = read_metrics(file) if file.exists() else []
    return {k: v for k, v in records[-1].items() if k != "step"} if records else {}


def group_of(wide: ml_collections.ConfigDict, sample: _lanes.Cell, steps: int) -> _lanes.Group:
    """Return the program of a group, the same one when asked again.

    Args:
      wide: from `_lanes.together`.
      sample: one of its cells, in the size of the scale.
      steps: of the scale.
    """
    key = json.dumps([_lanes.static(wide, sample.scene), wide.objective.to_dict(), steps])
    if key not in _GROUPS:
        while len(_GROUPS) >= _MOST_GROUPS:
            _GROUPS.pop(next(iter(_GROUPS)))
        _GROUPS[key] = _lanes.Group(wide, sample, _loaded(wide.features), steps)
    return _GROUPS[key]


_GROUPS: dict[str, _lanes.Group] = {}
_MOST_GROUPS = 4  # programs hold memory, and come back from the compilation cache
_LOADED: dict[str, _work.Perception] = {}
_MOST_LOADED = 3
_CHECKED: set[str] = set()


def forget() -> None:
    """Let go of networks, programs and pictures."""
    _GROUPS.clear()
    _LOADED.clear()
    _CHECKED.clear()
    _scales_of.cache_clear()


def _loaded(config: ml_collections.ConfigDict) -> _work.Perception:
    key = json.dumps(config.to_dict())
    if key not in _LOADED:
        while len(_LOADED) >= _MOST_LOADED:
            _LOADED.pop(next(iter(_LOADED)))
        _LOADED[key] = _work.perception(config)
    return _LOADED[key]


# Keys of a config that say nothing of its pictures.
_NUMBERS = ("objective", "solver", "features", "seed", "start")


@functools.lru_cache(maxsize=8)
def _scales_of(text: str) -> tuple[images.Picture | None, tuple[_scene.Scale, ...]]:
    config = ml_collections.ConfigDict(results.frozen(json.loads(text)))
    original, scene = _scene.read(config)
    return original, tuple(_scene.plan(config, scene, pathlib.Path()))
