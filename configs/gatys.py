"""One photograph in the style of one painting, by optimizing its pixels (Gatys et al. 2016).

    python launch.py --config configs/gatys.py --config.content=photo.jpg --config.style=painting.jpg

Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016. Without
`content` and `style` a photograph of scikit-image's gets the style of our own painting.

Default: 512 px, 300 steps of L-BFGS from the photograph with the embedded network; 78 seconds
and 0.95 GB on two CPU cores. Expect the painting's palette and strokes everywhere, the photograph's
shapes still readable. With VGG-19 (`--config.features.name=vgg19`) strokes are finer and everything
takes about ten times as long.

Sweeps (`--sweep NAME`, or any keys): `default`, strength of the style by where it begins;
`ratio_by_layer`, the layer of the content by its weight; `layers`, sets of style layers by seed.

Variants (`configs/gatys.py:NAME`):

* `smoke`: a tiny picture and a few steps, seconds.
* `paper`: the article's section 2 and 3.
* `reference`: the notebook its authors released.
* `jcjohnson`: the defaults of jcjohnson/neural-style.

| | paper | reference | jcjohnson |
|---|---|---|---|
| network | VGG-19, average pooling | VGG-19, max pooling | VGG-19, max pooling |
| content | relu4_2 | relu4_2 | relu4_2 |
| style | relu1_1 to relu5_1, each 1/5 | the same, each 1000 / c^2 | the same, each 1 |
| content distance | half the sum of squares | mean of squares | mean of squares |
| style distance | sum of squares of F F^T, divided by 4 c^2 (h w)^2 | mean of squares of F F^T / (h w) | mean of squares of F F^T / (c h w) |
| weights | alpha 1, beta 1000 | alpha 1, beta 1 by layer | alpha 5, beta 100 a layer, TV 1e-3 |
| starts from | noise | the photograph | noise |
| size | 512 | 512, shorter side | 512, longer side |
| optimizer | L-BFGS | L-BFGS, 500 evaluations | L-BFGS, 1000 iterations |

The papers' weights are for VGG's Caffe input of 0 to 255; features are of that range here too.
"""  # noqa: E501

import itertools
from typing import Any

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    variants = {"smoke": common.tiny, "paper": _paper, "reference": _reference}
    return common.variant_of(common.per_image(), arg, variants | {"jcjohnson": _jcjohnson})


def sweep() -> list[dict[str, Any]]:
    """Return the strength of the style by where the picture begins."""
    strengths, starts = (0.5, 1.5, 5.0, 15.0), ("content", "noise", "style")
    return [
        {"start": start, "objective.beta": beta}
        for start, beta in itertools.product(starts, strengths)
    ]


def sweep_ratio_by_layer() -> list[dict[str, Any]]:
    """Return layers of the content by its weight."""
    layers, alphas = ("relu1_2", "relu2_2", "relu3_2", "relu4_2"), (0.015, 0.05, 0.15, 0.5)
    return [
        {"objective.content_layers": (layer,), "objective.alpha": alpha}
        for layer, alpha in itertools.product(layers, alphas)
    ]


def sweep_layers() -> list[dict[str, Any]]:
    """Return growing sets of style layers by seed, from noise."""
    return [
        {"objective.style_layers": common.STYLE_LAYERS[:count], "start": "noise", "seed": seed}
        for count, seed in itertools.product(range(1, 6), range(2))
    ]


def _paper(config: ml_collections.ConfigDict) -> None:
    _reference(config)
    config.start = "noise"
    config.objective.beta = 5 * 1000 / 5
    config.objective.content_normalize = "gatys"
    config.objective.style_normalize = "gatys"
    config.objective.style_layer_weights = ()
    config.features.pooling = "average"


def _reference(config: ml_collections.ConfigDict) -> None:
    config.steps = 500
    config.objective.alpha = 1.0
    config.objective.content_normalize = "gatys_code"
    config.objective.style_normalize = "gatys_code"
    weights = tuple(1000 / channels**2 for channels in (64, 128, 256, 512, 512))
    config.objective.style_layer_weights = weights
    config.objective.beta = sum(weights)
    config.objective.tv = 0.0
    config.features.name = "vgg19"
    config.solver.memory = 100
    config.solver.parameters = "pixels"
    config.margin = 0


def _jcjohnson(config: ml_collections.ConfigDict) -> None:
    _reference(config)
    config.start = "noise"
    config.steps = 1000
    config.objective.alpha = 5.0
    config.objective.style_normalize = "johnson_code"
    config.objective.style_layer_weights = ()
    config.objective.beta = 5 * 100.0
    config.objective.tv_kind = "johnson_code"  # half the sum of squares
    config.objective.tv = 1e-3 * 255**2  # of pixels in [0, 255]
