"""DeepDream: what a network sees in a photograph becomes stronger until it is there (2015).

    python launch.py --config configs/deepdream.py --config.content=photo.jpg

Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, 2015, and the notebook
released with it (google/deepdream).

Default: 512 px, 4 octaves of 12 steps with the embedded network; 9 seconds and 0.7 GB on two CPU
cores once the programs are compiled, which takes the first run another 18 seconds of processor
time. 1024 px with 6 octaves of 16 steps take 84 seconds of processor time and 1.4 GB. Expect eyes,
beaks and snouts in rows wherever the photograph has an edge, small ones within large ones, in
strong but not garish colors; flat areas get ripples.

Variants (`configs/deepdream.py:NAME`):

* `smoke`: two tiny frames and a few steps, seconds.
* `reference`: the notebook's numbers.
* `guided`: the features of a painting instead of the photograph's own; 18 seconds. Expect its
  colors and strokes along the photograph's shapes.
* `zoom`: 60 frames of 384 px, each dreamt of the middle of the one before; about 3 seconds a frame.

| | default | reference | the notebook |
|---|---|---|---|
| network | embedded | VGG-19, zero padding | GoogLeNet |
| layers | relu4_2 twice, relu5_1 once | relu5_1 | inception_4c/output |
| of that layer | stride 8 and 16, 128 and 64 channels | stride 16, 512 channels | stride 16, 512 channels |
| loss | minus mean of squares, relative to the photograph's | minus half the sum of squares | the same |
| step | 1 | 1.5, over the gradient's mean size | the same |
| octaves | 4, scale 1.5 | 4, scale 1.4 | the same |
| steps in each | 12 | 10 | the same |
| jitter | 32 | 32 | the same |
| gradient | in 4 bands of one strength | as it is | the same |
| borders | 32 pixels of reflection, cut off | none | none |
| colors | half the photograph's statistics | as they come | as they come |
| resizing | cubic, from the photograph | the same | linear, from the octave before |

Steps are of pixels from 0 to 255. VGG's pictures are not GoogLeNet's: expect eyes and shells, where
the notebook has dogs and pagodas. The notebook enlarges each frame of a zoom by 1 / 0.95 and dreams
it with all 4 octaves of 10 steps; `zoom` does less to each, and keeps its colors.
"""  # noqa: E501

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
    config.keep_colors = 0.5  # share of the picture's own mean color and covariance; 0 is garish
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
    config.keep_colors = 0.0
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
    config.keep_colors = 0.0
    config.dream.layers = ("relu3_1",)
    config.dream.layer_weights = ()
    config.dream.step_size = 0.6 / 255


def _zoom(config: ml_collections.ConfigDict) -> None:
    config.size = "384"
    config.frames = 60
    config.keep_colors = 0.8
    config.dream.octaves = 3
    config.dream.steps = 4
