"""What was swept, as axes: one per key that varies, or per set of keys that vary together."""

import dataclasses
import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, final

from jaxstyle.reporting.sweep_cells import Cell

ABSENT = "—"  # stands for the value of a cell that lacks the key
_FEWEST_DIGITS = 3
_SHORT = 6  # characters: no need to round


@final
@dataclasses.dataclass(frozen=True)
class Axis:
    """The values of one key, or of several that vary together one to one.

    Attributes:
      keys: one or more; `copy` where the cells are alike in all keys (see `axes_of`).
      texts: of the values, a tuple over the keys for each place.
      places: on the axis, from 0, by the cell's index.
    """

    keys: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    places: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.texts)

    def assignment(self, place: int, names: Mapping[str, str], separator: str = ", ") -> str:
        """Return e.g. 'beta=10' or 'alpha=1, beta=10'.

        Args:
          place: on the axis.
          names: to call the keys by.
          separator: between several keys.
        """
        pairs = zip(self.keys, self.texts[place], strict=True)
        return separator.join(f"{names.get(key, key)}={text}" for key, text in pairs)


def value_text(value: Any) -> str:
    """Return a swept value as text; a number reads back as the same number.

    Args:
      value: number, string, boolean, or a tuple of those.

    Example:
      >>> value_text(("relu1_1", "relu2_1")), value_text(10.0), value_text(0.1), value_text(())
      ('relu1_1+relu2_1', '10', '0.1', '()')
    """
    if isinstance(value, tuple | list):
        return "+".join(map(value_text, value)) if value else "()"
    if isinstance(value, bool):
        return str(value).lower()
    return float.__repr__(value).removesuffix(".0") if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Tell whether a swept value is a number; a boolean is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def distinct_values(results: Sequence[Cell], key: str) -> list[Any]:
    """Return the values of a key: numbers sorted, anything else in order of the cells.

    Args:
      results: the cells, those without the key are passed over.
      key: what was swept.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> cells = [Result(0, "a", {"seed": 2}), Result(1, "b", {"seed": 1})]
      >>> distinct_values(cells, "seed")
      [1, 2]
    """
    seen: dict[Any, Any] = {}
    for result in sorted(results, key=lambda result: result.index):
        if key in result.values:
            seen.setdefault(identity(result.values[key]), result.values[key])
    values = list(seen.values())
    if all(map(is_number, values)):
        values.sort(key=lambda value: (value != value, value))  # NaN last
    return values


def labels_of(values: Sequence[Any]) -> list[str]:
    """Return short texts for values, with as few digits as tell them apart.

    Args:
      values: distinct ones of a key.

    Example:
      >>> labels_of([0.01, 0.31622776601683794, 100.0]), labels_of([0.1231, 0.1232])
      (['0.01', '0.316', '100'], ['0.1231', '0.1232'])
    """
    exact = [value_text(value) for value in values]
    for digits in range(_FEWEST_DIGITS, 17):
        short = [
            text if len(text) <= _SHORT else min(text, _rounded(value, digits), key=len)
            for value, text in zip(values, exact, strict=True)
        ]
        if len(set(short)) == len(set(exact)):
            return short
    return exact


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return for each key the part behind its last dot, more where that is not enough.

    Args:
      keys: distinct ones.

    Example:
      >>> short_names(["objective.beta", "seed", "a.size", "b.size"])
      {'objective.beta': 'beta', 'seed': 'seed', 'a.size': 'a.size', 'b.size': 'b.size'}
    """
    names = {key: key.rpartition(".")[2] or key for key in keys}
    parts = 1
    while max(Counter(names.values()).values(), default=1) > 1:
        parts += 1
        clash = {name for name, count in Counter(names.values()).items() if count > 1}
        for key, name in names.items():
            if name in clash:
                names[key] = ".".join(key.split(".")[-parts:])
    return names


def constants(results: Sequence[Cell], keys: Sequence[str]) -> dict[str, str]:
    """Return the text of each key that has one value only, in all cells."""
    shared = [key for key in keys if results and all(key in result.values for result in results)]
    found = {key: distinct_values(results, key) for key in shared}
    return {key: labels_of(values)[0] for key, values in found.items() if len(values) == 1}


def axes_of(results: Sequence[Cell], keys: Sequence[str]) -> list[Axis]:
    """Return the axes along which cells differ, in order of their first key.

    Keys whose values vary together one to one share an axis. Cells that are alike in all keys are
    told apart by a last axis, `copy`. So no two cells have the same places.

    Args:
      results: cells, each with an index of its own.
      keys: what was swept.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> cells = [Result(i, "", {"a": i % 2, "b": i % 2 + 5, "seed": i // 2}) for i in range(4)]
      >>> [(axis.keys, len(axis)) for axis in axes_of(cells, ["a", "b", "seed"])]
      [(('a', 'b'), 2), (('seed',), 2)]
    """
    columns = {key: _column(results, key) for key in keys}
    varying = {key: column for key, column in columns.items() if len(column[0]) > 1}
    groups: list[list[str]] = []
    for key, (_, places) in varying.items():
        for group in groups:
            pairs = set(zip(places, varying[group[0]][1], strict=True))
            if len(pairs) == len(set(places)) == len(set(varying[group[0]][1])):
                group.append(key)
                break
        else:
            groups.append([key])
    axes = [_joint_axis(results, group, varying) for group in groups]
    return [*axes, *_copies(results, axes)]


def joint_axis(results: Sequence[Cell], axes: Sequence[Axis]) -> Axis:
    """Join axes into one that has a place for each cell, in order of the cells.

    Args:
      results: the cells of the axes.
      axes: from `axes_of`, at least one.
    """
    ordered = sorted(results, key=lambda result: result.index)
    texts = tuple(
        tuple(text for axis in axes for text in axis.texts[axis.places[result.index]])
        for result in ordered
    )
    keys = tuple(key for axis in axes for key in axis.keys)
    return Axis(keys, texts, {result.index: place for place, result in enumerate(ordered)})


def _rounded(value: Any, digits: int) -> str:
    if isinstance(value, tuple | list):
        return "+".join(_rounded(part, digits) for part in value) if value else "()"
    return f"{value:.{digits}g}" if isinstance(value, float) else value_text(value)


def identity(value: Any) -> Any:
    """Return what is equal for equal swept values: 1 and 1.0 are, 1 and True are not, NaN is."""
    if isinstance(value, tuple | list):
        return tuple(map(identity, value))
    return isinstance(value, bool), "nan" if value != value else value


def _column(results: Sequence[Cell], key: str) -> tuple[list[str], list[int]]:
    """Return the labels of a key's values, and each cell's place among them."""
    values = distinct_values(results, key)
    places = {identity(value): place for place, value in enumerate(values)}
    found = [
        places[identity(result.values[key])] if key in result.values else len(values)
        for result in results
    ]
    return labels_of(values) + [ABSENT] * (len(values) in found), found


def _joint_axis(results: Sequence[Cell], group: Sequence[str], varying: Mapping[str, Any]) -> Axis:
    rows = list(zip(*(varying[key][1] for key in group), strict=True))
    order = sorted(set(rows))
    labels = [varying[key][0] for key in group]
    texts = tuple(
        tuple(names[place] for names, place in zip(labels, row, strict=True)) for row in order
    )
    places = {result.index: order.index(row) for result, row in zip(results, rows, strict=True)}
    return Axis(tuple(group), texts, places)


def _copies(results: Sequence[Cell], axes: Sequence[Axis]) -> list[Axis]:
    """Number the cells that no axis tells apart."""
    counts: Counter[tuple[int, ...]] = Counter()
    places = {}
    for result in sorted(results, key=lambda result: result.index):
        where = tuple(axis.places[result.index] for axis in axes)
        places[result.index] = counts[where]
        counts[where] += 1
    most = max(counts.values(), default=1)
    return [Axis(("copy",), tuple((str(i + 1),) for i in range(most)), places)] if most > 1 else []
