"""What a sweep asks for, and how it is divided into groups that share a program."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from experiments import _lanes, _launches, _memory, _work
from jaxstyle import runtime, workdir
from jaxstyle.sweeps import grammar, lanes, plan
from jaxstyle.types import InputError, unknown_choice

EXECUTORS = ("local", "ray")
_SHARE_OF_MEMORY = 0.8  # that lanes may take of what is free
_SHOWN = 20  # cells named in a dry run


class Request(NamedTuple):
    """What the command line says of a sweep.

    Attributes:
      texts: of each `--sweep`.
      named: what the config's function returned, by those texts that name one.
      dry_run: only say what would be done.
      lanes: in a program at most, 0 for as many as are good.
      form: of the lanes, '' for the better one.
      executor: 'local' or 'ray'.
      shard: 'i/n', '' for everything.
      ray_address: of a cluster, '' for one of this machine.
      ray_cpus: of a task.
      ray_gpus: of a task.
    """

    texts: tuple[str, ...]
    named: Mapping[str, Sequence[Mapping[str, Any]]] = {}  # noqa: RUF012
    dry_run: bool = False
    lanes: int = 0
    form: str = ""
    executor: str = "local"
    shard: str = ""
    ray_address: str = ""
    ray_cpus: float = 1.0
    ray_gpus: float = 0.0


class Group(NamedTuple):
    """Cells that share a program, and how it is told of.

    Attributes:
      cells: their indices.
      form: of the lanes.
      lanes: of the program.
      why: in words.
      bytes: that it takes, 0 where that is not known.
      steps: of each cell.
    """

    cells: list[int]
    form: str
    lanes: int
    why: str
    bytes: int
    steps: int


def checked(request: Request) -> None:
    """Refuse what no sweep can be asked for."""
    if request.executor not in EXECUTORS:
        raise unknown_choice("executor", request.executor, EXECUTORS)
    if request.form and request.form not in lanes.FORMS:
        raise unknown_choice("form of a sweep's lanes", request.form, lanes.FORMS)
    if request.lanes < 0:
        raise InputError(
            f"--sweep_lanes is {request.lanes}; give 1 or more, or 0 to leave it open."
        )


def cells_of(config: ml_collections.ConfigDict, request: Request) -> list[grammar.Values]:
    """Return what every cell of the sweep sets."""
    settings = workdir.flatten(config.to_dict())
    axes = [
        grammar.named(text, request.named[text], settings)
        if text in request.named
        else grammar.parse(text, settings)
        for text in request.texts
    ]
    if "experiment" in (key for axis in axes for key in axis.keys):
        raise InputError("the experiment cannot be swept; it decides which keys there are.")
    return grammar.cross(axes)


def pieces_of(
    config: ml_collections.ConfigDict, cells: Sequence[grammar.Values]
) -> list[_launches.Piece]:
    """Return the cells of a painted sweep with their pictures; refuse what one of them cannot be.

    Whatever is wrong shows here, before a folder is made.
    """
    if config.experiment != _launches.PAINTED:
        return []
    pieces = []
    for index, values in enumerate(cells):
        try:
            pieces.append(_launches.piece(_launches.configured(config.to_dict(), values)))
        except InputError as error:
            raise InputError(f"cell {plan.cell_name(index, values)}: {error}") from error
    return pieces


def groups_of(
    config: ml_collections.ConfigDict,
    cells: Sequence[grammar.Values],
    request: Request,
    shards: int,
) -> list[Group]:
    """Return which cells share a program, how many lanes it has and in which form."""
    pieces = pieces_of(config, cells)
    if not pieces:
        configs = [_launches.configured(config.to_dict(), values) for values in cells]
        return [
            Group([i], _launches.ALONE, 1, "a run of its own", 0, int(own.get("steps", 1)))
            for i, own in enumerate(configs)
        ]
    texts = [_lanes.static(own.config, own.scales[-1].scene) for own in pieces]
    chosen = []
    for indices in plan.grouped(texts):
        own = [pieces[index] for index in indices]
        chosen.append(_chosen(indices, own, request, shards))
    return chosen


def _chosen(
    indices: list[int], pieces: Sequence[_launches.Piece], request: Request, shards: int
) -> Group:
    """Choose form and number of lanes, by rule and by what fits."""
    config, scale = pieces[0].config, pieces[0].scales[-1]
    steps = scale.part.total
    backend = "cpu" if request.executor == "ray" and not request.ray_gpus else _backend(request)
    rule = lanes.choose(
        backend,
        math.prod(scale.scene.content.shape[:2]),
        quasi_newton=config.solver.optimizer == "lbfgs",
        searches=(config.solver.optimizer, config.solver.line_search) == ("lbfgs", "zoom"),
        strips=bool(config.features.rows),
    )
    form, most = request.form or rule.form, request.lanes or rule.lanes
    why = "as asked" if request.form or request.lanes else rule.why
    if form == lanes.LOOP:
        most = 1
    if not request.lanes:
        workers = shards if request.executor == "local" else max(shards, _most_workers(request))
        most = min(most, math.ceil(len(pieces) / workers))
    count = plan.lane_count(len(pieces), most)
    if request.executor == "ray":  # another machine's memory decides
        return Group(indices, form, count, why, 0, steps)
    sample = _lanes.Cell(config, scale.scene)
    wide = _lanes.together([own.config for own in pieces])
    group = _launches.group_of(wide, sample, scale.steps)
    while True:
        needed = runtime.needed_memory(group.program(form, count))
        free = runtime.free_device_memory()
        if free is None or needed <= _SHARE_OF_MEMORY * free or count == 1 or request.lanes:
            break
        fits = max(1, int(count * _SHARE_OF_MEMORY * free / needed))
        count, why = plan.lane_count(len(pieces), min(fits, count - 1)), "what the memory holds"
    program, size = group.program(form, count), scale.scene.content.shape
    _memory.check(program, size, group.params, more=_memory.PER_IMAGE)
    return Group(indices, form, count, why, needed, steps)


def _backend(request: Request) -> str:
    return "gpu" if request.executor == "ray" else jax.default_backend()


def _most_workers(request: Request) -> int:
    """Return how many tasks run at a time on this machine; a cluster may have more."""
    if request.ray_gpus or request.ray_address:
        return 8
    return max(1, int((os.cpu_count() or 1) / max(request.ray_cpus, 0.01)))


def described(number: int, group: Group) -> str:
    """Return a line about a group."""
    count = len(group.cells)
    told = f"group {number}: {count} cell{'s' * (count > 1)}"
    if group.form == _launches.ALONE:
        return f"{told}, {group.why}"
    launches = -(-count // group.lanes)
    memory = f", {group.bytes / 1e9:.2f} GB" if group.bytes else ""
    lanes_told = f"{group.lanes} lane{'s' * (group.lanes > 1)}"
    times = f"{launches} launch{'es' * (launches > 1)} of {lanes_told}"
    return f"{told} in {times}, {group.form} ({group.why}){memory}"


def tell(
    config: ml_collections.ConfigDict, cells: Sequence[grammar.Values], groups: Sequence[Group]
) -> None:
    """Say what a sweep would do: its cells, groups, memory and compilations."""
    print(f"{len(cells)} cells:")
    for index, values in enumerate(cells[:_SHOWN]):
        told = ", ".join(f"{key}={grammar.told(value)}" for key, value in values.items())
        print(f"  {index:4d}  {told}")
    if len(cells) > _SHOWN:
        print(f"  ... and {len(cells) - _SHOWN} more")
    for number, group in enumerate(groups, 1):
        print(described(number, group))
    painted = [group for group in groups if group.form != _launches.ALONE]
    compiled = sum(_programs(config, cells[group.cells[0]]) for group in painted)
    if painted:
        most = max(group.bytes for group in painted)
        memory = f", {most / 1e9:.2f} GB at most" if most else ""
        print(f"{compiled} program{'s' * (compiled > 1)} to compile{memory}; nothing was computed")
    else:
        print(f"each cell compiles as a run of `{config.experiment}` does; nothing was computed")


def _programs(config: ml_collections.ConfigDict, values: grammar.Values) -> int:
    """Return how many programs advance a group: one a scale, and one for its last few steps."""
    own = _launches.piece(_launches.configured(config.to_dict(), values))
    chunk = _work.chunk(own.config)
    return sum((s.steps >= chunk) + (s.steps % chunk > 0) for s in own.scales)
