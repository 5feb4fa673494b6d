"""The table of a sweep: one line per cell, for spreadsheets and programs."""

import csv
import io
import os
import pathlib
from collections.abc import Sequence

from jaxstyle.reporting.sweep_axes import value_text
from jaxstyle.reporting.sweep_cells import Cell
from jaxstyle.whole_files import replace_file

_BEFORE = ("index", "name", "status")
_AFTER = ("picture", "message")
_WORK = ("steps", "seconds")


def term_names(results: Sequence[Cell]) -> list[str]:
    """Return the metrics of all cells: 'loss', then the terms in order of appearance.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> term_names([Result(0, "a", {}, metrics={"tv": 0.0, "loss": 1.0})])
      ['loss', 'tv']
    """
    names = dict.fromkeys(name for result in results for name in result.metrics)
    return ["loss", *(name for name in names if name != "loss")]


def write_table(results: Sequence[Cell], keys: Sequence[str], out: str | os.PathLike[str]) -> None:
    """Write a sweep's table as CSV (RFC 4180, UTF-8), one row per cell in order of index.

    Columns: index, name, status, a column per key, steps, seconds, loss, the terms (unweighted;
    empty where a cell lacks one), picture (relative to the table's folder), message. A key that is
    called like another column is written as e.g. `steps (swept)`. Numbers have all their digits;
    tuples look like `relu1_1+relu2_1`.

    Args:
      results: the cells.
      keys: what was swept, in the order of their columns.
      out: the file; it is replaced as a whole.

    Raises:
      OSError: it cannot be written.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> import tempfile
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "results.csv"
      >>> cell = Result(0, "0000_seed=1", {"seed": 1}, metrics={"loss": 0.5}, steps=3, seconds=2.0)
      >>> write_table([cell], ["seed"], file)
      >>> print(file.read_text())
      index,name,status,seed,steps,seconds,loss,picture,message
      0,0000_seed=1,done,1,3,2.0,0.5,,
      <BLANKLINE>
    """
    terms = term_names(results)
    fixed = {*_BEFORE, *_WORK, *terms, *_AFTER}
    swept = [f"{key} (swept)" if key in fixed else key for key in keys]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow([*_BEFORE, *swept, *_WORK, *terms, *_AFTER])
    folder = pathlib.Path(out).absolute().parent
    for cell in sorted(results, key=lambda result: result.index):
        values = [value_text(cell.values[key]) if key in cell.values else "" for key in keys]
        metrics = [float(cell.metrics[name]) if name in cell.metrics else "" for name in terms]
        row = [cell.index, cell.name, cell.status, *values, cell.steps, float(cell.seconds)]
        table.writerow([*row, *metrics, relative_picture(cell, folder) or "", cell.message])
    replace_file(out, text.getvalue().encode("utf-8", "backslashreplace"))


def relative_picture(result: Cell, folder: pathlib.Path) -> str | None:
    """Return where a cell's picture lies as seen from a folder, with slashes, or None.

    Args:
      result: the cell.
      folder: absolute.
    """
    if result.picture is None:
        return None
    return pathlib.Path(os.path.relpath(result.picture, folder)).as_posix()
