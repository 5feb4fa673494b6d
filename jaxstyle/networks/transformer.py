"""Image-transformation networks for real-time style transfer: `init`, `apply`, `apply_train`.

One family with the options that trained networks differ by; see `TransformerConfig`. The names in
the nested dict of parameters are stable, and are those in saved models:

    encoder_0 ... encoder_2    conv/kernel, conv/bias, norm/scale, norm/bias
    residual_0 ... residual_4  conv_1/kernel, norm_1/scale ..., conv_2/kernel, norm_2/scale ...
    decoder_0, decoder_1       as the encoder's
    output                     as the encoder's
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxstyle import ops, policy
from jaxstyle.networks.blocks import Layer, ResidualBlock
from jaxstyle.networks.configuration import TransformerConfig
from jaxstyle.networks.initialization import draw_initial
from jaxstyle.types import Array, InputError, Params

__all__ = ["TransformerConfig", "apply", "apply_train", "init"]

OUTPUTS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "linear": lambda x: x}


class Transformer(nn.Module):
    """The network of a configuration, on values as they are inside it.

    `dtype` is what to compute in where that is faster than float32; None is that of `x`.
    """

    config: TransformerConfig
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Map `[..., h, w, 3]` to what the last convolution gives, `[..., h, w, 3]`."""
        config = self.config
        layer = functools.partial(Layer, config, dtype=self.dtype)
        first, last = config.outer_kernels
        if config.start_padding:
            x = ops.pad2d(x, config.start_padding, "reflect")
        for index, width in enumerate(config.widths):
            size, kind = (3, "down") if index else (first, "plain")
            x = layer(width, size=size, kind=kind, name=f"encoder_{index}")(x, train=train)
        for index in range(config.blocks):
            x = ResidualBlock(config, self.dtype, name=f"residual_{index}")(x, train=train)
        for index, width in enumerate(config.decoder_channels):
            x = layer(width, kind="up", name=f"decoder_{index}")(x, train=train)
        if config.output == "linear":  # nothing narrows its range: in bfloat16 it would show bands
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            layer = functools.partial(Layer, config)
        return layer(3, size=last, last=True, name="output")(x, train=train)


def init(key: Array, config: TransformerConfig) -> dict[str, Any]:
    """Draw the initial variables of a network.

    Args:
      key: from `jax.random.key`.
      config: the network.

    Returns:
      `{'params': {...}}`, and for batch normalization also `{'batch_stats': {...}}`: nested dicts
      of float32 arrays, named as in the module's docstring. `jax.eval_shape` over this function
      gives the shapes a saved model must have.

    Example:
      >>> variables = init(jax.random.key(0), TransformerConfig(widths=(4, 6), blocks=1))
      >>> sorted(variables['params'])
      ['decoder_0', 'encoder_0', 'encoder_1', 'output', 'residual_0']
    """
    return _init(key, config)


@functools.partial(jax.jit, static_argnums=1)
def _init(key: Array, config: TransformerConfig) -> dict[str, Any]:
    side = config.size_multiple
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    variables = dict(Transformer(config).lazy_init(key, image, train=False))
    return {**variables, "params": draw_initial(key, variables["params"], config)}


def apply(
    variables: Params, image: Array, config: TransformerConfig, *, dtype: str | None = None
) -> Array:
    """Transform images; batch normalization uses its running averages.

    Statistics and the output's range are computed in float32 at least. The result is not clipped:
    where it leaves [0, 1] a loss still needs its gradient. Clip before looking at it, as
    `jaxstyle.stylize` does.

    Args:
      variables: from `init` or a saved model.
      image: `[..., h, w, 3]` sRGB in [0, 1], floating point; h and w multiples of
        `config.size_multiple`, which is 4 by default.
      config: the network, static under `jax.jit`.
      dtype: what the network computes in: 'float32', 'bfloat16' or 'auto', as
        `jaxstyle.policy.compute_dtype` takes it; without it, the image's. Parameters stay float32.

    Returns:
      `[..., h, w, 3]` sRGB, nominally in [0, 1], of the dtype of `image`.

    Raises:
      InputError: if `image` has a wrong size, number of channels or dtype, or an unknown `dtype`.

    Example:
      >>> config = TransformerConfig(widths=(4, 6, 8), blocks=1)
      >>> variables = init(jax.random.key(0), config)
      >>> jax.jit(apply, static_argnums=2)(variables, jnp.zeros((2, 8, 12, 3)), config).shape
      (2, 8, 12, 3)

    References:
      Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
      Super-Resolution", 2016, arXiv:1603.08155, section 3.1 and supplement.
    """
    image = jnp.asarray(image)
    values = _run(variables, image, config, dtype, train=False)[0]
    return _leave(values, config, image.dtype)


def apply_train(
    variables: Params, image: Array, config: TransformerConfig, *, dtype: str | None = None
) -> tuple[Array, dict[str, Any]]:
    """Transform images as a training step does.

    Batch normalization uses the statistics of the batch (all leading dimensions) and updates its
    running averages; with any other norm the result is that of `apply`.

    Args:
      variables: as for `apply`.
      image: as for `apply`.
      config: as for `apply`.
      dtype: as for `apply`.

    Returns:
      The images, `[..., h, w, 3]`, and the variables with new running averages ('params' are
      returned as given).

    Raises:
      InputError: as `apply`.

    Example:
      >>> config = TransformerConfig(widths=(4, 6, 8), blocks=1, norm='batch')
      >>> variables = init(jax.random.key(0), config)
      >>> image, variables = apply_train(variables, jnp.zeros((2, 8, 8, 3)), config)
    """
    image = jnp.asarray(image)
    values, updates = _run(variables, image, config, dtype, train=True)
    return _leave(values, config, image.dtype), {**variables, **updates}


def _run(
    variables: Params,
    image: Array,
    config: TransformerConfig,
    dtype: str | None,
    *,
    train: bool,
) -> tuple[Array, Params]:
    """What the last layer gives, and the changed collections."""
    values = _enter(image, config)
    module = Transformer(config, policy.compute_dtype(dtype, image.dtype))
    result: Any = module.apply(variables, values, train=train, mutable=["batch_stats"])
    return result


def _enter(image: Array, config: TransformerConfig) -> Array:
    """From [0, 1] to the values inside the network."""
    if image.ndim < 3 or image.shape[-1] != 3:
        raise InputError(f"the image is {image.shape}; the network takes [..., height, width, 3].")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(
            f"the image holds {image.dtype}; convert it to float32 in [0, 1] (bytes / 255)."
        )
    height, width = image.shape[-3:-1]
    multiple = config.size_multiple
    if height % multiple or width % multiple or not height * width:
        raise InputError(
            f"the image is {height}x{width}, but the network needs both sides to be multiples of "
            f"{multiple}; use jaxstyle.stylize, which handles any size."
        )
    values = image * config.value_range
    if any(config.input_mean):
        values = values - _channels(config.input_mean, values)
    return values


def _leave(values: Array, config: TransformerConfig, dtype: jnp.dtype) -> Array:
    """From what the last layer gives to [0, 1]."""
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    result = OUTPUTS[config.output](wide) * config.output_scale
    result = result + _channels(config.output_mean, result)
    return (result / config.value_range).astype(dtype)


def _channels(means: tuple[float, float, float], like: Array) -> Array:
    return jnp.asarray(means, like.dtype).reshape((1,) * (like.ndim - 1) + (3,))
