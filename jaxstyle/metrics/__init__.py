"""Quality metrics: how far a picture is from its style and from its content.

Metrics are for reading, not for training: one number per image, comparable between pictures,
networks and sizes.
"""

from jaxstyle.metrics.distances import content_distance, style_distance
from jaxstyle.metrics.wasserstein import directions, sliced_wasserstein

__all__ = ["content_distance", "directions", "sliced_wasserstein", "style_distance"]
