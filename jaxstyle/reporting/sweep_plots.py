"""Plots of a sweep: the loss and its parts against each swept parameter, as small multiples."""

import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from jaxstyle.reporting.sweep_axes import (
    distinct_values,
    identity,
    is_number,
    labels_of,
    short_names,
)
from jaxstyle.reporting.sweep_cells import Cell
from jaxstyle.types import InputError
from jaxstyle.whole_files import replace_file

# Of the loss, the content, style and tv, as in the plot of a single run; then of further groups.
_COLORS = {"loss": "#222222", "content": "#2171b5", "style": "#d9480f", "tv": "#238b45"}
_MORE_COLORS = ("#6a51a3", "#8c6d31", "#c51b8a", "#525252")
_LOG_SPAN = 20.0
_MOST_TICKS = 8
_MOST_BROKEN = 6  # labels that fit beside each other, with a line for each part
_LONGEST_LABEL = 40  # characters


@final
@dataclasses.dataclass(frozen=True)
class Points:
    """A quantity against a parameter.

    Attributes:
      x: per point: the number, or the place of the value among the labels.
      y: per point, finite.
      middle_x: the parameter's values that have a point, in order.
      middle_y: the median at each of these, over all other keys.
      values: all values of the parameter, in order.
      labels: one per value.
      numeric: whether x has numbers.
      missing: cells without a finite value.
    """

    x: np.ndarray
    y: np.ndarray
    middle_x: np.ndarray
    middle_y: np.ndarray
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    numeric: bool
    missing: int


def group_sums(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the loss, and for each group the sum of its unweighted terms.

    Args:
      metrics: by term name; a term's group is the part of its name before the slash.

    Example:
      >>> group_sums({"loss": 3.0, "style/relu1_1": 0.25, "style/relu2_1": 0.5, "tv": 0.125})
      {'loss': 3.0, 'style': 0.75, 'tv': 0.125}
    """
    sums: dict[str, float] = {}
    for name, value in metrics.items():
        group = name.partition("/")[0]
        sums[group] = sums.get(group, 0.0) + float(value)
    return sums


def points_of(results: Sequence[Cell], key: str, quantity: str) -> Points:
    """Return what is drawn: a point per cell and the medians.

    Args:
      results: the cells; those without the key, or without a finite value, have no point.
      key: the parameter. Booleans, strings and tuples are categories.
      quantity: 'loss' or a group, see `group_sums`.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> cells = [Result(i, "", {"beta": i % 2}, metrics={"loss": float(i)}) for i in range(4)]
      >>> points = points_of(cells, "beta", "loss")
      >>> points.middle_x.tolist(), points.middle_y.tolist()
      ([0.0, 1.0], [1.0, 2.0])
    """
    values = distinct_values(results, key)
    numeric = bool(values) and all(is_number(v) and math.isfinite(v) for v in values)
    where = [float(value) for value in values] if numeric else np.arange(float(len(values)))
    places = {identity(value): place for place, value in enumerate(values)}
    groups: list[list[float]] = [[] for _ in values]
    missing = 0
    for result in results:
        y = group_sums(result.metrics).get(quantity, math.nan)
        if key in result.values and math.isfinite(y):
            groups[places[identity(result.values[key])]].append(y)
        else:
            missing += 1
    pairs = [(x, group) for x, group in zip(where, groups, strict=True) if group]
    return Points(
        np.array([x for x, group in pairs for _ in group]),
        np.array([y for _, group in pairs for y in group]),
        np.array([x for x, _ in pairs]),
        np.array([np.median(group) for _, group in pairs]),
        tuple(values),
        tuple(labels_of(values)),
        numeric,
        missing,
    )


def sweep_plots(results: Sequence[Cell], keys: Sequence[str], out: str | os.PathLike[str]) -> None:
    """Plot the loss and the sum of each group's unweighted terms against each swept key.

    A column per key that has more than one value, a row per quantity. Each cell is a point, and a
    line joins the medians over everything else that was swept; categories have a dash each. An axis
    is logarithmic where its values are positive and span a factor of 20 or more.

    Args:
      results: the cells, at least one.
      keys: what was swept, at least one.
      out: the picture to write; the suffix chooses the format, e.g. `.png`. It is replaced as a
        whole.

    Raises:
      InputError: there is no cell or no key.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> import tempfile
      >>> cells = [Result(i, "", {"beta": 10.0**i}, metrics={"loss": 1 + i}) for i in range(3)]
      >>> sweep_plots(cells, ["beta"], tempfile.mkdtemp() + "/parameters.png")
    """
    if not results or not keys:
        raise InputError("plots of a sweep need at least one cell and one swept key.")
    shown = [key for key in keys if len(distinct_values(results, key)) > 1] or list(keys)[:1]
    quantities = _quantities(results)
    size = (max(6.0, 0.9 + 3.4 * len(shown)), 0.9 + 2.3 * len(quantities))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = FigureCanvasAgg(figure).figure.subplots(
        len(quantities), len(shown), squeeze=False, sharex="col", sharey="row"
    )
    names = short_names(keys)
    for row, (quantity, color) in enumerate(quantities.items()):
        for column, key in enumerate(shown):
            points = points_of(results, key, quantity)
            _draw(grid[row, column], points, color)
            _scale_x(grid[row, column], points)
        _scale_y(grid[row, 0], points.y)
        text = quantity if quantity == "loss" else f"{quantity} (unweighted)"
        grid[row, 0].set_ylabel(text.replace("$", r"\$"))
    for column, key in enumerate(shown):
        grid[-1, column].set_xlabel(names[key].replace("$", r"\$"), fontsize=11)
    figure.suptitle(_caption(results, points_of(results, shown[0], "loss").missing), fontsize=9)
    image = io.BytesIO()
    figure.savefig(image, format=os.path.splitext(out)[1].lstrip(".").lower() or "png")
    replace_file(out, image.getvalue())


def _quantities(results: Sequence[Cell]) -> dict[str, str]:
    """Return what is plotted, with its color."""
    names = dict.fromkeys(name for result in results for name in group_sums(result.metrics))
    others = [name for name in names if name not in _COLORS]
    more = {name: _MORE_COLORS[i % len(_MORE_COLORS)] for i, name in enumerate(others)}
    known = {name: color for name, color in _COLORS.items() if name in names or name == "loss"}
    return known | more


def _caption(results: Sequence[Cell], missing: int) -> str:
    text = "one point per cell; lines and dashes: medians over the other parameters"
    return text + (f"; {missing} of {len(results)} cells have no finite loss" if missing else "")


def _draw(axes: Axes, points: Points, color: str) -> None:
    x = points.x
    if not points.numeric:  # spread what would lie on each other, the same at each drawing
        x = x + np.random.default_rng(0).uniform(-0.18, 0.18, len(x))
    alpha = 0.65 if len(x) <= 60 else 0.4
    axes.plot(x, points.y, "o", color=color, markersize=4, alpha=alpha, markeredgewidth=0)
    if points.numeric:
        axes.plot(points.middle_x, points.middle_y, "-", color=color, linewidth=1.8)
    else:
        axes.hlines(points.middle_y, points.middle_x - 0.3, points.middle_x + 0.3, color, lw=2.2)
    axes.grid(True, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not len(x):
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color="0.5")


def _is_log(values: np.ndarray) -> bool:
    return bool(len(values)) and values.min() > 0 and values.max() >= _LOG_SPAN * values.min()


def _scale_x(axes: Axes, points: Points) -> None:
    if not points.numeric:
        narrow = len(points.labels) <= _MOST_BROKEN
        labels = [_shortened(label, narrow) for label in points.labels]
        axes.set_xticks(range(len(labels)), labels, fontsize=8)
        if not narrow:
            axes.tick_params("x", rotation=40)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
        axes.set_xlim(-0.6, len(labels) - 0.4)
        return
    values = np.array([float(value) for value in points.values])
    positive = values[values > 0]
    if _is_log(values):
        axes.set_xscale("log")
    elif values.min() == 0 and _is_log(positive):  # a zero beside 0.01, 0.1, 1
        axes.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
    if len(values) <= _MOST_TICKS:
        axes.set_xticks(values, points.labels, fontsize=8)
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())


def _scale_y(axes: Axes, values: np.ndarray) -> None:
    if _is_log(values):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    if not len(values):
        axes.set_yticks([])


def _shortened(label: str, narrow: bool) -> str:
    """Return a label with its parts on lines of their own, or cut, as there is room for."""
    if narrow:
        label = label.replace("+", "+\n")
    else:
        label = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
    return label.replace("$", r"\$")  # no mathematics
