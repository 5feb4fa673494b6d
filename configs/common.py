"""What several configs share: the variant after the colon, and the settings of per-image runs."""

from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def choose_variant(arg: str | None, variants: Sequence[str]) -> str:
    """Return the variant named by `config.py:variant`, '' for none.

    Args:
      arg: what stands after the colon.
      variants: that the config has.

    Raises:
      ValueError: for an unknown variant.
    """
    name = arg or ""
    if name and name not in variants:
        raise ValueError(f"unknown variant '{name}'; this config has {', '.join(variants)}")
    return name


def locked(config: ConfigDict) -> ConfigDict:
    """Return the config, refusing keys it does not have."""
    return config.lock()


def variant_of(
    config: ConfigDict, arg: str | None, variants: Mapping[str, Callable[[ConfigDict], None]]
) -> ConfigDict:
    """Return a default changed into one of its variants, locked.

    Args:
      config: the default.
      arg: what stands after the colon.
      variants: what changes it, by name.

    Raises:
      ValueError: for an unknown variant.
    """
    name = choose_variant(arg, tuple(variants))
    if name:
        variants[name](config)
    return locked(config)


def per_image() -> ConfigDict:
    """Return the settings of a picture that is optimized; `configs/gatys.py` as it stands."""
    config = ConfigDict()
    config.experiment = "paint_picture"
    config.content = "skimage/chelsea"  # a file, or a picture of scikit-image; none: a canvas
    config.style = "starry"  # our own painting; a file; or see `jaxstyle paintings`
    config.size = "512"  # longer side of the result, pixels; 'original'; of a canvas also 384x256
    config.style_scale = 1.0  # longer side of the painting, in that of the result
    config.style_weights = ()  # of several styles; () is alike
    config.masks = ()  # where in the content each style goes: files, '' everywhere, 'rest'
    config.style_masks = ()  # where in its picture each style is
    config.mask_mode = "simple"  # which neurons belong to a region; or inside, all
    config.mask_grow = 0  # pixels by which regions are widened
    config.margin = 16  # pixels painted beyond each border and cut off, where noise gathers
    config.seamless = False  # right continues left, and top below
    config.start = "content"  # or style, noise, gray, or a picture
    config.seed = 0
    config.steps = 300  # of each scale
    config.save_every = 100  # steps between checkpoints and intermediate pictures

    config.scales = ConfigDict()  # from coarse to fine
    config.scales.smallest = 0  # longer side of the first, pixels; 0 paints in one size
    config.scales.ratio = 2**0.5  # of one to the one before
    config.scales.first_steps = 0  # of the first; 0 is `steps`

    config.color = ConfigDict()
    config.color.style = ""  # content's colors for the style first: cholesky, pca, symmetric,
    # histogram; or luminance, to paint with brightness alone
    config.color.result = ""  # content's colors for the result: luminance, match, histogram; or
    # style, the style's histogram

    config.objective = ConfigDict()
    config.objective.alpha = 0.15  # of the content, divided among its layers
    config.objective.beta = 5.0  # of the style, divided among its layers
    config.objective.tv = 1.0
    config.objective.content_layers = ("relu4_2",)  # () asks for no content
    config.objective.content_layer_weights = ()  # shares, one a layer; () is by `weighting`
    config.objective.content_normalize = "scale_free"
    config.objective.style_layers = STYLE_LAYERS
    config.objective.style_layer_weights = ()
    config.objective.style_statistic = "gram"  # or moments, wasserstein, sliced, patches
    config.objective.style_normalize = "scale_free"
    config.objective.weighting = "equal"  # or geometric
    config.objective.shift = 0.0  # added to maps before a Gram matrix is taken
    config.objective.chain = 0.0  # weight of the correlations of each style layer with the next
    config.objective.chain_blur = 0.0  # of the deeper layer's maps in it
    config.objective.patch_size = 3
    config.objective.patch_stride = 2
    config.objective.tv_kind = "mean"
    config.patch_turns = ()  # degrees; the style's patches are also taken of it turned

    config.features = loss_network()
    config.features.devices = 1  # that the picture's rows are divided among; 0 is all there are
    config.features.rows = 0  # of a strip, for pictures too large for the memory; 64 as a rule
    config.features.dtype = "float32"  # or bfloat16, half the memory and 3 digits; auto: by device
    config.features.remat = False  # compute twice what would be kept for the gradient
    config.solver = ConfigDict()
    config.solver.optimizer = "lbfgs"  # or adam
    config.solver.learning_rate = 1.0  # 0.02 is right for adam
    config.solver.schedule = "constant"  # or cosine, for adam
    config.solver.decay = (0.9, 0.999)  # of adam
    config.solver.memory = 20  # pairs of vectors that L-BFGS keeps
    config.solver.line_search = "none"  # or zoom
    config.solver.parameters = (
        ""  # clipped, pixels or sigmoid; '' is sigmoid for lbfgs, else clipped
    )
    config.solver.average = 0.0  # decay of the average of iterates; 0 takes the last
    config.solver.tolerance = 0.0  # least relative progress in 20 steps; 0 goes on
    return config


def loss_network() -> ConfigDict:
    """Return the settings of the network that judges pictures."""
    config = ConfigDict()
    config.name = "embedded"  # or vgg16, vgg19
    config.weights = ""  # a file, instead of the published one
    config.pooling = ""  # '' is the network's own; max or average
    config.padding = ""  # '' is the network's own; zero, reflect, replicate or circular
    config.deep = ConfigDict()  # another network for some layers
    config.deep.name = ""
    config.deep.weights = ""
    config.deep.layers = ()
    return config


def tiny(config: ConfigDict) -> None:
    """Change a per-image run into one of seconds."""
    config.size = "48"
    config.margin = 2
    config.steps = 4
    config.save_every = 2
