"""VGG networks as a table: how they are built and what they expect."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, final

from jaxstyle import ops
from jaxstyle.types import unknown_choice


@dataclasses.dataclass(frozen=True)
class Convention:
    """What a trained network expects at its input, from sRGB in [0, 1].

    The input is `(scale * rgb - mean) / std`, its channels reversed to BGR where `bgr`.

    Attributes:
      scale: 255 for networks trained on bytes, 1 otherwise.
      mean: of each channel in RGB order, in the scaled range.
      std: of each channel in RGB order, in the scaled range.
      bgr: whether the network's first channel is blue.
    """

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool


# The training of the Visual Geometry Group (also Keras's and MatConvNet's weights, BGR order).
CAFFE = Convention(255.0, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), bgr=True)
# The training of torchvision's model zoo.
TORCHVISION = Convention(1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), bgr=False)
# Networks that begin with a 1x1 convolution of their own take the picture as it is.
PLAIN = Convention(1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), bgr=False)
CONVENTIONS = {"caffe": CAFFE, "torchvision": TORCHVISION, "plain": PLAIN}


@final
@dataclasses.dataclass(frozen=True)
class Network:
    """One row of the table: all that `features` must know about a network besides its parameters.

    Attributes:
      name: as users write it.
      channels: output channels of every convolution, block by block; a 2x2 pool follows a block.
      convention: expected input.
      pooling: 'max' or 'average'.
      padding: of every convolution: 'zero', 'reflect' or 'replicate'.
      readouts: relu layers whose maps are not the network's own but told from them, by a 1x1
        convolution and a ReLU, and the channels told. Nothing is computed from a told map.
    """

    name: str
    channels: tuple[tuple[int, ...], ...]
    convention: Convention = CAFFE
    pooling: str = "max"
    padding: str = "zero"
    readouts: tuple[tuple[str, int], ...] = ()

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Names of the convolutions, `conv1_1` first."""
        return tuple(
            f"conv{b}_{c}"
            for b, block in enumerate(self.channels, 1)
            for c, _ in enumerate(block, 1)
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers in the order they are computed: conv, relu and pool."""
        names: list[str] = []
        for b, block in enumerate(self.channels, 1):
            for c, _ in enumerate(block, 1):
                names += [f"conv{b}_{c}", f"relu{b}_{c}"]
            names.append(f"pool{b}")
        return tuple(names)

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Return the kernel shape `(3, 3, c_in, c_out)` of every convolution.

        And `(1, 1, c_in, c_out)` of every readout, by the name of its layer.
        """
        widths = [c for block in self.channels for c in block]
        pairs = zip([3, *widths[:-1]], widths, strict=True)
        shapes = {n: (3, 3, i, o) for n, (i, o) in zip(self.convolutions, pairs, strict=True)}
        for layer, told in self.readouts:
            shapes[layer] = (1, 1, shapes[layer.replace("relu", "conv")][3], told)
        return shapes


@final
@dataclasses.dataclass(frozen=True)
class Joined:
    """A network for most layers, and another of the same layer names for some.

    Its parameters are `{'most': params, 'some': params}`.

    Attributes:
      most: the network of all other layers.
      some: the other network.
      theirs: names of the layers that `some` computes.
    """

    most: Network
    some: Network
    theirs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.most.name} and {self.some.name}"


def _blocks(widths: Sequence[int], depths: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((width,) * depth for width, depth in zip(widths, depths, strict=True))


_PADDINGS = ("zero", "reflect", "replicate", "circular")
_VGG_WIDTHS = (64, 128, 256, 512, 512)
NETWORKS: Mapping[str, Network] = {
    "vgg16": Network("vgg16", _blocks(_VGG_WIDTHS, (2, 2, 3, 3, 3))),
    "vgg19": Network("vgg19", _blocks(_VGG_WIDTHS, (2, 2, 4, 4, 4))),
    # VGG-16's layer names up to relu5_1 at a tenth of its cost, distilled for this project.
    # Reflection, so that a picture's border is not a feature.
    "embedded": Network(
        "embedded",
        ((16, 16), (48, 48), (96, 64, 96), (128, 128, 128), (128,)),
        convention=TORCHVISION,
        padding="reflect",
        readouts=(("relu2_1", 64), ("relu3_1", 128), ("relu4_1", 64), ("relu5_1", 64)),
    ),
}


def network(name: str) -> Network:
    """Return a row of the table by name.

    Raises:
      InputError: for an unknown name.

    Example:
      >>> network('vgg16').layers[:3]
      ('conv1_1', 'relu1_1', 'conv1_2')
    """
    if name not in NETWORKS:
        raise unknown_choice("network", name, tuple(NETWORKS))
    return NETWORKS[name]


_AnyNetwork = TypeVar("_AnyNetwork", bound=Network | Joined)


def adjusted(network: _AnyNetwork, *, pooling: str = "", padding: str = "") -> _AnyNetwork:
    """Return the network, or both that are joined, with another pooling or padding.

    Args:
      network: a row of the table, or two joined.
      pooling: 'max' or 'average'; '' keeps the network's own.
      padding: 'zero', 'reflect', 'replicate' or 'circular'; '' keeps the network's own.

    Raises:
      InputError: for an unknown choice.

    Example:
      >>> adjusted(NETWORKS['vgg19'], pooling='average').pooling
      'average'
    """
    if pooling and pooling not in ops.POOLINGS:
        raise unknown_choice("pooling", pooling, ops.POOLINGS)
    if padding and padding not in _PADDINGS:
        raise unknown_choice("padding of features", padding, _PADDINGS)
    changes: dict[str, Any] = {}
    if isinstance(network, Joined):
        for which in ("most", "some"):
            part = getattr(network, which)
            changes[which] = adjusted(part, pooling=pooling, padding=padding)
    else:
        changes = {"pooling": pooling or network.pooling, "padding": padding or network.padding}
    return dataclasses.replace(network, **changes)
