"""Optimal transport distances of one layer: of Gaussians, and of features seen along directions.

Both measure how far the image's features, a cloud of one point for each position, have to move to
be distributed as the style's: the Wasserstein distance, squared. `gaussian_transport_distance` sees
mean and covariance of the clouds and has a closed form; `sliced_distance` sees all of them, along
random directions one at a time, where transport is sorting.

A sort is what XLA is slow at: of 64 rows of 65536, the projections of relu1_1 at 256 px, `jnp.sort`
takes 0.8 s of a CPU core's time, with its gradient 1.0 s, in and outside `scan`. Whole numbers take
a quarter of that, so what is sorted here are whole numbers that hold a value and its position: with
the gradient 0.25 s. That is still most of a step's time on a CPU; fewer directions take less.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle import policy
from jaxstyle.statistics import (
    FLOOR,
    matrix_square_root,
    mean_and_covariance,
    orthogonal_factor,
    relative_distance,
    square_root_and_inverse,
    squared_distance,
)
from jaxstyle.statistics.gram import flatten_positions
from jaxstyle.statistics.square_root import EPSILON, full_product
from jaxstyle.types import Array, InputError, unknown_choice

# What the distance is divided by, given mean and covariance of the target.
TRANSPORT_NORMALIZATIONS: dict[str, Callable[[Array, Array], Array | float]] = {
    # The mean square of the target's features, summed over channels.
    "scale_free": lambda mean, covariance: jnp.maximum(
        jnp.sum(jnp.square(mean), axis=-1) + jnp.trace(covariance, axis1=-2, axis2=-1),
        FLOOR * mean.shape[-1],
    ),
    # Means over the channels of both parts.
    "crowson": lambda mean, covariance: mean.shape[-1],
}

# Of sorted projections `[..., count, positions]`.
SLICED_NORMALIZATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "scale_free": lambda values, target: relative_distance(values, target, axes=2),
    "heitz": lambda values, target: (
        squared_distance(values, target, axes=2) / (values.shape[-2] * values.shape[-1])
    ),
}


def gaussian_transport_distance(
    mean: Array,
    covariance: Array,
    target_mean: Array,
    target_covariance: Array,
    *,
    target_root: Array | None = None,
    normalize: str = "scale_free",
) -> Array:
    """Return the squared Wasserstein-2 distance of two Gaussians, of the image and of the style.

      `|m - m'|^2 + tr(C + C' - 2 (C'^1/2 C C'^1/2)^1/2)`

    It is computed as a sum of squares, `|C^1/2 - C'^1/2 U|^2` with the orthogonal `U` that makes it
    least: the trace of the formula is a difference of large numbers, and the root of a product of
    four roots loses in float32 every direction with less than a thousandth of the variance of the
    first. Roots are those of `matrix_square_root`: every direction has at least a millionth of the
    total variance, in both Gaussians, so the gradient is finite everywhere.

    Args:
      mean: `[..., c]`, of the image's features, from `statistics.mean_and_covariance`.
      covariance: `[..., c, c]`, of the image's features.
      target_mean: `[..., c]`, of the style's; without a batch axis it serves every image.
      target_covariance: `[..., c, c]`, of the style's.
      target_root: `statistics.matrix_square_root(target_covariance)`, to compute it only once.
      normalize: 'scale_free' divides by the target's energy `|m'|^2 + tr C'`, so it means the same
        on every network and layer; 'crowson' by the number of channels.

    Returns:
      `[...]`, at least float32, one value per image; finite, as its gradient is, also for features
      that are constant or zero everywhere.

    Raises:
      InputError: unknown `normalize`, or shapes that do not compare.

    Example:
      >>> mean, narrow, wide = jnp.zeros(2), 4 * jnp.eye(2), 9 * jnp.eye(2)
      >>> round(float(gaussian_transport_distance(mean, narrow, mean, wide)), 4)  # (1 + 1) / 18
      0.1111

    References:
      Olkin, Pukelsheim, The Distance between Two Random Vectors with Given Dispersion Matrices,
      1982; as a style loss Crowson, `style-transfer-pytorch`, 2020-2022 (code, MIT license).
    Differs from the paper: Crowson's code adds 1e-4 to the variances of its network where a
      millionth of all variance is added here, and stops the iteration for the root of `C'^1/2 C
      C'^1/2` after 12 steps, where the weak directions have not arrived: of a painting's own
      variance 3 to 5% remain as a distance from itself, measured, here 1e-12.
    """
    if normalize not in TRANSPORT_NORMALIZATIONS:
        choices = tuple(TRANSPORT_NORMALIZATIONS)
        raise unknown_choice("transport normalization", normalize, choices)
    of_means = squared_distance(mean, target_mean, axes=1)
    if target_root is None:
        target_root = matrix_square_root(target_covariance)
    of_covariances = _bures_distance(*_broadcast(covariance, target_root))
    distance = of_means + of_covariances
    energy = TRANSPORT_NORMALIZATIONS[normalize](target_mean, target_covariance)
    return distance / jnp.broadcast_to(energy, distance.shape)


def gaussian_target(features: Array) -> tuple[Array, Array, Array]:
    """Return what `gaussian_transport_distance` compares with, of a style's features.

    Args:
      features: `[..., h, w, c]`, feature maps of any range.

    Returns:
      Mean `[..., c]`, covariance `[..., c, c]` and its square root `[..., c, c]`.

    Raises:
      InputError: features that are not floating-point `[..., h, w, c]`.

    Example:
      >>> [round(x.item(), 3) for x in gaussian_target(jnp.array([[[1.0], [5.0]]]))]
      [3.0, 4.0, 2.0]
    """
    mean, covariance = mean_and_covariance(features)
    return mean, covariance, matrix_square_root(covariance)


@jax.custom_vjp
def _bures_distance(covariance: Array, target_root: Array) -> Array:
    """Return the distance of centered Gaussians, `[..., c, c]` each."""
    return _bures_forward(covariance, target_root)[0]


def _bures_forward(covariance: Array, target_root: Array) -> tuple[Array, tuple[Array, ...]]:
    root, inverse = square_root_and_inverse(covariance)
    turn = orthogonal_factor(full_product(target_root, root))
    rest = root - full_product(target_root, turn)
    return jnp.sum(jnp.square(rest), axis=(-2, -1)), (rest, inverse, turn)


def _bures_backward(kept: tuple[Array, ...], cotangent: Array) -> tuple[Array, Array]:
    """Differentiate with `turn` fixed: at the least value that is the whole derivative.

    By the covariance it is `I - T`, where `T` is the transport map, `T R = S U` for the roots `R`
    of the image and `S` of the target: `rest = (I - T) R`.
    """
    rest, inverse, turn = kept
    gradient = full_product(rest, inverse)
    gradient = (gradient + jnp.swapaxes(gradient, -1, -2)) / 2
    # Through the shift by EPSILON times the trace.
    shift = EPSILON * jnp.trace(gradient, axis1=-2, axis2=-1)
    identity = jax.lax.expand_dims(jnp.eye(rest.shape[-1], dtype=rest.dtype), range(rest.ndim - 2))
    gradient = gradient + shift[..., None, None] * identity
    of_root = -2 * full_product(rest, jnp.swapaxes(turn, -1, -2))
    return cotangent[..., None, None] * gradient, cotangent[..., None, None] * of_root


_bures_distance.defvjp(_bures_forward, _bures_backward)


def directions(key: Array, channels: int, count: int | None = None) -> Array:
    """Draw unit vectors, uniform on the sphere, as orthogonal to each other as they can be.

    Sets of `channels` orthonormal vectors: together they see all of the variance once.

    Args:
      key: PRNG key.
      channels: c, the dimension.
      count: how many; without it, as many as channels.

    Returns:
      `[count, c]`, float32.

    Raises:
      InputError: a count below 1.

    Example:
      >>> basis = directions(jax.random.key(0), 3)
      >>> jnp.abs(basis @ basis.T).round(4).tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    count = channels if count is None else count
    if count < 1:
        raise InputError(f"{count} directions show nothing; give at least 1.")
    sets = -(-count // channels)
    bases = jax.random.orthogonal(key, channels, (sets,), jnp.float32)
    return bases.reshape(sets * channels, channels)[:count]


def sliced_target(
    features: Array, *, seed: Array | int = 0, count: int | None = None
) -> tuple[Array, Array]:
    """Return what `sliced_distance` compares with, of a style's features.

    Args:
      features: `[..., h, w, c]`, feature maps of any range.
      seed: of the directions; may be traced.
      count: how many directions; without it, as many as channels.

    Returns:
      The projections `[..., count, h w]`, each row sorted, and the directions `[..., count, c]`,
      alike for every picture of a batch.

    Raises:
      InputError: features that are not floating-point `[..., h, w, c]`, or a count below 1.

    Example:
      >>> values, along = sliced_target(jnp.array([[[4.0], [3.0]]]))
      >>> (values * along).tolist()
      [[3.0, 4.0]]
    """
    samples = flatten_positions(features)
    along = directions(jax.random.key(seed), samples.shape[-1], count)
    along = jnp.broadcast_to(along, (*samples.shape[:-2], *along.shape))
    return _sorted(_projected(samples, along)), along


def sliced_distance(
    features: Array, target_sorted: Array, directions: Array, *, normalize: str = "scale_free"
) -> Array:
    """Return the sliced Wasserstein-2 distance, squared, of the image's features and the style's.

    `mean over directions V of mean over ranks r of |sort(F V)[r] - sort(F' V)[r]|^2`: along a line,
    the points that are transported to each other are those of equal rank. Unlike Gram matrices and
    Gaussians it sees all of the distribution; only distributions that are equal have no distance in
    any direction.

    An image of another number of positions than the style is compared at its own quantiles: each of
    its positions with the mean of the style's values over that position's share of the ranks. The
    gradient is exactly the transport's; the spread within a share, which no image of this size can
    have, is not counted.

    Args:
      features: `[..., h, w, c]`, feature maps of the image, of any range.
      target_sorted: `[..., count, positions]`, from `sliced_target`; without a batch axis it serves
        every image.
      directions: `[..., count, c]`, from `sliced_target`.
      normalize: 'scale_free' divides by the mean square of the target's projections, so it means
        the same on every network and layer; 'heitz' by nothing.

    Returns:
      `[...]`, at least float32, one value per image.

    Raises:
      InputError: unknown `normalize`, or shapes that do not compare.

    Example:
      >>> target = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[1.0]])
      >>> image = jnp.array([[[3.0], [5.0], [2.0]]])  # sorted 2, 3, 5
      >>> float(sliced_distance(image, *target, normalize="heitz"))
      2.0

    References:
      Heitz, Vanhoey, Chambon, Belcour, A Sliced Wasserstein Loss for Neural Texture Synthesis,
      2021, arXiv:2006.07229.
    Differs from the paper: the paper draws new directions at every step, and independent ones;
      these stay until a target is prepared with another seed, and are orthogonal. Ranks of values
      that agree in their first bits (16 at 65536 positions, 2 fewer at each doubling of both sides)
      are by position.
    """
    if normalize not in SLICED_NORMALIZATIONS:
        raise unknown_choice("sliced normalization", normalize, tuple(SLICED_NORMALIZATIONS))
    samples = flatten_positions(features)
    if samples.shape[-1] != directions.shape[-1]:
        raise InputError(
            f"features of {samples.shape[-1]} channels are not seen along directions of "
            f"{directions.shape[-1]}; take both from one layer."
        )
    values = _sorted(_projected(samples, directions))
    return SLICED_NORMALIZATIONS[normalize](values, _resampled(target_sorted, values.shape[-1]))


def _projected(samples: Array, directions: Array) -> Array:
    """Project `[..., n, c]` on `[..., count, c]`, to rows `[..., count, n]`."""
    samples = samples.astype(jnp.promote_types(samples.dtype, jnp.float32))
    return jnp.einsum(
        "...kc,...nc->...kn",
        directions.astype(samples.dtype),
        samples,
        precision=policy.product_precision(samples.dtype),
    )


def _sorted(rows: Array) -> Array:
    return jnp.take_along_axis(rows, _order(jax.lax.stop_gradient(rows)), axis=-1)


def _order(rows: Array) -> Array:
    """Return the positions of a row's values in ascending order, `[..., n]`.

    In 32 bits: as many as needed for the position, and before them what is left for the value,
    squashed so that the resolution is finest where most of the values are.
    """
    count = rows.shape[-1]
    position_bits = max((count - 1).bit_length(), 1)
    levels = 2 ** min(32 - position_bits, 24)
    centered = rows - jnp.mean(rows, axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centered), axis=-1, keepdims=True))
    standard = centered / jnp.maximum(deviation, jnp.finfo(rows.dtype).tiny)
    squashed = standard / (1 + jnp.abs(standard))  # in [-1, 1]
    level = jnp.clip((squashed + 1) * (levels / 2), 0, levels - 1).astype(jnp.uint32)
    position = jax.lax.broadcasted_iota(jnp.uint32, rows.shape, rows.ndim - 1)
    ordered = jax.lax.sort((level << position_bits) | position, is_stable=False)
    return (ordered & (2**position_bits - 1)).astype(jnp.int32)


def _resampled(ordered: Array, count: int) -> Array:
    """Return the means of sorted values `[..., m]` over `count` equal shares of their ranks."""
    given = ordered.shape[-1]
    if given == count:
        return ordered
    # In units in which all is `count * given`: share i begins at `i given`, value j at `j count`.
    begins = np.arange(count, dtype=np.int64)[:, None] * given
    first = begins // count
    ranks = first + np.arange(((begins + given - 1) // count - first).max() + 1)
    overlap = np.minimum(begins + given, (ranks + 1) * count) - np.maximum(begins, ranks * count)
    weights = jnp.asarray(np.maximum(overlap, 0) / given, ordered.dtype)
    values = ordered[..., np.minimum(ranks, given - 1)]
    return jnp.sum(values * jax.lax.expand_dims(weights, range(ordered.ndim - 1)), axis=-1)


def _broadcast(covariance: Array, root: Array) -> tuple[Array, Array]:
    if covariance.ndim < 2 or root.ndim < 2 or covariance.shape[-2:] != root.shape[-2:]:
        raise InputError(
            f"a covariance of {covariance.shape} cannot be compared with a target's of "
            f"{root.shape}; take both from one layer."
        )
    lead = np.broadcast_shapes(covariance.shape[:-2], root.shape[:-2])
    dtype = jnp.promote_types(jnp.promote_types(covariance.dtype, root.dtype), jnp.float32)
    one, other = (
        jnp.broadcast_to(x.astype(dtype), (*lead, *x.shape[-2:])) for x in (covariance, root)
    )
    return one, other
