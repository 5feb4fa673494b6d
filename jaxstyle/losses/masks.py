"""From masks of a picture to guides: how much each neuron of a layer belongs to a region."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstyle.features import Field, Joined, Network, receptive_field
from jaxstyle.types import Array, InputError, unknown_choice

MODES = ("simple", "inside", "all")


def layer_guide(
    mask: Array,
    height: int,
    width: int,
    *,
    mode: str = "simple",
    field: Field | None = None,
    grow: int = 0,
) -> Array:
    """Return how much each position of a layer belongs to a region of the picture.

    Args:
      mask: `[..., H, W]` in [0, 1] (or Boolean), 1 where the picture is of the region.
      height: of the layer's maps.
      width: of the layer's maps.
      mode: 'simple' averages the mask down to the layer's size; 'all' takes the largest value that
        a neuron sees, so that every neuron that sees the region belongs to it; 'inside' takes the
        smallest, so that no neuron belongs to it that sees anything else. Beyond the picture's
        borders there is nothing to see.
      field: what the layer's neurons see, from `features.receptive_field`; 'inside' and 'all' need
        it.
      grow: pixels by which the region is widened first, or narrowed where negative.

    Returns:
      `[..., height, width]` in [0, 1], at least float32.

    Raises:
      InputError: unknown mode, no field for it, a mask that is not one, that is empty, whose size
        is not that of the layer's picture, or that leaves the layer no position. What depends on
        the mask's values is only checked outside of `jit`, where they are known.

    Example:
      >>> left = jnp.array([[1.0, 1.0, 0.0, 0.0]] * 4)
      >>> layer_guide(left, 2, 2)[0].tolist()
      [1.0, 0.0]
      >>> layer_guide(left, 2, 2, mode="all", field=Field(4, 2, -1))[0].tolist()
      [1.0, 1.0]

    References:
      Gatys, Ecker, Bethge, Hertzmann, Shechtman, Controlling Perceptual Factors in Neural Style
      Transfer, 2017, arXiv:1611.07865, section 4 (spatial control).
    Differs from the paper: its code finds what a neuron sees by noise in the picture, here it is
      counted; and its 'simple' takes the nearest pixel, here the pixels are averaged, so that
      guides of regions that share the picture sum to 1.
    """
    if mode not in MODES:
        raise unknown_choice("mode of guides", mode, MODES)
    mask = _checked(mask)
    if grow:
        around = Field(2 * abs(grow) + 1, 1, -abs(grow))
        mask = _extreme(mask, grow > 0, around, mask.shape[-2:])
        _check_not_empty(mask, f"nothing of the region is left when it grows by {grow} pixels")
    if mode == "simple":
        if min(height, width) < 1:
            raise InputError(f"a layer of {height}x{width} positions has no guide; give 1 or more.")
        return _averaged(mask, height, width)
    if field is None:
        raise InputError(f"guides of mode '{mode}' need the field that the layer's neurons see.")
    seen = (mask.shape[-2] // field.stride, mask.shape[-1] // field.stride)
    if seen != (height, width):
        raise InputError(
            f"a mask of {mask.shape[-2]}x{mask.shape[-1]} pixels has {seen[0]}x{seen[1]} positions "
            f"at this layer, but its maps are {height}x{width}; give a mask of the picture's size."
        )
    guide = _extreme(mask, mode == "all", field, seen)
    _check_not_empty(
        guide,
        f"no neuron sees only the region, as each sees {field.size}x{field.size} pixels; take a "
        "larger region, shallower layers or the mode 'simple'",
    )
    return guide


def layer_guides(
    mask: Array,
    layers: Sequence[str],
    network: Network | Joined,
    *,
    mode: str = "simple",
    grow: int = 0,
) -> dict[str, Array]:
    """Return a mask's guide for each layer of a network.

    Args:
      mask: `[..., H, W]` in [0, 1], of the size of the picture that the network sees.
      layers: e.g. `('relu1_1', 'relu4_1')`.
      network: a row of the table, or two joined.
      mode: of `layer_guide`.
      grow: of `layer_guide`.

    Returns:
      `{layer: [..., h, w]}`, of the sizes of the layers' maps.

    Raises:
      InputError: as `layer_guide`, an unknown layer, or a mask too small for one.

    Example:
      >>> from jaxstyle.features import NETWORKS
      >>> guides = layer_guides(jnp.ones((35, 64)), ("relu1_1", "relu3_1"), NETWORKS["vgg19"])
      >>> {layer: guide.shape for layer, guide in guides.items()}
      {'relu1_1': (35, 64), 'relu3_1': (8, 16)}
    """
    guides = {}
    for layer in layers:
        field = receptive_field(layer, network)
        height, width = (size // field.stride for size in mask.shape[-2:])
        if min(height, width) < 1:
            raise InputError(
                f"the mask is {mask.shape[-2]}x{mask.shape[-1]}, but {layer} needs both sides >= "
                f"{field.stride}; give a mask of the picture's size."
            )
        guides[layer] = layer_guide(mask, height, width, mode=mode, field=field, grow=grow)
    return guides


def _checked(mask: Array) -> Array:
    if mask.ndim < 2 or 0 in mask.shape:
        raise InputError(f"a mask of shape {mask.shape} is none; give [..., height, width].")
    if mask.dtype != jnp.bool_ and not jnp.issubdtype(mask.dtype, jnp.floating):
        raise InputError(f"the mask holds {mask.dtype}; convert it to float32 in [0, 1].")
    mask = mask.astype(jnp.promote_types(mask.dtype, jnp.float32))
    if _is_known(mask):
        values = np.asarray(mask)
        if not (values.min() >= 0 and values.max() <= 1):
            raise InputError(
                f"the mask's values are from {values.min():.3g} to {values.max():.3g}; "
                "scale them to [0, 1]."
            )
    _check_not_empty(mask, "the mask is empty; mark the region with 1")
    return mask


def _is_known(x: Array) -> bool:
    return not isinstance(x, jax.core.Tracer)


def _check_not_empty(guide: Array, message: str) -> None:
    if _is_known(guide) and not (np.asarray(guide).max((-2, -1)) > 0).all():
        raise InputError(f"{message}.")


@functools.partial(jax.jit, static_argnames=("height", "width"))
def _averaged(mask: Array, height: int, width: int) -> Array:
    rows, columns = (
        jnp.asarray(_shares(size, count), mask.dtype)
        for size, count in zip(mask.shape[-2:], (height, width), strict=True)
    )
    mean = jnp.einsum("ip,...pq,jq->...ij", rows, mask, columns, precision="highest")
    return jnp.clip(mean, 0.0, 1.0)  # of rounding


def _shares(size: int, count: int) -> np.ndarray:
    """The share of each of `size` pixels in each of `count` equal parts of an axis."""
    pixels, parts = np.arange(size), np.arange(count)[:, None] * (size / count)
    overlap = np.minimum(pixels + 1, parts + size / count) - np.maximum(pixels, parts)
    return np.maximum(overlap, 0) * (count / size)


@functools.partial(jax.jit, static_argnames=("largest", "field", "count"))
def _extreme(mask: Array, largest: bool, field: Field, count: tuple[int, int]) -> Array:
    """Return the extreme value in the field of every neuron."""
    for axis, number in zip((mask.ndim - 2, mask.ndim - 1), count, strict=True):
        mask = _extreme_along(mask, axis, largest, field, number)
    return mask


def _extreme_along(x: Array, axis: int, largest: bool, field: Field, count: int) -> Array:
    end = field.start + field.stride * (count - 1) + field.size
    widths = [(0, 0)] * x.ndim
    widths[axis] = (-field.start, max(end - x.shape[axis], 0))
    # What is outside the picture never decides.
    x = jnp.pad(x, widths, constant_values=0.0 if largest else 1.0)
    reach = 1
    while reach < field.size:  # every entry stands for `reach` entries from there on
        step = min(reach, field.size - reach)
        last = x.shape[axis] - step
        parts = (lax.slice_in_dim(x, k, k + last, axis=axis) for k in (0, step))
        x = (jnp.maximum if largest else jnp.minimum)(*parts)
        reach += step
    return lax.slice_in_dim(x, 0, field.stride * (count - 1) + 1, field.stride, axis=axis)
