"""Image-transformation networks: a picture in, a picture out, in one pass.

Written in Flax Linen, which stays inside this package: outside, a network is a frozen
configuration, a nested dict of arrays and plain functions.

Example:
  >>> import jax, jax.numpy as jnp
  >>> config = TransformerConfig(widths=(4, 6, 8), blocks=1)
  >>> variables = init(jax.random.key(0), config)
  >>> apply(variables, jnp.zeros((16, 24, 3)), config).shape
  (16, 24, 3)
"""

from jaxstyle.networks.configuration import TransformerConfig
from jaxstyle.networks.transformer import apply, apply_train, init

__all__ = ["TransformerConfig", "apply", "apply_train", "init"]
