"""Contact sheets: labeled rows and columns of small pictures on white."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxstyle.reporting.lettering import INK, PAPER, fit, line_height
from jaxstyle.reporting.thumbs import check_pixels, pixels_thumb
from jaxstyle.types import InputError

Picture = np.ndarray


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    out: str | os.PathLike[str],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: int = 256,
    title: str | None = None,
) -> None:
    """Write a sheet of pictures in rows and columns.

    Every picture keeps its aspect: the longer side becomes `cell` pixels, and it is centered in its
    place. A row is as high as its highest picture, a column as wide as its widest. Rows may have
    different lengths. Labels are cut with an ellipsis where they do not fit.

    Args:
      rows: pictures `[h, w, 3]` or `[h, w]` (gray), sRGB; uint8, or floats in [0, 1] (what lies
        outside is clipped).
      out: the picture to write; the suffix chooses the format, e.g. `.png`.
      row_labels: one per row, left of it.
      column_labels: one per column, above it.
      cell: longer side of a picture on the sheet, in pixels, at least 16.
      title: a line above everything.

    Raises:
      InputError: there is no picture, a picture has another shape, or the labels are not as many as
        the rows or columns.

    Example:
      >>> import tempfile
      >>> picture = np.zeros((20, 30, 3), np.float32)
      >>> contact_sheet([[picture, picture]], tempfile.mkdtemp() + "/sheet.png", cell=32)
    """
    columns = max((len(row) for row in rows), default=0)
    _check(rows, columns, row_labels, column_labels, cell)
    thumbs = [[pixels_thumb(picture, cell) for picture in row] for row in rows]
    widths = [max(row[i].width for row in thumbs if i < len(row)) for i in range(columns)]
    heights = [max((thumb.height for thumb in row), default=0) for row in thumbs]
    layout = _Layout(cell, widths, heights, row_labels, column_labels, title)
    sheet = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    layout.write_labels(draw, row_labels, column_labels, title)
    for row, top, height in zip(thumbs, layout.tops, heights, strict=True):
        for thumb, left, width in zip(row, layout.lefts, widths, strict=False):
            place = (left + (width - thumb.width) // 2, top + (height - thumb.height) // 2)
            sheet.paste(thumb, place)
    sheet.save(out)


class _Layout:
    """Where everything goes: margins, then the title, the column labels, and the rows."""

    def __init__(
        self,
        cell: int,
        widths: Sequence[int],
        heights: Sequence[int],
        row_labels: Sequence[str] | None,
        column_labels: Sequence[str] | None,
        title: str | None,
    ):
        self.font = ImageFont.load_default(max(11, cell // 14))
        self.title_font = ImageFont.load_default(max(14, cell // 10))
        self.gap = max(4, cell // 32)
        self.margin = 2 * self.gap
        self.widths, self.heights = widths, heights
        longest = max((self.font.getlength(label) for label in row_labels or ()), default=0.0)
        self.label_width = min(int(longest) + 1, cell) if longest else 0
        self.title_height = line_height(self.title_font) + 2 * self.gap if title else 0
        self.header_height = line_height(self.font) + self.gap if column_labels else 0
        left = self.margin + (self.label_width + 2 * self.gap if self.label_width else 0)
        top = self.margin + self.title_height + self.header_height
        self.lefts, right = _places(left, widths, self.gap)
        self.tops, bottom = _places(top, heights, self.gap)
        if title:
            right = max(right, self.margin + int(self.title_font.getlength(title)) + 1)
        self.size = (right + self.margin, bottom + self.margin)

    def write_labels(
        self,
        draw: ImageDraw.ImageDraw,
        row_labels: Sequence[str] | None,
        column_labels: Sequence[str] | None,
        title: str | None,
    ) -> None:
        """Write the title, the column labels (centered) and the row labels (to the right)."""
        if title:
            draw.text((self.margin, self.margin), title, INK, self.title_font)
        base = self.margin + self.title_height + self.header_height - self.gap
        for label, left, width in zip(column_labels or (), self.lefts, self.widths, strict=False):
            text = fit(label, self.font, width)
            draw.text((left + width / 2, base), text, INK, self.font, anchor="md")
        for label, top, height in zip(row_labels or (), self.tops, self.heights, strict=False):
            text = fit(label, self.font, self.label_width)
            place = (self.margin + self.label_width, top + height / 2)
            draw.text(place, text, INK, self.font, anchor="rm")


def _check(
    rows: Sequence[Sequence[Picture]],
    columns: int,
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    cell: int,
) -> None:
    """Refuse what cannot be laid out."""
    if not columns:
        raise InputError("a contact sheet needs at least one picture; none was given.")
    if cell < 16:
        raise InputError(f"cell is {cell}; a picture on a contact sheet needs at least 16 pixels.")
    for what, labels, count in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise InputError(
                f"{len(labels)} {what} labels were given for {count} {what}s; give one for each."
            )
    for row in rows:
        for picture in row:
            check_pixels(picture)


def _places(start: int, sizes: Sequence[int], gap: int) -> tuple[list[int], int]:
    """Return where each of several things in a line begins, and where the last one ends."""
    places = []
    for size in sizes:
        places.append(start)
        start += size + gap
    return places, start - gap
