"""DeepDream: a network sees eyes and feathers in a photograph, and they appear (2015).

    python launch.py --config configs/deepdream.py --config.content=photo.jpg

Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, 2015, and the notebook
released with it.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    return common.variant_of(
        _default(),
        arg,
        {"smoke": _smoke, "reference": _reference, "guided": _guided, "zoom": _zoom},
    )


def _default() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.experiment = "dream"
    config.content = "skimage/chelsea"  # a file, or a picture of scikit-image
    config.size = "512"  # longer side of the result, pixels; or 'original'
    config.margin = 32  # pixels dreamt beyond each border and cut off, where the jitter wraps
    config.guide = ""  # a picture whose features are dreamt; '' is without
    config.guide_size = 256  # its longer side, pixels
    config.frames = 1  # more are a zoom
    config.zoom = 1.05  # of each frame into the one before
    config.seed = 0

    config.dream = ml_collections.ConfigDict()
    config.dream.layers = ("relu4_2", "relu5_1")
    config.dream.layer_weights = (2.0, 1.0)  # one a layer; () is alike
    config.dream.channel = -1  # this one of every layer only; -1 is all
    config.dream.normalize = "scale_free"  # or google
    config.dream.octaves = 4
    config.dream.octave_scale = 1.5
    config.dream.steps = 12  # in each octave
    config.dream.step_size = 1 / 255  # mean absolute change of a step
    config.dream.jitter = 32  # pixels
    config.dream.bands = 3  # of the gradient, made equally strong; 0 takes it as it is
    config.dream.tv = 0.0

    config.features = common.loss_network()
    return config


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.size = "48"
    config.margin = 2
    config.frames = 2
    config.dream.layers = ("relu3_1",)
    config.dream.layer_weights = ()
    config.dream.octaves = 2
    config.dream.steps = 2
    config.dream.jitter = 4


def _reference(config: ml_collections.ConfigDict) -> None:
    config.margin = 0
    config.dream.layers = ("relu5_1",)
    config.dream.layer_weights = ()
    config.dream.normalize = "google"
    config.dream.octaves = 4
    config.dream.steps = 10
    config.dream.step_size = 1.5 / 255
    config.dream.bands = 0
    config.features.name = "vgg19"


def _guided(config: ml_collections.ConfigDict) -> None:
    config.guide = "starry"
    config.dream.layers = ("relu3_3",)
    config.dream.layer_weights = ()


def _zoom(config: ml_collections.ConfigDict) -> None:
    config.size = "384"
    config.frames = 60
    config.dream.octaves = 3
    config.dream.steps = 4
