"""What `--sweep` says, in words, and the cells that come of it.

    objective.beta=1,10,100         three values of one key
    seed=0..3                       whole numbers, both ends included: 0, 1, 2, 3
    objective.tv=0..2:5             five numbers at equal distances
    objective.beta=1e-1..1e2:4log   four numbers at equal ratios
    a=1,2;b=3,4                     together, not crossed: (1, 3), (2, 4)
    objective.style_layers=shallow,relu1_1+relu2_1,deep     sets of layers, by name or joined by +
    style=paintings/*.jpg,starry    text; patterns stand for the files they find

Several `--sweep` are crossed; the last varies fastest. What a value may be is decided by the value
the config has, as with flags: a whole number is a float where the config has one, but not the other
way round.
"""

import ast
import contextlib
import difflib
import glob
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxstyle.types import InputError

Values = dict[str, Any]

MOST_CELLS = 10_000

# What layers can be called in a sweep, by the last word of the key.
LAYER_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "style": {
        "shallow": ("relu1_1", "relu2_1"),
        "middle": ("relu3_1",),
        "deep": ("relu4_1", "relu5_1"),
        "all": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    },
    "content": {"shallow": ("relu2_2",), "middle": ("relu3_2",), "deep": ("relu4_2",)},
}

_COUNT = re.compile(r"([0-9]{1,9})(lin|log)?", re.IGNORECASE)
_LARGEST = 2**63  # of whole numbers, as JSON and others read them


class Axis(NamedTuple):
    """Values that are tried one after the other.

    Attributes:
      text: where they come from.
      points: each sets the same keys.
    """

    text: str
    points: tuple[Values, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that every point sets."""
        return tuple(self.points[0])


def parse(text: str, settings: Mapping[str, Any]) -> Axis:
    """Read one `--sweep`.

    Args:
      text: see the module's docstring.
      settings: the config, flat with dotted keys; its values decide the types.

    Returns:
      The axis; of parts joined by `;` one whose points set several keys.

    Raises:
      InputError: an unknown key, a value that is not of the key's type, an empty or repeated value,
        parts of different lengths.

    Example:
      >>> parse("beta=1,10;seed=0..1", {"beta": 5.0, "seed": 0}).points
      ({'beta': 1.0, 'seed': 0}, {'beta': 10.0, 'seed': 1})
    """
    columns: dict[str, list[Any]] = {}
    for part in _split(text, ";"):
        key, equals, values = part.partition("=")
        key = key.strip().removeprefix("config.")
        if not equals or not key:
            raise InputError(
                f"--sweep '{text}': '{part}' is not KEY=VALUES; write e.g. objective.beta=1,10."
            )
        if key not in settings:
            raise _unknown(key, settings)
        if key in columns:
            raise InputError(f"--sweep '{text}' names {key} twice; give all its values at once.")
        columns[key] = _values(key, values, settings[key])
    counts = {key: len(column) for key, column in columns.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key} has {count}" for key, count in counts.items())
        raise InputError(f"--sweep '{text}': {told} values; joined by ';' they must be as many.")
    rows = zip(*columns.values(), strict=True)
    return _axis(text, [dict(zip(columns, row, strict=True)) for row in rows])


def named(name: str, points: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> Axis:
    """Read what a config's `sweep()` or `sweep_NAME()` returned.

    Args:
      name: of the sweep, for messages.
      points: dicts of dotted keys that set the same keys.
      settings: as for `parse`.

    Raises:
      InputError: as `parse`, or no points, or points of different keys.

    Example:
      >>> named("warm", [{"seed": 1}, {"seed": 2}], {"seed": 0}).points
      ({'seed': 1}, {'seed': 2})
    """
    rows = []
    for point in points:
        for key in point:
            if key not in settings:
                raise _unknown(key, settings)
        rows.append({key: _checked(key, value, settings[key]) for key, value in point.items()})
    if not rows or not rows[0]:
        raise InputError(f"the sweep '{name}' has no values; let it return at least one dict.")
    if any(row.keys() != rows[0].keys() for row in rows):
        raise InputError(f"the dicts of the sweep '{name}' have different keys; give all the same.")
    return _axis(name, rows)


def cross(axes: Sequence[Axis]) -> list[Values]:
    """Return every combination of points; the last axis varies fastest.

    Args:
      axes: at least one.

    Raises:
      InputError: two axes set one key, or there would be more than 10000 cells.

    Example:
      >>> settings = {"beta": 1.0, "seed": 0}
      >>> cross([parse("beta=1,2", settings), parse("seed=0,1", settings)])[1]
      {'beta': 1.0, 'seed': 1}
    """
    keys = [key for axis in axes for key in axis.keys]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{key} is swept twice; give all its values in one --sweep.")
    count = math.prod(len(axis.points) for axis in axes)
    if count > MOST_CELLS:
        raise InputError(f"that is {count} cells; a sweep has at most {MOST_CELLS}.")
    cells = []
    for points in itertools.product(*(axis.points for axis in axes)):
        cells.append({key: value for point in points for key, value in point.items()})
    return cells


def told(value: Any) -> str:
    """Return a value as short as it can be said: `1e-05`, `relu1_1+relu2_1`, `starry`.

    Example:
      >>> told(10.0), told(("relu1_1", "relu2_1")), told(True)
      ('10', 'relu1_1+relu2_1', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:.6g}"
        short = short if float(short) == value else repr(value)
        return short.replace("e+", "e")  # what + joins are values
    if isinstance(value, tuple):
        return "+".join(map(told, value)) if value else "()"
    return str(value)


def _unknown(key: str, settings: Mapping[str, Any]) -> InputError:
    near = difflib.get_close_matches(key, settings, n=1)
    hint = f"did you mean {near[0]}?" if near else "see the config's file for its keys."
    return InputError(f"the config has no key {key} to sweep; {hint}")


def _axis(text: str, points: list[Values]) -> Axis:
    seen = set()
    for point in points:
        if frozenset(point.items()) in seen:
            what = ", ".join(f"{key}={told(value)}" for key, value in point.items())
            raise InputError(f"--sweep '{text}' has {what} twice; give each once.")
        seen.add(frozenset(point.items()))
    return Axis(text, tuple(points))


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that is not inside brackets or quotes; no part may be empty."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([") - (character in ")]")
        if character == separator and not quote and not depth:
            parts.append("")
        else:
            parts[-1] += character
    if quote or depth:
        raise InputError(f"--sweep '{text}': a quote or bracket is not closed.")
    if not all(part.strip() for part in parts):
        raise InputError(f"--sweep '{text}': a value is missing; write e.g. objective.beta=1,10.")
    return [part.strip() for part in parts]


def _values(key: str, text: str, like: Any) -> list[Any]:
    values: list[Any] = []
    for item in _split(text, ","):
        if _is_number(like) and ".." in item:
            values += _range(key, item, like)
        elif isinstance(like, str) and any(s in item for s in "*?[") and not _is_quoted(item):
            values += _files(key, item)
        else:
            values.append(_value(key, item, like))
    return values


def _is_number(like: Any) -> bool:
    return isinstance(like, (int, float)) and not isinstance(like, bool)


def _range(key: str, item: str, like: Any) -> list[Any]:
    first, _, rest = item.partition("..")
    last, colon, counted = rest.partition(":")
    match = _COUNT.fullmatch(counted)
    if not (first and last) or bool(colon) != bool(match):
        raise InputError(f"--sweep {key}={item}: write a range as 0..3, 1..9:5 or 1e-2..1e2:5log.")
    whole = isinstance(like, int)
    ends = [_end(key, end.strip(), like) for end in (first, last)]
    if match is None:
        if not whole:
            raise InputError(f"--sweep {key}={item}: say how many numbers, e.g. {item}:5 or :5log.")
        if not 0 <= ends[1] - ends[0] < MOST_CELLS:
            raise InputError(
                f"--sweep {key}={item}: give the lower end first, and at most {MOST_CELLS} numbers."
            )
        return list(range(ends[0], ends[1] + 1))
    count = int(match[1])
    if not 2 <= count <= MOST_CELLS or ends[0] == ends[1]:
        raise InputError(
            f"--sweep {key}={item}: give two ends and 2 to {MOST_CELLS} numbers, e.g. 1..9:5."
        )
    log = (match[2] or "").lower() == "log"
    if log and min(ends) <= 0:
        raise InputError(f"--sweep {key}={item}: both ends of a log range must be above 0.")
    low, high = map(float, ends)
    between = [_between(low, high, i / (count - 1), log) for i in range(1, count - 1)]
    values = [ends[0], *(round(value) if whole else _neat(value) for value in between), ends[1]]
    if len(set(values)) < count:
        kind = "whole " if whole else ""
        raise InputError(
            f"--sweep {key}={item}: there are not {count} {kind}numbers in between; ask for fewer."
        )
    return values


def _end(key: str, text: str, like: Any) -> Any:
    """Return an end of a range; whole ones may be written 1e3, and keep all their digits."""
    if isinstance(like, float):
        return _value(key, text, like)
    with contextlib.suppress(InputError):
        return _value(key, text, like)
    value = _value(key, text, 0.0)
    return _checked(key, int(value) if value.is_integer() else value, like)


def _between(low: float, high: float, share: float, log: bool) -> float:
    # Neither difference nor ratio of the ends may overflow.
    if log:
        return math.exp(math.log(low) * (1 - share) + math.log(high) * share)
    return low * (1 - share) + high * share


def _neat(value: float) -> float:
    """Return 0.1 for 0.10000000000000002."""
    return float(f"{value:.12g}")


def _files(key: str, pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise InputError(f"--sweep {key}={pattern}: no file is found; check the pattern.")
    return found


def _value(key: str, text: str, like: Any) -> Any:
    """Return one value of the type that the config has."""
    if isinstance(like, str):
        return _unquoted(text)
    if isinstance(like, (tuple, list)) and not text.startswith("("):
        return _names(key, text)
    if isinstance(like, bool):
        choice = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        return _checked(key, text if choice is None else choice, like)
    readers: tuple[Callable[[str], Any], ...] = (int, float, ast.literal_eval)
    for reader in readers:
        try:
            return _checked(key, reader(text), like)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
    return _checked(key, text, like)


def _names(key: str, text: str) -> tuple[Any, ...]:
    kind = next((kind for kind in LAYER_SETS if kind in key and key.endswith("layers")), "")
    sets: Mapping[str, tuple[str, ...]] = LAYER_SETS.get(kind, {})
    names: list[Any] = []
    for word in text.split("+"):
        names += sets.get(word.strip(), (_number_or_word(word.strip()),))
    return _checked(key, tuple(dict.fromkeys(names) if sets else names), ())


def _number_or_word(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return _unquoted(word)


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _unquoted(text: str) -> str:
    return text[1:-1] if _is_quoted(text) else text


def _checked(key: str, value: Any, like: Any) -> Any:
    """Return a value as the config would hold it, or refuse it."""
    if isinstance(like, (tuple, list, type(None))) and isinstance(value, (tuple, list)):
        return tuple(_plain(key, item) for item in value)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(_plain(key, value))
    if like is not None and type(value) is not type(like):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        kind = names.get(type(like), "a tuple such as ('relu1_1', 'relu2_1') or relu1_1+relu2_1")
        raise InputError(f"--sweep {key}: '{value}' is not {kind}; the config has {told(like)}.")
    return _plain(key, value)


def _plain(key: str, value: Any) -> Any:
    """Return what a file of settings can hold: a truth, a number or text."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (bool, int, float, str)):
        raise InputError(f"--sweep {key}: '{value}' is neither a number nor text.")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise InputError(f"--sweep {key}: a number has too many digits.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"--sweep {key}: {value} is not a finite number.")
    return value
