"""DeepDream: what a network sees in a picture becomes stronger, from coarse to fine (2015)."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle import features, images, losses
from jaxstyle.types import Array, InputError, Params

LAYERS = ("relu4_3", "relu5_1")

_SMALLEST = 16  # shorter side of an octave: what the fifth block needs
_TINY = 1e-30  # a gradient of zeros stays one


class Recipe(NamedTuple):
    """How a picture is dreamt; nothing in it is traced.

    Attributes:
      network: the row of the table the parameters belong to, or two joined.
      layers: that are to be stronger.
      channel: this one only, of every layer; all without it.
      guided: whether the features of a guide are asked for.
      normalize: see `losses.activation`.
      octaves: how many sizes.
      octave_scale: of one size to the one before.
      steps: in each size.
      jitter: the picture is rolled by up to so many pixels before every step.
      bands: bands of the gradient that are made equally strong, besides the coarsest; 0 takes it as
        it is.
    """

    network: features.Network | features.Joined
    layers: tuple[str, ...] = LAYERS
    channel: int | None = None
    guided: bool = False
    normalize: str = "scale_free"
    octaves: int = 4
    octave_scale: float = 1.4
    steps: int = 10
    jitter: int = 32
    bands: int = 4


class Context(NamedTuple):
    """What the steps are given besides the picture: arrays, all of which a sweep may vary.

    Attributes:
      params: of the network.
      guide: targets of the guide; empty without one.
      weights: of the layers, `[n]`.
      tv: weight of the total variation.
      step_size: mean absolute change of a step.
    """

    params: Params
    guide: losses.Targets
    weights: Array
    tv: Array
    step_size: Array


class Dream(NamedTuple):
    """A finished picture.

    Attributes:
      image: `[h, w, 3]`, sRGB in [0, 1].
      octaves: the picture after every octave, each in its size; the last is `image`.
      history: the loss before each step, `[octaves, steps]`; it falls as activations rise.
    """

    image: Array
    octaves: tuple[Array, ...]
    history: Array


def deepdream(
    image: Array,
    perception: tuple[Params, features.Network | features.Joined],
    *,
    layers: Sequence[str] = LAYERS,
    layer_weights: Sequence[float] | Array | None = None,
    channel: int | None = None,
    guide: Array | None = None,
    normalize: str = "scale_free",
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    step_size: float | Array = 1.5 / 255,
    jitter: int = 32,
    bands: int = 4,
    tv_weight: float | Array = 0.0,
    keep_colors: float | Array = 0.0,
    seed: int | Array = 0,
) -> Dream:
    """Dream: strengthen whatever layers of a network see in a picture.

    The picture is made small, changed, enlarged again and changed in every size; what was added
    (the detail) is carried from one size to the next, while the picture itself is always taken
    from the original. Pure, so `jax.jit` and `jax.vmap` apply; called as it is, the steps of an
    octave run as one compiled program.

    Args:
      image: `[h, w, 3]`, sRGB in [0, 1].
      perception: parameters and network, as `jaxstyle.load_weights` returns them.
      layers: names such as 'relu4_3'; shallow ones give strokes, deep ones objects.
      layer_weights: one a layer, `[n]`; alike without it.
      channel: only this one of every layer.
      guide: `[h', w', 3]`; every position is drawn to the guide's features most like its own.
      normalize: see `losses.activation`.
      octaves: how many sizes, the last is the picture's.
      octave_scale: of one size to the one before.
      steps: in each size.
      step_size: mean absolute change of a pixel in a step.
      jitter: before each step the picture is rolled by up to so many pixels, and back after it, so
        that no pattern is bound to where the network pools.
      bands: bands of the gradient, an octave wide each, that are made equally strong, so that
        coarse changes are not drowned in fine ones; 0 takes the gradient as it is.
      tv_weight: of the total variation, beside layers that sum to 1.
      keep_colors: see `with_colors_of`; dreams are garish where it is 0.
      seed: of the jitter.

    Returns:
      The dream.

    Raises:
      InputError: unknown layers, a channel that one does not have, numbers below what makes sense,
        octaves too small for a network, or a channel and a guide together.

    Example:
      >>> from jaxstyle import load_weights
      >>> photo = jax.random.uniform(jax.random.key(0), (24, 32, 3))
      >>> dream = deepdream(photo, load_weights(), layers=('relu2_1',), octaves=2, steps=2)
      >>> [picture.shape for picture in dream.octaves], dream.history.shape
      ([(17, 23, 3), (24, 32, 3)], (2, 2))

    References:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, 2015, and the
      notebook released with it (google/deepdream).
    Differs from the paper: pictures are resized with a cubic kernel, each from the original; the
      notebook has no bands (`bands=0`), which come from TensorFlow's DeepDream tutorial of 2016,
      where they are a pyramid of halved pictures.
    """
    params, network = perception
    recipe = Recipe(
        network,
        tuple(layers),
        channel,
        guide is not None,
        normalize,
        octaves,
        octave_scale,
        steps,
        jitter,
        bands,
    )
    context = prepare_dream(
        params, recipe, guide=guide, weights=layer_weights, tv=tv_weight, step_size=step_size
    )
    pictures: list[Array] = []
    history = []
    for octave, _ in enumerate(
        octave_sizes(image.shape[-3], image.shape[-2], octaves, octave_scale)
    ):
        before = pictures[-1] if pictures else None
        picture, values = dream_octave(image, before, context, seed, recipe=recipe, octave=octave)
        pictures.append(picture)
        history.append(values)
    finished = tuple(with_colors_of(image, picture, keep_colors) for picture in pictures)
    return Dream(finished[-1], finished, jnp.stack(history))


def octave_sizes(
    height: int, width: int, octaves: int, octave_scale: float
) -> tuple[tuple[int, int], ...]:
    """Return height and width of every octave, the smallest first.

    Args:
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      octaves: how many, at least 1.
      octave_scale: of one size to the one before, above 1.

    Raises:
      InputError: other numbers, or a smallest octave below 16 pixels.

    Example:
      >>> octave_sizes(300, 400, 3, 1.5)
      ((133, 178), (200, 267), (300, 400))
    """
    if octaves < 1:
        raise InputError(f"octaves is {octaves}; at least 1 is needed.")
    if not 1 < octave_scale < math.inf:
        raise InputError(f"octave_scale is {octave_scale}; choose one above 1, e.g. 1.4.")
    scales = [octave_scale**-k for k in reversed(range(octaves))]
    sizes = [(_side(height, scale), _side(width, scale)) for scale in scales]
    if min(sizes[0]) < _SMALLEST:
        most = 1 + math.floor(math.log(max(1.0, min(height, width) / _SMALLEST), octave_scale))
        raise InputError(
            f"the smallest of {octaves} octaves would be {sizes[0][1]}x{sizes[0][0]} pixels, but "
            f"{_SMALLEST} each way are needed: choose at most {most} octaves or a larger picture."
            if min(height, width) >= _SMALLEST
            else f"the picture is {width}x{height} pixels; {_SMALLEST} each way are needed: choose "
            "a larger size or picture."
        )
    return tuple(sizes)


def _side(side: int, scale: float) -> int:
    return math.floor(side * scale + 0.5)


def prepare_dream(
    params: Params,
    recipe: Recipe,
    *,
    guide: Array | None = None,
    weights: Sequence[float] | Array | None = None,
    tv: float | Array = 0.0,
    step_size: float | Array = 1.5 / 255,
) -> Context:
    """Return what the steps are given besides the picture.

    Args:
      params: of the recipe's network.
      recipe: how to dream.
      guide: `[h', w', 3]`, for a recipe that is guided.
      weights: one a layer; alike without them. They are divided by their sum.
      tv: weight of the total variation.
      step_size: mean absolute change of a step.

    Raises:
      InputError: settings that make no sense or do not fit together.
    """
    for name, number, least in (
        ("steps", recipe.steps, 1),
        ("jitter", recipe.jitter, 0),
        ("bands", recipe.bands, 0),
    ):
        if number < least:
            raise InputError(f"{name} is {number}; at least {least} is needed.")
    if recipe.guided != (guide is not None):
        raise InputError("a guided recipe and a guide go together; give both or neither.")
    if recipe.guided and recipe.channel is not None:
        raise InputError("a guide and a channel were given; a guided dream takes all channels.")
    shares = jnp.ones(len(recipe.layers)) if weights is None else jnp.asarray(weights, jnp.float32)
    if shares.shape != (len(recipe.layers),):
        raise InputError(
            f"layer_weights have the shape {shares.shape} for {len(recipe.layers)} layers; give "
            "one for each."
        )
    targets: losses.Targets = {}
    if guide is not None:
        maps = features.features(params, guide, recipe.layers, network=recipe.network)
        targets = _objective(recipe).prepare({"guide": maps})
    return Context(params, targets, shares / jnp.sum(shares), *map(jnp.float32, (tv, step_size)))


@functools.partial(jax.jit, static_argnames=("recipe", "octave"))
def dream_octave(
    image: Array,
    before: Array | None,
    context: Context,
    seed: int | Array,
    *,
    recipe: Recipe,
    octave: int,
) -> tuple[Array, Array]:
    """Do the steps of one octave, as one program without a word to the host.

    Args:
      image: the original, `[h, w, 3]`, sRGB in [0, 1].
      before: the picture after the octave before, in its size; None at the first.
      context: from `prepare_dream`.
      seed: of the jitter.
      recipe: how to dream.
      octave: which one, 0 is the smallest.

    Returns:
      The picture after it, in its size, and the loss before each step, `[steps]`.

    Raises:
      InputError: as `deepdream`.
    """
    sizes = octave_sizes(image.shape[-3], image.shape[-2], recipe.octaves, recipe.octave_scale)
    base = images.resize(image, sizes[octave])
    picture = base
    if before is not None:
        detail = before - images.resize(image, sizes[octave - 1])
        picture = base + images.resize(detail, sizes[octave])
    objective = _objective(recipe)

    def seen(picture: Array) -> losses.Targets:
        return features.features(context.params, picture, recipe.layers, network=recipe.network)

    targets = context.guide or objective.prepare({"content": seen(base)})
    weights = {f"dream/{layer}": context.weights[i] for i, layer in enumerate(recipe.layers)}

    def loss(picture: Array) -> Array:
        terms = objective.evaluate(picture, seen(picture), targets)
        return losses.weigh(terms, {**weights, "tv": context.tv})

    key = jax.random.fold_in(jax.random.key(seed), octave)

    def step(picture: Array, index: Array) -> tuple[Array, Array]:
        shift = jax.random.randint(
            jax.random.fold_in(key, index), (2,), -recipe.jitter, recipe.jitter + 1
        )
        value, gradient = jax.value_and_grad(loss)(images.roll2d(picture, shift))
        uphill = -images.roll2d(_balanced(gradient, recipe.bands), -shift)
        change = context.step_size * uphill / jnp.maximum(jnp.mean(jnp.abs(uphill)), _TINY)
        return jnp.clip(picture + change, 0.0, 1.0), value

    return jax.lax.scan(step, picture, jnp.arange(recipe.steps))


def _objective(recipe: Recipe) -> losses.Objective:
    if recipe.guided:
        wanted = losses.guided_activation(recipe.layers, recipe.normalize)
    else:
        wanted = losses.activation(recipe.layers, recipe.normalize, channel=recipe.channel)
    return losses.combine(wanted, losses.total_variation())


def _balanced(gradient: Array, bands: int) -> Array:
    """Divide a gradient into bands, from fine to coarse, and give each a mean square of 1."""
    if not bands:
        return gradient
    parts, rest = [], gradient
    for band in range(bands):
        coarser = images.gaussian_blur(gradient, 2.0**band)
        parts.append(rest - coarser)
        rest = coarser
    scaled = [p / jnp.maximum(jnp.sqrt(jnp.mean(p * p)), _TINY) for p in (*parts, rest)]
    return functools.reduce(jnp.add, scaled)


@jax.jit
def with_colors_of(original: Array, picture: Array, share: float | Array) -> Array:
    """Give a dream back some of the colors of what it is a dream of.

    Args:
      original: `[h, w, 3]`, sRGB in [0, 1], of any size.
      picture: `[h', w', 3]`, sRGB in [0, 1].
      share: 0 changes nothing; 1 gives the mean and the covariance of the original's colors
        (`images.match_colors`).

    Returns:
      `[h', w', 3]`, sRGB in [0, 1].

    Example:
      >>> gray, red = jnp.full((4, 4, 3), 0.5), jnp.zeros((4, 4, 3)).at[..., 0].set(1.0)
      >>> [round(v, 2) for v in with_colors_of(gray, red, 0.5)[0, 0].tolist()]
      [0.75, 0.25, 0.25]
    """
    matched = jnp.clip(images.match_colors(picture, original, mode="symmetric"), 0.0, 1.0)
    return picture + share * (matched - picture)


def zoom(image: Array, scale: float) -> Array:
    """Enlarge the middle of a picture to its whole size: from one frame of a zoom to the next.

    Args:
      image: `[h, w, 3]`, sRGB in [0, 1].
      scale: by how much, at least 1 (static); 1 changes nothing.

    Returns:
      `[h, w, 3]`, sRGB in [0, 1], resampled with a cubic kernel (`images.resize`'s).

    Raises:
      InputError: a scale below 1 or not finite.

    Example:
      >>> ramp = jnp.linspace(0, 1, 9)[None, :, None] * jnp.ones((9, 1, 3))
      >>> [round(float(v), 2) for v in zoom(ramp, 2.0)[4, 2:7, 0]]
      [0.38, 0.44, 0.5, 0.56, 0.62]

    References:
      The notebook of 2015 enlarges by 1 / 0.95, linearly.
    """
    if not 1 <= scale < math.inf:
        raise InputError(f"the zoom is {scale}; choose 1 or a little more, e.g. 1.05.")
    if scale == 1:
        return image
    middle = jnp.array(image.shape[-3:-1], jnp.float32) / 2
    factor = jnp.full(2, scale, jnp.float32)
    larger = jax.image.scale_and_translate(
        image, image.shape, (0, 1), factor, middle * (1 - factor), "cubic", antialias=False
    )
    return jnp.clip(larger, 0.0, 1.0)
