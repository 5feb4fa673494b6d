"""Which array of a file is which convolution, whatever the project that saved it calls them."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# A first 1x1 convolution that turns RGB into the network's own convention ("normalized" VGGs).
INPUT = "conv0"

# block1_conv2 (Keras), conv1_2 (Caffe and this project), conv12 (several PyTorch projects).
_CONVOLUTION = re.compile(r"(?:block(\d)_conv(\d)|conv(\d)_?(\d))(?!_aux|\d)")
# relu2_1/kernel: the readout of a layer (this project).
_READOUT = re.compile(r"(?:^|[./])(relu\d_\d)[./]")
_INPUT = re.compile(r"(?:^|[./])conv0[./]")
# PyTorch writes OIHW and calls it `weight`. Whole Keras models lie in a group `model_weights`, and
# TensorFlow's older `weights` are HWIO like everything of its family: only the last word counts.
_OIHW = re.compile(r"(?:^|[./])weight$")
_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}

# features.7.weight: torchvision numbers every module; the place among the convolutions counts.
_TORCHVISION = re.compile(r"(?:^|\.)features\.(\d+)\.(weight|bias)$")
_TORCHVISION_MODULES = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
# 9.weight: one long sequence that begins with an input convolution and pads by modules of its own
# (the "normalized" VGG-19 of projects after AdaIN).
_SEQUENCE = re.compile(r"^(\d+)\.(weight|bias)$")
_SEQUENCE_MODULES = (0, 2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)


class Names(NamedTuple):
    """What the names of a file tell.

    Attributes:
      convolutions: by array name, the convolution it belongs to; 'relu4_1' is the readout there.
      convention: what the network expects at its input, where the names tell: 'caffe' or
        'torchvision'; '' otherwise.
    """

    convolutions: Mapping[str, str]
    convention: str


def convolutions(network: str) -> tuple[str, ...]:
    """Return the names of all convolutions of 'vgg16' or 'vgg19'.

    Args:
      network: one of the two.

    Example:
      >>> convolutions('vgg16')[:3]
      ('conv1_1', 'conv1_2', 'conv2_1')
    """
    return tuple(
        f"conv{block}_{number}"
        for block, depth in enumerate(_DEPTHS[network], 1)
        for number in range(1, depth + 1)
    )


def recognize(names: Iterable[str]) -> Names:
    """Find the convolutions among the names of a file's arrays.

    Args:
      names: of all arrays.

    Returns:
      The names that were recognized.

    Example:
      >>> recognize(['features.5.weight', 'classifier.0.weight']).convolutions
      {'features.5.weight': 'conv2_1'}
    """
    names = list(names)
    if numbered := _numbered(names):
        # Johnson's conversion of the Caffe weights has torchvision's names for the convolutions,
        # but counts the classifier's modules from another first one.
        own = any(re.search(r"(?:^|\.)classifier\.[14]\.weight$", name) for name in names)
        return Names(numbered, "caffe" if own else "torchvision")
    sequence = {name: int(m[1]) for name in names if (m := _SEQUENCE.search(name))}
    if {0, 2} <= set(sequence.values()) <= set(_SEQUENCE_MODULES):
        order = (INPUT, *convolutions("vgg19"))
        places = {name: order[_SEQUENCE_MODULES.index(i)] for name, i in sequence.items()}
        return Names(places, "")
    found = {}
    for name in names:
        if _INPUT.search(name):
            found[name] = INPUT
        elif match := _CONVOLUTION.search(name):
            block, number = (g for g in match.groups() if g)
            found[name] = f"conv{block}_{number}"
        elif match := _READOUT.search(name):
            found[name] = match[1]
    return Names(found, "")


def _numbered(names: Iterable[str]) -> dict[str, str]:
    modules = {name: int(m[1]) for name in names if (m := _TORCHVISION.search(name))}
    for network, known in _TORCHVISION_MODULES.items():
        if modules and set(modules.values()) <= set(known):
            order = convolutions(network)
            return {name: order[known.index(module)] for name, module in modules.items()}
    return {}


def is_oihw(name: str) -> bool:
    """Return whether a kernel of this name lies as [out, in, height, width].

    Args:
      name: of the array in the file.

    Example:
      >>> is_oihw('conv1_1.weight'), is_oihw('conv1_1/kernel')
      (True, False)
    """
    return bool(_OIHW.search(name))


def has_batch_normalization(names: Iterable[str]) -> bool:
    """Return whether these are torchvision's networks with batch normalization.

    Args:
      names: of all arrays.
    """
    return any(re.search(r"(?:^|\.)features\.\d+\.running_mean$", name) for name in names)
