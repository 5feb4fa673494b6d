"""Plots of a run, drawn without pyplot: no window, no state shared with the caller's figures.

Matplotlib is loaded by the first plot: a training run begins a quarter of a second sooner.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxstyle.reporting.metrics_file import read_metrics
from jaxstyle.types import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOR_MAPS = ("Blues", "Oranges", "Greens", "Purples", "Reds", "Greys")  # one per group of terms


def loss_plot(
    metrics_file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> None:
    """Plot the loss and its terms over the steps, on a logarithmic axis.

    The loss is black. Terms that share the part of their name before the slash share a color, from
    light (first in the file) to dark. They are unweighted, as in the file.

    Args:
      metrics_file: a `metrics.jsonl`.
      out: the picture to write, 1600x900 pixels; the suffix chooses the format, e.g. `.png`.
      title: a line above the plot.

    Raises:
      InputError: the file is missing or has no complete line.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> _ = (folder / "metrics.jsonl").write_text('{"step": 10, "loss": 2.5}\\n')
      >>> loss_plot(folder / "metrics.jsonl", folder / "loss.png")
    """
    records = _records(metrics_file)
    steps = [record["step"] for record in records]
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(10.0, 5.625), dpi=160, layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    for name, color in _colors(records[-1]).items():
        values = np.array([record.get(name, np.nan) for record in records], np.float64)
        _curve(axes, steps, values, name, color)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter("{x:g}" if high < 15 * low else NullFormatter())
    axes.set_xlabel("step")
    axes.set_ylabel("mean per logging interval, terms unweighted")
    axes.set_title(title or "")
    axes.grid(True, which="major", color="0.85", linewidth=0.8)
    axes.grid(True, which="minor", axis="y", color="0.94", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    figure.savefig(out)


def _records(metrics_file: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of the file, at least one."""
    try:
        records = read_metrics(metrics_file)
    except OSError as error:
        raise InputError(f"{metrics_file} cannot be read: {error.strerror}.") from error
    if not records:
        raise InputError(f"{metrics_file} has no complete line yet; there is nothing to plot.")
    return records


def _colors(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a color per curve: black for the loss, then a color map per group of terms."""
    from matplotlib import colormaps

    groups: dict[str, list[str]] = {}
    for name in record:
        if name not in ("step", "loss"):
            groups.setdefault(name.partition("/")[0], []).append(name)
    colors: dict[str, Any] = {"loss": "black"} if "loss" in record else {}
    for number, names in enumerate(groups.values()):
        color_map = colormaps[_COLOR_MAPS[number % len(_COLOR_MAPS)]]
        shades = np.linspace(0.45, 0.95, len(names)) if len(names) > 1 else [0.7]
        colors |= {name: color_map(shade) for name, shade in zip(names, shades, strict=True)}
    return colors


def _curve(axes: "Axes", steps: Sequence[int], values: np.ndarray, name: str, color: Any) -> None:
    """Draw one curve; a logarithm has no place for zero and below, so there it has a gap."""
    values = np.where(values > 0, values, np.nan)
    marker = "o" if np.isfinite(values).sum() < 3 else ""
    width = 2.2 if name == "loss" else 1.4
    label = name if np.isfinite(values).any() else f"{name} (0)"
    axes.plot(steps, values, label=label, color=color, linewidth=width, marker=marker, markersize=4)
