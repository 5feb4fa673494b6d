"""Four style networks trained together: as many paintings, or one painting in four weightings.

    python launch.py --config configs/starry_many.py

One program trains them all on the same photographs, whose content is looked at once; the loss
network sees the pictures of all networks as one batch. Each learns what it would learn alone.
About 10 minutes on two CPU cores (0.7 s a step; 17 minutes beside other programs) and 2.7 GB. On a
GPU the gain should be larger, as one network's batch does not fill it; not measured.

Expect our own painting's strokes, blues and yellows; brown and white tissue; pebbles; blades of
grass. Gray styles come out a little tinted.

Every tuple of `style` and the weights has one entry for each network, or one that serves all:

    --config.style.images="('starry', 'my.jpg', 'skimage/ihc')"
    --config.style.images="('my.jpg',)" --config.style.weights="(2.0, 4.0, 8.0)"

WORKDIR/models is then a folder of models: `python -m jaxstyle stylize PHOTOS --model WORKDIR/models
--out OUT` paints every photograph in every style.

Variants (`configs/starry_many.py:NAME`):

* `weights`: our own painting with four weights of the style, 0.5 to 13.5.
* `sizes`: our own painting in four sizes, 192 to 648 pixels: from fine to broad strokes.
* `smoke`: two tiny networks, a few steps, seconds; the pictures are meaningless.

Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016,
arXiv:1603.08155, for each network; the settings are those of `configs/starry_fast.py`, at fewer
steps and smaller crops.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    variants = {"smoke": _smoke, "weights": _weights, "sizes": _sizes}
    return common.variant_of(_default(), arg, variants)


def _default() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.experiment = "train_many"
    config.seed = 0
    config.steps = 800
    config.precision = "auto"  # of the networks: float32, bfloat16; auto is by device
    config.names = ()  # of the networks and their folders; () is by picture, and what differs
    config.formulation = ""  # unrolled or vmap; '' is what is fast on the device

    config.style = ml_collections.ConfigDict()
    # Our own painting and pictures of scikit-image; files; or see `jaxstyle paintings`.
    config.style.images = ("starry", "skimage/ihc", "skimage/gravel", "skimage/grass")
    config.style.sizes = (384,)  # shorter side, pixels
    config.style.weights = (4.5,)
    config.style.layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    config.style.layer_weights = (0.9, 1.8, 1.6, 0.5, 0.2)  # shares, one a layer; () is alike
    config.style.statistic = "moments"  # or gram
    config.style.normalize = "scale_free"

    config.content = ml_collections.ConfigDict()
    config.content.weights = (3.6,)
    config.content.layers = ("relu3_3", "relu4_1")
    config.content.layer_weights = (0.6, 0.4)
    config.content.normalize = "scale_free"

    config.tv = ml_collections.ConfigDict()
    config.tv.weights = (4.0,)
    config.tv.kind = "mean"  # or l1

    config.features = common.loss_network()

    config.data = ml_collections.ConfigDict()
    config.data.photos = ""  # '' is scikit-image's bundled photographs; a folder or a zip
    config.data.size = 128
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
    config.checkpoint.every = 100
    config.checkpoint.keep = 2
    config.checkpoint.restore = ""  # a model's folder or its run's, that all networks start from

    config.samples = ml_collections.ConfigDict()
    config.samples.photos = ""  # stylized at the end: '' is scikit-image's, else a folder or zip
    config.samples.count = 4
    config.samples.size = 384  # shorter side, pixels
    return config


def _weights(config: ml_collections.ConfigDict) -> None:
    config.style.images = ("starry",)
    config.style.weights = (0.5, 1.5, 4.5, 13.5)


def _sizes(config: ml_collections.ConfigDict) -> None:
    config.style.images = ("starry",)
    config.style.sizes = (192, 288, 432, 648)


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.steps = 4
    config.style.images = ("starry", "skimage/gravel")
    config.style.sizes = (64,)
    config.style.weights = (4.5, 3.0)
    config.data.size = 32
    config.data.batch = 2
    config.network.widths = (4, 6, 8)
    config.network.blocks = 1
    config.log_every = 2
    config.checkpoint.every = 2
    config.samples.count = 2
    config.samples.size = 64
