"""What a per-image run is given: a picture to paint, styles, and masks that say where they go."""

import dataclasses
import importlib.util
import math
import numbers
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxstyle.io import images
from jaxstyle.io.paintings import painting_file
from jaxstyle.types import InputError, unknown_choice

BUNDLED = "skimage/"  # what stands before the name of a picture that comes with scikit-image
REST = "rest"


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Pictures and masks in memory; float32, pictures `[h, w, 3]`, sRGB in [0, 1].

    Attributes:
      content: what is painted, or a gray canvas of the size wanted.
      styles: at least one.
      masks: for each style `[h, w]` of the content's size in [0, 1], 1 where it goes; None is
        everywhere.
      style_masks: for each style, of its size, where in it the style is; None is everywhere.
    """

    content: np.ndarray
    styles: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray | None, ...] = ()
    style_masks: tuple[np.ndarray | None, ...] = ()

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the styles, '1' and so on; () where there is one, everywhere."""
        masked = any(mask is not None for mask in (*self.masks, *self.style_masks))
        several = len(self.styles) > 1 or masked
        return tuple(str(i + 1) for i in range(len(self.styles))) if several else ()


def picture_file(name: str) -> pathlib.Path:
    """Return the file of a picture that is given by name.

    Args:
      name: a path; or 'skimage/chelsea', a picture that comes with scikit-image; or a painting, see
        `jaxstyle.io.paintings`.

    Returns:
      The path, which need not exist if it was given as one.

    Raises:
      InputError: an unknown word.

    Example:
      >>> picture_file('skimage/chelsea').name
      'chelsea.png'
    """
    if not name.startswith(BUNDLED) or os.path.exists(name):
        return painting_file(name)
    spec = importlib.util.find_spec("skimage")
    folders = [pathlib.Path(str(spec.origin)).parent / "data"] if spec else []
    files = {file.stem: file for data in folders for file in sorted(data.glob("*.[jp][pn]g"))}
    if (stem := name.removeprefix(BUNDLED)) not in files:
        raise unknown_choice("picture of scikit-image", stem, tuple(files))
    return files[stem]


def read_styles(names: str | Sequence[str]) -> tuple[np.ndarray, ...]:
    """Read the styles.

    Args:
      names: as `picture_file` takes them; one, or several.

    Raises:
      InputError: as `picture_file` and `images.read`, or none.

    Example:
      >>> read_styles('starry')[0].shape[-1]
      3
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or not all(names):
        raise InputError("no style is given; name a picture, e.g. --config.style=starry.")
    return tuple(images.read(picture_file(name)).pixels for name in names)


def read_masks(
    files: Sequence[str], pictures: Sequence[np.ndarray], whose: str
) -> tuple[np.ndarray | None, ...]:
    """Read a mask for each of some pictures.

    Args:
      files: one a picture, white where it is meant; '' is everywhere, 'rest' what the other masks
        leave of the picture (they must be of one size). () is everywhere for all.
      pictures: `[h, w, 3]` each; a mask has its picture's size.
      whose: for messages: 'content' or 'style'.

    Returns:
      `[h, w]` in [0, 1] or None, one a picture.

    Raises:
      InputError: another number of masks, a file that cannot be read, a mask of another size, or an
        empty one.

    Example:
      >>> read_masks((), [np.zeros((4, 4, 3))], 'style')
      (None,)
    """
    if not files:
        return (None,) * len(pictures)
    if not isinstance(files, str) and not all(isinstance(file, str) for file in files):
        raise InputError(f"the {whose} masks are {files}; give names of files in quotes.")
    if isinstance(files, str) or len(files) != len(pictures):
        raise InputError(
            f"there are {1 if isinstance(files, str) else len(files)} {whose} masks for "
            f"{len(pictures)} styles; give one for each ('' is everywhere, 'rest' the remainder)."
        )
    masks: list[np.ndarray | None] = [
        _mask(file, picture, whose) if file not in ("", REST) else None
        for file, picture in zip(files, pictures, strict=True)
    ]
    for i, file in enumerate(files):
        if file == REST:
            masks[i] = _rest([mask for mask in masks if mask is not None])
    return tuple(masks)


def _mask(file: str | os.PathLike[str], picture: np.ndarray, whose: str) -> np.ndarray:
    mask = images.read(file).pixels.mean(axis=-1)
    if mask.shape != picture.shape[:2]:
        raise InputError(
            f"the mask '{file}' is {mask.shape[1]}x{mask.shape[0]} pixels, but the {whose} is "
            f"{picture.shape[1]}x{picture.shape[0]}; give masks of the picture's size."
        )
    if mask.max() < 0.5:
        raise InputError(f"the mask '{file}' is empty; paint the region white.")
    return mask.astype(np.float32)


def _rest(masks: Sequence[np.ndarray]) -> np.ndarray:
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise InputError("the mask 'rest' needs others, all of one size; give at least one file.")
    rest = np.clip(1 - np.sum(masks, axis=0), 0, 1)
    if rest.max() < 0.5:
        raise InputError("the masks leave nothing for 'rest'; leave some of the picture black.")
    return rest.astype(np.float32)


def resized(scene: Scene, longer: int, style_scales: Sequence[float]) -> Scene:
    """Return a scene in the size of a run.

    Args:
      scene: in full size.
      longer: longer side of the content, pixels.
      style_scales: longer side of each style in that of the content, above 0; one for all too.

    Raises:
      InputError: a scale that is not above 0, or another number of them.

    Example:
      >>> scene = Scene(np.zeros((30, 40, 3)), (np.zeros((20, 20, 3)),), (None,), (None,))
      >>> small = resized(scene, 20, (2.0,))
      >>> small.content.shape, small.styles[0].shape
      ((15, 20, 3), (40, 40, 3))
    """
    count = len(scene.styles)
    scales = tuple(style_scales) * (count if len(style_scales) == 1 else 1)
    if len(scales) != count:
        raise InputError(f"{len(scales)} scales are given for {count} styles; give one for each.")
    for scale in scales:
        if not 0 < scale <= 8:
            raise InputError(f"style_scale is {scale}; choose one above 0, up to 8.")
    sides = [max(16, round(longer * scale)) for scale in scales]
    return Scene(
        images.resize_longer(scene.content, longer),
        tuple(map(images.resize_longer, scene.styles, sides)),
        tuple(_resized_mask(mask, longer) for mask in scene.masks),
        tuple(map(_resized_mask, scene.style_masks, sides)),
    )


def _resized_mask(mask: np.ndarray | None, longer: int) -> np.ndarray | None:
    if mask is None:
        return None
    return images.resize_longer(np.repeat(mask[..., None], 3, axis=-1), longer)[..., 0]


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Return a picture turned counterclockwise, cut to the largest upright part of its shape.

    Args:
      pixels: float `[h, w, 3]`, sRGB in [0, 1].
      degrees: from -45 to 45.

    Returns:
      float32 `[h', w', 3]` of the same aspect.

    Raises:
      InputError: more degrees.

    Example:
      >>> turned(np.ones((100, 100, 3)), 45.0).shape
      (70, 70, 3)
    """
    if not (isinstance(degrees, numbers.Real) and -45 <= degrees <= 45):
        raise InputError(f"a style cannot be turned by {degrees} degrees; choose -45 to 45.")
    height, width = pixels.shape[:2]
    angle = math.radians(abs(degrees))
    # The corners of the part must stay inside all four turned edges.
    share = min(
        height / (height * math.cos(angle) + width * math.sin(angle)),
        width / (width * math.cos(angle) + height * math.sin(angle)),
    )
    size = [max(1, math.floor(side * share)) for side in (height, width)]
    top, left = ((side - part) // 2 for side, part in zip((height, width), size, strict=True))
    # A part that cannot be cut from the very middle may have a corner half a pixel outside.
    framed = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    channels: list[Any] = [
        Image.fromarray(np.ascontiguousarray(framed[..., c], np.float32)).rotate(
            degrees, Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    whole = np.stack([np.asarray(c) for c in channels], axis=-1)[1:-1, 1:-1]
    return np.clip(whole[top : top + size[0], left : left + size[1]], 0, 1)
