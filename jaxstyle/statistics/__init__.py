"""Summaries of feature maps: Gram matrices, means and covariances, and distances between them."""

from jaxstyle.statistics.comparison import FLOOR, relative_distance, squared_distance
from jaxstyle.statistics.gram import gram
from jaxstyle.statistics.moments import mean_and_covariance

__all__ = ["FLOOR", "gram", "mean_and_covariance", "relative_distance", "squared_distance"]
