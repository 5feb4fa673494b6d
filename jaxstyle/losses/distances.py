"""Content and style distances of one layer, in the scale-free form and in the papers' own.

A loss weight means something only together with the normalization it was tuned for, so every
published form has a name here, and one name selects one paper's form of both distances:

    name            content                          style, from Gram matrices G (sum / h w)
    'scale_free'    mean (F - P)^2 / mean P^2        |G - A|^2 / |A|^2
    'gatys'         1/2 sum (F - P)^2                |G - A|^2 / (4 c^2)
    'gatys_code'    mean (F - P)^2                   |G - A|^2 / c^2
    'johnson'       mean (F - P)^2                   |G - A|^2 / c^2
    'johnson_code'  mean (F - P)^2                   |G - A|^2 / c^4

All style forms are functions of the Gram matrix over positions: the papers' divisors other than
`h w` are powers of the number of channels `c`.
"""

from collections.abc import Callable

from jaxstyle.statistics import relative_distance, squared_distance
from jaxstyle.types import Array, unknown_choice


def _mean_square(features: Array, target: Array) -> Array:
    height, width, channels = features.shape[-3:]
    return squared_distance(features, target, axes=3) / (height * width * channels)


CONTENT_NORMALIZATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "scale_free": lambda features, target: relative_distance(features, target, axes=3),
    "mean": _mean_square,
    # Gatys et al. 2016, eq. 1, and the notebook its authors released.
    "gatys": lambda features, target: squared_distance(features, target, axes=3) / 2,
    "gatys_code": _mean_square,
    # Johnson et al. 2016, eq. 2, and `fast-neural-style`: here both are the mean.
    "johnson": _mean_square,
    "johnson_code": _mean_square,
}

GRAM_NORMALIZATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "scale_free": lambda gram, target: relative_distance(gram, target, axes=2),
    # Eq. 4: 1 / (4 c^2 (h w)^2) |G - A|^2 of matrices not divided by h w.
    "gatys": lambda gram, target: _squared_over_channels(gram, target, power=2) / 4,
    # The mean over the c^2 entries; layers are then weighted by 1000 / c^2.
    "gatys_code": lambda gram, target: _squared_over_channels(gram, target, power=2),
    # Eq. 4: the sum over the entries of matrices divided by h w c.
    "johnson": lambda gram, target: _squared_over_channels(gram, target, power=2),
    # The mean over the c^2 entries of matrices divided by h w c.
    "johnson_code": lambda gram, target: _squared_over_channels(gram, target, power=4),
}

MOMENTS_NORMALIZATIONS: dict[str, Callable[..., Array]] = {
    "scale_free": lambda mean, covariance, target_mean, target_covariance: (
        relative_distance(mean, target_mean, axes=1)
        + relative_distance(covariance, target_covariance, axes=2)
    ),
}


def _squared_over_channels(gram: Array, target: Array, *, power: int) -> Array:
    return squared_distance(gram, target, axes=2) / float(gram.shape[-1]) ** power


def content_distance(features: Array, target: Array, *, normalize: str = "scale_free") -> Array:
    """Return how far an image's feature maps `F` are from its content's `P`.

    Args:
      features: `[..., h, w, c]`, any range.
      target: `[..., h, w, c]`; without a batch axis it is the target of every image.
      normalize: 'scale_free', `mean (F - P)^2 / mean P^2`, means the same on every network;
        'mean' and the papers' forms are in the table of this module.

    Returns:
      `[...]`, at least float32, one value per image; finite, as its gradient is, also where the
      target is zero everywhere (`jaxstyle.statistics.FLOOR`).

    Raises:
      InputError: unknown `normalize`, or shapes that do not compare.

    Example:
      >>> import jax.numpy as jnp
      >>> float(content_distance(jnp.full((2, 2, 1), 3.0), jnp.full((2, 2, 1), 2.0)))
      0.25

    References:
      Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
      eq. 1; Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer and
      Super-Resolution, 2016, arXiv:1603.08155, eq. 2.
    Differs from the paper: 'scale_free' divides by the target's mean square; Gatys et al. halve the
      sum, and their notebook takes the mean.
    """
    _check(normalize, CONTENT_NORMALIZATIONS, "content")
    return CONTENT_NORMALIZATIONS[normalize](features, target)


def gram_distance(gram: Array, target: Array, *, normalize: str = "scale_free") -> Array:
    """Return how far an image's Gram matrix `G` is from the style's `A`.

    Args:
      gram: `[..., c, c]`, from `statistics.gram(features)`, which divides by the positions.
      target: `[..., c, c]`, of the same kind; without a batch axis it serves every image.
      normalize: 'scale_free', `|G - A|^2 / |A|^2` (Frobenius norms), means the same on every
        network and layer; the papers' forms are in the table of this module.

    Returns:
      `[...]`, at least float32, one value per image; finite, as its gradient is, also where the
      target is zero everywhere (`jaxstyle.statistics.FLOOR`).

    Raises:
      InputError: unknown `normalize`, or shapes that do not compare.

    Example:
      >>> import jax.numpy as jnp
      >>> float(gram_distance(1.5 * jnp.eye(4), jnp.eye(4)))
      0.25

    References:
      Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
      eq. 4; Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer and
      Super-Resolution, 2016, arXiv:1603.08155, eq. 4.
    Differs from the paper: eq. 4 of Gatys et al. takes both matrices unnormalized and divides by
      `4 c^2 (h w)^2`; here each is divided by its own `h w` first, which is the same for pictures
      of one size and compares styles rather than sizes otherwise.
    """
    _check(normalize, GRAM_NORMALIZATIONS, "Gram")
    return GRAM_NORMALIZATIONS[normalize](gram, target)


def moments_distance(
    moments: tuple[Array, Array],
    target: tuple[Array, Array],
    *,
    normalize: str = "scale_free",
) -> Array:
    """Return how far an image's channel means and covariances are from the style's.

    `|mu - mu'|^2 / |mu'|^2 + |C - C'|^2 / |C'|^2`, each part relative to its own target, so neither
    hides the other.

    Args:
      moments: mean `[..., c]` and covariance `[..., c, c]`, from `statistics.mean_and_covariance`.
      target: of the same kind; without a batch axis it serves every image.
      normalize: 'scale_free' is the only form.

    Returns:
      `[...]`, at least float32, one value per image; finite, as its gradient is, also where the
      target is zero everywhere (`jaxstyle.statistics.FLOOR`).

    Raises:
      InputError: unknown `normalize`, or shapes that do not compare.

    Example:
      >>> import jax.numpy as jnp
      >>> moments, target = (jnp.full(2, 3.0), jnp.eye(2)), (jnp.full(2, 2.0), jnp.eye(2))
      >>> float(moments_distance(moments, target))
      0.25

    References:
      Li, Wang, Liu, Hou, Demystifying Neural Style Transfer, 2017, arXiv:1701.01036, which matches
      means and standard deviations.
    Differs from the paper: the whole covariance is matched, and both parts are relative.
    """
    _check(normalize, MOMENTS_NORMALIZATIONS, "moments")
    return MOMENTS_NORMALIZATIONS[normalize](*moments, *target)


def _check(normalize: str, choices: dict[str, Callable[..., Array]], what: str) -> None:
    if normalize not in choices:
        raise unknown_choice(f"{what} normalization", normalize, tuple(choices))
