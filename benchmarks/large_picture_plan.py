"""What a picture divided among devices takes on each of them, by arithmetic.

    python benchmarks/large_picture.py --plan 16384 --devices 64
    python benchmarks/large_picture.py --plan 16384 --devices 8 --network vgg19 --dtype bfloat16

A map is counted once for each convolution (its ReLU takes its place) and once for each pool.
"""

import math
from typing import NamedTuple

from jaxstyle import features

_BYTES = {"float32": 4, "bfloat16": 2, "auto": 2}
_PICTURES = 6  # in float32: numbers, the last good ones, their gradient, Adam's two, the content


class Layer(NamedTuple):
    """One map on one device.

    Attributes:
      name: of the layer; of a convolution and its ReLU the first.
      block: which of the network's, from 0.
      rows: of the map on a device.
      width: of the map.
      channels: of the map.
      entering: channels of what a convolution takes; 0 for a pool.
      bytes: of the map on a device.
    """

    name: str
    block: int
    rows: int
    width: int
    channels: int
    entering: int
    bytes: int


def layers_of(network: features.Network, last: str, size: int, devices: int, dtype: str) -> list:
    """Return the maps of a square picture up to a layer."""
    found, shapes = [], network.shapes()
    stride, channels, block = 1, 3, 0
    for name in network.layers[: network.layers.index(last) + 1]:
        if name.startswith("relu"):
            continue
        entering, own = channels, block
        if name.startswith("pool"):
            stride, block, entering = 2 * stride, block + 1, 0
        else:
            channels = shapes[name][3]
        rows, width = math.ceil(size // stride / devices), size // stride
        taken = rows * width * channels * _BYTES[dtype]
        found.append(Layer(name, own, rows, width, channels, entering, taken))
    return found


def needed(layers: list, wanted: tuple[str, ...], *, remat: bool) -> int:
    """Return the bytes of a device's maps in a step: what is kept, and what is under way.

    Without recomputation all maps are kept. With it, those asked for and those between blocks, and
    besides them the others of one block at a time. Under way are two maps' gradients at a time.
    """
    gradients = 2 * max(layer.bytes for layer in layers)
    if not remat:
        return sum(layer.bytes for layer in layers) + gradients
    names = {name.replace("relu", "conv") for name in wanted}
    kept = [layer for layer in layers if layer.name in names or layer.name.startswith("pool")]
    blocks = {layer.block for layer in layers}
    others = [layer for layer in layers if layer not in kept]
    again = max(sum(la.bytes for la in others if la.block == block) for block in blocks)
    return sum(layer.bytes for layer in kept) + again + gradients


def exchanged(layers: list, dtype: str, *, remat: bool) -> int:
    """Return the bytes that an inner device sends in a step.

    A convolution takes a row from either neighbor; its gradient takes a row of the output's from
    either; recomputed, the first happens twice.
    """
    rows = sum(
        la.width * (la.entering * (2 if remat else 1) + la.channels) for la in layers if la.entering
    )
    return 2 * rows * _BYTES[dtype]


def show(size: int, devices: int, network: features.Network, style: tuple, dtype: str) -> None:
    """Print the table."""
    layers = layers_of(network, style[-1], size, devices, dtype)
    print(f"{size} x {size} pixels, {network.name} up to {style[-1]}, {dtype}, {devices} devices")
    print("| layer | rows of a device | map of a device, GB | a row, MB |\n|---|---|---|---|")
    for layer in layers:
        row = layer.bytes / layer.rows / 1e6
        print(f"| {layer.name} | {layer.rows} | {layer.bytes / 1e9:.3f} | {row:.2f} |")
    picture = math.ceil(size / devices) * size * 3 * 4
    print(f"pictures and Adam's state, float32: {_PICTURES * picture / 1e9:.2f} GB a device")
    for remat in (False, True):
        maps = needed(layers, style, remat=remat)
        sent = exchanged(layers, dtype, remat=remat)
        print(
            f"remat={remat}: maps and gradients {maps / 1e9:.2f} GB a device, in all "
            f"{(maps + _PICTURES * picture) / 1e9:.2f} GB; {sent / 1e6:.1f} MB sent a step"
        )
    shapes = network.shapes()
    channels = [shapes[name.replace("relu", "conv")][3] for name in style]
    print(f"Gram matrices summed over devices: {sum(4 * c * c for c in channels) / 1e6:.1f} MB")
