"""Losses: measures of features, and objectives that wire them to layers and explicit targets.

The measures (`content_distance`, `gram_distance`, `moments_distance`, `variation`) are plain
functions of arrays; an `Objective` applies them to the layers of a network, names the terms and
leaves the weights to `weigh`.
"""

from jaxstyle.losses.distances import content_distance, gram_distance, moments_distance
from jaxstyle.losses.objective import Objective, Targets, combine, content, style, total_variation
from jaxstyle.losses.regularization import variation
from jaxstyle.losses.weighting import layer_weights, weigh

__all__ = [
    "Objective",
    "Targets",
    "combine",
    "content",
    "content_distance",
    "gram_distance",
    "layer_weights",
    "moments_distance",
    "style",
    "total_variation",
    "variation",
    "weigh",
]
