"""Open picture files without harm: allowed formats, a limit on pixels, one-line errors."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from jaxstyle import runtime
from jaxstyle.types import InputError

# Formats that hold photographs, by Pillow's names. The others stay closed: one of them (EPS) starts
# a program to read a file.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")

_PILLOW_LIMIT = threading.Lock()
_inside = 0  # calls that Pillow's limit is lifted for
_kept: int | None = None
_SMALL = 2**28  # bytes that are always tried
_BYTES_PER_PIXEL = 24  # while a picture is read: Pillow's copies, and float32 in the end
_ORIENTATION = 0x0112  # EXIF and TIFF tag


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], max_pixels: int | None) -> Iterator[Image.Image]:
    """Open a picture lazily, for the length of a `with` block.

    Args:
      path: the file. Its content decides the format, not its suffix.
      max_pixels: the largest allowed width times height, or None.

    Yields:
      The image, not decoded yet; its `load` decodes.

    Raises:
      InputError: for anything that is wrong with the file, also if it shows inside the block.

    Example:
      >>> with opened('photo.jpg', None) as image:  # doctest: +SKIP
      ...     print(image.size)
    """
    path = pathlib.Path(path)
    try:
        _check_file(path)
        with path.open("rb") as file:
            image = _identify(file)
            _check_pixels(path, image.size, max_pixels)
            with without_pillows_limit():  # TIFF and WebP look at it while they decode
                yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"'{path}' is not a picture that can be read; give JPEG, PNG, WebP, TIFF, BMP, GIF, "
            "PPM, AVIF or JPEG 2000."
        ) from error
    except MemoryError as error:
        raise InputError(f"'{path}' does not fit into this machine's memory.") from error
    # A damaged file can make a decoder raise nearly anything (struct.error, zlib.error, KeyError).
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"'{path}' cannot be read; it may be damaged or truncated ({reason})."
        ) from error


def upright(image: Image.Image) -> Image.Image:
    """Turn a loaded image as its EXIF or XMP orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata is no reason to lose the picture
        return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the (height, width) that `upright` will give, without decoding.

    A PNG whose orientation comes after its pixels is the exception: its size is that as stored.
    """
    width, height = image.size
    # Pillow gives the sizes of TIFF files upright already.
    turned = image.format != "TIFF" and _orientation(image) >= 5
    return (width, height) if turned else (height, width)


def _orientation(image: Image.Image) -> int:
    try:
        # The method of the base class, as that of PNG files decodes the whole picture.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # as in `upright`
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_file(path: pathlib.Path) -> None:
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; give a picture file.")
    if not path.exists():
        raise InputError(f"there is no file '{path}'; check the path.")
    if not path.is_file():
        raise InputError(f"'{path}' is not a regular file; give a picture file.")
    if path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty; fetch or save it again.")


def _identify(file: Any) -> Image.Image:
    """Open lazily, under our own limit on pixels in place of Pillow's, which is process-wide."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF is not in every build
    with without_pillows_limit():
        return Image.open(file, formats=formats)


@contextlib.contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Keep Pillow from warning of large pictures and refusing them, as limits of our own do.

    Its limit is one for the process: it stays lifted for as long as some thread is in here.

    Example:
      >>> with without_pillows_limit():
      ...     print(Image.MAX_IMAGE_PIXELS)
      None
    """
    global _inside, _kept
    with _PILLOW_LIMIT:
        if not _inside:
            _kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _inside += 1
    try:
        yield
    finally:
        with _PILLOW_LIMIT:
            _inside -= 1
            if not _inside:
                Image.MAX_IMAGE_PIXELS = _kept


def check_memory(path: pathlib.Path, size: tuple[int, int]) -> None:
    """Refuse a picture that does not fit into the memory that is free, before any is taken.

    Args:
      path: for the message.
      size: width and height, pixels.

    Raises:
      InputError: with the memory that it takes.
    """
    width, height = size
    needed = width * height * _BYTES_PER_PIXEL
    if needed > _SMALL and needed > (free := runtime.free_memory()):
        raise InputError(
            f"'{path}' is {width}x{height} and takes {needed / 1e9:.1f} GB to read, but "
            f"{free / 1e9:.1f} GB are free; make it smaller."
        )


def _check_pixels(path: pathlib.Path, size: tuple[int, int], limit: int | None) -> None:
    width, height = size
    if not width * height:
        raise InputError(f"'{path}' is {width}x{height}, a picture without pixels.")
    if limit is not None and width * height > limit:
        raise InputError(
            f"'{path}' is {width}x{height}, {width * height / 1e6:.1f} megapixels, and the limit "
            f"is {limit / 1e6:.1f}; raise it with max_pixels (--max-megapixels on the command "
            "line) if you trust the file."
        )
