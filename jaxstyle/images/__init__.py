"""Operations on pictures themselves: color spaces, color matching, filters, sizes."""

from jaxstyle.images.color import luminance, rgb_to_yuv, transfer_luminance, yuv_to_rgb
from jaxstyle.images.filters import fit_size, gaussian_blur, resize, roll2d
from jaxstyle.images.matching import (
    luminance_picture,
    match_colors,
    match_histograms,
    match_luminance,
)
from jaxstyle.images.recoloring import RECOLORINGS, recolor, recoloring

__all__ = [
    "RECOLORINGS",
    "fit_size",
    "gaussian_blur",
    "luminance",
    "luminance_picture",
    "match_colors",
    "match_histograms",
    "match_luminance",
    "recolor",
    "recoloring",
    "resize",
    "rgb_to_yuv",
    "roll2d",
    "transfer_luminance",
    "yuv_to_rgb",
]
