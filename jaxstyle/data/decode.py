"""From the bytes of a file to an upright RGB picture, by Pillow."""

import contextlib
import io
import math

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxstyle.io import color_profiles, images, opening

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
    data: bytes, *, shorter_side: int | None = None, minimum: int = 1, profile: bool = False
) -> tuple[Image.Image, str]:
    """Decode a picture into upright 8-bit RGB.

    The EXIF orientation is applied. Grayscale, palette and CMYK become RGB, 16-bit values are
    rounded to 8 bits, transparency is laid over white as a browser does. Color profiles are
    applied only if asked for: one takes longer than a crop, and matters little for training.

    Args:
      data: the bytes of a JPEG, PNG, WebP, TIFF, GIF, BMP or PPM file (of several frames, the
        first).
      shorter_side: how many pixels of shorter side the caller needs. A JPEG at least twice as
        large is decoded straight at 1/2, 1/4 or 1/8 of its size (7x faster at 12 megapixels), never
        below `shorter_side`. Other formats ignore it.
      minimum: the least acceptable shorter side, in pixels of the file.
      profile: convert from the picture's color profile to sRGB, if it has a usable one.

    Returns:
      The picture, of mode RGB, independent of `data`; and what it was converted from
      (`'grayscale'`, `'palette'`, `'CMYK'`, `'transparent'`...), `''` for RGB.

    Raises:
      ValueError: the picture is smaller than `minimum`, has more pixels than `images.MAX_PIXELS`,
        or is of a kind that has no 8-bit RGB form.
      Exception: whatever Pillow raises on a broken file: OSError, SyntaxError, EOFError and more.

    Example:
      >>> file = io.BytesIO()
      >>> Image.new('L', (4, 3), 7).save(file, 'PNG')
      >>> picture, converted_from = decode(file.getvalue())
      >>> picture.size, picture.getpixel((0, 0)), converted_from
      ((4, 3), (7, 7, 7), 'grayscale')
    """
    with opening.without_pillows_limit():
        picture: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_size(*picture.size, minimum)
        if shorter_side is not None:
            picture.draft(None, (shorter_side, shorter_side))
        picture.load()
    form = _form(picture)
    with contextlib.suppress(Exception):  # damaged metadata is no reason to lose the picture
        ImageOps.exif_transpose(picture, in_place=True)
    return _to_rgb(_in_srgb(picture) if profile else picture), form


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


def _check_size(width: int, height: int, minimum: int) -> None:
    if min(width, height) < minimum:
        raise ValueError(f"{width} x {height} pixels, the shorter side must have {minimum}")
    if width * height > images.MAX_PIXELS:
        most = images.MAX_PIXELS / 1e6
        raise ValueError(f"{width} x {height} pixels, at most {most:.0f} million are read")


def _form(picture: Image.Image) -> str:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return ""
    if picture.mode.startswith("I;16"):
        return "16-bit grayscale"
    if picture.mode == "RGB":
        return "transparent"
    return _FORMS.get(picture.mode, picture.mode)


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Apply the color profile; modes that have none, or few, come back as they are."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("L", "P", "RGB", "RGBA", "CMYK"):
        return picture
    if picture.mode == "L":
        gray = color_profiles.gray_to_srgb(np.asarray(picture, np.float32) / 255, profile)
        return Image.fromarray(np.rint(255 * gray).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        converted, _ = color_profiles.to_srgb(layer.convert("RGB"), profile)
        converted.putalpha(layer.getchannel("A"))
        return converted
    color = picture if picture.mode == "CMYK" else picture.convert("RGB")
    return color_profiles.to_srgb(color, profile)[0]


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
