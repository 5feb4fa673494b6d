"""Operations on pictures themselves: color spaces."""

from jaxstyle.images.color import luminance, rgb_to_yuv, transfer_luminance, yuv_to_rgb

__all__ = ["luminance", "rgb_to_yuv", "transfer_luminance", "yuv_to_rgb"]
