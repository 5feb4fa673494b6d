"""Weights of perceptual networks: formats, the catalog of published files, loading."""

from jaxstyle.weights.loading import Weights as Weights
from jaxstyle.weights.loading import load_joined as load_joined
from jaxstyle.weights.loading import load_weights as load_weights
