"""The one convolution, and the two that double a picture's size.

Everything in jaxstyle that convolves calls this file, and only it and its `kernel_gradient.py` call
`lax.conv`. On a GPU or TPU that is all it does. On a CPU, XLA's own gradients of a convolution are
1.3x (input) to 20x (kernel) slower than need be, and 8x to 340x slower inside a loop (`scan`,
`while_loop`, a line search), where the transposed operands miss the fast kernels. There the
gradients are written out:

* by input: a forward convolution with the flipped kernel;
* by kernel: a convolution or matrix products, in `kernel_gradient.py`.

Maps and kernels in bfloat16 have a formulation of their own there, in `half.py`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxstyle.ops import half, winograd
from jaxstyle.ops.kernel_gradient import kernel_gradient
from jaxstyle.ops.padding import pad2d
from jaxstyle.policy import cpu_formulation, product_precision
from jaxstyle.types import Array, InputError, unknown_choice

PADDINGS = ("zero", "reflect", "replicate", "circular", "valid", "same")

_Widths = tuple[tuple[int, int], tuple[int, int]]
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_FEW = 4  # so few channels leave most of a vector register idle
_MOST_WINDOWS = 2**29  # numbers in the windows of one convolution; 2 GB in float32


def conv2d(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: str = "zero",
) -> Array:
    """Convolve (cross-correlate) feature maps with a kernel.

    Args:
      x: `[..., h, w, c_in]`.
      kernel: `[k_h, k_w, c_in, c_out]`.
      bias: `[c_out]`, or None.
      stride: step in both directions.
      padding: 'zero', 'reflect', 'replicate' or 'circular' (`k // 2` pixels on every side), 'valid'
        (none), or 'same' (TensorFlow's: zeros, `ceil(size / stride)` outputs, the odd pixel after).

    Returns:
      `[..., h_out, w_out, c_out]`.

    Raises:
      InputError: unknown padding, channels or a bias that do not fit, or a map smaller than the
        kernel.

    Example:
      >>> conv2d(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), padding='valid').shape
      (1, 2, 2, 8)
    """
    if x.shape[-1] != kernel.shape[2]:
        raise InputError(
            f"the map has {x.shape[-1]} channels, but the kernel {kernel.shape} takes "
            f"{kernel.shape[2]}."
        )
    x, widths = _resolve_padding(x, kernel.shape[:2], stride, padding)
    for size, (low, high), k in zip(x.shape[-3:-1], widths, kernel.shape[:2], strict=True):
        if size + low + high < k:
            raise InputError(
                f"a map of {x.shape[-3]}x{x.shape[-2]} is smaller than the kernel "
                f"{kernel.shape[0]}x{kernel.shape[1]}; use a larger picture or another padding."
            )
    y = _convolve(x.reshape(-1, *x.shape[-3:]), kernel, stride, widths)
    y = y.reshape(*x.shape[:-3], *y.shape[-3:])
    return _add_bias(y, bias)


def upsample_conv2d(
    x: Array, kernel: Array, bias: Array | None = None, *, padding: str = "reflect"
) -> Array:
    """Double the size by nearest neighbors, then convolve with a 3x3 kernel.

    Equal to `conv2d(upsample2d(x), kernel, bias, padding=padding)`. On a CPU it is computed on the
    small map: every output pixel sees a 2x2 window of it, through one of four sums of kernel taps
    (2.25x fewer operations, no enlarged map in memory).

    Args:
      x: `[..., h, w, c_in]`.
      kernel: `[3, 3, c_in, c_out]`.
      bias: `[c_out]`, or None.
      padding: 'reflect', 'replicate' or 'zero', of the enlarged map.

    Returns:
      `[..., 2 h, 2 w, c_out]`.

    Raises:
      InputError: for another kernel size or padding.

    Example:
      >>> upsample_conv2d(jnp.ones((4, 4, 8)), jnp.ones((3, 3, 8, 2))).shape
      (8, 8, 2)

    References:
      Odena et al., Deconvolution and Checkerboard Artifacts, 2016 (resize, then convolve).
    """
    if kernel.shape[:2] != (3, 3):
        raise InputError(f"upsample_conv2d takes a 3x3 kernel, not {kernel.shape[:2]}.")
    # One pixel of reflection of the doubled map repeats its edge, and so does replication.
    edge = {"reflect": "replicate", "replicate": "replicate", "zero": "zero"}
    if padding not in edge:
        raise unknown_choice("padding of upsample_conv2d", padding, tuple(edge))
    if not cpu_formulation():
        return conv2d(upsample2d(x), kernel, bias, padding=padding)
    taps = jnp.stack(  # [phase, tap of the 2-window, ...]: rows, then columns
        [
            jnp.stack([kernel[0], kernel[1] + kernel[2]]),
            jnp.stack([kernel[0] + kernel[1], kernel[2]]),
        ]
    )
    taps = jnp.stack(
        [
            jnp.stack([taps[:, :, 0], taps[:, :, 1] + taps[:, :, 2]], axis=2),
            jnp.stack([taps[:, :, 0] + taps[:, :, 1], taps[:, :, 2]], axis=2),
        ],
        axis=1,
    )  # [row phase, column phase, 2, 2, c_in, c_out]
    y = _phase_convolution(pad2d(x, 1, edge[padding]), taps, shifted=True)
    return _add_bias(y, bias)


def conv_transpose2d(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Apply the gradient of a stride-2 3x3 convolution with TensorFlow's SAME padding.

    Also called fractionally strided convolution; the output is exactly twice as large.

    Args:
      x: `[..., h, w, c_in]`.
      kernel: `[3, 3, c_out, c_in]`, as the convolution it transposes has it.
      bias: `[c_out]`, or None.

    Returns:
      `[..., 2 h, 2 w, c_out]`.

    Raises:
      InputError: for another kernel size, or channels that do not fit.

    Example:
      >>> conv_transpose2d(jnp.ones((4, 4, 8)), jnp.ones((3, 3, 2, 8))).shape
      (8, 8, 2)
    """
    if kernel.shape[:2] != (3, 3) or kernel.shape[3] != x.shape[-1]:
        raise InputError(
            f"conv_transpose2d takes a kernel [3, 3, c_out, {x.shape[-1]}], not {kernel.shape}."
        )
    if cpu_formulation():
        k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).swapaxes(2, 3)
        # Window [m - 1, m]: an even output pixel sees taps (2, 0), an odd one (none, 1).
        pairs = jnp.array([[2, 0], [3, 1]])
        taps = k[pairs[:, None, :, None], pairs[None, :, None, :]]
        widths = ((1, 0), (1, 0))
        y = _phase_convolution(pad2d(x, widths, "zero"), taps, shifted=False)
    else:
        flat = x.reshape(-1, *x.shape[-3:])
        how: Any = {"dimension_numbers": _DIMENSIONS, "precision": product_precision(x.dtype)}
        y = lax.conv_transpose(flat, kernel, (2, 2), "SAME", transpose_kernel=True, **how)
        y = y.reshape(*x.shape[:-3], *y.shape[-3:])
    return _add_bias(y, bias)


def upsample2d(x: Array, factor: int = 2) -> Array:
    """Enlarge by repeating every pixel (nearest neighbor).

    Args:
      x: `[..., h, w, c]`.
      factor: whole number >= 1.

    Returns:
      `[..., factor * h, factor * w, c]`.

    Example:
      >>> upsample2d(jnp.arange(2.0).reshape(1, 2, 1))[0, :, 0].tolist()
      [0.0, 0.0, 1.0, 1.0]
    """
    *lead, h, w, c = x.shape
    tall = lax.broadcast_in_dim(
        x,
        (*lead, h, factor, w, factor, c),
        (*range(len(lead)), len(lead), len(lead) + 2, len(lead) + 4),
    )
    return tall.reshape(*lead, h * factor, w * factor, c)


def _add_bias(y: Array, bias: Array | None) -> Array:
    if bias is None:
        return y
    if bias.shape != y.shape[-1:]:
        raise InputError(
            f"the bias has the shape {bias.shape}, but the kernel makes {y.shape[-1]} channels; "
            f"give ({y.shape[-1]},)."
        )
    return y + lax.broadcast_in_dim(bias, y.shape, (y.ndim - 1,))


def _resolve_padding(
    x: Array, window: tuple[int, ...], stride: int, padding: str
) -> tuple[Array, _Widths]:
    """Return the map, padded where XLA cannot, and the zeros still to add."""
    half_h, half_w = window[0] // 2, window[1] // 2
    if padding == "valid":
        return x, ((0, 0), (0, 0))
    if padding == "zero":
        return x, ((half_h, half_h), (half_w, half_w))
    if padding == "same":
        sizes = zip(x.shape[-3:-1], window, strict=True)
        rows, columns = (_same_widths(size, k, stride) for size, k in sizes)
        return x, (rows, columns)
    if padding in ("reflect", "replicate", "circular"):
        widths = ((half_h, half_h), (half_w, half_w))
        return pad2d(x, widths, padding), ((0, 0), (0, 0))
    raise unknown_choice("padding", padding, PADDINGS)


def _same_widths(size: int, k: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + k - size, 0)
    return total // 2, total - total // 2


def _phase_convolution(padded: Array, taps: Array, *, shifted: bool) -> Array:
    """Convolve with four 2x2 kernels and interleave their results to a map of twice the size.

    Args:
      padded: `[..., h + 1, w + 1, c_in]`, or `[..., h + 2, w + 2, c_in]` where `shifted`.
      taps: `[row phase, column phase, 2, 2, c_in, c_out]`.
      shifted: phase 1 looks at the window one pixel further.

    Returns:
      `[..., 2 h, 2 w, c_out]`.
    """
    c_in, c_out = taps.shape[-2:]
    kernel = taps.transpose(2, 3, 4, 0, 1, 5).reshape(2, 2, c_in, 4 * c_out)
    y = conv2d(padded, kernel, padding="valid")
    step = int(shifted)
    h, w = y.shape[-3] - step, y.shape[-2] - step
    # Wide, for the gradient: it adds up maps of mostly zeros, at half the speed in bfloat16.
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32)).reshape(*y.shape[:-1], 2, 2, c_out)
    rows = [
        jnp.stack(
            [wide[..., a * step : a * step + h, b * step : b * step + w, a, b, :] for b in (0, 1)],
            axis=-2,
        )  # [..., h, w, 2, c]
        for a in (0, 1)
    ]
    joined = jnp.stack(rows, axis=-4).reshape(*wide.shape[:-5], 2 * h, 2 * w, c_out)
    return joined.astype(y.dtype)


def _convolve(x: Array, kernel: Array, stride: int, widths: _Widths) -> Array:
    """Convolve `[n, h, w, c_in]`, with zeros added around it."""
    if not cpu_formulation():
        how: Any = {"dimension_numbers": _DIMENSIONS, "precision": product_precision(x.dtype)}
        return lax.conv_general_dilated(x, kernel, (stride, stride), widths, **how)
    if x.dtype != jnp.bfloat16:
        return _convolve_cpu(x, kernel, stride, widths)
    if half.pays(kernel.shape, stride):
        return half.convolve(x, kernel, widths)
    # XLA would widen it too, but knows only the plain convolution.
    wide, taps = lax.optimization_barrier((x.astype(jnp.float32), kernel.astype(jnp.float32)))
    return lax.optimization_barrier(_convolve_cpu(wide, taps, stride, widths)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_cpu(x: Array, kernel: Array, stride: int, widths: _Widths) -> Array:
    if (*kernel.shape[:2], stride) == (1, 1, 1) and widths == ((0, 0), (0, 0)):
        return jnp.einsum("nhwi,io->nhwo", x, kernel[0, 0])
    block = _block(kernel.shape, stride)
    if block != (1, 1):
        return _convolve_by_blocks(x, kernel, widths, block)
    if winograd.pays(x, kernel, stride, widths):
        return winograd.convolve(x, kernel, widths)
    return _convolve_in_strips(x, kernel, (stride, stride), widths)


def _convolve_in_strips(
    x: Array, kernel: Array, strides: tuple[int, int], widths: _Widths
) -> Array:
    """Convolve; a picture of many megapixels a few rows at a time.

    XLA's convolution on a CPU reserves room for the window of every output pixel at once, 32 GB for
    a 9x9 kernel on 7680x4320 pixels, and ends the process where the system refuses it.
    """
    k_h, k_w, c_in, c_out = kernel.shape
    n = x.shape[0]
    h, w = (
        (x.shape[1 + axis] + sum(widths[axis]) - kernel.shape[axis]) // strides[axis] + 1
        for axis in (0, 1)
    )
    rows = max(1, _MOST_WINDOWS // (n * w * k_h * k_w * c_in))
    if rows >= h:
        return lax.conv_general_dilated(x, kernel, strides, widths, dimension_numbers=_DIMENSIONS)
    x = pad2d(x, widths, "zero")
    seen = (rows - 1) * strides[0] + k_h

    def put(turn: Array, y: Array) -> Array:
        start = jnp.minimum(turn * rows, h - rows)  # the last strip repeats rows of the one before
        part = lax.dynamic_slice_in_dim(x, start * strides[0], seen, axis=1)
        strip = lax.conv_general_dilated(
            part, kernel, strides, "VALID", dimension_numbers=_DIMENSIONS
        )
        return lax.dynamic_update_slice_in_dim(y, strip, start, axis=1)

    return lax.fori_loop(0, -(-h // rows), put, jnp.zeros((n, h, w, c_out), x.dtype))


def _convolve_forward(
    x: Array, kernel: Array, stride: int, widths: _Widths
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_cpu(x, kernel, stride, widths), (x, kernel)


def _convolve_backward(
    stride: int, widths: _Widths, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    by_input = _input_gradient(g, kernel, stride, widths, x.shape)
    if winograd.pays(x, kernel, stride, widths):
        return by_input, winograd.kernel_gradient(x, g, kernel.shape[0], widths)
    return by_input, kernel_gradient(x, g, kernel.shape, stride, widths)


_convolve_cpu.defvjp(_convolve_forward, _convolve_backward)


def _block(shape: tuple[int, ...], stride: int) -> tuple[int, int]:
    """Height and width of the blocks of output pixels to convolve as one, as measured.

    (1, 1) where it does not pay.
    """
    k_h, k_w, c_in, c_out = shape
    if stride != 1 or min(k_h, k_w) < 3:
        return 1, 1
    if c_out <= _FEW:
        return (4, 4) if k_h >= 7 else (2, 2)
    if c_in <= _FEW and c_out <= 64:
        return (2, 2) if c_out <= 16 else (1, 2)
    return 1, 1


def _convolve_by_blocks(x: Array, kernel: Array, widths: _Widths, block: tuple[int, int]) -> Array:
    """Convolve with few channels, with all pixels of a block of the output as channels of one.

    A 9x9 kernel from 32 to 3 channels becomes a 12x12 kernel to 48 with stride 4. That is 1.8 times
    the operations and a third of the time: three channels fill a fraction of a vector register.
    From 3 channels to 16 a 10x10 kernel to 64 with stride 2 takes half the time: what costs is to
    collect the windows, three numbers at a time, and there are a quarter of them.
    """
    (k_h, k_w, _, c_out), (b_h, b_w) = kernel.shape, block
    x = pad2d(x, widths, "zero")
    n, h, w = x.shape[0], x.shape[1] - k_h + 1, x.shape[2] - k_w + 1
    rest_h, rest_w = -h % b_h, -w % b_w
    x = pad2d(x, ((0, rest_h), (0, rest_w)), "zero")
    shifts = [
        jnp.pad(kernel, ((i, b_h - 1 - i), (j, b_w - 1 - j), (0, 0), (0, 0)))
        for i in range(b_h)
        for j in range(b_w)
    ]
    # Written out: a kernel computed inside the convolution misses its fast path.
    joined = lax.optimization_barrier(jnp.concatenate(shifts, axis=-1))
    y = _convolve_in_strips(x, joined, block, ((0, 0), (0, 0)))
    y = y.reshape(n, y.shape[1], y.shape[2], b_h, b_w, c_out).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h + rest_h, w + rest_w, c_out)[:, :h, :w]


def _input_gradient(
    g: Array, kernel: Array, stride: int, widths: _Widths, shape: tuple[int, ...]
) -> Array:
    """Gradient by input: a convolution of the (dilated) cotangent with the flipped kernel."""
    # A kernel written out in this layout keeps the fast path inside loops.
    flipped = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    pads = []
    for axis in (0, 1):
        k, size = kernel.shape[axis], shape[1 + axis]
        low = k - 1 - widths[axis][0]
        dilated = (g.shape[1 + axis] - 1) * stride + 1
        pads.append((low, size + k - 1 - dilated - low))
    if stride == 1 and min(*pads[0], *pads[1]) >= 0:
        if winograd.pays(g, kernel, 1, (pads[0], pads[1])):
            return winograd.input_gradient(g, kernel, (pads[0], pads[1]))
        return _convolve_cpu(g, flipped, 1, (pads[0], pads[1]))
    return lax.conv_general_dilated(
        g, flipped, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=_DIMENSIONS
    )
