"""An objective for painting a picture, from words and numbers."""

import dataclasses
from collections.abc import Sequence
from typing import final

from jaxstyle.losses.chains import chain_links, chained_style, geometric_shares, shifted_style
from jaxstyle.losses.guidance import guided_style
from jaxstyle.losses.objective import Objective, combine, content, style, total_variation
from jaxstyle.losses.patches import mrf_style
from jaxstyle.losses.weighting import check_weights, layer_weights
from jaxstyle.types import Array, InputError, unknown_choice

WEIGHTINGS = ("equal", "geometric")


@final
@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What a picture is asked for, in the words of a config.

    Attributes:
      alpha: weight of the content, divided among its layers.
      beta: weight of the style, divided among its layers, and its regions if there are several.
      tv: weight of the total variation.
      content_layers: () asks for no content.
      content_layer_weights: shares, one a layer; () is by `weighting`.
      content_normalize: see `content_distance`.
      style_layers: () asks for no style.
      style_layer_weights: likewise.
      style_statistic: 'gram', 'moments', 'wasserstein', 'sliced' (see `style`) or 'patches' (see
        `mrf_style`).
      style_normalize: of the statistic's distance.
      weighting: of layers without weights of their own: 'equal', or 'geometric'
        (`geometric_shares`: content prefers deep layers, style shallow ones).
      shift: added to all maps before a Gram matrix is taken, see `shifted_style`.
      chain: weight of the correlations of each style layer with the next, see `chained_style`.
      chain_blur: of the deeper layer's maps, in positions of the shallower one.
      patch_size: of 'patches'.
      patch_stride: of 'patches'.
      tv_kind: see `variation`.
    """

    alpha: float = 0.1
    beta: float = 5.0
    tv: float = 0.0
    content_layers: tuple[str, ...] = ("relu4_2",)
    content_layer_weights: tuple[float, ...] = ()
    content_normalize: str = "scale_free"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    style_layer_weights: tuple[float, ...] = ()
    style_statistic: str = "gram"
    style_normalize: str = "scale_free"
    weighting: str = "equal"
    shift: float = 0.0
    chain: float = 0.0
    chain_blur: float = 0.0
    patch_size: int = 3
    patch_stride: int = 2
    tv_kind: str = "mean"


def assemble(
    config: ObjectiveConfig,
    *,
    regions: Sequence[str] = (),
    region_shares: Sequence[float] = (),
    patches_of: Sequence[str] = ("style",),
    seed: Array | int = 0,
    wrap: bool = False,
) -> tuple[Objective, dict[str, float]]:
    """Return the objective that a config describes, and the weight of each of its terms.

    Args:
      config: what is asked.
      regions: with them, a style for each, as `guided_style` takes them.
      region_shares: of the style's weight, one a region in any scale; () is alike.
      patches_of: references whose patches are pooled where the statistic is 'patches'.
      seed: of the directions of 'sliced'.
      wrap: whether the picture is a tile that continues itself.

    Returns:
      The objective and `{term: weight}`, as `weigh` takes them.

    Raises:
      InputError: words that are not known or do not go together, weights that are negative or all
        0, or nothing that is asked.

    Example:
      >>> config = ObjectiveConfig(style_layers=("relu1_1",), alpha=0.5, beta=2.0)
      >>> objective, weights = assemble(config)
      >>> weights
      {'tv': 0.0, 'content/relu4_2': 0.5, 'style/relu1_1': 2.0}
    """
    if config.weighting not in WEIGHTINGS:
        raise unknown_choice("weighting of layers", config.weighting, WEIGHTINGS)
    parts, weights = [total_variation(config.tv_kind, wrap=wrap)], {"tv": config.tv}
    if config.content_layers:
        parts.append(content(config.content_layers, config.content_normalize))
        shares = _shares(config, "content")
        weights |= layer_weights("content", config.content_layers, config.alpha, shares)
    if config.style_layers:
        parts.append(_style(config, regions, patches_of, seed))
        weights |= _style_weights(config, regions, region_shares)
    if config.style_layers and config.chain:
        if regions:
            raise InputError("a chain of layers has one style; give no others, or set chain to 0.")
        blur, normalize = config.chain_blur, _chain_normalize(config.style_normalize)
        parts.append(chained_style(config.style_layers, normalize, shift=config.shift, blur=blur))
        weights |= layer_weights("chain", chain_links(config.style_layers), config.chain)
    check_weights(weights)
    return combine(*parts), weights


def _style(
    config: ObjectiveConfig, regions: Sequence[str], patches_of: Sequence[str], seed: Array | int
) -> Objective:
    layers, normalize, statistic = (
        config.style_layers,
        config.style_normalize,
        config.style_statistic,
    )
    if config.shift and (regions or statistic != "gram"):
        raise InputError(
            f"the shift {config.shift} is for Gram matrices of one style; set shift to 0, or "
            "style_statistic to 'gram' with one style."
        )
    if regions:
        return guided_style(layers, regions, statistic, normalize)
    if statistic == "patches":
        size, stride = config.patch_size, config.patch_stride
        return mrf_style(layers, normalize, size=size, stride=stride, references=patches_of)
    if config.shift:
        return shifted_style(layers, normalize, shift=config.shift)
    return style(layers, statistic, normalize, seed=seed)


def _style_weights(
    config: ObjectiveConfig, regions: Sequence[str], region_shares: Sequence[float]
) -> dict[str, float]:
    shares = _shares(config, "style")
    if not regions:
        return layer_weights("style", config.style_layers, config.beta, shares)
    whole = layer_weights("region", regions, config.beta, tuple(region_shares) or None)
    weights: dict[str, float] = {}
    for region in regions:
        beta = whole[f"region/{region}"]
        weights |= layer_weights(f"style/{region}", config.style_layers, beta, shares)
    return weights


def _shares(config: ObjectiveConfig, kind: str) -> tuple[float, ...] | None:
    layers = getattr(config, f"{kind}_layers")
    given = tuple(getattr(config, f"{kind}_layer_weights"))
    if given or config.weighting == "equal":
        return given or None
    return geometric_shares(layers, kind)


def _chain_normalize(style_normalize: str) -> str:
    """Of the chain, whose choices are fewer."""
    return "gatys" if style_normalize == "gatys" else "scale_free"
