"""VGG feature maps as a plain function of parameters and image."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxstyle import ops, policy
from jaxstyle.features.table import Convention, Joined, Network, adjusted
from jaxstyle.types import Array, InputError, Params, unknown_choice

IMAGE = "image"  # may be asked for like a layer


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
      >>> from jaxstyle.features.table import CAFFE
      >>> preprocess(jnp.zeros((1, 1, 3)), CAFFE)[0, 0].tolist()[0]  # blue first
      -103.93900299072266
    """
    check_image(image)
    lead = (1,) * (image.ndim - 1)
    mean = jnp.asarray(convention.mean, image.dtype).reshape(*lead, 3)
    std = jnp.asarray(convention.std, image.dtype).reshape(*lead, 3)
    y = (image * convention.scale - mean) / std
    return y[..., ::-1] if convention.bgr else y


def check_image(image: Array) -> None:
    """Raise an `InputError` unless the image has three channels, in floating point.

    Args:
      image: `[..., h, w, 3]`.
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


def features(
    params: Params,
    image: Array,
    layers: Sequence[str],
    *,
    network: Network | Joined,
    pooling: str | None = None,
    padding: str | None = None,
    dtype: str | None = None,
    remat: bool = False,
) -> dict[str, Array]:
    """Return a network's feature maps at the named layers.

    Nothing deeper than the deepest layer asked for is computed.

    Args:
      params: `{'conv1_1': {'kernel': [3, 3, c_in, c_out], 'bias': [c_out]}, ...}`, at least as deep
        as the deepest layer. Widths are read from the kernels, so a thinner copy of a network
        works. A relu layer with an entry of its own (`{'relu4_1': ...}`, kernel
        `[1, 1, c_in, c_out]`) is told by it. For joined networks `{'most': ..., 'some': ...}`.
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      layers: names such as 'relu4_1', 'conv4_2' (before the ReLU) or 'pool3', in any order; besides
        them 'image' is the image as it was given (what it is for: see `features_in_strips`).
      network: the row of the table the parameters belong to, or two joined.
      pooling: 'max' or 'average' instead of the network's own.
      padding: 'zero', 'reflect' or 'replicate' instead of the network's own.
      dtype: 'float32', 'bfloat16' or 'auto', what the network computes with and the maps are of,
        as `jaxstyle.policy.compute_dtype` takes it; without it, the image's. Maps in bfloat16 are
        within 2% of float32's (root mean square, relative), gradients within 15%, because pools
        choose otherwise where entries are nearly equal. A GPU or TPU is faster with it and needs
        half the memory; so is a CPU with units for it, and needs little less.
      remat: whether to keep only what is asked for and the input of each block, and to compute the
        rest again for the gradient: up to a third more time, the same results. XLA for a CPU
        does not keep to the order and needs as much memory as before; there, and wherever one block
        is too much, see `features_in_strips`.

    Returns:
      The feature maps `[..., h', w', c]` by layer name, in the order asked for.

    Raises:
      InputError: unknown layer, a layer the parameters do not reach, a picture too small for it or
        not RGB in floating point, unknown pooling, padding or dtype.

    Example:
      >>> small = Network('small', ((8, 8), (16,)))
      >>> params = initialize(jax.random.key(0), small)
      >>> maps = features(params, jnp.ones((32, 48, 3)), ('relu1_1', 'pool2'), network=small)
      >>> {name: m.shape for name, m in maps.items()}
      {'relu1_1': (32, 48, 8), 'pool2': (8, 12, 16)}

    References:
      Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014,
      arXiv:1409.1556, table 1 (columns D and E). Average pooling and tapped layers: Gatys et al.,
      Image Style Transfer Using Convolutional Neural Networks, 2016, section 2. Recomputation:
      Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174.
    """
    network = adjusted(network, pooling=pooling or "", padding=padding or "")

    def alone(params: Params, layers: Sequence[str], network: Network) -> dict[str, Array]:
        goal = policy.compute_dtype(dtype, image.dtype)
        x = preprocess(image, network.convention)
        check_layers(params, image.shape, computed(layers), network)
        maps = {IMAGE: image}
        for names in blocks(network, computed(layers)):
            run = functools.partial(
                run_block, names=names, wanted=tuple(layers), network=network, dtype=goal
            )
            x, found = (jax.checkpoint(run) if remat else run)(params, x)
            maps |= {name: values.astype(goal) for name, values in found.items()}
        return {layer: maps[layer] for layer in layers}

    return by_network(alone, params, layers, network)


def by_network(
    alone: Callable[[Params, Sequence[str], Network], dict[str, Array]],
    params: Params,
    layers: Sequence[str],
    network: Network | Joined,
) -> dict[str, Array]:
    """Return maps of a network, or of two that are joined.

    Args:
      alone: `(params, layers, network) -> maps`, for one network.
      params: as `features` takes them.
      layers: names, in any order.
      network: one, or two joined.
    """
    if isinstance(network, Network):
        return alone(params, layers, network)
    maps: dict[str, Array] = {}
    for which, part in (("most", network.most), ("some", network.some)):
        own = [n for n in computed(layers) if (n in network.theirs) == (which == "some")]
        if own:
            also = [IMAGE] if IMAGE in layers and IMAGE not in maps else []
            maps |= alone(params[which], own + also, part)
    return {layer: maps[layer] for layer in layers}


def computed(layers: Sequence[str]) -> Sequence[str]:
    """Return what a network must compute of what is asked for: all but the image.

    Args:
      layers: names.

    Example:
      >>> computed(('image', 'relu1_1'))
      ('relu1_1',)
    """
    if isinstance(layers, str):
        return layers
    return tuple(layer for layer in layers if layer != IMAGE)


def blocks(network: Network, layers: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the layers up to the deepest of the given ones, block by block.

    Args:
      network: a row of the table.
      layers: names.

    Example:
      >>> blocks(Network('small', ((8, 8), (16,))), ('relu2_1', 'pool1'))[1]
      ('conv2_1', 'relu2_1')
    """
    found: list[list[str]] = [[]]
    for name in network.layers[: 1 + max(network.layers.index(layer) for layer in layers)]:
        if found[-1] and found[-1][-1].startswith("pool"):
            found.append([])
        found[-1].append(name)
    return tuple(map(tuple, found))


def run_block(
    params: Params,
    x: Array,
    *,
    names: Sequence[str],
    wanted: Sequence[str],
    network: Network,
    convolve: Callable[..., Array] = ops.conv2d,
    show: Callable[[Array], Array] = lambda x: x,
    dtype: jnp.dtype | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Compute one block.

    Args:
      params: as `features` takes them.
      x: `[..., h, w, c]`, what enters the block.
      names: the block's layers.
      wanted: layers to return.
      network: says how to pool and to pad.
      convolve: `(x, kernel, bias, padding=...)`, instead of `ops.conv2d`.
      show: what of a map is returned.
      dtype: to compute in where that is faster than float32, see `ops.faster_dtype`; without it,
        that of `x`.

    Returns:
      What leaves the block, and the wanted maps by name.
    """
    maps = {}
    for name in names:
        if name.startswith("conv"):
            if dtype is not None:
                x = x.astype(ops.faster_dtype(params[name]["kernel"].shape, dtype))
            kernel, bias = (params[name][key].astype(x.dtype) for key in ("kernel", "bias"))
            x = convolve(x, kernel, bias, padding=network.padding)
        elif name.startswith("relu"):
            x = jax.nn.relu(x)
        else:
            x = ops.pool2d(x, network.pooling)
        if name in wanted:
            told = name.startswith("relu") and name in params
            maps[name] = _told(show(x), params[name]) if told else show(x)
    return x, maps


def _told(x: Array, readout: Mapping[str, Array]) -> Array:
    kernel, bias = (readout[key].astype(x.dtype) for key in ("kernel", "bias"))
    return jax.nn.relu(ops.conv2d(x, kernel, bias))


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
