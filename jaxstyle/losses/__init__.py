"""Losses: measures of features, and objectives that wire them to layers and explicit targets.

The measures (`content_distance`, `gram_distance`, `moments_distance`, `variation`) are plain
functions of arrays; an `Objective` applies them to the layers of a network, names the terms and
leaves the weights to `weigh`.
"""

from jaxstyle.losses.assembly import ObjectiveConfig, assemble
from jaxstyle.losses.chains import (
    chain_links,
    chained_style,
    cross_gram,
    geometric_shares,
    shifted_style,
)
from jaxstyle.losses.distances import content_distance, gram_distance, moments_distance
from jaxstyle.losses.dreams import activation, guided_activation
from jaxstyle.losses.guidance import guided_gram, guided_moments, guided_style
from jaxstyle.losses.masks import layer_guide, layer_guides
from jaxstyle.losses.objective import (
    Features,
    Objective,
    Targets,
    combine,
    content,
    style,
    total_variation,
)
from jaxstyle.losses.patches import best_matches, mrf_style, patch_distance, unfold
from jaxstyle.losses.penalties import pixel_norm, pixel_range
from jaxstyle.losses.regularization import norm_penalty, range_penalty, variation
from jaxstyle.losses.transport import (
    directions,
    gaussian_target,
    gaussian_transport_distance,
    sliced_distance,
    sliced_target,
)
from jaxstyle.losses.weighting import check_weights, layer_weights, weigh

__all__ = [
    "Features",
    "Objective",
    "ObjectiveConfig",
    "Targets",
    "activation",
    "assemble",
    "best_matches",
    "chain_links",
    "chained_style",
    "check_weights",
    "combine",
    "content",
    "content_distance",
    "cross_gram",
    "directions",
    "gaussian_target",
    "gaussian_transport_distance",
    "geometric_shares",
    "gram_distance",
    "guided_activation",
    "guided_gram",
    "guided_moments",
    "guided_style",
    "layer_guide",
    "layer_guides",
    "layer_weights",
    "moments_distance",
    "mrf_style",
    "norm_penalty",
    "patch_distance",
    "pixel_norm",
    "pixel_range",
    "range_penalty",
    "shifted_style",
    "sliced_distance",
    "sliced_target",
    "style",
    "total_variation",
    "unfold",
    "variation",
    "weigh",
]
