"""Instance and batch normalization of feature maps."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import ones, zeros

from jaxstyle.types import Array


def instance_norm(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Array:
    """Normalize each channel of each image over its positions, then scale and shift it.

    `y = scale (x - mean) / sqrt(var + epsilon) + bias`, mean and (biased) variance over height and
    width. Both are computed in float32 at least, the variance from the centered values: the
    shortcut `E[x^2] - E[x]^2` cancels where a map is nearly constant.

    Args:
      x: `[..., h, w, c]`.
      scale: `[c]`, or `[..., c]` with the leading dimensions of `x` for one vector per image
        (conditional instance normalization).
      bias: as `scale`.
      epsilon: added to the variance; 1e-5 in most networks, 1e-3 in lengstrom's.

    Returns:
      `[..., h, w, c]` of `x`'s dtype.

    Example:
      >>> x = jnp.array([1.0, 3.0]).reshape(1, 2, 1)
      >>> instance_norm(x, jnp.ones(1), jnp.zeros(1), epsilon=1e-9).ravel().tolist()
      [-1.0, 1.0]

    References:
      Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016, arXiv:1607.08022, eq. 3.
      Dumoulin, Shlens and Kudlur, "A Learned Representation for Artistic Style", 2017,
      arXiv:1610.07629, eq. 5, for scale and bias per style.
    """
    wide = _widen(x)
    centered = wide - _mean(wide, batch=False)
    variance = _mean(jnp.square(centered), batch=False)
    return _affine(centered, variance, scale, bias, epsilon).astype(x.dtype)


class InstanceNorm(nn.Module):
    """`instance_norm` with learned parameters `scale` and `bias`, `[c]` each."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalize `x`, `[..., h, w, c]`."""
        scale = self.param("scale", ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", zeros, x.shape[-1:], jnp.float32)
        return instance_norm(x, scale, bias, epsilon=self.epsilon)


class BatchNorm(nn.Module):
    """Normalize each channel over all images and positions.

    In training with the statistics of the batch at hand, which also update the running averages
    `mean` and `var` in the collection 'batch_stats' (`new = momentum old + (1 - momentum) batch`);
    otherwise with the running averages, so that an image's result does not depend on the others.

    References:
      Ioffe and Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, algorithms 1 and 2.

    Differs from the paper: the running variance averages the biased batch variances.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Normalize `x`, `[..., h, w, c]`, with the batch's statistics if `train`."""
        channels = x.shape[-1:]
        scale = self.param("scale", ones, channels, jnp.float32)
        bias = self.param("bias", zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        wide = _widen(x)
        if train:
            mean = _mean(wide, batch=True)
            centered = wide - mean
            variance = _mean(jnp.square(centered), batch=True)
            self._update(running_mean, mean)
            self._update(running_var, variance)
        else:
            centered = wide - _over_positions(running_mean.value, x.ndim)
            variance = _over_positions(running_var.value, x.ndim)
        return _affine(centered, variance, scale, bias, self.epsilon).astype(x.dtype)

    def _update(self, running: nn.Variable, batch: Array) -> None:
        if not self.is_initializing():
            old = running.value
            batch = batch.reshape(old.shape).astype(old.dtype)
            running.value = self.momentum * old + (1 - self.momentum) * batch


def _widen(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _mean(x: Array, *, batch: bool) -> Array:
    """Mean over height and width, and for a batch over the leading dimensions, all kept as 1."""
    return jnp.mean(x, axis=tuple(range(x.ndim - 1)) if batch else (-3, -2), keepdims=True)


def _affine(centered: Array, variance: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    gain = _over_positions(scale, centered.ndim) * jax.lax.rsqrt(variance + epsilon)
    return centered * gain + _over_positions(bias, centered.ndim)


def _over_positions(vector: Array, ndim: int) -> Array:
    """`[..., c]` as `[..., 1, 1, c]` with `ndim` dimensions."""
    shape = (*vector.shape[:-1], 1, 1, vector.shape[-1])
    return vector.reshape((1,) * (ndim - len(shape)) + shape)
