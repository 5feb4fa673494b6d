"""One photograph in the style of one painting, by optimizing its pixels (Gatys et al. 2016).

    python launch.py --config configs/gatys.py --config.content=photo.jpg --config.style=painting.jpg

Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016. Without
`content` and `style` a photograph of scikit-image's gets the style of our own painting.

Default: 512 px, 300 steps of L-BFGS from the photograph with the embedded network; about 6 minutes
and 2 GB on two CPU cores. Expect the painting's palette and strokes everywhere, the photograph's
shapes still readable. With VGG-19 (`--config.features.name=vgg19`) strokes are finer and everything
takes about ten times as long.

Variants (`configs/gatys.py:NAME`):

* `smoke`: a tiny picture and a few steps, seconds.
* `paper`: the article's section 2 and 3.
* `reference`: the notebook its authors released.
* `jcjohnson`: the defaults of jcjohnson/neural-style.

| | paper | reference | jcjohnson |
|---|---|---|---|
| network | VGG-19, average pooling | VGG-19, max pooling | VGG-19, max pooling |
| content | relu4_2 | relu4_2 | relu4_2 |
| style | relu1_1 to relu5_1, each 1/5 | the same, each 1000 / c^2 | the same, each 1 |
| content distance | half the sum of squares | mean of squares | mean of squares |
| style distance | sum of squares of F F^T, divided by 4 c^2 (h w)^2 | mean of squares of F F^T / (h w) | mean of squares of F F^T / (c h w) |
| weights | alpha 1, beta 1000 | alpha 1, beta 1 by layer | alpha 5, beta 100 a layer, TV 1e-3 |
| starts from | noise | the photograph | noise |
| size | 512 | 512, shorter side | 512, longer side |
| optimizer | L-BFGS | L-BFGS, 500 evaluations | L-BFGS, 1000 iterations |

The papers' weights are for VGG's Caffe input of 0 to 255; features are of that range here too.
"""  # noqa: E501

import ml_collections

from configs import common

VARIANTS = ("smoke", "paper", "reference", "jcjohnson")
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the recipe, or one of its variants."""
    variant = common.choose_variant(arg, VARIANTS)
    config = _default()
    {
        "": lambda c: None,
        "smoke": _smoke,
        "paper": _paper,
        "reference": _reference,
        "jcjohnson": _jcjohnson,
    }[variant](config)
    return common.locked(config)


def _default() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.experiment = "paint_picture"
    config.content = ""  # a picture; '' is scikit-image's chelsea
    config.style = "starry"  # our own painting; a file; or see `jaxstyle paintings`
    config.size = "512"  # longer side of the result, pixels; or 'original'
    config.style_scale = 1.0  # longer side of the painting, in that of the result
    config.margin = 16  # pixels painted beyond each border and cut off, where noise gathers
    config.start = "content"  # or style, noise, gray
    config.seed = 0
    config.steps = 300
    config.save_every = 100  # steps between checkpoints and intermediate pictures

    config.objective = ml_collections.ConfigDict()
    config.objective.alpha = 0.15  # of the content, divided among its layers
    config.objective.beta = 5.0  # of the style, divided among its layers
    config.objective.tv = 1.0
    config.objective.content_layers = ("relu4_2",)
    config.objective.content_layer_weights = ()  # shares, one a layer; () is alike
    config.objective.content_normalize = "scale_free"
    config.objective.style_layers = STYLE_LAYERS
    config.objective.style_layer_weights = ()
    config.objective.style_statistic = "gram"  # or moments, wasserstein, sliced
    config.objective.style_normalize = "scale_free"
    config.objective.tv_kind = "mean"

    config.features = ml_collections.ConfigDict()
    config.features.name = "embedded"  # or vgg16, vgg19
    config.features.weights = ""  # a file, instead of the published one
    config.features.pooling = ""  # '' is the network's own; max or average
    config.features.padding = ""  # '' is the network's own; zero, reflect or replicate
    config.features.deep = ml_collections.ConfigDict()  # another network for some layers
    config.features.deep.name = ""
    config.features.deep.weights = ""
    config.features.deep.layers = ()

    config.solver = ml_collections.ConfigDict()
    config.solver.optimizer = "lbfgs"  # or adam
    config.solver.learning_rate = 1.0  # 0.02 is right for adam
    config.solver.schedule = "constant"  # or cosine, for adam
    config.solver.memory = 20  # pairs of vectors that L-BFGS keeps
    config.solver.line_search = "none"  # or zoom
    config.solver.parameters = (
        ""  # clipped, pixels or sigmoid; '' is sigmoid for lbfgs, clipped for adam
    )
    config.solver.average = 0.0  # decay of the average of iterates; 0 takes the last
    config.solver.tolerance = 0.0  # least relative progress in 20 steps; 0 goes on
    return config


def _smoke(config: ml_collections.ConfigDict) -> None:
    config.size = "48"
    config.margin = 2
    config.steps = 4
    config.save_every = 2


def _paper(config: ml_collections.ConfigDict) -> None:
    _reference(config)
    config.start = "noise"
    config.objective.beta = 5 * 1000 / 5
    config.objective.content_normalize = "gatys"
    config.objective.style_normalize = "gatys"
    config.objective.style_layer_weights = ()
    config.features.pooling = "average"


def _reference(config: ml_collections.ConfigDict) -> None:
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
    config.margin = 0


def _jcjohnson(config: ml_collections.ConfigDict) -> None:
    _reference(config)
    config.start = "noise"
    config.steps = 1000
    config.objective.alpha = 5.0
    config.objective.style_normalize = "johnson_code"
    config.objective.style_layer_weights = ()
    config.objective.beta = 5 * 100.0
    config.objective.tv_kind = "johnson_code"  # half the sum of squares
    config.objective.tv = 1e-3 * 255**2  # of pixels in [0, 255]
