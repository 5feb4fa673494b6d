"""Pillow's pixel modes to arrays: whatever a file holds becomes RGB in [0, 1], and alpha."""

import numpy as np
from PIL import Image

from jaxstyle.io import color_profiles

# Modes of more than 8 bits, all of them gray: Pillow hands out RGB with the upper 8 bits only.
_DEEP_MODES = {"I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16, "I": 32, "F": 32}


def decode(
    image: Image.Image,
) -> tuple[np.ndarray, np.ndarray | None, bytes | None, int]:
    """Turn a loaded Pillow image of any mode into sRGB pixels.

    Args:
      image: a loaded image.

    Returns:
      Pixels, float32 `[h, w, 3]`, sRGB in [0, 1]; alpha, float32 `[h, w]` in [0, 1], or None where
      the file has none; the ICC profile that applies to RGB output, or None; the bits per channel
      that the pixels carry.

    Example:
      >>> pixels, alpha, profile, bits = decode(Image.new('LA', (3, 2), (255, 0)))
      >>> pixels.shape, float(alpha.max()), bits
      ((2, 3, 3), 0.0, 8)
    """
    profile = image.info.get("icc_profile") or None
    if image.mode in _DEEP_MODES:
        gray, alpha, bits = _deep_gray(image)
        return *_gray(gray, alpha, profile), bits
    image, alpha = _split_alpha(image)
    if image.mode in ("1", "L"):
        return *_gray(_unit(image.convert("L")), alpha, profile), 1 if image.mode == "1" else 8
    if image.mode == "LAB":
        image, profile = color_profiles.lab_to_srgb(image), None
    elif profile is not None:
        image = image if image.mode == "CMYK" else image.convert("RGB")
        image, profile = color_profiles.to_srgb(image, profile)
    return _unit(image.convert("RGB")), alpha, profile, 8


def _split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Separate alpha, however the file keeps it: a channel, in the palette, or as one color."""
    if not image.has_transparency_data:
        return image, None
    whole = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
    *color, alpha = whole.split()
    return Image.merge("RGB", color) if len(color) == 3 else color[0], _unit(alpha)


def _deep_gray(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None, int]:
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, np.float32(0), np.float32(1))
    bits = _DEEP_MODES[image.mode]
    gray = values.astype(np.float32)
    finite = np.where(np.isfinite(gray), gray, 0)
    white = _white(float(finite.max()), image.mode, bits)
    return np.clip(np.nan_to_num(gray / white, nan=0.0), 0, 1), alpha, bits


def _white(brightest: float, mode: str, bits: int) -> float:
    """Return the value that means white.

    16-bit files leave no doubt. For 32-bit integers and floats no rule exists, so it is the
    smallest usual white that no pixel exceeds, or else the brightest pixel.
    """
    if bits == 16:
        return 65535.0
    for white in (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,):
        if brightest <= white:
            return white
    return brightest


def _gray(
    gray: np.ndarray, alpha: np.ndarray | None, profile: bytes | None
) -> tuple[np.ndarray, np.ndarray | None, None]:
    """Finish a gray picture; its profile ends here, as what is written afterwards is RGB."""
    if profile is not None:
        gray = color_profiles.gray_to_srgb(gray, profile)
    return np.repeat(gray[..., None], 3, axis=-1), alpha, None


def _unit(image: Image.Image) -> np.ndarray:
    """Bytes to float32 in [0, 1]; rounding `255 *` that gives the same bytes again."""
    values = np.asarray(image).astype(np.float32)
    values /= np.float32(255)  # in place: a large picture is in memory often enough
    return values
