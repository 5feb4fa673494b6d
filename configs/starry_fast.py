"""A real-time style network for one painting (Johnson et al. 2016), small enough for a laptop.

    python launch.py --config configs/starry_fast.py

trains on the photographs and the painting that ship with the packages: 6 minutes and 1.5 GB on
two CPU cores. Expect brush strokes that follow the photo's edges, the painting's blues and
yellows, stars where the photo is bright, calm where it is calm; no frame, no checkerboard.

Variants (`configs/starry_fast.py:NAME`):

* `smoke`: a few steps of a tiny network, seconds; the picture is meaningless.
* `full`: the recipe for a GPU: VGG-16, a folder or zip of photographs such as COCO
  (`--config.data.photos=DIR`), 256 px, batch 4, 40 000 steps, Adam at 1e-3, full widths; the
  objective of the default. On a CPU it takes days.
* `paper`: Johnson, Alahi, Fei-Fei, Perceptual Losses for Real-Time Style Transfer and
  Super-Resolution, 2016, arXiv:1603.08155, section 4.1 and supplement.
* `reference`: the defaults of the authors' released code.

| | paper | reference |
|---|---|---|
| content layer | relu2_2 | relu3_3 |
| norm | batch | instance |
| padding | reflect 40 at the start, valid residuals | the same |
| output | scaled tanh | 150 tanh, the mean added |
| widths | 32, 64, 128 | 16, 32, 64 in the released instance-norm models; 32, 64, 128 in training |
| content distance | squared, divided by its size | the same, as a mean |
| style distance | Gram / (C H W), squared Frobenius norm | Gram / (C H W), mean of squares |
| TV | 1e-6 to 1e-4 by style; here 1e-6 | 1e-6, in the gradient only; here it is reported too |
| style picture | 256 px | 256 px (its documentation: 384) |

Both: VGG-16 in the Caffe convention, style relu1_2, 2_2, 3_3, 4_3, max pooling, Adam 1e-3, batch 4,
40 000 steps at 256 px. Weights of the two are on the scale of 0-255 pixels with the mean
subtracted, as VGG's Caffe convention gives; they do not carry over to the scale-free objective.
"""

import ml_collections

from configs import common

VARIANTS = ("smoke", "full", "paper", "reference")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    variant = common.choose_variant(arg, VARIANTS)
    config = _default()
    {"": lambda c: None, "smoke": _smoke, "full": _full, "paper": _paper, "reference": _reference}[
        variant
    ](config)
    return common.locked(config)


def _default() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.experiment = "train_feedforward"
    config.seed = 0
    config.steps = 1400
    config.precision = "auto"  # of the networks: float32, bfloat16; auto is by device

    config.style = ml_collections.ConfigDict()
    config.style.image = "starry"  # our own painting; a file; or see `jaxstyle paintings`
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
    config.features.name = "embedded"  # or vgg16, vgg19
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


def _full(config: ml_collections.ConfigDict) -> None:
    config.steps = 40_000
    config.style.size = 384
    config.style.layers = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    config.style.layer_weights = ()
    config.content.layers = ("relu3_3",)
    config.content.layer_weights = ()
    config.features.name = "vgg16"
    config.data.size = 256
    config.data.scale = (1.0, 1.5)
    config.data.workers = 4
    config.network.widths = (32, 64, 128)
    config.optimizer.schedule = "constant"
    config.optimizer.learning_rate = 1e-3
    config.log_every = 100
    config.checkpoint.every = 1000


def _paper(config: ml_collections.ConfigDict) -> None:
    _full(config)
    config.style.size = 256
    config.style.statistic = "gram"
    config.style.normalize = "johnson"
    config.style.weight = 4 * 5.0  # 5 for each layer
    config.content.layers = ("relu2_2",)
    config.content.weight = 1.0
    config.content.normalize = "johnson"
    config.tv.kind = "johnson"
    config.tv.weight = 1e-6 * 255**2  # of pixels in [0, 255]; here they are in [0, 1]
    config.data.scale = (1.0, 1.0)
    config.data.flip = False
    config.network.norm = "batch"
    config.network.upsampling = "transposed"
    config.network.padding = "reflect_start"
    config.network.output = "tanh"
    config.network.value_range = 255.0
    config.network.input_mean = (123.68, 116.779, 103.939)
    config.network.output_scale = 150.0
    config.network.output_mean = (123.68, 116.779, 103.939)


def _reference(config: ml_collections.ConfigDict) -> None:
    _paper(config)
    config.content.layers = ("relu3_3",)
    config.style.normalize = "johnson_code"
    config.content.normalize = "johnson_code"
    config.tv.kind = "johnson_code"
    config.tv.weight = 4 * 1e-6 * 255**2  # their code adds it to each image, not to the mean
    config.network.norm = "instance"
