"""Several styles in one picture, mixed by weights or each in a region of its own.

    python launch.py --config configs/multi_style.py --config.content=photo.jpg \
        --config.style="('starry','mosaic.jpg')" --config.masks="('sky.png','rest')"

Gatys, Ecker, Bethge, Hertzmann, Shechtman, Controlling Perceptual Factors in Neural Style Transfer, 2017, arXiv:1611.07865:
guided Gram matrices. A mask is a picture of the content's size, white where its style goes; '' is everywhere, 'rest' what the
other masks leave. Without masks all styles are everywhere, mixed by `style_weights`: the sum of their losses, which for plain
Gram matrices is the loss of their weighted mean. `style_masks` say where in its own picture a style is, and `style_scale`
may be one number for each, `--config.style_scale="(1.0,0.5)"`.

Default: our own painting and a microscope's picture of scikit-image's, alike everywhere, 512 px, 300 steps of L-BFGS with the embedded
network, 89 seconds and 1.0 GB on two CPU cores.

Variants (`configs/multi_style.py:NAME`):

* `smoke`: a tiny picture and a few steps, seconds.
* `paper`: the article's guides: a neuron belongs to a region if all that it sees does, regions widened by 3 pixels; VGG-19.
"""  # noqa: E501

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    with config.ignore_type():
        config.style = ("starry", "skimage/ihc")
        config.style_scale = (1.0, 1.0)
    config.style_weights = (1.0, 1.0)
    config.masks = ("", "")
    config.style_masks = ("", "")
    return common.variant_of(config, arg, {"smoke": common.tiny, "paper": _paper})


def _paper(config: ml_collections.ConfigDict) -> None:
    config.mask_mode = "inside"
    config.mask_grow = 3
    config.margin = 0
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
