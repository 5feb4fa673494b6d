"""Quality metrics: how far a picture is from its style and from its content.

Metrics are for reading, not for training: one number per image, comparable between pictures,
networks and sizes.
"""

from jaxstyle.metrics.distances import content_distance, style_distance
from jaxstyle.metrics.judgement import Judge, default_layers, judge, prepare_judge, summarize
from jaxstyle.metrics.similarity import ssim
from jaxstyle.metrics.wasserstein import directions, sliced_wasserstein

__all__ = [
    "Judge",
    "content_distance",
    "default_layers",
    "directions",
    "judge",
    "prepare_judge",
    "sliced_wasserstein",
    "ssim",
    "style_distance",
    "summarize",
]
