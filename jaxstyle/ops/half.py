"""Convolution in bfloat16 on a CPU: matrix products for the rows of the kernel.

XLA widens a bfloat16 convolution to float32 on a CPU, and a product too, unless it is asked for a
float32 result: that one runs on the processor's own units for bfloat16 (AMX), at four times the
rate of float32. So a convolution is written as products here. The columns that a window sees are
laid side by side,

    columns[y, x] = (map[y, x], ..., map[y, x + k_w - 1]),

every row of the kernel is one product with all of them, and the products, moved by a row each, are
summed in float32. The gradient by the input is the same with the flipped kernel; the gradient by
row `i` of the kernel is the product of the transposed cotangent and the columns from row `i` on.

Processors without these units compute the same, more slowly than in float32.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxstyle.policy import cpu_formulation
from jaxstyle.types import Array

_FEWEST_CHANNELS = 32  # below, collecting the columns costs what the products save
_FEW_CHANNELS = 64  # so few make narrow products

_Widths = tuple[tuple[int, int], tuple[int, int]]


def pays(shape: tuple[int, ...], stride: int) -> bool:
    """Return whether `convolve` is faster than a convolution in float32, as measured on two cores.

    Args:
      shape: of the kernel, `[k_h, k_w, c_in, c_out]`.
      stride: of the convolution.
    """
    return stride == 1 and min(shape[2:]) >= _FEWEST_CHANNELS and max(shape[:2]) <= 3


def faster_dtype(shape: tuple[int, ...], dtype: jnp.dtype, stride: int = 1) -> jnp.dtype:
    """Return what a convolution should compute in: float32 where bfloat16 gains nothing on a CPU.

    Args:
      shape: of the kernel.
      dtype: that was asked for.
      stride: of the convolution.

    Example:
      >>> faster_dtype((3, 3, 512, 512), jnp.dtype('bfloat16')).name
      'bfloat16'
    """
    slow = dtype == jnp.bfloat16 and cpu_formulation() and not pays(shape, stride)
    return jnp.dtype(jnp.float32) if slow else dtype


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Array, kernel: Array, widths: _Widths) -> Array:
    """Convolve at stride 1, with zeros added around the map.

    Args:
      x: `[n, h, w, c_in]`, bfloat16.
      kernel: `[k_h, k_w, c_in, c_out]`, bfloat16.
      widths: zeros before and after, of height and width; negative ones cut off.

    Returns:
      `[n, h + sum(widths[0]) - k_h + 1, w + sum(widths[1]) - k_w + 1, c_out]`, bfloat16; every sum
      was rounded once.
    """
    k_h, k_w, c_in, c_out = kernel.shape
    columns = _columns(_padded(x, widths), k_w)
    n, rows, width = columns.shape[:3]
    height = rows - k_h + 1
    matrix, taps = columns.reshape(-1, k_w * c_in), kernel.reshape(k_h, k_w * c_in, c_out)
    if c_out <= _FEW_CHANNELS:  # all rows in one product, which reads the columns once
        joined = _product(matrix, taps.swapaxes(0, 1).reshape(-1, k_h * c_out))
        products = list(jnp.unstack(joined.reshape(n, rows, width, k_h, c_out), axis=3))
    else:
        products = [_product(matrix, row).reshape(n, rows, width, c_out) for row in taps]
    total = functools.reduce(jnp.add, [p[:, i : i + height] for i, p in enumerate(products)])
    return total.astype(x.dtype)


def _convolve_forward(
    x: Array, kernel: Array, widths: _Widths
) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, widths), (x, kernel)


def _convolve_backward(
    widths: _Widths, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    k_h, k_w = kernel.shape[:2]
    (top, bottom), (left, right) = widths
    theirs = ((k_h - 1 - top, k_h - 1 - bottom), (k_w - 1 - left, k_w - 1 - right))
    flipped = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    return convolve(g, flipped, theirs), _kernel_gradient(x, g, kernel, widths)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _kernel_gradient(x: Array, g: Array, kernel: Array, widths: _Widths) -> Array:
    """Return the gradient by the kernel, of its shape and dtype."""
    k_h, k_w, c_in, c_out = kernel.shape
    height = g.shape[1]
    # Rows first: those that one row of the kernel sees are then a matrix as they lie.
    columns = _columns(_padded(x, widths).swapaxes(0, 1), k_w)
    cotangents = lax.optimization_barrier(g.transpose(3, 1, 0, 2)).reshape(c_out, -1)
    rows = [
        _product(cotangents, columns[i : i + height].reshape(-1, k_w * c_in)) for i in range(k_h)
    ]
    total = jnp.stack(rows).reshape(k_h, c_out, k_w, c_in).transpose(0, 2, 3, 1)
    return total.astype(kernel.dtype)


def _padded(x: Array, widths: _Widths) -> Array:
    ends = ((0, 0, 0), *((low, high, 0) for low, high in widths), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), ends)


def _columns(x: Array, count: int) -> Array:
    """Lay the columns that a window sees side by side, `[., ., w - count + 1, count, c]`.

    Stacked along an axis of their own they are copied in whole pixels; joined along the channels,
    which lays out the same bytes, in single numbers, and takes six times as long.
    """
    if count == 1:
        return x[:, :, :, None]
    width = x.shape[2] - count + 1
    return lax.optimization_barrier(jnp.stack([x[:, :, j : j + width] for j in range(count)], 3))


def _product(a: Array, b: Array) -> Array:
    """Multiply matrices of bfloat16, in float32."""
    # The barriers keep the compiler from turning an operand, which XLA:CPU may then refuse.
    a, b = lax.optimization_barrier((a, b))
    y = lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return lax.optimization_barrier(y)
