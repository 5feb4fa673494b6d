"""What each layer keeps of a picture: contents and styles rebuilt from noise, as one labeled grid.

    python launch.py --config configs/reconstruct.py --config.content=photo.jpg --config.style=painting.jpg

Gatys, Ecker, Bethge, A Neural Algorithm of Artistic Style, 2015, arXiv:1508.06576, figure 1. Its first row rebuilds the photograph
from the feature maps of one layer, relu1 to relu5; its second one the painting from the Gram matrices of relu1_1, of relu1_1 and
relu2_1, and so on. Expect the content nearly unchanged from the first layers and its arrangement alone from the last, and the style
as speckles from the first and as whole strokes and shapes from all. The work folder has `grid.png` and a folder for each cell.

Default: 224 px, 200 steps of L-BFGS for each of ten cells with the embedded network, 127 seconds and 0.65 GB on two CPU cores.

Variants (`configs/reconstruct.py:NAME`):

* `smoke`: tiny pictures and a few steps, seconds.
* `paper`: VGG-19 with average pooling, 512 px, 500 steps.
"""  # noqa: E501

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.experiment = "paint_grid"
    config.grid = ml_collections.ConfigDict()
    config.grid.kind = "reconstructions"  # or content_layers, style_sets
    config.grid.layers = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_1")
    config.grid.ratios = ()
    config.size = "224"
    config.start = "noise"
    config.steps = 200
    config.objective.alpha = 1.0
    config.objective.beta = 1.0
    config.objective.tv = 0.0
    return common.variant_of(config, arg, {"smoke": _smoke, "paper": _paper})


def _smoke(config: ml_collections.ConfigDict) -> None:
    common.tiny(config)
    config.grid.layers = ("relu1_2", "relu2_2")
    config.objective.style_layers = ("relu1_1", "relu2_1")


def _paper(config: ml_collections.ConfigDict) -> None:
    config.grid.layers = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
    config.size = "512"
    config.margin = 0
    config.steps = 500
    config.save_every = 100
    config.features.name = "vgg19"
    config.features.pooling = "average"
    config.solver.memory = 100
