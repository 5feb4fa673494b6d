"""From a config to the pictures of a per-image run, in the size and the colors that it paints."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxstyle import images as colors
from jaxstyle import optimize, painter, workdir
from jaxstyle.io import images, scenes
from jaxstyle.methods import per_image
from jaxstyle.types import InputError, unknown_choice

NONE = "none"
_LARGEST_SEED = 10**9  # what is drawn later counts on from it, in 32 bits
_SMALLEST = 16  # shorter side of a content
_SEAMLESS = 16  # what the sides of a tile are multiples of: four pools

STYLE_COLORS = ("", "cholesky", "pca", "symmetric", "histogram", "luminance")
RESULT_COLORS = ("", *colors.RECOLORINGS, "style")


class Scale(NamedTuple):
    """One of the sizes that a picture is painted in.

    Attributes:
      scene: in this size.
      steps: of this size.
      part: where it is in the run.
    """

    scene: scenes.Scene
    steps: int
    part: painter.Part


def read(config: ml_collections.ConfigDict) -> tuple[images.Picture | None, scenes.Scene]:
    """Return the content's file as it is, if there is one, and everything in full size."""
    for what, given, allowed in (
        ("way to recolor the style", config.color.style, STYLE_COLORS),
        ("way to color the result", config.color.result, RESULT_COLORS),
    ):
        if given not in allowed:
            raise unknown_choice(what, given, allowed)
    original = None
    if not config.content:
        raise InputError("no content is given; name a picture, e.g. --config.content=photo.jpg.")
    if config.content == NONE:
        content = np.full((*_canvas(config.size), 3), 0.5, np.float32)
    else:
        original = images.read(scenes.picture_file(config.content))
        content = original.pixels
    styles = scenes.read_styles(config.style)
    if config.style_weights and len(styles) == 1:
        raise InputError("style_weights are for several styles, but there is one; set them to ().")
    masks = scenes.read_masks(config.masks, [content] * len(styles), "content")
    style_masks = scenes.read_masks(config.style_masks, styles, "style")
    styles = tuple(_recolored(style, content, config.color.style) for style in styles)
    return original, scenes.Scene(content, styles, masks, style_masks)


def _canvas(size: str) -> tuple[int, int]:
    width, by, height = size.partition("x")
    return _number(height if by else width, size), _number(width, size)


def _number(number: str, size: str) -> int:
    if not (number.isascii() and number.isdigit()) or int(number) < 1:
        raise InputError(
            f"size is '{size}'; give a number of pixels, e.g. 512, or 'original', or for a content "
            "of 'none' 384x256."
        )
    return int(number)


def longest(config: ml_collections.ConfigDict, scene: scenes.Scene) -> int:
    """Return the longer side of the finished picture."""
    if config.size == "original" or config.content == NONE:
        return max(scene.content.shape[:2])
    return _number(config.size, config.size)


def sized(config: ml_collections.ConfigDict, scene: scenes.Scene, longer: int) -> scenes.Scene:
    """Return the scene in the size of one scale, gray where only brightness is painted."""
    scale = config.style_scale
    small = scenes.resized(scene, longer, scale if isinstance(scale, tuple) else (scale,))
    height, width = small.content.shape[:2]
    if min(height, width) < _SMALLEST:
        raise InputError(
            f"the content is {width}x{height} pixels; at least {_SMALLEST} each way are needed: "
            "choose a larger size or picture."
        )
    if not 0 <= config.margin < 1024:
        raise InputError(f"margin is {config.margin}; choose 0 to 1023 pixels.")
    if config.seamless and (config.margin or height % _SEAMLESS or width % _SEAMLESS):
        raise InputError(
            f"a seamless picture has no margin and sides that are multiples of {_SEAMLESS}, not a "
            f"margin of {config.margin} and {width}x{height} pixels; set margin to 0 and another "
            "size (in every scale, which scales.ratio=2 may do)."
        )
    return small


def plan(
    config: ml_collections.ConfigDict, scene: scenes.Scene, folder: pathlib.Path
) -> list[Scale]:
    """Return the sizes of a run, the last that of the picture, with their steps."""
    last = longest(config, scene)
    sides: tuple[int, ...] = (last,)
    if config.scales.smallest:
        sides = optimize.scales(last, config.scales.smallest, config.scales.ratio)
    first = config.scales.first_steps or config.steps
    total, plan = first + config.steps * (len(sides) - 1), []
    for index, side in enumerate(sides):
        own = folder if len(sides) == 1 else folder / "scales" / f"{side:05d}"
        before = first + config.steps * (index - 1) if index else 0
        steps = config.steps if index else first
        small = sized(config, scene, side)
        plan.append(Scale(small, steps, painter.Part(own, before, total)))
    return plan


def _recolored(style: np.ndarray, content: np.ndarray, way: str) -> np.ndarray:
    """Give a style the content's colors before anything is painted."""
    if not way:
        return style
    one, other = jnp.asarray(style), jnp.asarray(content)
    if way == "luminance":
        one = colors.match_luminance(one, other)
    elif way == "histogram":
        # Alone it would leave how red, green and blue go together.
        one = colors.match_histograms(colors.match_colors(one, other, mode="symmetric"), other)
    else:
        one = colors.match_colors(one, other, mode=way)
    return np.clip(np.asarray(one), 0, 1)


def painted(config: ml_collections.ConfigDict, content: np.ndarray) -> np.ndarray:
    """Return the content as it is to be painted: gray where only brightness is."""
    gray = config.color.style == "luminance"
    return np.asarray(colors.luminance_picture(jnp.asarray(content))) if gray else content


def finished(
    config: ml_collections.ConfigDict, scene: scenes.Scene, pixels: np.ndarray
) -> np.ndarray:
    """Return a picture in the colors that it is to have."""
    way = config.color.result
    if not way and config.color.style == "luminance":
        way = "luminance"
    if not way:
        return pixels
    picture = jnp.asarray(pixels)
    if way == "style":
        return np.asarray(colors.recolor(picture, jnp.asarray(scene.styles[0]), "histogram"))
    return np.asarray(colors.recolor(picture, jnp.asarray(scene.content), way))


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse a start that is no picture, and a seed that random numbers cannot begin with."""
    if config.start not in per_image.STARTS and not os.path.isfile(config.start):
        raise unknown_choice("start", config.start, per_image.STARTS)
    if not 0 <= config.seed <= _LARGEST_SEED:
        raise InputError(f"seed is {config.seed}; choose a number from 0 to {_LARGEST_SEED}.")


def first(config: ml_collections.ConfigDict, scene: scenes.Scene) -> Any:
    """Return the picture to begin with, `[h, w, 3]`."""
    content = jnp.asarray(painted(config, scene.content))
    if config.start not in per_image.STARTS and os.path.isfile(config.start):
        return per_image.fitted(jnp.asarray(images.read(config.start).pixels), content)
    return per_image.first_picture(
        config.start, content, jnp.asarray(scene.styles[0]), seed=config.seed
    )


def write(
    file: pathlib.Path,
    pixels: np.ndarray,
    config: ml_collections.ConfigDict,
    original: images.Picture | None,
    step: int,
) -> None:
    """Write a picture with its recipe; of the content's own size also with what belongs to it."""
    recipe = {"jaxstyle": json.dumps({"step": step, **workdir.flatten(config.to_dict())})}
    same = original is not None and original.pixels.shape == pixels.shape
    images.write(file, pixels, like=original if same else None, text=recipe)
