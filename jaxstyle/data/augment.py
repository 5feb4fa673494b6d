"""Random crops: position, scale and mirroring of training examples, on the host, by Pillow."""

import numpy as np
from PIL import Image


def crop_box(
    width: int, height: int, scale: float, across: float, down: float
) -> tuple[float, float, float]:
    """Return the square of a picture that becomes a training example.

    Scaling a picture so that its shorter side is `scale * size` and then cutting out `size x size`
    pixels shows a square whose side is `min(width, height) / scale` pixels of the picture. Cutting
    first and resizing only that square costs less and rounds nothing.

    Args:
      width: of the picture, in pixels.
      height: of the picture, in pixels.
      scale: at least 1; 1 shows the whole shorter side.
      across: where the square lies between the left (0) and the right (1) edge.
      down: where it lies between the top (0) and the bottom (1) edge.

    Returns:
      Left edge, top edge and side of the square, in pixels, fractional, inside the picture.

    Example:
      >>> crop_box(300, 200, 2.0, 0.5, 1.0)
      (100.0, 100.0, 100.0)
    """
    side = min(width, height) / scale
    return across * (width - side), down * (height - side), side


def random_crop(
    picture: Image.Image,
    rng: np.random.Generator,
    *,
    size: int,
    scale: tuple[float, float],
    flip: bool,
) -> np.ndarray:
    """Cut a random square out of a picture, resize it with antialiasing, and perhaps mirror it.

    The scale is uniform in `scale`, the position uniform over the picture, mirroring has
    probability 1/2. Width and height are scaled alike, so nothing is stretched.

    Args:
      picture: RGB; not changed.
      rng: draws four numbers whatever the options are, so that turning mirroring off leaves the
        crops as they were.
      size: side of the result in pixels.
      scale: range of the shorter side of the whole picture relative to `size`, each at least 1:
        (1, 1.5) shows between all and two thirds of the shorter side.
      flip: mirror left to right half of the time.

    Returns:
      uint8 `[size, size, 3]`, sRGB.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> random_crop(Image.new('RGB', (90, 60), 'red'), rng, size=2, scale=(1, 1.5), flip=True)[0]
      array([[255,   0,   0],
             [255,   0,   0]], dtype=uint8)
    """
    zoom, across, down, mirror = rng.random(4)
    chosen = scale[0] + (scale[1] - scale[0]) * zoom
    left, top, side = crop_box(*picture.size, chosen, across, down)
    right, bottom = min(left + side, picture.width), min(top + side, picture.height)  # rounding
    # `reducing_gap` averages blocks first where the shrinking is strong. Bilinear is Pillow's
    # triangle filter, stretched when shrinking (so: antialiased); bicubic would take 1.5x as long.
    square = picture.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, right, bottom),
        reducing_gap=2.0,
    )
    pixels = np.asarray(square)
    return pixels[:, ::-1] if flip and mirror < 0.5 else pixels
