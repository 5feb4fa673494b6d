"""One photograph and one painting at many settings: layers of the content by its weight, as one labeled grid.

    python launch.py --config configs/layers_and_ratios.py --config.content=photo.jpg --config.style=painting.jpg

Gatys, Ecker, Bethge, A Neural Algorithm of Artistic Style, 2015, arXiv:1508.06576, figure 3, and the 2016 article's comparison of
content layers: rows are the layers the content is taken from, columns the ratio of content to style, alpha / beta. Expect the
photograph to stand out more to the right, and from shallow layers in every edge while deep ones keep its shapes alone. The work
folder has `grid.png` and a folder for each cell.

Default: 224 px, 150 steps of L-BFGS for each of 16 cells with the embedded network, at most 6 minutes and 1 GB on two CPU cores.

Variants (`configs/layers_and_ratios.py:NAME`):

* `smoke`: tiny pictures and a few steps, seconds.
* `paper`: VGG-19 with average pooling, 512 px, 500 steps, ratios of the article's losses.

The article's rows are growing sets of style layers; give those with `--config.grid.kind=style_sets`.
"""  # noqa: E501

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.experiment = "paint_grid"
    config.grid = ml_collections.ConfigDict()
    config.grid.kind = "content_layers"  # or style_sets, reconstructions
    config.grid.layers = ("relu1_2", "relu2_2", "relu3_2", "relu4_2")
    config.grid.ratios = (0.003, 0.01, 0.03, 0.1)
    config.size = "224"
    config.steps = 150
    config.save_every = 75
    return common.variant_of(config, arg, {"smoke": _smoke, "paper": _paper})


def _smoke(config: ml_collections.ConfigDict) -> None:
    common.tiny(config)
    config.grid.layers = ("relu1_2", "relu2_2")
    config.grid.ratios = (0.01, 0.1)
    config.objective.style_layers = ("relu1_1", "relu2_1")


def _paper(config: ml_collections.ConfigDict) -> None:
    config.grid.kind = "style_sets"
    config.grid.layers = ("relu4_2",)
    config.grid.ratios = (1e-5, 1e-4, 1e-3, 1e-2)
    config.size = "512"
    config.start = "noise"
    config.margin = 0
    config.steps = 500
    config.save_every = 100
    config.objective.tv = 0.0
    config.objective.beta = 1.0
    config.objective.content_normalize = "gatys"
    config.objective.style_normalize = "gatys"
    config.features.name = "vgg19"
    config.features.pooling = "average"
    config.solver.memory = 100
    config.solver.parameters = "pixels"
