"""Weights of perceptual networks, by name or by path, checked before anyone computes with them."""

import dataclasses
import importlib.resources
import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxstyle import features
from jaxstyle.types import InputError, Params, unknown_choice
from jaxstyle.weights import catalog, formats


class Weights(NamedTuple):
    """Parameters of a perceptual network and the row of the table they belong to.

    Attributes:
      params: `{'conv1_1': {'kernel': [3, 3, c_in, c_out], 'bias': [c_out]}, ...}`, float32.
      network: layer names, input convention, pooling and padding.
    """

    params: Params
    network: features.Network


def load_weights(
    name: str = "embedded", path: str | pathlib.Path = "", *, convention: str = ""
) -> Weights:
    """Load a perceptual network.

    Args:
      name: 'embedded' (ships with the package), 'vgg16' or 'vgg19' (fetched once from Keras's
        publication of the original training, 59 and 80 MB).
      path: a file of weights to use instead: `.h5` (Keras), `.safetensors` or `.npz`. It may stop
        early, and its layers may be thinner than the network's.
      convention: 'caffe' or 'torchvision' instead of the network's own. Files with torchvision's
        names (`features.0.weight`) are recognized.

    Returns:
      `Weights(params, network)`.

    Raises:
      InputError: unknown name, unreadable file, a missing layer, shapes that do not fit.

    Example:
      >>> weights = load_weights('embedded')
      >>> weights.params['conv1_1']['kernel'].shape
      (3, 3, 3, 16)
    """
    network = features.network(name)
    if path:
        file = pathlib.Path(path).expanduser()
    elif name == "embedded":
        file = pathlib.Path(
            str(importlib.resources.files("jaxstyle") / "assets/embedded.safetensors")
        )
    else:
        file = catalog.fetch(name)
    arrays, torchvision = formats.read(file)
    network = check(arrays, network, str(file))
    if formats.INPUT in arrays:
        arrays = fold_input(arrays)
        network = dataclasses.replace(network, convention=features.PLAIN, padding="reflect")
    elif torchvision and not convention:
        convention = "torchvision"
    if convention:
        if convention not in features.CONVENTIONS:
            raise unknown_choice("convention", convention, tuple(features.CONVENTIONS))
        network = dataclasses.replace(network, convention=features.CONVENTIONS[convention])
    params = {n: {k: jnp.asarray(v) for k, v in arrays[n].items()} for n in arrays}
    return Weights(params, network)


def fold_input(arrays: formats.Arrays) -> formats.Arrays:
    """Fold a first 1x1 convolution of the input into the first 3x3 one.

    Exact where the 3x3 convolution pads by reflection or replication: a constant added before such
    padding is the same constant after it.

    Args:
      arrays: with `conv0`, its kernel `[1, 1, 3, c]`; checked.

    Returns:
      The arrays without it, `conv1_1` taking sRGB in [0, 1].
    """
    first, outer = arrays[formats.INPUT], arrays["conv1_1"]
    kernel = np.einsum("ab,hwbc->hwac", first["kernel"][0, 0], outer["kernel"])
    bias = outer["bias"] + np.einsum("b,hwbc->c", first["bias"], outer["kernel"])
    rest = {name: parts for name, parts in arrays.items() if name != formats.INPUT}
    return {**rest, "conv1_1": {"kernel": kernel, "bias": bias}}


def check(arrays: formats.Arrays, network: features.Network, source: str) -> features.Network:
    """Check that arrays make up the first layers of a network.

    Args:
      arrays: as `formats.read` returns them.
      network: the row of the table.
      source: the file's name, for messages.

    Returns:
      The network with the widths found (they may be thinner than the table's).

    Raises:
      InputError: naming the first thing that is wrong.
    """
    own = [n for n in arrays if n != formats.INPUT]
    foreign = [n for n in own if n not in network.convolutions]
    if foreign:
        raise InputError(
            f"'{source}' has {foreign[0]}, which {network.name} does not have; "
            "set features.name to the network these weights belong to."
        )
    depth = max((network.convolutions.index(n) for n in own), default=0) + 1
    before, found = 3, {}
    if formats.INPUT in arrays:
        before = _check_convolution(arrays, formats.INPUT, (1, 1, before), source)
    for name in network.convolutions[:depth]:
        before = found[name] = _check_convolution(arrays, name, (3, 3, before), source)
    channels = tuple(
        tuple(found.get(f"conv{b}_{c}", width) for c, width in enumerate(block, 1))
        for b, block in enumerate(network.channels, 1)
    )
    return dataclasses.replace(network, channels=channels)


def _check_convolution(
    arrays: formats.Arrays, name: str, window: tuple[int, int, int], source: str
) -> int:
    """Check a convolution over a window of height, width and channels; return its own channels."""
    parts = arrays.get(name, {})
    if set(parts) != {"kernel", "bias"}:
        lacks = "layer" if not parts else ("bias" if "kernel" in parts else "kernel")
        raise InputError(f"'{source}' lacks the {lacks} of {name}; get a complete file.")
    shape = parts["kernel"].shape
    if shape[:3] != window or parts["bias"].shape != (shape[3],) or not shape[3]:
        wanted = ", ".join(map(str, window))
        raise InputError(
            f"'{source}': {name} has shapes {shape} and {parts['bias'].shape}, but a kernel "
            f"({wanted}, n) with a bias (n,) belongs there."
        )
    if not all(np.isfinite(value).all() for value in parts.values()):
        raise InputError(f"'{source}': {name} has values that are not finite; get another file.")
    return shape[3]
