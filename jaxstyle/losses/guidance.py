"""Spatial control: each region of the image takes the style of its own picture, or part of one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from jaxstyle.losses.objective import (
    STATISTICS,
    Features,
    Objective,
    References,
    Targets,
    layer_maps,
    term_names,
)
from jaxstyle.statistics import FLOOR, matrix_square_root
from jaxstyle.statistics.gram import channel_products, flatten_positions
from jaxstyle.types import Array, InputError, unknown_choice


def guided_gram(features: Array, guide: Array) -> Array:
    """Return the Gram matrix of one region.

    `G = sum of (T F)(T F)^T / (h w)` over positions, where the guide `T` is scaled so that
    `mean T^2 = 1`: regions of any size compare, and a guide of ones gives `statistics.gram`.

    Args:
      features: `[..., h, w, c]`, feature maps of any range.
      guide: `[..., h, w]`, at least 0, in any scale; leading axes broadcast against the features'.

    Returns:
      `[..., c, c]`, symmetric, at least float32; 0 for a guide of zeros.

    Raises:
      InputError: features that are not floating-point `[..., h, w, c]`, or a guide of another size.

    Example:
      >>> features = jnp.array([[[1.0, 2.0], [3.0, 1.0], [5.0, 0.0], [0.0, 7.0]]])
      >>> guided_gram(features, jnp.array([[0.0, 0.5, 0.0, 0.0]])).tolist()
      [[9.0, 3.0], [3.0, 1.0]]

    References:
      Gatys, Ecker, Bethge, Hertzmann, Shechtman, Controlling Perceptual Factors in Neural Style
      Transfer, 2017, arXiv:1611.07865, section 4. There the guide is scaled to `sum T^2 = 1` and
      nothing divided by `h w`, which is the same matrix: the mean of `F F^T` weighted by `T^2`.
    """
    samples, guide = _samples(features, guide)
    return channel_products(samples * guide) / samples.shape[-2]


def guided_moments(features: Array, guide: Array) -> tuple[Array, Array]:
    """Return the mean and the covariance of the channels in one region.

    Both are means over positions weighted by `T^2`, as in `guided_gram`; a guide of ones gives
    `statistics.mean_and_covariance`.

    Args:
      features: `[..., h, w, c]`, feature maps of any range.
      guide: `[..., h, w]`, at least 0, in any scale; leading axes broadcast against the features'.

    Returns:
      Mean `[..., c]` and covariance `[..., c, c]`, at least float32.

    Raises:
      InputError: features that are not floating-point `[..., h, w, c]`, or a guide of another size.

    Example:
      >>> features = jnp.array([[[1.0, 2.0], [3.0, 1.0], [5.0, 0.0], [0.0, 7.0]]])
      >>> mean, covariance = guided_moments(features, jnp.array([[0.0, 0.5, 0.0, 0.0]]))
      >>> mean.tolist(), covariance.tolist()
      ([3.0, 1.0], [[0.0, 0.0], [0.0, 0.0]])
    """
    samples, guide = _samples(features, guide)
    mean = jnp.mean(samples * jnp.square(guide), axis=-2, keepdims=True)
    covariance = channel_products((samples - mean) * guide) / samples.shape[-2]
    return mean[..., 0, :], covariance


def _guided_target(features: Array, guide: Array) -> tuple[Array, Array, Array]:
    mean, covariance = guided_moments(features, guide)
    return mean, covariance, matrix_square_root(covariance)


_Take = Callable[[Array, Array], Any]
# By the names of `style`, whose distances these are compared with: of the image, and of the style.
GUIDED: dict[str, tuple[_Take, _Take]] = {
    "gram": (guided_gram, guided_gram),
    "moments": (guided_moments, guided_moments),
    "wasserstein": (guided_moments, _guided_target),
}


def guided_style(
    layers: Sequence[str],
    regions: Sequence[str],
    statistic: str = "gram",
    normalize: str = "scale_free",
    *,
    name: str = "style",
) -> Objective:
    """Ask each region of the image for the feature statistics of a style of its own.

    What `prepare` is given, by kind and layer, for a region 'sky':

      'style/sky': maps of its style picture; without it, those of 'style'.
      'style/sky/guide': where in that picture the style is, `[..., h, w]` from `layer_guides`;
        without it, everywhere.
      'guide/sky': where in the image the region is, from `layer_guides`.

    Guides are part of the targets, traced like them, and like them prepared anew where the size of
    the image changes. The styles and the guides of the image may be prepared apart and merged.

    Args:
      layers: e.g. `('relu1_1', 'relu2_1')`.
      regions: names, e.g. `('sky', 'ground')`; they may overlap, and need not cover the image.
      statistic: of `style`: 'gram', 'moments' or 'wasserstein'.
      normalize: of the statistic's distance: 'scale_free', or a paper's.
      name: of the terms, `'name/region/layer'`.

    Returns:
      An objective with a term for each region and layer.

    Raises:
      InputError: no layers or regions, one twice, an unknown `statistic`, or a `normalize` it does
        not have; when prepared or evaluated, a missing guide or one of another size.

    Example:
      >>> goal = guided_style(("relu1_1",), ("sky",))
      >>> painting = {"relu1_1": jnp.ones((8, 8, 4))}
      >>> top = {"relu1_1": jnp.zeros((8, 6)).at[:2].set(1.0)}
      >>> targets = goal.prepare({"style/sky": painting, "guide/sky": top})
      >>> photo = {"relu1_1": jnp.ones((8, 6, 4)).at[2:].set(5.0)}
      >>> float(goal.evaluate(jnp.zeros((8, 6, 3)), photo, targets)["style/sky/relu1_1"])
      0.0

    References:
      Gatys, Ecker, Bethge, Hertzmann, Shechtman, Controlling Perceptual Factors in Neural Style
      Transfer, 2017, arXiv:1611.07865, section 4.
    """
    if statistic not in GUIDED:
        raise unknown_choice("guided style statistic", statistic, tuple(GUIDED))
    (take, take_target), measure = GUIDED[statistic], STATISTICS[statistic]
    if normalize not in measure.normalizations:
        choices = tuple(measure.normalizations)
        raise unknown_choice(f"{measure.name} normalization", normalize, choices)
    terms = {
        term: (region, layer)
        for region in _regions(regions)
        for term, layer in term_names(f"{name}/{region}", layers).items()
    }

    def prepare(references: References) -> Targets:
        targets = {}
        for term, (region, layer) in terms.items():
            styles = references.get(f"style/{region}", references.get("style"))
            if styles is not None:
                maps, guides = layer_maps(styles, layer), references.get(f"style/{region}/guide")
                whole = jnp.ones(maps.shape[-3:-1])
                targets[term] = take_target(
                    maps, whole if guides is None else layer_maps(guides, layer)
                )
            if (guides := references.get(f"guide/{region}")) is not None:
                targets[f"{term}/guide"] = layer_maps(guides, layer)
        return targets

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del image
        values = {}
        for term, (region, layer) in terms.items():
            for key, kind in ((term, f"style/{region}"), (f"{term}/guide", f"guide/{region}")):
                if key not in targets:
                    raise InputError(
                        f"there is no target '{key}'; give prepare the reference '{kind}'."
                    )
            value = take(layer_maps(features, layer), targets[f"{term}/guide"])
            values[term] = measure.compare(value, targets[term], normalize=normalize)
        return values

    return Objective(tuple(dict.fromkeys(layers)), prepare, evaluate)


def _regions(regions: Sequence[str]) -> tuple[str, ...]:
    if isinstance(regions, str):
        raise InputError(f"regions is the string '{regions}'; give a tuple, ('{regions}',).")
    if not regions:
        raise InputError("the guided objective has no regions; name at least one.")
    if len(set(regions)) < len(regions):
        raise InputError(f"the regions {tuple(regions)} name one twice; name each once.")
    return tuple(regions)


def _samples(features: Array, guide: Array) -> tuple[Array, Array]:
    """Return features `[..., n, c]` and guide `[..., n, 1]`, scaled to a mean square of 1."""
    samples = flatten_positions(features)
    if guide.ndim < 2 or guide.shape[-2:] != features.shape[-3:-1]:
        raise InputError(
            f"a guide of shape {guide.shape} does not fit maps of {features.shape[-3]}x"
            f"{features.shape[-2]}; make it from a mask of the picture's size."
        )
    dtype = jnp.promote_types(samples.dtype, jnp.float32)
    guide = guide.astype(dtype).reshape(*guide.shape[:-2], samples.shape[-2], 1)
    energy = jnp.mean(jnp.square(guide), axis=(-2, -1), keepdims=True)
    guide = guide / jnp.sqrt(jnp.maximum(energy, FLOOR))
    rank = max(samples.ndim, guide.ndim)
    samples, guide = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (samples, guide))
    return samples.astype(dtype), guide
