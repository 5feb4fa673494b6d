"""The gradient of a convolution by its kernel, on a CPU."""

import jax.numpy as jnp
from jax import lax

from jaxstyle.ops.padding import pad2d
from jaxstyle.types import Array

Widths = tuple[tuple[int, int], tuple[int, int]]
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_FEW = 4  # so few output channels leave most of a vector register idle


def kernel_gradient(
    x: Array, g: Array, shape: tuple[int, ...], stride: int, widths: Widths
) -> Array:
    """Gradient by kernel `[k_h, k_w, c_in, c_out]`: a convolution that sums over the positions.

    The input with its channels as the batch is convolved with the cotangent as a large kernel,
    whose input channels are the images. Both are written out in that layout, so that it is a
    forward convolution like any other: 2-4 times faster than one matrix product per tap.
    """
    k_h, k_w, _, c_out = shape
    x = pad2d(x, widths, "zero")
    if c_out <= _FEW and stride == 1:
        # With few output channels the roles change: the wide side should be the output's.
        g = pad2d(g, ((k_h - 1, k_h - 1), (k_w - 1, k_w - 1)), "zero")
        y = lax.conv_general_dilated(
            _written_out(g, (3, 1, 2, 0)),
            _written_out(x, (1, 2, 0, 3)),
            (1, 1),
            "VALID",
            dimension_numbers=_DIMENSIONS,
        )
        return y[:, ::-1, ::-1].transpose(1, 2, 3, 0)
    if stride > 1 and x.dtype == g.dtype == jnp.float32:
        return _by_rows(x, g, shape, stride)
    y = lax.conv_general_dilated(
        _written_out(x, (3, 1, 2, 0)),
        _written_out(g, (1, 2, 0, 3)),
        (1, 1),
        "VALID",
        rhs_dilation=(stride, stride),
        dimension_numbers=_DIMENSIONS,
    )
    # A stride that does not divide the input leaves rows that no output has seen.
    return y[:, :k_h, :k_w].transpose(1, 2, 0, 3)


def _by_rows(x: Array, g: Array, shape: tuple[int, ...], stride: int) -> Array:
    """Sum over the positions of a strided convolution: a matrix product for each row of the kernel.

    The large kernel with gaps, which the cotangent would be, has no fast path: up to 2x the time.
    """
    k_h, k_w, c_in, c_out = shape
    _, h, w, _ = g.shape
    x = x.swapaxes(0, 1)  # the rows that one row of the kernel sees are a matrix
    columns = [x[:, :, j : j + (w - 1) * stride + 1 : stride] for j in range(k_w)]
    columns = lax.optimization_barrier(jnp.concatenate(columns, axis=-1))
    cotangents = _written_out(g, (3, 1, 0, 2)).reshape(c_out, -1)
    rows = [
        cotangents @ columns[i : i + (h - 1) * stride + 1 : stride].reshape(-1, k_w * c_in)
        for i in range(k_h)
    ]
    return jnp.stack(rows).reshape(k_h, c_out, k_w, c_in).transpose(0, 2, 3, 1)


def _written_out(x: Array, order: tuple[int, ...]) -> Array:
    """Transpose, and keep the compiler from undoing it: other layouts miss the fast path."""
    return lax.optimization_barrier(x.transpose(order))
