"""The models that ship with jaxstyle, but for `starry`, which `configs/starry_fast.py` trains.

    python launch.py --config configs/shipped_models.py:starry-night --config.data.photos=DIR

As `configs/starry_fast.py` in its default form, with VGG-19 itself as the loss network and
photographs of your own; about 0.5 s a step on two CPU cores, where it takes a quarter of an hour. A
small network can stand in for the deep layers, which cost the most and say the least about strokes:

    --config.features.deep.weights=FILE --config.features.deep.layers="('relu4_1', 'relu5_1')"

Variants (`configs/shipped_models.py:NAME`) are paintings in the public domain, fetched by name from
Wikimedia Commons; `--config.style.image=FILE` takes a copy of your own:

* `starry-night`: Vincent van Gogh, The Starry Night, 1889; also without a variant.
* `great-wave`: Katsushika Hokusai, The Great Wave off Kanagawa, about 1831.
* `scream`: Edvard Munch, The Scream, 1893.
* `smoke`: a few steps of a tiny network on our own painting, seconds; the picture is meaningless.

Expect the painting's palette and strokes on the photograph's outlines. Johnson, Alahi, Fei-Fei,
Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016, arXiv:1603.08155.
"""

import ml_collections

from configs import common

PAINTINGS = ("starry-night", "great-wave", "scream")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe for one painting."""
    variant = common.choose_variant(arg, ("smoke", *PAINTINGS))
    config = _default()
    if variant == "smoke":
        _smoke(config)
    elif variant:
        config.style.image = variant
    return common.locked(config)


def _default() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.experiment = "train_feedforward"
    config.seed = 0
    config.steps = 1600
    config.precision = "auto"  # of the networks: float32, bfloat16; auto is by device

    config.style = ml_collections.ConfigDict()
    config.style.image = "starry-night"  # a name, see `jaxstyle paintings`, or a file
    config.style.size = 384  # shorter side, pixels
    config.style.layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    config.style.layer_weights = (0.9, 1.8, 1.6, 0.5, 0.2)  # shares, one a layer; () is alike
    config.style.statistic = "moments"  # or gram
    config.style.normalize = "scale_free"
    config.style.weight = 4.5

    config.content = ml_collections.ConfigDict()
    config.content.layers = ("relu3_3", "relu4_1")
    config.content.layer_weights = (0.6, 0.4)
    config.content.normalize = "scale_free"
    config.content.weight = 3.6

    config.tv = ml_collections.ConfigDict()
    config.tv.kind = "mean"  # or l1
    config.tv.weight = 4.0

    config.features = ml_collections.ConfigDict()
    config.features.name = "vgg19"  # or vgg16, embedded
    config.features.weights = ""  # a file, instead of the published one
    config.features.pooling = ""  # '' is the network's own; max or average
    config.features.padding = ""  # '' is the network's own; zero, reflect or replicate

    # Another network for some layers, e.g. a small one for the deep layers: its name ('' is the
    # same), file and layers.
    config.features.deep = ml_collections.ConfigDict()
    config.features.deep.name = ""
    config.features.deep.weights = ""
    config.features.deep.layers = ()

    config.data = ml_collections.ConfigDict()
    config.data.photos = ""  # '' is scikit-image's bundled photographs; a folder or a zip
    config.data.size = 144
    config.data.batch = 4
    config.data.scale = (1.0, 1.8)  # shorter side before the crop, in crop sizes
    config.data.flip = True
    config.data.workers = 0  # processes that decode; 0 decodes in threads

    config.network = ml_collections.ConfigDict()
    config.network.widths = (16, 32, 64)
    config.network.blocks = 5
    config.network.norm = "instance"
    config.network.upsampling = "nearest"
    config.network.padding = "reflect"
    config.network.output = "sigmoid"
    config.network.value_range = 1.0
    config.network.input_mean = (0.0, 0.0, 0.0)
    config.network.output_scale = 1.0
    config.network.output_mean = (0.0, 0.0, 0.0)

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.schedule = "one_cycle"  # or cosine, constant
    config.optimizer.learning_rate = 5e-3  # its peak

    config.log_every = 20
    config.checkpoint = ml_collections.ConfigDict()
    config.checkpoint.every = 200
    config.checkpoint.keep = 2
    config.checkpoint.restore = ""  # a run's folder or a model's, to start from its parameters

    config.samples = ml_collections.ConfigDict()
    config.samples.photos = ""  # stylized at the end: '' is scikit-image's, else a folder or zip
    config.samples.count = 6
    config.samples.size = 384  # shorter side, pixels
    return config


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.style.image = "starry"  # our own painting
    config.features.name = "embedded"
    config.steps = 4
    config.style.size = 64
    config.data.size = 32
    config.data.batch = 2
    config.network.widths = (4, 6, 8)
    config.network.blocks = 1
    config.log_every = 2
    config.checkpoint.every = 2
    config.samples.count = 2
    config.samples.size = 64
