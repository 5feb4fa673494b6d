"""Mean and covariance of feature channels over the positions of an image."""

import jax.numpy as jnp

from jaxstyle.statistics.gram import flatten_positions, position_products
from jaxstyle.types import Array


def mean_and_covariance(features: Array) -> tuple[Array, Array]:
    """Return the mean and the covariance of the channels over positions.

    `mu = mean F` and `C = mean (F - mu)(F - mu)^T`, the biased covariance (divided by `h w`, not
    `h w - 1`). Together they hold what `gram` holds, `G = C + mu mu^T`, but apart: matching both
    keeps the palette, where in a Gram matrix a large mean hides the covariance. Features are
    centered before they are multiplied, so a large mean costs no digits.

    Args:
      features: `[..., h, w, c]`, feature maps of any range.

    Returns:
      Mean `[..., c]` and covariance `[..., c, c]` (symmetric, positive semidefinite), at least
      float32; the covariance of one position is zero.

    Raises:
      InputError: features that are not floating-point `[..., h, w, c]`.

    Example:
      >>> mean, covariance = mean_and_covariance(jnp.array([[[1.0, 2.0], [3.0, 0.0]]]))
      >>> mean.tolist(), covariance.tolist()
      ([2.0, 1.0], [[1.0, -1.0], [-1.0, 1.0]])

    References:
      Li, Wang, Liu, Hou, Demystifying Neural Style Transfer, 2017, arXiv:1701.01036, on style as
      the distribution of features at positions, of which these are the first two moments.
    """
    positions = flatten_positions(features).shape[-2]
    features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    mean = jnp.mean(features, axis=(-3, -2))
    centered = features - mean[..., None, None, :]
    return mean, position_products(centered) / positions
