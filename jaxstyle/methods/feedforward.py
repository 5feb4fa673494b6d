"""Stylize a picture with one pass through a trained network (Johnson et al. 2016)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxstyle import networks, ops
from jaxstyle.images.recoloring import recolor, recoloring
from jaxstyle.types import Array, InputError, Params

_SMALLEST = 32  # instance norm has nothing to average over in a smaller picture


@functools.partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["config"])
@dataclasses.dataclass(frozen=True)
class StyleModel:
    """A trained image-transformation network: a pytree that can be jitted over and passed around.

    Attributes:
      params: variables of the network, as `networks.init` makes them.
      config: its architecture (static).
    """

    params: Params
    config: networks.TransformerConfig


def stylize(
    model: StyleModel,
    image: Array,
    *,
    strength: float | Array = 1.0,
    preserve_color: bool | str = False,
    parity: bool = False,
    precision: str = "auto",
) -> Array:
    """Paint pictures in a model's style.

    The picture is continued by reflection to a size the network takes and cropped afterwards, so
    any size works and no border shows. Pure, and fast only when jitted:
    `jax.jit(stylize, static_argnames=('preserve_color', 'parity', 'precision'))`.

    Args:
      model: a trained network.
      image: `[..., h, w, 3]`, sRGB in [0, 1], any h and w >= 1.
      strength: 0 gives the picture back, 1 the full style; linear between.
      preserve_color: keep the picture's own colors (static). True or 'luminance' takes only
        brightness from the style; 'match' gives the painting the picture's mean color and
        covariance as a whole, 'histogram' its histograms too (`jaxstyle.images.recolor`).
      parity: leave away the margin that hides the frame which networks padding with zeros paint,
        for exactly the network's own output. Only sides below 32, or that are no multiple of what
        the network needs (4 as a rule), are still continued and cropped. Changes nothing where a
        network reflects or replicates at every convolution.
      precision: what the network computes in (static): 'float32', 'bfloat16', or 'auto', which is
        bfloat16 where a GPU or TPU is fast in it, else the image's dtype
        (`jaxstyle.policy.compute_dtype`). Pictures of the two look alike: their structural
        similarity is above 0.99.

    Returns:
      `[..., h, w, 3]`, sRGB in [0, 1].

    Raises:
      InputError: for a picture without three channels or without pixels, or a strength outside
        [0, 1], or an unknown `preserve_color` or `precision`.

    Example:
      >>> config = networks.TransformerConfig(widths=(4, 8), blocks=1)
      >>> model = StyleModel(networks.init(jax.random.key(0), config), config)
      >>> jax.jit(stylize)(model, jnp.ones((31, 20, 3))).shape
      (31, 20, 3)

    References:
      Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer, 2016,
      arXiv:1603.08155, section 3.
    """
    _check(image, strength)
    way = recoloring(preserve_color)
    height, width = image.shape[-3:-1]
    margin = 0 if parity else _margin(model.config)
    multiple = model.config.size_multiple
    rows, columns = (_continuation(size, margin, multiple) for size in (height, width))
    padded = ops.pad2d(image, (rows, columns), "reflect")
    painted = networks.apply(model.params, padded, model.config, dtype=precision)
    top, left = rows[0], columns[0]
    painted = painted[..., top : top + height, left : left + width, :]
    painted = jnp.clip(painted, 0.0, 1.0) if way is None else recolor(painted, image, way)
    # Not `image + strength * (painted - image)`, which is a rounding away from `painted` at 1.
    return jnp.clip((1.0 - strength) * image + strength * painted, 0.0, 1.0)


def _margin(config: networks.TransformerConfig) -> int:
    """Pixels of continued picture that hide the frame painted by padding with zeros.

    That is as far as a pixel of the output sees: through the outer kernels, the strided and the
    doubling convolutions, and the blocks. Reflection at every convolution paints none.
    """
    if config.padding in ("reflect", "replicate"):
        return 0
    multiple = config.size_multiple
    reach = sum(k // 2 for k in config.outer_kernels) + 4 * (multiple - 1)
    reach += 2 * config.blocks * multiple
    return reach + -reach % multiple - config.start_padding


def _continuation(size: int, margin: int, multiple: int) -> tuple[int, int]:
    """Pixels to add before and after, for a whole that is large enough and a right multiple."""
    total = max(size + 2 * margin, _SMALLEST)
    total += -total % multiple
    before = margin if size + 2 * margin >= _SMALLEST else (total - size) // 2
    return before, total - size - before


def _check(image: Array, strength: float | Array) -> None:
    if image.ndim < 3 or image.shape[-1] != 3 or not image.shape[-3] or not image.shape[-2]:
        raise InputError(
            f"an image has the shape [..., height, width, 3], but this one is {image.shape}; "
            "convert it to RGB."
        )
    if jnp.ndim(strength):
        raise InputError(
            f"strength has the shape {jnp.shape(strength)}; give one number for all pictures, or "
            "use jax.vmap."
        )
    if isinstance(strength, int | float) and not 0 <= strength <= 1:
        raise InputError(f"strength is {strength}; choose 0 (the photo) to 1 (the full style).")
