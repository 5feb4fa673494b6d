"""Weights of perceptual networks, by name or by path, checked before anyone computes with them."""

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
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
      name: 'embedded' (ships with the package); 'vgg16' or 'vgg19' (the original training, fetched
        once as Keras publishes it, 59 and 80 MB); 'vgg16-torchvision' or 'vgg19-torchvision' (554
        and 575 MB).
      path: a file of weights to use instead, in any of the formats of `formats.read`. It may stop
        early, and its layers may be thinner than the network's.
      convention: 'caffe', 'torchvision' or 'plain' instead of the network's own. Files with
        torchvision's names (`features.0.weight`) and those that say it themselves are recognized.

    Returns:
      `Weights(params, network)`.

    Raises:
      InputError: unknown name, unreadable file, a missing layer, shapes that do not fit.

    Example:
      >>> weights = load_weights('embedded')
      >>> weights.params['conv1_1']['kernel'].shape
      (3, 3, 3, 16)
    """
    row, entry = resolve(name, convention)
    if path:
        file = pathlib.Path(os.path.expanduser(path))
    elif name == "embedded":
        file = embedded_file()
    else:
        file = catalog.fetch(name)
    return read_weights(file, row, convention, entry)


def load_joined(
    name: str = "embedded",
    path: str | pathlib.Path = "",
    *,
    deep_name: str = "",
    deep_path: str | pathlib.Path = "",
    deep_layers: Sequence[str] = (),
) -> tuple[Params, features.Network | features.Joined]:
    """Load a perceptual network, some of whose layers may be another's.

    Args:
      name: as `load_weights` takes it.
      path: likewise.
      deep_name: of the other network; '' is the same name.
      deep_path: its file; '' the published one.
      deep_layers: the layers that it computes; () is none.

    Returns:
      Parameters and network, as `features.features` takes them.

    Raises:
      InputError: as `load_weights`.

    Example:
      >>> _, network = load_joined('embedded', deep_name='embedded', deep_layers=('relu4_1',))
      >>> network.name
      'embedded and embedded'
    """
    most = load_weights(name, path)
    if not deep_layers:
        return most.params, most.network
    some = load_weights(deep_name or name, deep_path)
    params = {"most": most.params, "some": some.params}
    return params, features.Joined(most.network, some.network, tuple(deep_layers))


def resolve(name: str, convention: str = "") -> tuple[str, catalog.Entry | None]:
    """Check names that a user gave.

    Args:
      name: of a network or of an entry of the catalog.
      convention: of its input, or ''.

    Returns:
      The row of the table, and the entry of the catalog if there is one.

    Raises:
      InputError: for an unknown name.
    """
    entry = catalog.CATALOG.get(name)
    if entry is None and name not in features.NETWORKS:
        raise unknown_choice("network", name, tuple({**features.NETWORKS, **catalog.CATALOG}))
    if convention and convention not in features.CONVENTIONS:
        raise unknown_choice("convention", convention, tuple(features.CONVENTIONS))
    return entry.network if entry else name, entry


def embedded_file() -> pathlib.Path:
    """Return the path of the network that ships with the package."""
    return pathlib.Path(str(importlib.resources.files("jaxstyle") / "assets/embedded.safetensors"))


def read_weights(
    file: pathlib.Path, name: str, convention: str = "", entry: catalog.Entry | None = None
) -> Weights:
    """Read a perceptual network from a file.

    Args:
      file: in any of the formats of `formats.read`.
      name: of the row of the table.
      convention: overrides what the file and the table tell.
      entry: of the catalog, if the file is meant to be that network; tells the convention if the
        file does not.

    Returns:
      `Weights(params, network)`.

    Raises:
      InputError: for what is wrong with the file.
    """
    contents = formats.read(file)
    network = interpret(contents, file, name, convention, entry)
    arrays = contents.convolutions
    if formats.INPUT in arrays:
        arrays = fold_input(arrays)
    return Weights(jax.device_put(arrays), network)  # jnp.asarray would compile for each shape


def interpret(
    contents: formats.Contents,
    file: pathlib.Path,
    name: str,
    convention: str = "",
    entry: catalog.Entry | None = None,
) -> features.Network:
    """Check what was read from a file and say what network it is.

    Args:
      contents: of the file.
      file: for messages.
      name: of the row of the table.
      convention: overrides what the file and the table tell.
      entry: of the catalog, if any; tells the convention if the file does not.

    Returns:
      The row of the table, with the widths and the convention found. A network with an input
      convolution is described as it is when that has been folded, see `fold_input`.

    Raises:
      InputError: for what is wrong with the file.
    """
    if contents.network in features.NETWORKS and contents.network != name:
        raise InputError(
            f"'{file}' says that it is {contents.network} and not {name}; set "
            f"features.name={contents.network}, or give a file of {name}."
        )
    network = check(contents.convolutions, features.network(name), str(file), contents.others)
    own = contents.convention
    if own and own not in features.CONVENTIONS:
        raise InputError(
            f"'{file}' says that its input is '{own:.40}', which is none of "
            f"{', '.join(features.CONVENTIONS)}; convert it with --convention."
        )
    if formats.INPUT in contents.convolutions:
        network = dataclasses.replace(network, convention=features.PLAIN, padding="reflect")
        own = ""
    elif entry is not None:
        own = own or entry.convention
    if convention or own:
        network = dataclasses.replace(network, convention=features.CONVENTIONS[convention or own])
    return network


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


def check(
    arrays: formats.Arrays, network: features.Network, source: str, others: Sequence[str] = ()
) -> features.Network:
    """Check that arrays make up the first layers of a network.

    Args:
      arrays: as `formats.read` returns them.
      network: the row of the table.
      source: the file's name, for messages.
      others: names of arrays in the file that belong to no convolution, for messages.

    Returns:
      The network with the widths found (they may be thinner than the table's) and the readouts.

    Raises:
      InputError: naming the first thing that is wrong.
    """
    own = [n for n in arrays if n != formats.INPUT and not formats.is_readout(n)]
    _check_network(own, network, source)
    depth = max((network.convolutions.index(n) for n in own), default=0) + 1
    before, found = 3, {}
    if formats.INPUT in arrays:
        before = _check_convolution(arrays, formats.INPUT, (1, 1, before), source, others)
    for name in network.convolutions[:depth]:
        before = found[name] = _check_convolution(arrays, name, (3, 3, before), source, others)
    channels = tuple(
        tuple(found.get(f"conv{b}_{c}", width) for c, width in enumerate(block, 1))
        for b, block in enumerate(network.channels, 1)
    )
    readouts = []
    for name in filter(formats.is_readout, arrays):
        below = found.get(name.replace("relu", "conv"))
        if below is None:
            raise InputError(
                f"'{source}' has a readout of {name}, but not that layer; get a complete file."
            )
        told = _check_convolution(arrays, name, (1, 1, below), source, others)
        readouts.append((name, told))
    return dataclasses.replace(network, channels=channels, readouts=tuple(sorted(readouts)))


def _check_network(own: Sequence[str], network: features.Network, source: str) -> None:
    """Raise if the names are those of another network."""
    if set(own) == set(network.convolutions[: len(own)]):  # all of it, or its beginning
        return
    others = [n.name for n in features.NETWORKS.values() if set(n.convolutions) == set(own)]
    if others:
        raise InputError(
            f"'{source}' has the layers of {others[0]} and not of {network.name}; set "
            f"features.name={others[0]}, or give a file of {network.name}."
        )
    foreign = [n for n in own if n not in network.convolutions]
    if foreign:
        raise InputError(
            f"'{source}' has {foreign[0]}, which {network.name} does not have; "
            "set features.name to the network these weights belong to."
        )


def _check_convolution(
    arrays: formats.Arrays,
    name: str,
    window: tuple[int, int, int],
    source: str,
    others: Sequence[str],
) -> int:
    """Check a convolution over a window of height, width and channels; return its own channels."""
    parts = arrays.get(name, {})
    if set(parts) != {"kernel", "bias"}:
        lacks = "layer" if not parts else ("bias" if "kernel" in parts else "kernel")
        unknown = ", ".join(other[:60] for other in others[:3])
        hint = f" (names that could not be placed: {unknown})" if unknown else ""
        raise InputError(f"'{source}' lacks the {lacks} of {name}{hint}; get a complete file.")
    shape, bias = parts["kernel"].shape, parts["bias"].shape
    if shape[:3] != window or bias != (shape[3],) or not shape[3]:
        wanted = ", ".join(map(str, window))
        raise InputError(
            f"'{source}': {name} has shapes {shape} and {bias}, but a kernel ({wanted}, n) with a "
            f"bias (n,) belongs there{_transposed(shape, bias, window)}."
        )
    if not all(np.isfinite(value).all() for value in parts.values()):
        raise InputError(f"'{source}': {name} has values that are not finite; get another file.")
    return shape[3]


def _transposed(shape: tuple[int, ...], bias: tuple[int, ...], window: tuple[int, int, int]) -> str:
    """Say in which other order a kernel's axes are, if they are."""
    height, width, channels = window
    orders = {
        "(out, in, height, width), PyTorch's and Theano's": (*bias, channels, height, width),
        "(height, width, out, in)": (height, width, *bias, channels),
        "(out, height, width, in)": (*bias, height, width, channels),
        "(in, out, height, width)": (channels, *bias, height, width),
    }
    for order, other in orders.items():
        if shape == other:
            return f"; its axes are in the order {order}: transpose all kernels"
    return ""
