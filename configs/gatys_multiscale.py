"""One picture from coarse to fine: sqrt-2 scales, optimal transport of features, averaged iterates.

    python launch.py --config configs/gatys_multiscale.py --config.content=photo.jpg --config.style=painting.jpg

After Katherine Crowson's `style-transfer-pytorch` (2020-2022, code). The picture is painted at 128 pixels first, then at
sizes that grow by the square root of 2; each begins with the average of the iterates of the one before, and Adam goes on
where it was. The style is the mean and the covariance of the features, compared by the Wasserstein-2 distance of
Gaussians. Large shapes of the painting appear as well as its strokes, which one size alone does not give.

Default: 512 px, 5 scales, 90 seconds and 1.1 GB on two CPU cores with the embedded network.

Variants (`configs/gatys_multiscale.py:NAME`):

* `smoke`: a tiny picture of two scales and a few steps, seconds.
* `reference`: the numbers of the code: VGG-19 (torchvision), content 0.015, style weights 256, 64, 16, 4, 1 for relu1_1 to
  relu5_1, total variation 2, 1000 steps at the first scale and 500 at the others, Adam 0.02 with decays 0.9 and 0.99.

The reference's total variation also compares diagonal neighbors, with half the weight all in all; here it is the mean of
squared differences to the right and down. Its first convolution alone pads by replication; here all do.
"""  # noqa: E501

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    config = common.per_image()
    config.scales.smallest = 128
    config.scales.first_steps = 200
    config.steps = 100
    config.save_every = 50
    config.objective.style_statistic = "wasserstein"
    config.objective.alpha = 0.15
    config.objective.tv = 1.0
    config.solver.optimizer = "adam"
    config.solver.learning_rate = 0.02
    config.solver.decay = (0.9, 0.99)
    config.solver.average = 0.99
    return common.variant_of(config, arg, {"smoke": _smoke, "reference": _reference})


def _smoke(config: ml_collections.ConfigDict) -> None:
    common.tiny(config)
    config.scales.smallest = 32
    config.scales.first_steps = 4


def _reference(config: ml_collections.ConfigDict) -> None:
    config.scales.first_steps = 1000
    config.steps = 500
    config.save_every = 100
    config.margin = 0
    config.objective.alpha = 0.015
    config.objective.content_normalize = "mean"
    config.objective.beta = 1.0
    config.objective.style_layer_weights = (256.0, 64.0, 16.0, 4.0, 1.0)
    config.objective.style_normalize = "crowson"
    config.objective.tv = 2.0
    config.features.name = "vgg19-torchvision"
    config.features.padding = "replicate"
