"""What `stylize` does besides when there are several models: folders for each, and one sheet."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from jaxstyle.types import InputError

if TYPE_CHECKING:
    import numpy as np

    from jaxstyle.io.inputs import Found
    from jaxstyle.io.outputs import Job

SHEET = "contact_sheet.png"
MOST_ON_SHEET = 40  # photographs; a sheet of more is too long to look at
_CELL = 256  # longer side of a picture on the sheet


def plan_styles(
    found: "Sequence[Found]",
    out: pathlib.Path,
    names: Sequence[str],
    *,
    suffix: str,
    format: str | None,
) -> "dict[str, list[Job]]":
    """Name the results of every model: `out/NAME/...`, as `plan_outputs` does for one.

    Args:
      found: the pictures.
      out: a folder.
      names: of the models.
      suffix: see `plan_outputs`.
      format: see there.

    Raises:
      InputError: as `plan_outputs`; an `out` that names a picture, or a picture that the contact
        sheet would overwrite.

    Example:
      >>> from jaxstyle.io.inputs import Found
      >>> found = [Found(pathlib.Path('in/a.png'), pathlib.PurePath('a.png'))]
      >>> jobs = plan_styles(found, pathlib.Path('out'), ['x', 'y'], suffix='', format=None)
      >>> [job.target.as_posix() for own in jobs.values() for job in own]
      ['out/x/a.png', 'out/y/a.png']
    """
    from jaxstyle.io.images import SUFFIXES
    from jaxstyle.io.outputs import plan_outputs

    if out.exists() and not out.is_dir():
        raise InputError(f"the output '{out}' exists and is no folder; choose another.")
    if out.suffix.lower() in SUFFIXES and not out.is_dir():
        raise InputError(f"the output '{out}' is one file for {len(names)} models; give a folder.")
    sheet = os.path.realpath(out / SHEET)
    for item in found:
        if os.path.realpath(item.path) == sheet:
            raise InputError(
                f"the contact sheet would overwrite the input '{item.path}'; choose another "
                "output folder."
            )
    return {name: plan_outputs(found, out / name, suffix=suffix, format=format) for name in names}


def write_sheet(
    jobs: "Mapping[str, Sequence[Job]]", out: pathlib.Path, *, max_pixels: int | None
) -> int:
    """Write `out/contact_sheet.png`: a row for each photograph, a column for each model.

    Args:
      jobs: of each model, in the order of the photographs, whose results are there now; what is
        not stays white, and a photograph without any is left out.
      out: the folder.
      max_pixels: see `images.read`.

    Returns:
      How many photographs are on it, at most `MOST_ON_SHEET`; without any no sheet is written.

    Raises:
      InputError: the sheet cannot be written.
    """
    from jaxstyle.reporting.contact_sheet import contact_sheet

    photos = [together for together in zip(*jobs.values(), strict=True) if _any_there(together)]
    shown = photos[:MOST_ON_SHEET]
    if not shown:
        return 0
    files = [file for row in shown for file in (row[0].source, *(job.target for job in row))]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        small = list(pool.map(lambda file: _small(file, max_pixels), files))
    width = 1 + len(jobs)
    rows = [small[i : i + width] for i in range(0, len(small), width)]
    try:
        contact_sheet(rows, out / SHEET, column_labels=["photo", *jobs], cell=_CELL)
    except OSError as error:
        raise InputError(
            f"'{out / SHEET}' cannot be written: {error.strerror or error}; the pictures are done."
        ) from error
    return len(shown)


def _any_there(jobs: "Sequence[Job]") -> bool:
    return any(job.target.exists() for job in jobs)


def _small(file: pathlib.Path, max_pixels: int | None) -> "np.ndarray":
    """Return a picture in the size of the sheet, white where it cannot be read."""
    import numpy as np

    from jaxstyle.io import images

    try:
        return images.resize_longer(images.read(file, max_pixels=max_pixels).pixels, _CELL)
    except InputError:
        return np.ones((1, 1, 3), np.float32)
