"""Read and write picture files, through Pillow.

What comes in, whatever the file: float32 RGB in [0, 1], sRGB, upright. What goes out: 8 bits per
channel, with the profile and the alpha of the picture it came from.

| in the file | read as |
|---|---|
| EXIF or XMP orientation | turned upright; never written again |
| RGB with an ICC profile | converted to sRGB, and back by `write`, which embeds the profile |
| CMYK, Lab, gray with a profile | converted to sRGB; the output is RGB without a profile |
| gray, 1 bit, palette | RGB |
| alpha, transparent palette entry or color | `Picture.alpha`, untouched |
| 16-bit gray, 32-bit integers and floats | full precision |
| 16-bit RGB | the upper 8 bits, which is what Pillow gives |
| several frames or pages | the first |
| dates, places, cameras, captions | dropped |

Float RGB, CMYK beyond 8 bits, HEIC and camera raw files are not readable.
"""

import dataclasses
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from jaxstyle.io import color_profiles, opening, pixel_modes
from jaxstyle.types import InputError

MAX_PIXELS = 200_000_000

# HEIC is here so that such files are named as unreadable, not passed over in silence.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm",
    ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic", ".heif",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Writer:
    format: str
    alpha: bool
    profile: bool
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    longest_side: int | None = None


# 4:4:4, as a subsampled JPEG smears the edges of brush strokes; PNG level 4 takes a third of the
# time of level 6 for a few percent.
_JPEG = _Writer("JPEG", False, True, {"quality": 95, "subsampling": 0}, longest_side=65500)
_TIFF = _Writer("TIFF", True, True, {"compression": "tiff_adobe_deflate"})
_WRITERS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".png": _Writer("PNG", True, True, {"compress_level": 4}),
    ".webp": _Writer("WEBP", True, True, {"quality": 95}, longest_side=16383),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Writer("BMP", False, False),
    ".ppm": _Writer("PPM", False, False),
}
WRITABLE_SUFFIXES = tuple(_WRITERS)


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory, with what its file needs to be written alike.

    Attributes:
      pixels: float32 `[h, w, 3]`, sRGB in [0, 1], upright.
      alpha: float32 `[h, w]` in [0, 1], or None. Pixels are not multiplied by it.
      icc_profile: the RGB profile that `write` converts to and embeds, or None.
      format: Pillow's name of the file's format, e.g. 'JPEG'.
      mode: Pillow's name of the file's pixel mode, e.g. 'CMYK'.
      bits: bits per channel that `pixels` carry: 1, 8, 16 or 32.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc_profile: bytes | None = None
    format: str = ""
    mode: str = "RGB"
    bits: int = 8


def read(path: str | os.PathLike[str], *, max_pixels: int | None = MAX_PIXELS) -> Picture:
    """Read a picture file; the module's table says what becomes of each kind.

    Args:
      path: the file. Its content decides the format, not its suffix.
      max_pixels: the largest width times height that is decoded, against files that are small on
        disk and fill the memory; None for no limit.

    Returns:
      The picture.

    Raises:
      InputError: no such file, a folder, an empty, damaged or truncated file, not a picture, a
        format that cannot be read, or more pixels than `max_pixels`.

    Example:
      >>> read('photo.jpg').pixels.shape  # doctest: +SKIP
      (480, 640, 3)
    """
    with opening.opened(path, max_pixels) as image:
        opening.check_memory(pathlib.Path(path), image.size)
        name, mode = image.format or "", image.mode
        image.load()
        values, alpha, profile, bits = pixel_modes.decode(opening.upright(image))
    return Picture(values, alpha, profile, name, mode, bits)


def read_size(
    path: str | os.PathLike[str], *, max_pixels: int | None = MAX_PIXELS
) -> tuple[int, int]:
    """Return the (height, width) that `read` would give, from the file's header alone.

    A PNG whose orientation comes after its pixels is the exception: it is reported as stored.

    Raises:
      InputError: as `read`, as far as the header shows it.
    """
    with opening.opened(path, max_pixels) as image:
        return opening.upright_size(image)


def write(
    path: str | os.PathLike[str],
    pixels: Any,
    *,
    like: Picture | None = None,
    text: Mapping[str, str] | None = None,
) -> None:
    """Write pixels as a picture file, all or nothing: an existing file is replaced in one instant.

    JPEG is written at quality 95 without chroma subsampling, WebP at quality 95, PNG and TIFF
    without loss, always with 8 bits per channel.

    Args:
      path: the file; its suffix chooses the format. Missing folders are made.
      pixels: `[h, w, 3]`, floating point, sRGB in [0, 1] (clipped).
      like: where the pixels come from: its alpha is kept exactly, and its ICC profile is converted
        to and embedded. JPEG, BMP and PPM hold no alpha: the picture is placed on white. BMP and
        PPM hold no profile: they stay sRGB.
      text: notes by keyword for the file's metadata; PNG alone holds them, elsewhere they are left
        out.

    Raises:
      InputError: a suffix that cannot be written, pixels of a wrong shape, type or not finite, a
        side too long for the format (JPEG 65500, WebP 16383), an alpha of another size, or a file
        that cannot be written.

    Example:
      >>> write('out.png', picture.pixels, like=picture)  # doctest: +SKIP
    """
    path = pathlib.Path(path)
    writer = _writer(path)
    values = _checked(pixels, path)
    if writer.longest_side is not None and max(values.shape) > writer.longest_side:
        raise InputError(
            f"the picture for '{path}' is {_size(values)}, but {writer.format} holds at most "
            f"{writer.longest_side} pixels on a side; write PNG or TIFF."
        )
    alpha = None if like is None else like.alpha
    if alpha is not None and alpha.shape != values.shape[:2]:
        raise InputError(
            f"the pixels for '{path}' are {_size(values)}, but the alpha of the picture they are "
            f"like is {_size(alpha)}; give both the same size."
        )
    if alpha is not None and not writer.alpha:
        values = on_white(values, alpha)
    image = Image.fromarray(_bytes(values))
    options = dict(writer.options)
    if like is not None and like.icc_profile is not None and writer.profile:
        image = color_profiles.from_srgb(image, like.icc_profile)
        options["icc_profile"] = like.icc_profile
    if text and writer.format == "PNG":
        options["pnginfo"] = _notes(text)
    if alpha is not None and writer.alpha:
        image.putalpha(Image.fromarray(_bytes(alpha)))
    _save(image, path, writer.format, options)


def holds_alpha(path: str | os.PathLike[str]) -> bool:
    """Tell whether `write` keeps alpha in a file of this suffix.

    Raises:
      InputError: for a suffix that cannot be written.

    Example:
      >>> holds_alpha('a.jpg'), holds_alpha('a.png')
      (False, True)
    """
    return _writer(pathlib.Path(path)).alpha


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Place a transparent picture on white paper.

    Args:
      pixels: `[h, w, 3]`, sRGB in [0, 1].
      alpha: `[h, w]` in [0, 1].

    Returns:
      `[h, w, 3]`, sRGB in [0, 1], blended in sRGB values as browsers do.

    Example:
      >>> float(on_white(np.zeros((1, 1, 3)), np.full((1, 1), 0.25))[0, 0, 0])
      0.75
    """
    return 1 - alpha[..., None] * (1 - pixels)


def resize_shorter(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize a picture so that its shorter side is `side`, keeping its proportions.

    Args:
      pixels: float `[h, w, 3]`, sRGB in [0, 1].
      side: length of the shorter side of the result, at least 1; larger than now enlarges.

    Returns:
      float32 `[h', w', 3]` in [0, 1]: Lanczos-3 on sRGB values, stretched over the source pixels
      when shrinking, so that nothing aliases. The longer side is rounded to whole pixels.

    Raises:
      InputError: if `side` is below 1.

    Example:
      >>> resize_shorter(np.ones((30, 40, 3)), 15).shape
      (15, 20, 3)
    """
    return _resized(pixels, side, side / min(pixels.shape[:2]))


def resize_longer(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize a picture so that its longer side is `side`, as `resize_shorter` does.

    Args:
      pixels: float `[h, w, 3]`, sRGB in [0, 1].
      side: length of the longer side of the result, at least 1.

    Returns:
      float32 `[h', w', 3]` in [0, 1], each side at least 1.

    Raises:
      InputError: if `side` is below 1.

    Example:
      >>> resize_longer(np.ones((30, 40, 3)), 20).shape
      (15, 20, 3)
    """
    height, width = pixels.shape[:2]
    return _resized(pixels, side, side / max(height, width))


def _resized(pixels: np.ndarray, side: int, factor: float) -> np.ndarray:
    if side < 1:
        raise InputError(f"a picture cannot be resized to {side} pixels; give at least 1.")
    if factor == 1:
        return np.asarray(pixels, np.float32)
    new_height, new_width = (max(1, round(n * factor)) for n in pixels.shape[:2])
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., c], np.float32)).resize(
            (new_width, new_height), Image.Resampling.LANCZOS
        )
        for c in range(3)
    ]
    return np.clip(np.stack([np.asarray(c) for c in channels], axis=-1), 0, 1)


def _writer(path: pathlib.Path) -> _Writer:
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"'{path}' has no suffix that can be written; choose {', '.join(WRITABLE_SUFFIXES)}."
        )
    return writer


def _checked(pixels: Any, path: pathlib.Path) -> np.ndarray:
    values = np.asarray(pixels)
    if values.ndim != 3 or values.shape[-1] != 3 or 0 in values.shape:
        raise InputError(
            f"the pixels for '{path}' have the shape {list(values.shape)}; it must be "
            "[height, width, 3]."
        )
    if values.dtype.kind in "biu":
        raise InputError(
            f"the pixels for '{path}' are {values.dtype}; give floating point in [0, 1] "
            "(bytes / 255)."
        )
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise InputError(
            f"the pixels for '{path}' hold values that are not finite; the model's training may "
            "have diverged."
        )
    return values


def _size(values: np.ndarray) -> str:
    return f"{values.shape[0]}x{values.shape[1]}"


def _notes(text: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    notes = PngImagePlugin.PngInfo()
    for keyword, value in text.items():
        notes.add_itxt(keyword, value)
    return notes


def _bytes(values: np.ndarray) -> np.ndarray:
    scaled = np.clip(values, 0, 1)
    scaled *= 255  # in place: an 8 K picture is 400 MB in float32
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _save(image: Image.Image, path: pathlib.Path, name: str, options: dict[str, Any]) -> None:
    """Save beside the target under a hidden name, then rename: nobody ever sees half a file."""
    partial = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                image.save(file, name, **options)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise InputError(f"'{path}' cannot be written: {reason}.") from error
