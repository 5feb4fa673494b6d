"""Small copies of pictures, of arrays and of files."""

import pathlib

import numpy as np
from PIL import Image

from jaxstyle.io import opening
from jaxstyle.types import InputError


def check_pixels(pixels: np.ndarray) -> None:
    """Refuse what is no picture.

    Args:
      pixels: should be `[h, w, 3]` or `[h, w]`.

    Raises:
      InputError: it has another shape, or no pixels.
    """
    shape = pixels.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or not min(shape):
        raise InputError(
            f"a picture on a contact sheet is {list(shape)}; it must be [h, w, 3] or [h, w]."
        )


def pixels_thumb(pixels: np.ndarray, side: int) -> Image.Image:
    """Return a picture scaled to `side` pixels on its longer side.

    Args:
      pixels: `[h, w, 3]` or `[h, w]` (gray), sRGB; uint8, or floats in [0, 1] (what lies outside is
        clipped).
      side: of the result, at least 1.
    """
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels).convert("RGB")
    return image.resize(thumb_size(image.size, side), Image.Resampling.LANCZOS)


def file_thumb(path: pathlib.Path, side: int) -> Image.Image:
    """Return a picture file scaled to `side` pixels on its longer side, alpha on white.

    A JPEG is decoded at a fraction of its size; other files are held in memory only meanwhile.

    Args:
      path: of the file.
      side: of the result, at least 1.

    Raises:
      InputError: it cannot be read.
    """
    with opening.opened(path, None) as image:
        image.draft("RGB", (2 * side, 2 * side))
        image.load()
        whole = opening.upright(image)
        if whole.has_transparency_data:
            whole = whole.convert("RGBA")
            whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
        size = thumb_size(whole.size, side)
        return whole.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def file_size(path: pathlib.Path) -> tuple[int, int] | None:
    """Return a picture file's width and height without decoding it, None if it cannot be read."""
    try:
        with opening.opened(path, None) as image:
            height, width = opening.upright_size(image)
            return width, height
    except InputError:
        return None


def thumb_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return a width and height scaled so that the longer is `side` pixels, neither below 1.

    Example:
      >>> thumb_size((600, 400), 150)
      (150, 100)
    """
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
