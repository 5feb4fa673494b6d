"""A texture of any size from an example, from noise.

    python launch.py --config configs/texture.py --config.style=bark.jpg --config.size=768x512

Gatys, Ecker, Bethge, Texture Synthesis Using Convolutional Neural Networks, NeurIPS 2015, arXiv:1505.07376. There is no
content: noise is optimized until a loss network sees the example's statistics in it. `--config.seamless` makes a tile
whose right side continues on its left, and its bottom at its top; its sides are multiples of 16.

Default: 256 px, the Wasserstein-2 distance of features from coarse to fine, Adam, 71 seconds and 0.95 GB on two CPU cores with
the embedded network. Expect the example's pieces in a new arrangement.

Variants (`configs/texture.py:NAME`):

* `smoke`: a tiny texture and a few steps, seconds.
* `seamless`: a tile of 256 pixels, at 64, 128 and 256.
* `gatys2015`: the article: VGG-19 with average pooling, Gram matrices of conv1_1 and pool1 to pool4 alike, L-BFGS with 20 pairs, 2000
  steps, pixels bounded; the result gets the example's histogram.
* `swd`: Heitz et al. 2021, arXiv:2006.07229: sliced Wasserstein distance of all convolutions of blocks 1 to 4 of VGG-19 with average
  pooling and padding by reflection, L-BFGS.

Differs from the papers: pixels are bounded by a sigmoid, where the first used L-BFGS-B; the second draws new directions at every
evaluation, here after every 20 steps.
"""  # noqa: E501

import ml_collections

from configs import common

_CONVOLUTIONS = {1: 2, 2: 2, 3: 4, 4: 4}  # of VGG-19's blocks


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.content = "none"
    config.start = "noise"
    config.size = "256"
    config.steps = 150
    config.save_every = 50
    config.scales.smallest = 64
    config.objective.alpha = 0.0
    config.objective.content_layers = ()
    config.objective.style_statistic = "wasserstein"
    config.objective.tv = 0.5
    config.solver.optimizer = "adam"
    config.solver.learning_rate = 0.03
    config.solver.decay = (0.9, 0.99)
    config.solver.average = 0.98
    variants = {"smoke": _smoke, "seamless": _seamless, "gatys2015": _gatys2015, "swd": _swd}
    return common.variant_of(config, arg, variants)


def _smoke(config: ml_collections.ConfigDict) -> None:
    common.tiny(config)
    config.scales.smallest = 32


def _seamless(config: ml_collections.ConfigDict) -> None:
    config.seamless = True
    config.margin = 0
    config.scales.ratio = 2.0


def _gatys2015(config: ml_collections.ConfigDict) -> None:
    _vgg19(config)
    config.steps = 2000
    config.objective.style_layers = ("conv1_1", "pool1", "pool2", "pool3", "pool4")
    config.objective.beta = 5.0
    config.objective.style_normalize = "gatys"
    config.color.result = "style"


def _swd(config: ml_collections.ConfigDict) -> None:
    _vgg19(config)
    config.steps = 4096
    config.save_every = 512
    config.objective.style_layers = tuple(
        f"relu{block}_{i + 1}" for block, count in _CONVOLUTIONS.items() for i in range(count)
    )
    config.objective.beta = float(len(config.objective.style_layers))
    config.objective.style_statistic = "sliced"
    config.objective.style_normalize = "heitz"
    config.features.padding = "reflect"
    config.solver.parameters = "pixels"
    config.solver.memory = 100


def _vgg19(config: ml_collections.ConfigDict) -> None:
    config.margin = 0
    config.scales.smallest = 0
    config.save_every = 100
    config.objective.tv = 0.0
    config.features.name = "vgg19"
    config.features.pooling = "average"
    config.solver.optimizer = "lbfgs"
    config.solver.learning_rate = 1.0
    config.solver.average = 0.0
