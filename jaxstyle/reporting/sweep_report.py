"""The report of a sweep: one HTML file to sort, filter, enlarge and compare the cells.

Small copies of the pictures are inside the file, so that alone it shows everything in small. Beside
the folder of the sweep it shows the whole pictures when one is enlarged or two are compared, by
their relative paths. It asks no network for anything, and says so to the browser by a policy.

A view can be kept and sent: the address's fragment says what is sorted, filtered, enlarged and
compared, e.g. `report.html#sort=loss&is.seed=1&compare=3,7`.
"""

import base64
import hashlib
import html
import importlib.resources
import io
import json
import math
import os
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxstyle.reporting.sweep_axes import (
    distinct_values,
    identity,
    is_number,
    labels_of,
    short_names,
    value_text,
)
from jaxstyle.reporting.sweep_cells import FAILED, Cell
from jaxstyle.reporting.sweep_plots import group_sums
from jaxstyle.reporting.sweep_table import relative_picture, term_names
from jaxstyle.reporting.thumbs import check_pixels, file_thumb, pixels_thumb
from jaxstyle.types import InputError
from jaxstyle.whole_files import replace_file

_SCRIPTS = ("state.js", "table.js", "viewer.js")
_FIXED = {"index", "status", "steps", "seconds", "name"}
_GIVEN_SIDE = 320
_QUALITY = 82  # of JPEG


def write_report(
    results: Sequence[Cell],
    keys: Sequence[str],
    out: str | os.PathLike[str],
    *,
    title: str,
    given: Mapping[str, np.ndarray] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a sweep's report as one HTML file.

    Args:
      results: the cells, at least one.
      keys: what was swept.
      out: the file; it is replaced as a whole. Whole pictures are linked relative to its folder.
      title: of the page.
      given: pictures to show at the top, by label: `[h, w, 3]` or `[h, w]`, sRGB; uint8, or floats
        in [0, 1].
      details: settings to list, by name; anything that `str` makes readable.

    Raises:
      InputError: there is no cell, or a given picture has another shape.
      OSError: the file cannot be written.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> import tempfile
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "report.html"
      >>> cells = [Result(i, f"{i}", {"seed": i}, metrics={"loss": 0.5}) for i in range(2)]
      >>> write_report(cells, ["seed"], file, title="Two seeds")
      >>> "<h1>Two seeds</h1>" in file.read_text()
      True
    """
    if not results:
        raise InputError("a report needs at least one cell; none was given.")
    for pixels in (given or {}).values():
        check_pixels(pixels)
    folder = pathlib.Path(out).absolute().parent
    data = {
        **_table(results, keys, folder),
        "given": [
            {"label": label, "src": _data_address(pixels_thumb(pixels, _GIVEN_SIDE))}
            for label, pixels in (given or {}).items()
        ],
        "details": [[name, str(value)] for name, value in (details or {}).items()],
    }
    replace_file(out, _page(title, data).encode("utf-8", "backslashreplace"))


def _page(title: str, data: Mapping[str, Any]) -> str:
    """Fill the template; the policy allows just this style and this script."""
    assets = importlib.resources.files("jaxstyle") / "assets" / "report"
    style = (assets / "page.css").read_text("utf-8")
    script = "".join((assets / name).read_text("utf-8") for name in _SCRIPTS)
    # Neither `</script>` nor `<!--` can come up in what has no `<`.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "POLICY": f"default-src 'none'; img-src 'self' file: data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        "TITLE": html.escape(title),
        "STYLE": style,
        "DATA": text,
        "SCRIPT": script,
    }
    template = (assets / "page.html").read_text("utf-8")
    return re.sub(r"%%([A-Z]+)%%", lambda found: parts[found[1]], template)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _table(results: Sequence[Cell], keys: Sequence[str], folder: pathlib.Path) -> dict[str, Any]:
    """Return the cells as plain data, with their pictures."""
    values = {key: distinct_values(results, key) for key in keys}
    places = {key: {identity(v): i for i, v in enumerate(values[key])} for key in keys}
    metrics = _metric_columns(results)
    side = 256 if len(results) <= 64 else 192 if len(results) <= 256 else 128
    cells = [
        {
            "index": result.index,
            "name": result.name,
            "status": result.status,
            "message": result.message,
            "values": [
                places[key][identity(result.values[key])] if key in result.values else -1
                for key in keys
            ],
            "metrics": _metrics(result, metrics),
            "steps": result.steps,
            "seconds": _number(result.seconds),
            **_pictures(result, folder, side),
        }
        for result in sorted(results, key=lambda result: result.index)
    ]
    taken = _FIXED | {metric["name"] for metric in metrics}
    names = short_names(keys)
    described = [
        {
            "key": key,
            "id": f"swept {key}" if key in taken else key,
            "name": names[key],
            "labels": labels_of(values[key]),
            "texts": [value_text(value) for value in values[key]],
            "numeric": all(map(is_number, values[key])),
        }
        for key in keys
    ]
    return {"keys": described, "metrics": metrics, "cells": cells}


def _metric_columns(results: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the loss, the sums of groups, and the terms, which the page shows on request."""
    terms = term_names(results)
    groups = dict.fromkeys(name for result in results for name in group_sums(result.metrics))
    sums = [name for name in groups if name != "loss"]
    rest = [name for name in terms if name != "loss" and name not in groups]
    return [
        {"name": "loss", "title": "loss", "extra": False},
        *({"name": name, "title": name, "extra": False} for name in sums),
        *({"name": name, "title": name, "extra": True} for name in rest),
    ]


def _metrics(result: Cell, columns: Sequence[Mapping[str, Any]]) -> list[Any]:
    known = {**result.metrics, **group_sums(result.metrics)}
    return [_number(known[c["name"]]) if c["name"] in known else None for c in columns]


def _number(value: float) -> float | str:
    """Return what JSON can hold; the page reads 'NaN' and 'Infinity' as numbers."""
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _pictures(result: Cell, folder: pathlib.Path, side: int) -> dict[str, Any]:
    """Return a cell's small picture as a data address, and where the whole one lies."""
    nothing = {"thumb": None, "picture": None, "width": None, "height": None}
    if result.picture is None or result.status == FAILED:
        return nothing
    try:
        thumb = file_thumb(result.picture, side)
    except InputError:
        return nothing
    path = relative_picture(result, folder) or ""
    return {
        "thumb": _data_address(thumb),
        "picture": urllib.parse.quote(os.fsencode(path)),
        "width": thumb.width,
        "height": thumb.height,
    }


def _data_address(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
