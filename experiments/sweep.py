"""A recipe at many settings: planned, computed together where that is possible, and reported.

WORKDIR afterwards holds `results.csv`, `contact_sheet.png`, `parameters.png`, `report.html`, for
each cell a folder in `cells/` with its settings, metrics and picture, and `plan.json`.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from experiments import _lanes, _launches, _planning, _scene
from jaxstyle import workdir
from jaxstyle.reporting.sweep_plots import sweep_plots
from jaxstyle.reporting.sweep_report import write_report
from jaxstyle.reporting.sweep_sheet import sweep_sheet
from jaxstyle.reporting.sweep_table import write_table
from jaxstyle.sweeps import grammar, plan, results
from jaxstyle.sweeps.executors import Ended, Task, run_local
from jaxstyle.sweeps.ray_executor import run_ray
from jaxstyle.sweeps.shards import shard_of, share
from jaxstyle.sweeps.store import Store, open_store

_REPORTS = ("results.csv", "contact_sheet.png", "parameters.png", "report.html")


def run(config: ml_collections.ConfigDict, where: str, request: _planning.Request) -> int:
    """Compute a sweep, or what is missing of it, and write its reports.

    Args:
      config: the recipe; its experiment decides how cells are computed.
      where: the work folder, or a URL.
      request: from the command line.

    Returns:
      0 when all cells are finished, 1 when some failed or their numbers went bad, 128 + signal when
      interrupted.
    """
    _launches.forget()
    _planning.checked(request)
    shard = shard_of(request.shard)
    cells = _planning.cells_of(config, request)
    if request.dry_run:
        _planning.tell(config, cells, _planning.groups_of(config, cells, request, shard[1]))
        return 0
    _planning.pieces_of(config, cells)  # whatever is wrong shows before a folder is made
    store = open_store(where)
    record = config.to_dict() | {"sweep": request.texts, "lanes": [request.lanes, request.form]}
    store.fetch_file(workdir.CONFIG_FILE)
    with workdir.claim(store.local, record, shared=True):
        store.put_file(workdir.CONFIG_FILE)
        made = _planned(store, config, cells, request, shard[1])
        print(f"work folder: {store.where} (the same command continues there)", flush=True)
        signal, failed = _compute(store, config, made, request, shard)
        if signal is not None:
            return 128 + signal
        return _reported(store, config, made, failed)


def _planned(
    store: Store,
    config: ml_collections.ConfigDict,
    cells: Sequence[grammar.Values],
    request: _planning.Request,
    shards: int,
) -> plan.Plan:
    """Return the plan that is there, or make it; of several processes one does."""
    with workdir.claimed(store.local / ".planning", wait=600):
        store.fetch_file(plan.PLAN_FILE)
        made = plan.read_plan(store.local)
        if made is None:
            groups = _planning.groups_of(config, cells, request, shards)
            steps = {cell: group.steps for group in groups for cell in group.cells}
            made = plan.Plan(
                tuple(cells),
                plan.launches_of(
                    [group.cells for group in groups],
                    lambda number, _: (groups[number].form, groups[number].lanes),
                    steps.__getitem__,
                ),
            )
            plan.write_plan(store.local, made)
            store.put_file(plan.PLAN_FILE)
            for number, group in enumerate(groups, 1):
                if group.form != _launches.ALONE:
                    print(_planning.described(number, group), flush=True)
    return made


def _compute(
    store: Store,
    config: ml_collections.ConfigDict,
    made: plan.Plan,
    request: _planning.Request,
    shard: tuple[int, int],
) -> tuple[int | None, dict[int, str]]:
    """Compute the launches of this shard; return a signal, and why cells failed."""
    base = json.loads(json.dumps(config.to_dict()))
    # What a machine has finished but not sent is not finished: it is sent by the work.
    there = store.finished()
    store.fetch(f"{plan.CELLS}/{name}" for name in _names(made) if name in there)
    finished = {index for index, name in enumerate(_names(made)) if name in there}
    together: dict[int, dict[str, Any]] = {}
    tasks = []
    where = str(store.local.absolute()) if not store.is_remote else store.where
    mine = share([launch.steps * len(launch.cells) for launch in made.launches], shard)
    for launch in (made.launches[number] for number in mine):
        values = [made.cells[index] for index in launch.cells]
        if finished.issuperset(launch.cells):
            continue
        if launch.group not in together:
            together[launch.group] = _together(base, made, launch)
        payload = {
            "where": where,
            "base": base,
            "launch": launch._asdict(),
            "cells": values,
            "together": together[launch.group],
            "wait": 120.0 if request.executor == "ray" else 0.0,
        }
        tasks.append(Task(f"launch {launch.number}", launch.steps, payload))
    failed: dict[int, str] = {}

    def on_done(ended: Ended) -> None:
        if ended.failure:
            failed.update(dict.fromkeys(ended.task.payload["launch"]["cells"], ended.failure))
            print(f"{ended.task.name}: {ended.failure}", flush=True)
        elif ended.outcome.get("busy"):
            print(f"{ended.task.name} is another process's", flush=True)

    if tasks and request.executor == "ray":
        signal = run_ray(
            tasks,
            _launches.WORK,
            address=request.ray_address,
            cpus=request.ray_cpus,
            gpus=request.ray_gpus,
            on_done=on_done,
            source=pathlib.Path(__file__).resolve().parent.parent,
        )
    else:
        bar = made.launches[0].form != _launches.ALONE
        signal = run_local(tasks, _launches.WORK, on_done=on_done, progress=bar)
    return signal, failed


def _together(base: Mapping[str, Any], made: plan.Plan, launch: plan.Launch) -> dict[str, Any]:
    """Return the config of a launch's program, that of all cells of its group."""
    if launch.form == _launches.ALONE:
        return {}
    indices = [i for other in made.launches if other.group == launch.group for i in other.cells]
    configs = [_launches.configured(base, made.cells[index]) for index in indices]
    return _lanes.together(configs).to_dict()


def _reported(
    store: Store, config: ml_collections.ConfigDict, made: plan.Plan, failed: Mapping[int, str]
) -> int:
    """Write the reports of what is finished, and say what is not; return the exit status."""
    found = _results(store, made, failed)
    bad = [result for result in found if result.status != results.DONE]
    missing = len(made.cells) - len(found)
    if found:
        given = _given(config, made)
        details = workdir.flatten(config.to_dict())
        details = {key: grammar.told(v) for key, v in details.items() if key not in made.keys}
        with workdir.claimed(store.local / ".reporting", wait=60):
            write_table(found, made.keys, store.local / "results.csv")
            sweep_sheet(found, made.keys, store.local / "contact_sheet.png", given=given)
            sweep_plots(found, made.keys, store.local / "parameters.png")
            write_report(
                found,
                made.keys,
                store.local / "report.html",
                title=f"{config.experiment}: {', '.join(made.keys)}",
                given=given,
                details=details,
            )
        for name in _REPORTS:
            store.put_file(name)
            print(f"  {name.partition('.')[0].replace('_', ' '):<14} {store.where}/{name}")
    done = len(found) - len(bad)
    print(f"{done} of {len(made.cells)} cells are done", flush=True)
    for result in bad:
        print(f"  {result.name}: {result.message}", file=sys.stderr, flush=True)
    if missing:
        print(f"  {missing} are another process's, or still to do: the same command continues")
    return 1 if bad else 0


def _results(store: Store, made: plan.Plan, failed: Mapping[int, str]) -> list[results.Result]:
    """Return what became of the cells that are finished or have failed, in order."""
    names = _names(made)
    store.fetch(f"{plan.CELLS}/{name}" for name in sorted(store.finished() & set(names)))
    found = []
    for index, (name, values) in enumerate(zip(names, made.cells, strict=True)):
        result = results.read_result(store.local / plan.CELLS / name)
        if result is None and index in failed:
            result = results.Result(index, name, values, results.FAILED, failed[index])
        if result is not None:
            found.append(result)
    return found


def _names(made: plan.Plan) -> list[str]:
    return [plan.cell_name(index, values) for index, values in enumerate(made.cells)]


def _given(config: ml_collections.ConfigDict, made: plan.Plan) -> dict[str, np.ndarray]:
    """Return the pictures that all cells share."""
    if config.experiment != _launches.PAINTED:
        return {}
    own = _launches.piece(_launches.configured(config.to_dict(), made.cells[0]))
    scene = own.scales[-1].scene
    given = {"content": scene.content} if config.content != _scene.NONE else {}
    given |= {f"style {i + 1}" if i else "style": style for i, style in enumerate(scene.styles)}
    return {k: v for k, v in given.items() if not any(k.startswith(key) for key in made.keys)}
