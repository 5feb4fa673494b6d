"""Every patch of the picture's features is one of the painting's.

    python launch.py --config configs/mrf.py --config.content=photo.jpg --config.style=painting.jpg

Li, Wand, Combining Markov Random Fields and Convolutional Neural Networks for Image Synthesis, CVPR 2016, arXiv:1601.04589. Patches
of 3x3 positions of relu3_1 and relu4_1 are each drawn to the most similar one of the painting, from coarse to fine. Pieces of the
painting are taken as they are, so it works best where the two pictures show alike things: a portrait for a portrait.

Default: 384 px in 2 scales, 100 steps each, patches 2 positions apart, the painting's histogram at last, with the embedded
network, 34 seconds and 1.0 GB on two CPU cores.

Variants (`configs/mrf.py:NAME`):

* `smoke`: a tiny picture and a few steps, seconds.
* `paper`: VGG-19, every patch, also of the painting turned by 7.5 degrees either way, 200 steps a scale.
* `reference`: VGG-19, the weights of the code its authors released: content relu4_1 20, patches 1e-4, total variation 1e-3.

Differs from the paper: distances of the default are relative to the mean energy of the painting's patches; the painting is not
also taken in other sizes.
"""  # noqa: E501

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.size = "384"
    config.scales.smallest = 128
    config.scales.ratio = 2.0
    config.steps = 100
    config.save_every = 50
    config.objective.style_layers = ("relu3_1", "relu4_1")
    config.objective.style_statistic = "patches"
    config.objective.alpha = 1.0
    config.objective.beta = 2.0
    config.color.result = "style"  # layers this deep say little of colors
    variants = {"smoke": _smoke, "paper": _paper, "reference": _reference}
    return common.variant_of(config, arg, variants)


def _smoke(config: ml_collections.ConfigDict) -> None:
    common.tiny(config)
    config.scales.smallest = 40
    config.scales.ratio = 1.2


def _paper(config: ml_collections.ConfigDict) -> None:
    _reference(config)
    config.objective.content_layers = ("relu4_2",)
    config.objective.alpha = 1.0
    config.objective.patch_stride = 1
    config.patch_turns = (-7.5, 7.5)
    config.steps = 200


def _reference(config: ml_collections.ConfigDict) -> None:
    config.scales.smallest = 96
    config.color.result = ""
    config.features.name = "vgg19"
    config.margin = 0
    config.objective.content_layers = ("relu4_1",)
    config.objective.content_normalize = "mean"
    config.objective.alpha = 20.0
    config.objective.style_normalize = "li_wand"
    config.objective.beta = 2 * 1e-4
    config.objective.tv_kind = "johnson_code"  # half the sum of squares
    config.objective.tv = 1e-3 * 255**2  # of pixels in [0, 255]
    config.solver.parameters = "pixels"
