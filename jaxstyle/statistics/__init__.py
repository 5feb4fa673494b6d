"""Summaries of feature maps: Gram matrices, moments and roots of them, and their distances."""

from jaxstyle.statistics.comparison import FLOOR, relative_distance, squared_distance
from jaxstyle.statistics.gram import gram
from jaxstyle.statistics.moments import mean_and_covariance
from jaxstyle.statistics.square_root import (
    matrix_square_root,
    orthogonal_factor,
    square_root_and_inverse,
)

__all__ = [
    "FLOOR",
    "gram",
    "matrix_square_root",
    "mean_and_covariance",
    "orthogonal_factor",
    "relative_distance",
    "square_root_and_inverse",
    "squared_distance",
]
