"""Methods: arrays in, arrays out. Everything here could be called by a server."""

from jaxstyle.methods.feedforward import StyleModel as StyleModel
from jaxstyle.methods.feedforward import stylize as stylize
from jaxstyle.methods.gatys import Solution as Solution
from jaxstyle.methods.gatys import gatys as gatys
