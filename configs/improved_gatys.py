"""Gatys et al. with the improvements of Novak and Nikulin, each switchable alone.

    python launch.py --config configs/improved_gatys.py --config.content=photo.jpg --config.style=painting.jpg

Novak, Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603. Four changes of the style, all on
by default; each has a key that turns it off:

* more layers, and weights that halve from layer to layer: `--config.objective.weighting=equal`
* activations shifted by -1 before their Gram matrices, so that silence counts too: `--config.objective.shift=0`
* correlations of each layer with the next, a chain: `--config.objective.chain=0`
* blurred deeper maps in the chain: `--config.objective.chain_blur=0`

Default: 512 px, 300 steps of L-BFGS with the embedded network, 6 minutes and 1.5 GB on two CPU cores. Expect strokes that
keep to the shapes they belong to, more than with Gram matrices alone.

Variants (`configs/improved_gatys.py:NAME`):

* `smoke`: a tiny picture and a few steps, seconds.
* `paper`: all convolutions of VGG-19, as the article recommends.

Differs from the paper: the distances are relative to their targets; the shift is in units of the network, and the
embedded network's activations are smaller than VGG's, so its shift is too; one blur serves all links.
"""  # noqa: E501

import ml_collections

from configs import common

_CONVOLUTIONS = {1: 2, 2: 2, 3: 4, 4: 4, 5: 1}  # of VGG-19, up to conv5_1


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.objective.style_layers = (
        *("relu1_1", "relu1_2", "relu2_1", "relu2_2"),
        *("relu3_1", "relu3_2", "relu3_3", "relu4_1", "relu4_2", "relu5_1"),
    )
    config.objective.weighting = "geometric"
    config.objective.shift = -0.5
    config.objective.chain = 5.0
    config.objective.chain_blur = 1.0
    return common.variant_of(config, arg, {"smoke": common.tiny, "paper": _paper})


def _paper(config: ml_collections.ConfigDict) -> None:
    config.objective.style_layers = tuple(
        f"relu{block}_{i + 1}" for block, count in _CONVOLUTIONS.items() for i in range(count)
    )
    config.objective.content_layers = ("relu4_2",)
    config.objective.shift = -1.0
    config.features.name = "vgg19"
    config.features.pooling = "average"
    config.steps = 1000
