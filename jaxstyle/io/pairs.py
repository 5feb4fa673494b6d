"""Pair photographs with their stylized versions, by name and pixel by pixel."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxstyle.io import images
from jaxstyle.io.inputs import Found
from jaxstyle.types import InputError

# By how much networks enlarge what is no multiple of their stride; the photograph is top left.
_ROUNDED_UP = 8
_ROUNDING = 2  # pixels by which resized sides of one shape differ at most


def pair_pictures(
    photos: Sequence[Found], stylized: Sequence[Found]
) -> tuple[list[tuple[Found, Found]], list[Found]]:
    """Find the photograph of each stylized picture.

    One picture on either side is a pair, whatever the names. Otherwise a photograph's name is
    looked for, without its suffix: the same name in the same sub-folder, the same name anywhere, or
    the longest that the stylized picture's name begins with, up to a sign (`lion_starry.png` is of
    `lion.jpg`, not of `li.jpg`).

    Args:
      photos: from `find_pictures`.
      stylized: likewise.

    Returns:
      Pairs of photograph and stylized picture, in the order of `stylized`; and the stylized
      pictures without a photograph.

    Example:
      >>> photo, painted = (Found(pathlib.Path(n), pathlib.PurePath(n)) for n in ('a.jpg', 'b.png'))
      >>> pair_pictures([photo], [painted]) == ([(photo, painted)], [])
      True
    """
    if len(photos) == len(stylized) == 1:
        return [(photos[0], stylized[0])], []
    pairs, alone = [], []
    for picture in stylized:
        photo = _photo_of(picture, photos)
        if photo is None:
            alone.append(picture)
        else:
            pairs.append((photo, picture))
    return pairs, alone


def _photo_of(picture: Found, photos: Sequence[Found]) -> Found | None:
    name = picture.relative.stem
    place = picture.relative.with_suffix("")
    for photo in photos:
        if photo.relative.with_suffix("") == place:
            return photo
    begins = [photo for photo in photos if _begins(name, photo.relative.stem)]
    longest = max((len(photo.relative.stem) for photo in begins), default=0)
    best = [photo for photo in begins if len(photo.relative.stem) == longest]
    return best[0] if len(best) == 1 else None  # two of one name: not for us to choose


def _begins(name: str, start: str) -> bool:
    return name.startswith(start) and not name[len(start) : len(start) + 1].isalnum()


def read_pair(
    photo: pathlib.Path, stylized: pathlib.Path, *, side: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Read a photograph and its stylized version at one size.

    Args:
      photo: a picture file.
      stylized: likewise, of the same proportions. A few pixels more at the right and below, as
        networks add whose stride does not divide the size, are cut off.
      side: length of the shorter side of both results; 0 leaves them as they are.

    Returns:
      Two float32 arrays `[h, w, 3]`, sRGB in [0, 1], of the same shape.

    Raises:
      InputError: an unreadable picture, or pictures of other proportions (other sizes for `side`
        0).

    Example:
      >>> pixels, painted = read_pair(photo, picture, side=256)  # doctest: +SKIP
    """
    pixels, painted = images.read(photo).pixels, images.read(stylized).pixels
    height, width = pixels.shape[:2]
    more = np.subtract(painted.shape, pixels.shape)
    if (more >= 0).all() and (more < _ROUNDED_UP).all():
        painted = painted[:height, :width]
    both = [images.resize_shorter(p, side) if side else p for p in (pixels, painted)]
    off = np.abs(np.subtract(both[0].shape, both[1].shape)).max()
    if off > (_ROUNDING if side else 0):
        advice = "give pictures of the same proportions" if side else "resize both with --size 256"
        raise InputError(
            f"'{photo}' is {width}x{height} and '{stylized}' {painted.shape[1]}x"
            f"{painted.shape[0]}; {advice}."
        )
    height, width = np.minimum(both[0].shape, both[1].shape)[:2]
    return both[0][:height, :width], both[1][:height, :width]
