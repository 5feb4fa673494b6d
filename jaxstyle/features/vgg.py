"""VGG networks as a table, and their feature maps as a plain function of parameters and image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, final

import jax
import jax.numpy as jnp

from jaxstyle import ops
from jaxstyle.types import Array, InputError, Params, unknown_choice


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


_PADDINGS = ("zero", "reflect", "replicate")
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
      padding: 'zero', 'reflect' or 'replicate'; '' keeps the network's own.

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


def initialize(key: Array, network: Network) -> dict[str, dict[str, Array]]:
    """Draw random parameters (He et al. 2015, eq. 10; zero biases), e.g. to distill or to time.

    Args:
      key: PRNG key.
      network: a row of the table.

    Returns:
      `{'conv1_1': {'kernel': [3, 3, 3, c], 'bias': [c]}, ...}`.

    Example:
      >>> small = Network('small', ((8, 8), (16,)))
      >>> initialize(jax.random.key(0), small)['conv1_1']['kernel'].shape
      (3, 3, 3, 8)
    """
    shapes = network.shapes()
    keys = jax.random.split(key, len(shapes))
    return {
        name: {
            "kernel": jax.random.normal(k, shape) * (2.0 / (shape[0] * shape[1] * shape[2])) ** 0.5,
            "bias": jnp.zeros(shape[3]),
        }
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def preprocess(image: Array, convention: Convention) -> Array:
    """Turn sRGB in [0, 1] into what a network was trained on.

    Args:
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      convention: the network's.

    Returns:
      `[..., h, w, 3]`, in the convention's range and channel order.

    Raises:
      InputError: for an image without three channels, or of whole numbers.

    Example:
      >>> preprocess(jnp.zeros((1, 1, 3)), CAFFE)[0, 0].tolist()[0]  # blue first
      -103.93900299072266
    """
    if image.ndim < 3 or image.shape[-1] != 3:
        raise InputError(
            f"an image has the shape [..., height, width, 3], but this one is {image.shape}; "
            "convert it to RGB."
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(
            f"the image holds {image.dtype}; convert it to float32 in [0, 1] (bytes / 255)."
        )
    lead = (1,) * (image.ndim - 1)
    mean = jnp.asarray(convention.mean, image.dtype).reshape(*lead, 3)
    std = jnp.asarray(convention.std, image.dtype).reshape(*lead, 3)
    y = (image * convention.scale - mean) / std
    return y[..., ::-1] if convention.bgr else y


def features(
    params: Params,
    image: Array,
    layers: Sequence[str],
    *,
    network: Network | Joined,
    pooling: str | None = None,
    padding: str | None = None,
) -> dict[str, Array]:
    """Return a network's feature maps at the named layers.

    Nothing deeper than the deepest layer asked for is computed.

    Args:
      params: `{'conv1_1': {'kernel': [3, 3, c_in, c_out], 'bias': [c_out]}, ...}`, at least as deep
        as the deepest layer. Widths are read from the kernels, so a thinner copy of a network
        works. A relu layer with an entry of its own (`{'relu4_1': ...}`, kernel
        `[1, 1, c_in, c_out]`) is told by it. For joined networks `{'most': ..., 'some': ...}`.
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      layers: names such as 'relu4_1', 'conv4_2' (before the ReLU) or 'pool3', in any order.
      network: the row of the table the parameters belong to, or two joined.
      pooling: 'max' or 'average' instead of the network's own.
      padding: 'zero', 'reflect' or 'replicate' instead of the network's own.

    Returns:
      The feature maps `[..., h', w', c]` by layer name, in the order asked for.

    Raises:
      InputError: unknown layer, a layer the parameters do not reach, a picture too small for it or
        not RGB in floating point, unknown pooling or padding.

    Example:
      >>> small = Network('small', ((8, 8), (16,)))
      >>> params = initialize(jax.random.key(0), small)
      >>> maps = features(params, jnp.ones((32, 48, 3)), ('relu1_1', 'pool2'), network=small)
      >>> {name: m.shape for name, m in maps.items()}
      {'relu1_1': (32, 48, 8), 'pool2': (8, 12, 16)}

    References:
      Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014,
      arXiv:1409.1556, table 1 (columns D and E). Average pooling and tapped layers: Gatys et al.,
      Image Style Transfer Using Convolutional Neural Networks, 2016, section 2.
    """
    if isinstance(network, Joined):
        return _joined_features(params, image, layers, network, pooling, padding)
    x = preprocess(image, network.convention)
    check_layers(params, image.shape, layers, network)
    network = adjusted(network, pooling=pooling or "", padding=padding or "")
    wanted, maps = set(layers), {}
    for name in network.layers[: 1 + max(network.layers.index(layer) for layer in layers)]:
        if name.startswith("conv"):
            x = ops.conv2d(x, params[name]["kernel"], params[name]["bias"], padding=network.padding)
        elif name.startswith("relu"):
            x = jax.nn.relu(x)
        else:
            x = ops.pool2d(x, network.pooling)
        if name in wanted:
            told = name.startswith("relu") and name in params
            maps[name] = _told(x, params[name]) if told else x
    return {layer: maps[layer] for layer in layers}


def _told(x: Array, readout: Mapping[str, Array]) -> Array:
    return jax.nn.relu(ops.conv2d(x, readout["kernel"], readout["bias"]))


def _joined_features(
    params: Params,
    image: Array,
    layers: Sequence[str],
    network: Joined,
    pooling: str | None,
    padding: str | None,
) -> dict[str, Array]:
    maps: dict[str, Array] = {}
    for which, part in (("most", network.most), ("some", network.some)):
        own = tuple(name for name in layers if (name in network.theirs) == (which == "some"))
        if own:
            maps |= features(
                params[which], image, own, network=part, pooling=pooling, padding=padding
            )
    return {layer: maps[layer] for layer in layers}


def check_layers(
    params: Params, shape: tuple[int, ...], layers: Sequence[str], network: Network
) -> None:
    """Raise an `InputError` unless every layer exists, is in the parameters and fits the picture.

    Args:
      params: as `features` takes them.
      shape: of the image, `[..., h, w, 3]`.
      layers: names.
      network: the row of the table.
    """
    if isinstance(layers, str):
        raise InputError(f"the layers are the text '{layers}'; write a tuple, ('{layers}',).")
    if not layers:
        raise InputError("no layers were asked for; name at least one, e.g. 'relu3_1'.")
    for layer in layers:
        if layer not in network.layers:
            raise unknown_choice(f"layer of {network.name}", layer, network.layers)
        upto = network.layers[: network.layers.index(layer) + 1]
        missing = [n for n in upto if n.startswith("conv") and n not in params]
        if missing:
            raise InputError(
                f"layer '{layer}' needs {missing[0]}, which these weights of {network.name} do not "
                "have; choose shallower layers or complete weights."
            )
        least = 2 ** sum(name.startswith("pool") for name in upto)
        if min(shape[-3:-1]) < least:
            raise InputError(
                f"the image is {shape[-3]}x{shape[-2]}, but {layer} needs both sides >= {least}; "
                "use a larger image or shallower layers."
            )
