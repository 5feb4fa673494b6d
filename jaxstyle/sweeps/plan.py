"""The plan of a sweep: its cells, and which of them are computed together.

The plan is written before anything is computed, and an interrupted sweep goes on with it: which
cells share a program decides their last digits, and how many fit into the memory may be another
number tomorrow.
"""

import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxstyle.sweeps.grammar import Values, told
from jaxstyle.sweeps.results import frozen
from jaxstyle.types import InputError
from jaxstyle.whole_files import json_bytes, replace_file

PLAN_FILE = "plan.json"
CELLS, LAUNCHES = "cells", "launches"
_LONGEST_NAME = 80
_FORMS = ("vmap", "map", "loop", "run")


class Launch(NamedTuple):
    """Cells that are computed together: the unit of work, and of what a lost machine loses.

    Attributes:
      number: from 0; its folder is `launches/0000`.
      group: number of the program.
      form: 'vmap', 'map', 'loop', or 'run' for a run of its own.
      cells: their indices.
      lanes: of the program; more than cells where the last launch of a group is not full.
      steps: of each cell, for the progress bar.
    """

    number: int
    group: int
    form: str
    cells: tuple[int, ...]
    lanes: int
    steps: int

    @property
    def folder(self) -> str:
        """Where its checkpoints are, relative to the sweep."""
        return f"{LAUNCHES}/{self.number:04d}"


class Plan(NamedTuple):
    """A sweep, planned.

    Attributes:
      cells: what each sets.
      launches: in order.
    """

    cells: tuple[Values, ...]
    launches: tuple[Launch, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """What is swept."""
        return tuple(self.cells[0])


def cell_name(index: int, values: Mapping[str, Any]) -> str:
    """Return the name of a cell's folder: its number, and as much of its values as fits.

    Example:
      >>> cell_name(3, {"objective.beta": 10.0, "style": "art/the wave.jpg"})
      '0003_beta=10_style=the-wave.jpg'
    """
    parts = [f"{index:04d}"]
    for key, value in values.items():
        text = told(value)
        text = pathlib.PurePath(text).name if isinstance(value, str) else text
        parts.append(f"{key.rpartition('.')[2]}={text}")
    safe = re.sub(r"[^\w.,=+-]+", "-", "_".join(parts), flags=re.ASCII)
    return safe[:_LONGEST_NAME].rstrip("-_.,=+")


def grouped(keys: Sequence[str]) -> list[list[int]]:
    """Return the indices that share a key, group by group in order of appearance.

    Example:
      >>> grouped(["a", "b", "a"])
      [[0, 2], [1]]
    """
    groups: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def lane_count(cells: int, most: int) -> int:
    """Return how many lanes a program of a group has.

    One program serves all launches of the group, and lanes of the last that have no cell are
    computed for nothing. So of the counts from half of `most` on the one is taken that computes the
    fewest, the largest of those.

    Args:
      cells: of the group.
      most: that fit.

    Example:
      >>> lane_count(16, 8), lane_count(10, 4), lane_count(9, 8)
      (8, 2, 5)
    """
    most = max(1, min(cells, most))
    counts = range(max(1, most // 2), most + 1)
    return min(counts, key=lambda lanes: (-(-cells // lanes) * lanes, -lanes))


def launches_of(
    groups: Sequence[Sequence[int]],
    choose: Callable[[int, Sequence[int]], tuple[str, int]],
    steps: Callable[[int], int],
) -> tuple[Launch, ...]:
    """Divide groups into launches.

    Args:
      groups: indices of cells.
      choose: `(group, cells) -> (form, lanes)`.
      steps: of a cell.

    Example:
      >>> [launch.cells for launch in launches_of([[0, 1, 2]], lambda *_: ("vmap", 2), lambda _: 9)]
      [(0, 1), (2,)]
    """
    launches: list[Launch] = []
    for number, cells in enumerate(groups):
        form, lanes = choose(number, cells)
        for first in range(0, len(cells), lanes):
            own = tuple(cells[first : first + lanes])
            launches.append(Launch(len(launches), number, form, own, lanes, steps(own[0])))
    return tuple(launches)


def write_plan(folder: str | os.PathLike[str], plan: Plan) -> None:
    """Write `plan.json`, whole or not at all.

    Example:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp()
      >>> write_plan(folder, Plan(({"layers": ("a",)},), (Launch(0, 0, "run", (0,), 1, 5),)))
      >>> read_plan(folder).cells
      ({'layers': ('a',)},)
    """
    record = {"cells": plan.cells, "launches": [launch._asdict() for launch in plan.launches]}
    replace_file(pathlib.Path(folder) / PLAN_FILE, json_bytes(record))


def read_plan(folder: str | os.PathLike[str]) -> Plan | None:
    """Return the plan of a sweep that was begun, None of a new one.

    Raises:
      InputError: it is there but cannot be read.
    """
    file = pathlib.Path(folder) / PLAN_FILE
    try:
        record = json.loads(file.read_bytes())
        launches = [
            Launch(**{**launch, "cells": tuple(launch["cells"])}) for launch in record["launches"]
        ]
        plan = Plan(tuple(map(frozen, record["cells"])), tuple(launches))
        _check(plan)
        return plan
    except FileNotFoundError:
        return None
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise InputError(
            f"{file} cannot be read ({error}); put it back, or choose another --workdir."
        ) from error


def _check(plan: Plan) -> None:
    """Raise ValueError for a plan that `write_plan` did not write."""
    if not all(isinstance(cell, dict) and cell for cell in plan.cells):
        raise ValueError("a cell sets nothing")
    if any(cell.keys() != plan.cells[0].keys() for cell in plan.cells):
        raise ValueError("its cells set different keys")
    for number, launch in enumerate(plan.launches):
        counts = (launch.number, launch.group, launch.lanes, launch.steps, *launch.cells)
        if not all(type(count) is int and 0 <= count < 2**63 for count in counts):
            raise ValueError("a launch with what is no count")
        fits = launch.lanes >= len(launch.cells) and launch.form in _FORMS
        if launch.number != number or not launch.cells or not fits:
            raise ValueError(f"launch {number} is none")
    computed = sorted(index for launch in plan.launches for index in launch.cells)
    if not plan.cells or computed != list(range(len(plan.cells))):
        raise ValueError("its launches are not of its cells, each once")
