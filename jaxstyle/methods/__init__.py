"""Methods: arrays in, arrays out. Everything here could be called by a server."""

from jaxstyle.methods.coarse_to_fine import coarse_to_fine as coarse_to_fine
from jaxstyle.methods.deepdream import Dream as Dream
from jaxstyle.methods.deepdream import deepdream as deepdream
from jaxstyle.methods.deepdream import zoom as zoom
from jaxstyle.methods.feedforward import StyleModel as StyleModel
from jaxstyle.methods.feedforward import stylize as stylize
from jaxstyle.methods.gatys import Solution as Solution
from jaxstyle.methods.gatys import gatys as gatys
from jaxstyle.methods.reconstruct import reconstruct as reconstruct
from jaxstyle.methods.texture import texture as texture
