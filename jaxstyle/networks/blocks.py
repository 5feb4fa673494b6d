"""The pieces of an image-transformation network: convolution, normalized layer, residual block."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import zeros

from jaxstyle import ops
from jaxstyle.networks.configuration import TransformerConfig
from jaxstyle.networks.normalization import BatchNorm, InstanceNorm
from jaxstyle.types import Array

ACTIVATIONS = {"relu": jax.nn.relu, "leaky_relu": jax.nn.leaky_relu}


class Convolution(nn.Module):
    """A convolution with parameters `kernel` and, where asked for, `bias`.

    `kind` is 'plain', 'down' (stride 2), 'valid' (no padding) or 'up' (doubles the size). The
    kernel is `[kh, kw, in, out]`, that of a transposed convolution `[kh, kw, out, in]`; its initial
    values are drawn in `initialization.py`.

    `dtype` is what to compute in where that is faster than float32, see `ops.faster_dtype`; None is
    that of `x`.
    """

    config: TransformerConfig
    channels: int
    size: int = 3
    kind: str = "plain"
    bias: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve `x`, `[..., h, w, c]`."""
        transposed = self.kind == "up" and self.config.upsampling == "transposed"
        ends = (self.channels, x.shape[-1]) if transposed else (x.shape[-1], self.channels)
        shape = (self.size, self.size, *ends)
        stride = 2 if self.kind == "down" else 1
        if self.dtype is not None:
            x = x.astype(ops.faster_dtype(shape, self.dtype, stride))
        kernel = self.param("kernel", zeros, shape, jnp.float32).astype(x.dtype)
        bias = None
        if self.bias:
            bias = self.param("bias", zeros, (self.channels,), jnp.float32)
            bias = bias.astype(x.dtype)
        padding = "zero" if self.config.padding == "reflect_start" else self.config.padding
        if transposed:
            return _transposed(x, kernel, bias, padding)
        if self.kind == "up":
            padding = "zero" if padding == "same" else padding  # the same thing at stride 1
            return ops.upsample_conv2d(x, kernel, bias, padding=padding)
        padding = "valid" if self.kind == "valid" else padding
        return ops.conv2d(x, kernel, bias, stride=stride, padding=padding)


class Layer(nn.Module):
    """Convolution `conv`, normalization `norm`, activation.

    `last` marks the layer that makes the picture: no activation, a normalization only if the
    configuration says so. `dtype` as `Convolution` has it.
    """

    config: TransformerConfig
    channels: int
    size: int = 3
    kind: str = "plain"
    last: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Apply the layer to `x`, `[..., h, w, c]`."""
        config = self.config
        normalized = config.norm != "none" and (config.norm_last or not self.last)
        bias = config.conv_bias or not normalized
        convolution = Convolution(
            config, self.channels, self.size, self.kind, bias, self.dtype, name="conv"
        )
        x = convolution(x)
        if normalized:
            x = _normalization(config, train, "norm")(x)
        return x if self.last else ACTIVATIONS[config.activation](x)


class ResidualBlock(nn.Module):
    """`x + norm_2(conv_2(activation(norm_1(conv_1(x)))))`, with no activation after the sum.

    With padding='reflect_start' the convolutions are not padded and the sum takes the middle of
    `x`, so that the result is 2 pixels smaller on every side. `dtype` as `Convolution` has it.
    """

    config: TransformerConfig
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Apply the block to `x`, `[..., h, w, c]`."""
        config = self.config
        shrinks = config.padding == "reflect_start"
        convolution = functools.partial(
            Convolution,
            config,
            x.shape[-1],
            kind="valid" if shrinks else "plain",
            bias=config.conv_bias or config.norm == "none",
            dtype=self.dtype,
        )
        branch = convolution(name="conv_1")(x)
        branch = ACTIVATIONS[config.activation](_normalization(config, train, "norm_1")(branch))
        branch = convolution(name="conv_2")(branch)
        branch = _normalization(config, train, "norm_2")(branch)
        return (x[..., 2:-2, 2:-2, :] if shrinks else x) + branch


def _normalization(config: TransformerConfig, train: bool, name: str) -> Any:
    if config.norm == "instance":
        return InstanceNorm(config.norm_epsilon, name=name)
    if config.norm == "batch":
        module = BatchNorm(config.norm_epsilon, config.batch_norm_momentum, name=name)
        return functools.partial(module, train=train)
    return lambda x: x


def _transposed(x: Array, kernel: Array, bias: Array | None, padding: str) -> Array:
    """The gradient of the stride-2 convolution that `padding` belongs to.

    TensorFlow's SAME convolution reads the pixels 2i, 2i+1, 2i+2; one padded by half its kernel
    reads 2i-1, 2i, 2i+1. Its gradient is therefore the former's, one pixel up and to the left.
    The pixels this brings in at the lower right come from one more row and column of the map,
    padded like everything else: zeros there would darken two edges of every picture.
    """
    if padding == "same":
        return ops.conv_transpose2d(x, kernel, bias)
    more = ops.pad2d(x, ((0, 1), (0, 1)), padding)
    return ops.conv_transpose2d(more, kernel, bias)[..., 1:-1, 1:-1, :]
