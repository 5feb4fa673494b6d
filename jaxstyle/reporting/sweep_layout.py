"""The geometry of a sweep's contact sheet: how large pictures are, and where everything goes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import ImageDraw, ImageFont

from jaxstyle.reporting.lettering import INK, PALE_INK, fit, line_height, wrap
from jaxstyle.reporting.sweep_panels import Arrangement, Panel
from jaxstyle.reporting.thumbs import thumb_size
from jaxstyle.types import InputError

LARGEST_SHEET = 6000  # pixels each way
SMALLEST_CELL, LARGEST_CELL = 48, 256
_MEGAPIXELS = 8.0
_ASPECT = 1.5  # of the sheet, where there is a choice
_MOST_LINES = 4  # of a label
_NARROWEST = 480  # pixels of a sheet, for its heading


class Layout:
    """Places for pictures of one size, in panels that stand in rows.

    Args:
      arrangement: the panels.
      shape: width and height of the pictures' box, relative to `side`.
      side: longer side of a picture, in pixels.
      across: panels beside each other.
      heading: a line above everything.
      given: pictures to go above, by label.

    Attributes:
      size: of the sheet, width and height in pixels.
      box: width and height of a cell.
      given: where the given pictures go, left and top; `given_side` is their longer side.
      corners: left and top of each panel.
    """

    def __init__(
        self,
        arrangement: Arrangement,
        shape: tuple[float, float],
        side: int,
        across: int,
        heading: str,
        given: Mapping[str, np.ndarray],
    ):
        self.side, self.across = side, across
        self.box = max(1, math.ceil(shape[0] * side)), max(1, math.ceil(shape[1] * side))
        self.font = ImageFont.load_default(max(12, side // 9))
        self.small_font = ImageFont.load_default(max(11, side // 12))
        self.title_font = ImageFont.load_default(max(14, side // 7))
        self.gap = max(4, side // 40)
        self.margin = 4 * self.gap
        self._line = line_height(self.font) + 1
        self._arrangement, self._heading, self._given = arrangement, heading, given
        self._measure_labels()
        self.size, self.corners, self.given = self._place_all()

    def place(self, corner: tuple[int, int], row: int, column: int) -> tuple[int, int]:
        """Return left and top of a cell's box.

        Args:
          corner: of its panel.
          row: in the panel.
          column: in the panel.
        """
        left = corner[0] + self._label_width + column * (self.box[0] + self.gap)
        return left, corner[1] + self._header + row * (self.box[1] + self.gap)

    def write_heading(self, draw: ImageDraw.ImageDraw) -> None:
        """Write the line above everything, in as many lines as it needs."""
        lines = self._heading_lines(self.size[0])
        draw.multiline_text((self.margin, self.margin), "\n".join(lines), PALE_INK, self.font)

    def write_labels(
        self, draw: ImageDraw.ImageDraw, panel: Panel, corner: tuple[int, int]
    ) -> None:
        """Write a panel's title, the names of its axes, and its columns' and rows' labels.

        Args:
          draw: the sheet.
          panel: what to write.
          corner: of the panel.
        """
        left, top = corner
        if self._title:
            width = self._panel_size(panel)[0]
            draw.text((left, top), fit(panel.title, self.title_font, width), INK, self.title_font)
        first_left, first_top = self.place(corner, 0, 0)
        base = first_top - self.gap
        if self._arrangement.column_name:
            above = base - self._label_lines * self._line
            draw.text((first_left, above), self._arrangement.column_name, PALE_INK, self.font, "ld")
        if self._label_width:
            name = fit(self._arrangement.row_name, self.font, self._label_width - 2 * self.gap)
            draw.text((first_left - 2 * self.gap, base), name, PALE_INK, self.font, "rd")
        for column, label in enumerate(panel.columns):
            middle = self.place(corner, 0, column)[0] + self.box[0] / 2
            text = "\n".join(wrap(label, self.font, self.box[0] - self.gap, _MOST_LINES))
            draw.multiline_text(
                (middle, base), text, INK, self.font, "md", spacing=1, align="center"
            )
        room = max(1, self.box[1] // self._line)
        for row, label in enumerate(panel.rows if self._label_width else ()):
            middle = self.place(corner, row, 0)[1] + self.box[1] / 2
            text = "\n".join(wrap(label, self.font, self._label_width - 2 * self.gap, room))
            draw.multiline_text(
                (first_left - 2 * self.gap, middle), text, INK, self.font, "rm", 1, align="right"
            )

    def _measure_labels(self) -> None:
        """Find the width of the rows' labels and the height of what is above a panel's cells."""
        panels = self._arrangement.panels
        rows = {label for panel in panels for label in panel.rows if label}
        lines = {line for label in rows for line in label.split("\n")} | (
            {self._arrangement.row_name} if rows else set()
        )
        longest = max((self.font.getlength(line) for line in lines), default=0.0)
        widest = max(self.side, 12 * self._line)
        self._label_width = min(int(longest) + 1, widest) + 2 * self.gap if rows else 0
        columns = {label for panel in panels for label in panel.columns if label}
        wrapped = [wrap(label, self.font, self.box[0] - self.gap, _MOST_LINES) for label in columns]
        self._label_lines = max(map(len, wrapped), default=0)
        self._title = any(panel.title for panel in panels)
        title = line_height(self.title_font) + 2 * self.gap if self._title else 0
        name = self._line if self._arrangement.column_name else 0
        self._header = title + name + self._label_lines * self._line + self.gap

    def _panel_size(self, panel: Panel) -> tuple[int, int]:
        columns, rows = len(panel.columns), len(panel.rows)
        width = self._label_width + columns * (self.box[0] + self.gap) - self.gap
        return width, self._header + rows * (self.box[1] + self.gap) - self.gap

    def _place_all(self) -> tuple[tuple[int, int], list[tuple[int, int]], list[tuple[int, int]]]:
        sizes = [self._panel_size(panel) for panel in self._arrangement.panels]
        space = self.margin + 2 * self.gap if self._title else self.margin
        lanes = [sizes[start : start + self.across] for start in range(0, len(sizes), self.across)]
        widths = [max(lane[i][0] for lane in lanes if i < len(lane)) for i in range(self.across)]
        given, right, top = self._place_given(sum(widths) + space * (self.across - 1))
        corners = []
        for lane in lanes:
            left = self.margin
            for i in range(len(lane)):
                corners.append((left, top))
                left += widths[i] + space
            right = max(right, left - space)
            top += max(height for _, height in lane) + space
        return (right + self.margin, top - space + self.margin), corners, given

    def _place_given(self, width: int) -> tuple[list[tuple[int, int]], int, int]:
        """Return where the given pictures go, and where they and the heading end."""
        right = max(self.margin + width, _NARROWEST)
        heading = len(self._heading_lines(right + self.margin)) * (self._line + 4)
        top = self.margin + heading + self.gap
        self.given_side = max(96, min(self.side, 192))
        sizes = [thumb_size(p.shape[1::-1], self.given_side) for p in self._given.values()]
        places, left = [], self.margin
        for label, size in zip(self._given, sizes, strict=True):
            places.append((left, top))
            left += max(size[0], int(self.font.getlength(label)) + 1) + 2 * self.gap
        if places:
            top += max(height for _, height in sizes) + self._line + self.margin
            right = max(right, left - 2 * self.gap)
        return places, right, top

    def _heading_lines(self, width: int) -> list[str]:
        return wrap(self._heading, self.font, width - 2 * self.margin, 8)


def plan_layout(
    arrangement: Arrangement,
    shape: tuple[float, float],
    heading: str,
    given: Mapping[str, np.ndarray],
    cell: int | None,
) -> Layout:
    """Return the layout that weighs large pictures against a pleasant aspect.

    Args:
      arrangement: the panels.
      shape: width and height of the pictures' box, relative to their longer side.
      heading: a line above everything.
      given: pictures to go above, by label.
      cell: longer side of a picture in pixels, at least 48; None chooses.

    Raises:
      InputError: `cell` is too small.
    """
    if cell is not None and cell < SMALLEST_CELL:
        raise InputError(
            f"cell is {cell}; a picture on a sweep's sheet needs at least {SMALLEST_CELL} pixels."
        )
    cells = sum(len(panel.columns) * len(panel.rows) for panel in arrangement.panels)
    most = math.sqrt(_MEGAPIXELS * 1e6 / (cells * shape[0] * shape[1]))
    start = max(SMALLEST_CELL, min(LARGEST_CELL, int(most))) if cell is None else cell
    last = SMALLEST_CELL if cell is None else cell
    found = []
    for across in [1] if arrangement.stacked else _counts(len(arrangement.panels)):
        for side in (*range(start, last, -4), last):
            layout = Layout(arrangement, shape, side, across, heading, given)
            if max(layout.size) <= LARGEST_SHEET:
                break
        found.append(layout)
    fitting = [layout for layout in found if max(layout.size) <= LARGEST_SHEET]
    return min(fitting or found, key=_ugliness)


def _counts(panels: int) -> Sequence[int]:
    """Return numbers of panels beside each other that leave few places empty."""
    return [n for n in range(1, panels + 1) if -panels % n <= max(0, n // 3) and n <= 12]


def _ugliness(layout: Layout) -> float:
    """Return how far the sheet is from the best aspect, how blank, and how small its pictures."""
    blanks = -len(layout.corners) % layout.across / len(layout.corners)
    aspect = layout.size[0] / layout.size[1]
    return abs(math.log(aspect / _ASPECT)) + blanks - 2 * math.log(layout.side)
