"""Blurring, rolling and resizing of pictures and feature maps `[..., h, w, c]`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstyle.types import Array, InputError, unknown_choice

RESIZE_METHODS = ("cubic", "linear")
_REACH = 4  # deviations of a Gaussian that are summed; what is beyond weighs 6e-5
_BLOCK = 256  # rows of a matrix product: few waste no work on zeros, many compile fast


def gaussian_blur(x: Array, sigma: float) -> Array:
    """Blur with a Gaussian: means of the pixels around, of weights `exp(-d^2 / (2 sigma^2))`.

    `d` is the distance along one axis, up to 4 sigma; the axes are blurred one after the other, and
    the weights sum to one. Beyond the border the picture goes on as its mirror image, without
    repeating the edge (`dcb|abcd|cba`), however far that is. A constant picture is not changed in
    a single bit.

    Args:
      x: `[..., h, w, c]`, floating-point, any range.
      sigma: standard deviation in pixels (static), >= 0; below 1/8 it changes nothing.

    Returns:
      `[..., h, w, c]`, of x's dtype; half precision is summed in float32.

    Raises:
      InputError: a sigma that is negative or not finite, or x that is not floating-point
        `[..., h, w, c]`.

    Example:
      >>> point = jnp.zeros((1, 3, 1)).at[0, 1, 0].set(1.0)
      >>> [round(float(v), 2) for v in gaussian_blur(point, 0.5)[0, :, 0]]
      [0.21, 0.79, 0.21]
    """
    if not 0 <= sigma < math.inf:
        raise InputError(f"the blur's sigma is {sigma}; give 0 or more pixels.")
    _check(x)
    distances = np.arange(1, int(_REACH * sigma + 0.5) + 1)
    if not distances.size:
        return x
    weights = np.exp(-(distances**2) / (2 * sigma**2))
    weights /= 1 + 2 * weights.sum()
    blurred = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis in (-3, -2):
        blurred = _blur_axis(blurred, axis, weights)
    return blurred.astype(x.dtype)


def _blur_axis(x: Array, axis: int, weights: np.ndarray) -> Array:
    """Blur one axis, given the weights of the neighbors on either side from the nearest on.

    By matrix products, of blocks of rows with the columns that are not zero. Sums of shifted maps
    are fewer operations, but on a CPU their gradient takes some twenty times as long, and XLA fuses
    both axes into one loop that blurs the first again for every term of the second.
    """
    size = x.shape[axis]
    block = max(_BLOCK, len(weights))
    equation = "ij,...jwc->...iwc" if axis == -3 else "ij,...hjc->...hic"
    # Differences to the first pixel: where there are none, nothing is rounded.
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    change = x - first
    parts = []
    for start in range(0, size, block):
        matrix = _blur_rows(np.arange(start, min(start + block, size)), size, weights)
        (used,) = np.nonzero(matrix.any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        near = lax.slice_in_dim(change, low, high, axis=axis)
        rows = jnp.asarray(matrix[:, low:high], x.dtype)
        parts.append(jnp.einsum(equation, rows, near, precision="highest"))
    return first + jnp.concatenate(parts, axis=axis)


def _blur_rows(rows: np.ndarray, size: int, weights: np.ndarray) -> np.ndarray:
    """Rows of the matrix `[size, size]` that blurs an axis."""
    radius = len(weights)
    mirrored = np.pad(np.arange(size), radius, mode="reflect")
    kernel = np.concatenate([weights[::-1], [1 - 2 * weights.sum()], weights])
    matrix = np.zeros((len(rows), size))
    for offset, weight in enumerate(kernel):
        np.add.at(matrix, (np.arange(len(rows)), mirrored[rows + offset]), weight)
    return matrix


def roll2d(x: Array, shift: tuple[int | Array, int | Array] | Array) -> Array:
    """Shift down and to the right; what leaves the picture on one side comes in on the other.

    Args:
      x: `[..., h, w, c]`.
      shift: pixels down and to the right, two integers or `[2]`; traced ones too, any sign and
        size. One shift for all; `jax.vmap` gives each picture its own.

    Returns:
      `[..., h, w, c]`; `roll2d(roll2d(x, shift), -shift)` is x.

    Raises:
      InputError: a shift that is not two integers, or x without height, width and channels.

    Example:
      >>> roll2d(jnp.arange(4.0).reshape(1, 4, 1), (0, 1))[0, :, 0].tolist()
      [3.0, 0.0, 1.0, 2.0]
    """
    _check_axes(x)
    shift = jnp.asarray(shift)
    if shift.shape != (2,) or not jnp.issubdtype(shift.dtype, jnp.integer):
        raise InputError(
            f"the shift is {shift.dtype} of shape {shift.shape}; give two integers, pixels down "
            "and to the right."
        )
    return jnp.roll(x, shift, axis=(-3, -2))


def resize(
    image: Array, size: tuple[int, int], method: str = "cubic", *, antialias: bool = True
) -> Array:
    """Resample to another size. Nothing is clipped: a cubic overshoots [0, 1] at sharp edges.

    Args:
      image: `[..., h, w, c]`, floating-point, any range.
      size: new height and width (static), each at least 1.
      method: 'cubic' (Keys' kernel with a = -1/2) or 'linear'.
      antialias: widen the kernel by the factor of a reduction, so that fine detail is averaged
        instead of turning into patterns.

    Returns:
      `[..., *size, c]`, of the image's dtype.

    Raises:
      InputError: a size below 1 or of fractions, an unknown method, or an image that is not
        floating-point `[..., h, w, c]`.

    Example:
      >>> resize(jnp.array([[[0.0], [1.0]]]), (1, 4), "linear")[0, :, 0].tolist()
      [0.0, 0.25, 0.75, 1.0]

    References:
      Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, eq. 15.
    """
    if method not in RESIZE_METHODS:
        raise unknown_choice("resizing method", method, RESIZE_METHODS)
    _check(image)
    if len(size) != 2 or not all(isinstance(n, int | np.integer) and n >= 1 for n in size):
        raise InputError(f"the new size is {size}; give height and width, integers of at least 1.")
    shape = (*image.shape[:-3], *size, image.shape[-1])
    return jax.image.resize(image, shape, method=method, antialias=antialias)


def fit_size(
    height: int,
    width: int,
    *,
    shorter: int | None = None,
    longer: int | None = None,
    area: float | None = None,
) -> tuple[int, int]:
    """Return the size of a picture scaled to one given measure at its aspect ratio.

    Args:
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      shorter: the shorter side to have, in pixels; or
      longer: the longer side to have; or
      area: the number of pixels to have, as nearly as whole sides allow.

    Returns:
      New height and width, rounded and at least 1.

    Raises:
      InputError: none or several of the three, or a number below 1.

    Example:
      >>> fit_size(480, 640, longer=512), fit_size(480, 640, area=640 * 480 / 4)
      ((384, 512), (240, 320))
    """
    given = {
        name: value
        for name, value in (("shorter", shorter), ("longer", longer), ("area", area))
        if value is not None
    }
    if len(given) != 1:
        listed = " and ".join(given) or "nothing"
        raise InputError(f"a size needs one of shorter, longer and area, but given is {listed}.")
    for name, value in {"height": height, "width": width, **given}.items():
        if not 1 <= value < math.inf:
            raise InputError(f"{name} is {value}; give at least 1.")
    if shorter is not None:
        scale = shorter / min(height, width)
    elif longer is not None:
        scale = longer / max(height, width)
    else:
        scale = math.sqrt(given["area"] / (height * width))
    return _scaled(height, scale), _scaled(width, scale)


def _scaled(side: int, scale: float) -> int:
    return max(1, math.floor(side * scale + 0.5))


def _check_axes(x: Array) -> None:
    if x.ndim < 3 or 0 in x.shape[-3:]:
        raise InputError(
            f"a picture of shape {x.shape} has no pixels to work on; give "
            "[..., height, width, channels], each at least 1."
        )


def _check(x: Array) -> None:
    _check_axes(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"the picture holds {x.dtype}; convert it to float32.")
