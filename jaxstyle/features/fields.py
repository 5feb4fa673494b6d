"""Which pixels of the picture a neuron of a layer sees, by counting."""

from typing import NamedTuple

from jaxstyle.features.table import Joined, Network
from jaxstyle.types import unknown_choice


class Field(NamedTuple):
    """The pixels that the neurons of a layer see, the same along both axes of a picture.

    The neuron at position `j` sees `size` pixels, from `start + stride * j` on; those outside the
    picture are padding. A picture of `n` pixels gives `n // stride` positions.

    Attributes:
      size: pixels that one neuron sees.
      stride: pixels from one neuron's field to the next.
      start: first pixel of the first neuron's field, 0 or negative.
    """

    size: int
    stride: int
    start: int


def receptive_field(layer: str, network: Network | Joined) -> Field:
    """Return which pixels the neurons of a layer see.

    A 3x3 convolution adds one position of its input on either side, a 2x2 pool one position after,
    and doubles the distance of neighbors.

    Args:
      layer: e.g. 'relu4_1'.
      network: a row of the table, or two joined.

    Returns:
      The field in pixels.

    Raises:
      InputError: for a layer that the network does not have.

    Example:
      >>> from jaxstyle.features.table import NETWORKS
      >>> receptive_field('relu2_1', NETWORKS['vgg19'])
      Field(size=10, stride=2, start=-4)

    References:
      Araujo, Norris, Sim, Computing Receptive Fields of Convolutional Neural Networks, 2019.
    """
    if isinstance(network, Joined):
        network = network.some if layer in network.theirs else network.most
    if layer not in network.layers:
        raise unknown_choice(f"layer of {network.name}", layer, network.layers)
    size, stride, start = 1, 1, 0
    for name in network.layers[: network.layers.index(layer) + 1]:
        if name.startswith("conv"):
            size, start = size + 2 * stride, start - stride
        elif name.startswith("pool"):
            size, stride = size + stride, 2 * stride
    return Field(size, stride, start)
