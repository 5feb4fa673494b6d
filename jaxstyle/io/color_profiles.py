"""ICC color profiles: into sRGB for the network, back into the picture's own space for the file.

LittleCMS does the work, through Pillow, in 8 bits per channel and with the relative colorimetric
intent and black point compensation: colors that both spaces can show survive the way there and
back, to the rounding; the others move to the border of sRGB, which is all a network paints in.
"""

import io

import numpy as np
from PIL import Image, ImageCms

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_EXACT = _FLAGS | ImageCms.Flags.NOOPTIMIZE  # no table in place of a curve: slow, for 256 values
# What building a transform raises for bytes that are no profile, or a profile for another purpose.
_UNUSABLE = (ImageCms.PyCMSError, OSError, TypeError, ValueError)


def to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, bytes | None]:
    """Convert a picture from its own color space to sRGB.

    Args:
      image: mode 'RGB' or 'CMYK'.
      profile: the ICC profile found in the file.

    Returns:
      The picture in mode 'RGB', and the profile if `from_srgb` can use it later. The profile is
      None, and the colors are taken as they stand, if it is damaged or made for another mode; it
      is None too for CMYK, as what is written afterwards is RGB. Pixels of a picture whose profile
      is sRGB, whatever its name, are returned unchanged.

    Example:
      >>> image, profile = to_srgb(Image.new('RGB', (2, 2)), srgb_profile())
    """
    mode = image.mode
    forth = _transform(profile, mode, None, "RGB")
    if forth is None:
        return image.convert("RGB"), None
    back = _transform(None, "RGB", profile, "RGB") if mode == "RGB" else None
    if mode == "RGB" and _changes_nothing(forth):
        return image, profile if back is not None else None
    return _apply(image, forth), profile if back is not None else None


def from_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an sRGB picture of mode 'RGB' to the space of an RGB profile `to_srgb` returned."""
    forth = _transform(profile, "RGB", None, "RGB")
    back = _transform(None, "RGB", profile, "RGB")
    if forth is None or back is None or _changes_nothing(forth):
        return image
    return _apply(image, back)


def gray_to_srgb(gray: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert gray values to sRGB by a gray profile's tone curve.

    Args:
      gray: float32 in [0, 1], any shape and precision.
      profile: the ICC profile found in the file; one that is not for gray is ignored.

    Returns:
      float32 in [0, 1], same shape.
    """
    transform = _transform(profile, "L", None, "RGB", _EXACT)
    if transform is None:
        return gray
    ramp = np.arange(256, dtype=np.uint8)[None]
    curve = np.asarray(_apply(Image.fromarray(ramp), transform), np.float32)[0, :, 1]
    if np.abs(curve - ramp[0]).max() <= 1:
        return gray
    return np.interp(gray, np.linspace(0, 1, 256), curve / 255).astype(np.float32)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Convert a picture of mode 'LAB' (CIE L*a*b*, white point D50) to sRGB, mode 'RGB'."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    transform = _transform(lab, "LAB", None, "RGB")
    return image.convert("RGB") if transform is None else _apply(image, transform)


def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _transform(
    source: bytes | None,
    source_mode: str,
    target: bytes | None,
    target_mode: str,
    flags: ImageCms.Flags = _FLAGS,
) -> ImageCms.ImageCmsTransform | None:
    """Build the conversion between two profiles (None is sRGB); None where that is impossible."""
    try:
        return ImageCms.buildTransform(
            _open(source), _open(target), source_mode, target_mode, _INTENT, flags
        )
    except _UNUSABLE:
        return None


def _open(profile: bytes | None) -> ImageCms.ImageCmsProfile:
    if profile is None:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # only with inPlace=True
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether an RGB transform moves no color of a coarse grid by more than one level."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(9, 81, 3)
    moved = np.asarray(_apply(Image.fromarray(grid), transform))
    return bool(np.abs(moved.astype(int) - grid).max() <= 1)
