"""From the bytes of a file to an upright RGB picture, by Pillow."""

import io
import math

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Only what the accepted suffixes promise: Pillow's rarer readers are slow or start other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_FORMS = {
    "1": "grayscale",
    "L": "grayscale",
    "I": "grayscale",
    "LA": "grayscale",
    "La": "grayscale",
    "P": "palette",
    "PA": "palette",
    "RGBA": "transparent",
    "RGBa": "transparent",
}


def decode(
    data: bytes, *, shorter_side: int | None = None, minimum: int = 1
) -> tuple[Image.Image, str]:
    """Decode a picture into upright 8-bit RGB.

    The EXIF orientation is applied. Grayscale, palette and CMYK become RGB, 16-bit values are
    rounded to 8 bits, transparency is laid over white as a browser does. Color profiles are not
    applied: for training crops the difference does not matter.

    Args:
      data: the bytes of a JPEG, PNG, WebP, TIFF, GIF, BMP or PPM file (of several frames, the
        first).
      shorter_side: how many pixels of shorter side the caller needs. A JPEG at least twice as
        large is decoded straight at 1/2, 1/4 or 1/8 of its size (7x faster at 12 megapixels), never
        below `shorter_side`. Other formats ignore it.
      minimum: the least acceptable shorter side, in pixels of the file.

    Returns:
      The picture, of mode RGB, independent of `data`; and what it was converted from
      (`'grayscale'`, `'palette'`, `'CMYK'`, `'transparent'`...), `''` for RGB.

    Raises:
      ValueError: the picture is smaller than `minimum`, or of a kind that has no 8-bit RGB form.
      Exception: whatever Pillow raises on a broken file: OSError, SyntaxError, EOFError and more.

    Example:
      >>> file = io.BytesIO()
      >>> Image.new('L', (4, 3), 7).save(file, 'PNG')
      >>> picture, converted_from = decode(file.getvalue())
      >>> picture.size, picture.getpixel((0, 0)), converted_from
      ((4, 3), (7, 7, 7), 'grayscale')
    """
    picture: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if min(picture.size) < minimum:
        width, height = picture.size
        raise ValueError(f"{width} x {height} pixels, the shorter side must have {minimum}")
    if shorter_side is not None:
        picture.draft(None, (shorter_side, shorter_side))
    picture.load()
    form = _form(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    return _to_rgb(picture), form


def reason(error: Exception) -> str:
    """Say in a few words why a picture could not be read: no paths, no addresses, one line.

    Args:
      error: what `decode` or the reading of the file raised.

    Returns:
      The reason.

    Example:
      >>> reason(FileNotFoundError(2, 'No such file or directory', '/data/photos/a.jpg'))
      'No such file or directory'
    """
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or one broken at its start"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _form(picture: Image.Image) -> str:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return ""
    if picture.mode.startswith("I;16"):
        return "16-bit grayscale"
    if picture.mode == "RGB":
        return "transparent"
    return _FORMS.get(picture.mode, picture.mode)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no 8-bit form")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 255, all white.
        values = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")  # a copy where it is RGB already: lets go of the file's bytes


def bytes_in_memory(picture: Image.Image) -> int:
    """Return how much memory a decoded RGB picture takes; Pillow stores four bytes per pixel.

    Args:
      picture: an RGB picture.

    Returns:
      The number of bytes.

    Example:
      >>> bytes_in_memory(Image.new('RGB', (5, 2)))
      40
    """
    return 4 * math.prod(picture.size)
