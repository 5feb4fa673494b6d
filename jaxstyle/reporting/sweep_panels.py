"""Where each cell of a sweep goes on a sheet: columns, rows, and panels for what else varies."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import final

from jaxstyle.reporting.sweep_axes import Axis, axes_of, joint_axis, short_names
from jaxstyle.reporting.sweep_cells import Cell

MOST_COLUMNS = 20
MOST_ROWS = 60
_SPARSE = 0.25  # of a grid's places taken: below, cells are listed one after the other


@final
@dataclasses.dataclass(frozen=True)
class Panel:
    """A grid of cells.

    Attributes:
      title: what all its cells share, e.g. 'seed=1, tv=0'; '' where there is one grid only.
      columns: a label above each column.
      rows: a label beside each row, '' where there is a single row.
      cells: by row and column; what is missing stays blank.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[int, int], Cell]


@final
@dataclasses.dataclass(frozen=True)
class Arrangement:
    """The panels of a sweep.

    Attributes:
      column_name: of the keys along the columns, e.g. 'beta'; '' where the labels say it.
      row_name: of those along the rows.
      panels: in reading order; each cell is in one of them, once.
      stacked: whether they are one long row, broken, to be put one below the other.
    """

    column_name: str
    row_name: str
    panels: tuple[Panel, ...]
    stacked: bool


def arrange(results: Sequence[Cell], keys: Sequence[str]) -> Arrangement:
    """Choose what goes along the columns, along the rows, and into separate panels.

    The axis with most values becomes the columns and the next the rows; of equals, the earlier
    keys are taken, the first as the rows. Every combination of the others is a panel of its own.
    More than `MOST_COLUMNS` columns or `MOST_ROWS` rows are broken into several panels. A single
    axis is broken into rows, about as many as columns; so are cells that would fill less than a
    quarter of a grid, like those of a random search.

    Args:
      results: the cells.
      keys: what was swept.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> cells = [Result(i, "", {"a.beta": i // 2, "seed": i % 2}) for i in range(6)]
      >>> whole = arrange(cells, ["a.beta", "seed"])
      >>> whole.column_name, whole.row_name, whole.panels[0].columns, len(whole.panels)
      ('beta', 'seed', ('0', '1', '2'), 1)
    """
    names = short_names(keys)
    axes = axes_of(results, keys)
    if not axes:
        panels = [Panel("", ("",), ("",), {(0, 0): result}) for result in results]
        return Arrangement("", "", tuple(panels), True)
    if len(axes) > 1:
        columns, rows = sorted(axes, key=len, reverse=True)[:2]  # stable: earlier keys first
        if len(columns) == len(rows):
            columns, rows = rows, columns
        facets = [axis for axis in axes if axis is not rows and axis is not columns]
        panels = _panels(results, rows, columns, facets, names)
        places = sum(len(panel.columns) * len(panel.rows) for panel in panels)
        if len(results) >= _SPARSE * places:
            return Arrangement(_name(columns, names), _name(rows, names), tuple(panels), False)
        axes = [joint_axis(results, axes)]
    return Arrangement("", "", tuple(_broken(results, axes[0], names)), True)


def _panels(
    results: Sequence[Cell],
    rows: Axis,
    columns: Axis,
    facets: Sequence[Axis],
    names: Mapping[str, str],
) -> list[Panel]:
    """Return a panel for each combination of the facets, and of the pieces of rows and columns."""
    shares: dict[tuple[int, ...], list[Cell]] = {}
    for result in results:
        place = tuple(axis.places[result.index] for axis in facets)
        shares.setdefault(place, []).append(result)
    panels = []
    for place, share in sorted(shares.items()):
        title = ", ".join(axis.assignment(i, names) for axis, i in zip(facets, place, strict=True))
        pieces = itertools.product(
            _pieces(len(rows), MOST_ROWS), _pieces(len(columns), MOST_COLUMNS)
        )
        for down, across in pieces:
            cells = _in_grid(share, rows, columns, down, across)
            if cells:
                labels = [_label(columns, i, names) for i in across]
                sides = [_label(rows, i, names) for i in down]
                panels.append(Panel(title, tuple(labels), tuple(sides), cells))
    return panels


def _broken(results: Sequence[Cell], axis: Axis, names: Mapping[str, str]) -> list[Panel]:
    """Break a single axis into rows, each a panel as it has labels of its own."""
    by_place = {axis.places[result.index]: result for result in results}
    panels = []
    for across in _pieces(len(axis), _width(len(axis)), even=False):
        labels = [axis.assignment(i, names, "\n") for i in across]
        cells = {(0, column): by_place[i] for column, i in enumerate(across)}
        panels.append(Panel("", tuple(labels), ("",), cells))
    return panels


def _in_grid(
    share: Sequence[Cell], rows: Axis, columns: Axis, down: range, across: range
) -> dict[tuple[int, int], Cell]:
    found = {}
    for result in share:
        row, column = rows.places[result.index], columns.places[result.index]
        if row in down and column in across:
            found[row - down.start, column - across.start] = result
    return found


def _pieces(count: int, most: int, *, even: bool = True) -> list[range]:
    """Cut a range into pieces of at most `most`, of about equal length or full but the last."""
    length = math.ceil(count / math.ceil(count / most)) if even else most
    return [range(start, min(start + length, count)) for start in range(0, count, length)]


def _width(count: int) -> int:
    """Return how many columns leave the fewest blanks, from a square to twice as wide as high."""
    square = math.ceil(math.sqrt(count))
    widest = min(max(2 * square, 1), MOST_COLUMNS)
    return min(range(min(square, widest), widest + 1), key=lambda width: (-count % width, width))


def _name(axis: Axis, names: Mapping[str, str]) -> str:
    """Return what to call an axis; labels of several keys say it themselves."""
    return names.get(axis.keys[0], axis.keys[0]) if len(axis.keys) == 1 else ""


def _label(axis: Axis, place: int, names: Mapping[str, str]) -> str:
    return axis.texts[place][0] if len(axis.keys) == 1 else axis.assignment(place, names, "\n")
