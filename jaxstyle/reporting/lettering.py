"""Text on sheets of pictures: its colors, its height, and how it is made to fit."""

import re
from collections.abc import Iterator

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK = (40, 40, 40)
PALE_INK = (110, 110, 110)
PAPER = (255, 255, 255)

_PIECES = re.compile(r"[^\s,+]*[\s,+]*")  # a line may end after any of these,
_PARTS = re.compile(r"[^/_=]*[/_=]*")  # and after these where a piece is longer than a line


def line_height(font: Font) -> int:
    """Return the height of a line that has ascenders and descenders, in pixels."""
    return int(font.getbbox("Ågjp")[3]) + 1


def fit(text: str, font: Font, width: float) -> str:
    """Return the text, cut with an ellipsis if it is wider than `width` pixels.

    Args:
      text: one line.
      font: to write it with.
      width: in pixels.

    Example:
      >>> font = ImageFont.load_default(12)
      >>> fit("relu1_1", font, 500), fit("relu1_1+relu2_1+relu3_1", font, 60)
      ('relu1_1', 'relu1_1…')
    """
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip(" ,+/_") + "…"


def wrap(text: str, font: Font, width: float, lines: int) -> list[str]:
    """Break a text into lines no wider than `width` pixels, and cut what is left over.

    Lines end after spaces, commas and plus signs, and where the text itself has a line break. A
    word that is wider than a line is broken after slashes, underscores and equal signs.

    Args:
      text: any length.
      font: to write it with.
      width: in pixels.
      lines: how many there is room for, at least 1.

    Example:
      >>> wrap("relu1_1+relu2_1", ImageFont.load_default(12), 60, 3)
      ['relu1_1+', 'relu2_1']
    """
    broken: list[str] = []
    for part in text.split("\n"):
        line = ""
        for piece in _pieces(part, font, width):
            if line and font.getlength((line + piece).rstrip()) > width:
                broken.append(line.rstrip())
                line = ""
            line += piece
        broken.append(line.rstrip())
    if len(broken) > lines:
        broken = [*broken[: lines - 1], " ".join(broken[lines - 1 :])]
    return [fit(line, font, width) for line in broken]


def _pieces(text: str, font: Font, width: float) -> Iterator[str]:
    for piece in _PIECES.findall(text):
        fits = font.getlength(piece.rstrip()) <= width
        yield from [piece] if fits else _PARTS.findall(piece)
