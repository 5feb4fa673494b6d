"""The contact sheet of a sweep: every cell's picture, in rows and columns of what was swept."""

import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxstyle.reporting.lettering import INK, PALE_INK, PAPER, line_height
from jaxstyle.reporting.sweep_axes import constants, short_names
from jaxstyle.reporting.sweep_cells import DONE, FAILED, NOT_FINITE, Cell
from jaxstyle.reporting.sweep_layout import Layout, plan_layout
from jaxstyle.reporting.sweep_panels import Panel, arrange
from jaxstyle.reporting.thumbs import check_pixels, file_size, file_thumb, pixels_thumb, thumb_size
from jaxstyle.types import InputError
from jaxstyle.whole_files import replace_file

_TILE = (224, 224, 224)
_WARNING = (214, 96, 10)
_WORDS = {FAILED: "failed", NOT_FINITE: "not finite", DONE: "no picture"}


def sweep_sheet(
    results: Sequence[Cell],
    keys: Sequence[str],
    out: str | os.PathLike[str],
    *,
    given: Mapping[str, np.ndarray] | None = None,
    cell: int | None = None,
) -> None:
    """Write a sheet with every cell's picture, labeled with the swept values.

    What goes along columns, rows and into panels is chosen, see `sweep_panels.arrange`. Pictures
    keep their aspect. A cell that failed, or whose picture is missing, is a gray tile that says so,
    with its index. A cell that became non-finite shows its last good picture in an orange frame.
    Combinations that were not computed stay blank.

    Args:
      results: the cells, at least one.
      keys: what was swept.
      out: the picture to write; the suffix chooses the format, e.g. `.png`. It is replaced as a
        whole.
      given: pictures to show above in small, by label: `[h, w, 3]` or `[h, w]`, sRGB; uint8, or
        floats in [0, 1].
      cell: longer side of a picture on the sheet, in pixels, at least 48. By default as large as
        keeps the sheet within 6000 pixels each way and 8 megapixels of pictures, from 48 to 256.

    Raises:
      InputError: there is no cell, `cell` is too small, or a given picture has another shape.

    Example:
      >>> from jaxstyle.sweeps.results import Result
      >>> import tempfile
      >>> cells = [Result(i, f"{i}", {"beta": 10.0**i}, status="failed") for i in range(3)]
      >>> sweep_sheet(cells, ["beta"], tempfile.mkdtemp() + "/contact_sheet.png")
    """
    if not results:
        raise InputError("a contact sheet needs at least one cell; none was given.")
    for pixels in (given or {}).values():
        check_pixels(pixels)
    arrangement = arrange(results, keys)
    layout = plan_layout(arrangement, _shape(results), _heading(results, keys), given or {}, cell)
    sheet = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    layout.write_heading(draw)
    for (label, pixels), (left, top) in zip((given or {}).items(), layout.given, strict=True):
        sheet.paste(pixels_thumb(pixels, layout.given_side), (left, top))
        height = thumb_size(pixels.shape[1::-1], layout.given_side)[1]
        draw.text((left, top + height + 2), label, PALE_INK, layout.font)
    for panel, corner in zip(arrangement.panels, layout.corners, strict=True):
        layout.write_labels(draw, panel, corner)
        _paste_cells(sheet, draw, layout, panel, corner)
    text = io.BytesIO()
    suffix = os.path.splitext(out)[1].lower()
    sheet.save(text, format=Image.registered_extensions().get(suffix, "PNG"))
    replace_file(out, text.getvalue())


def _shape(results: Sequence[Cell]) -> tuple[float, float]:
    """Return the width and height that hold every picture whose longer side is 1."""
    found = [file_size(result.picture) for result in results if result.picture is not None]
    sizes = [size for size in found if size is not None] or [(1, 1)]
    return max(w / max(w, h) for w, h in sizes), max(h / max(w, h) for w, h in sizes)


def _heading(results: Sequence[Cell], keys: Sequence[str]) -> str:
    """Return e.g. '12 cells: 10 done, 2 failed (gray)    tv=0' for above the pictures."""
    counts = Counter(result.status for result in results)
    said = {DONE: "done", NOT_FINITE: "not finite (orange frame)", FAILED: "failed (gray)"}
    parts = [f"{counts[status]} {text}" for status, text in said.items() if counts[status]]
    names = short_names(keys)
    shared = [f"{names[key]}={text}" for key, text in constants(results, keys).items()]
    cells = "1 cell" if len(results) == 1 else f"{len(results)} cells"
    return "    ".join([f"{cells}: {', '.join(parts)}", *shared])


def _paste_cells(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    panel: Panel,
    corner: tuple[int, int],
) -> None:
    width, height = layout.box
    for (row, column), result in panel.cells.items():
        left, top = layout.place(corner, row, column)
        thumb = _thumb(result, layout.side)
        if thumb is None:
            _draw_tile(draw, layout, result, (left, top))
            continue
        left, top = left + (width - thumb.width) // 2, top + (height - thumb.height) // 2
        sheet.paste(thumb, (left, top))
        if result.status == NOT_FINITE:
            edge = (left, top, left + thumb.width - 1, top + thumb.height - 1)
            draw.rectangle(edge, outline=_WARNING, width=max(3, layout.side // 40))
            _draw_badge(draw, layout, f"#{result.index}", (left, top))


def _thumb(result: Cell, side: int) -> Image.Image | None:
    if result.picture is None or result.status == FAILED:
        return None
    try:
        return file_thumb(result.picture, side)
    except InputError:
        return None


def _draw_tile(
    draw: ImageDraw.ImageDraw, layout: Layout, result: Cell, corner: tuple[int, int]
) -> None:
    """Draw what stands for a missing picture: a word and the cell's index on gray."""
    left, top = corner
    width, height = layout.box
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_TILE)
    if result.status == NOT_FINITE:
        edge = (left, top, left + width - 1, top + height - 1)
        draw.rectangle(edge, outline=_WARNING, width=max(3, layout.side // 40))
    text = f"{_WORDS.get(result.status, result.status)}\n#{result.index}"
    draw.multiline_text(
        (left + width / 2, top + height / 2), text, INK, layout.small_font, "mm", align="center"
    )


def _draw_badge(
    draw: ImageDraw.ImageDraw, layout: Layout, text: str, corner: tuple[int, int]
) -> None:
    left, top = corner
    right = left + layout.small_font.getlength(text) + 8
    draw.rectangle((left, top, right, top + line_height(layout.small_font) + 4), fill=_WARNING)
    draw.text((left + 4, top + 2), text, PAPER, layout.small_font)
