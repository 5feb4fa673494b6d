"""Relative feature distances: of style by Gram matrices, of content by feature maps."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from jaxstyle.statistics import gram, relative_distance
from jaxstyle.types import Array, InputError


def style_distance(
    features: Mapping[str, Array],
    target_features: Mapping[str, Array],
    layers: Sequence[str],
    *,
    squared: bool = True,
) -> dict[str, Array]:
    """Return the relative Gram distance of a picture to its style, layer by layer.

    `|G - A|^2 / |A|^2` with Frobenius norms: 0 is the style itself, 1 a picture without any
    activation. Squared it is the quantity that the scale-free style loss minimizes, and "85% below
    the unstylized photograph's" is a statement about it; its root is 61% below then.

    Args:
      features: `{layer: [..., h, w, c]}` of the picture.
      target_features: `{layer: [..., h', w', c]}` of the style picture, of any size; without a
        batch axis they serve every picture.
      layers: the layers to compare.
      squared: without it the root, `|G - A| / |A|`.

    Returns:
      `{layer: [...]}`, one value per image.

    Raises:
      InputError: a layer is missing from either, no layers, or shapes that do not compare.

    Example:
      >>> maps = {"relu1_1": jnp.ones((4, 4, 2))}
      >>> twice = {"relu1_1": 2 * jnp.ones((6, 6, 2))}
      >>> float(style_distance(twice, maps, ("relu1_1",))["relu1_1"])
      9.0

    References:
      Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
      eq. 3 and 4.
    Differs from the paper: divided by the energy of the style's Gram matrix.
    """
    if isinstance(layers, str) or not layers:
        raise InputError(f"layers is {layers!r}; give a tuple of layer names.")
    distances = {}
    for layer in layers:
        value, target = _layer(features, layer), _layer(target_features, layer)
        distance = relative_distance(gram(value), gram(target), axes=2)
        distances[layer] = distance if squared else jnp.sqrt(distance)
    return distances


def content_distance(
    features: Mapping[str, Array],
    content_features: Mapping[str, Array],
    layer: str,
    *,
    squared: bool = True,
) -> Array:
    """Return the relative distance of a picture's feature maps to its content's.

    `mean (F - P)^2 / mean P^2`: 0 is the content itself, 1 a picture without any activation.

    Args:
      features: `{layer: [..., h, w, c]}` of the picture.
      content_features: `{layer: [..., h, w, c]}` of the photograph, of the same size.
      layer: the layer to compare.
      squared: without it the root of the quotient.

    Returns:
      `[...]`, one value per image.

    Raises:
      InputError: the layer is missing from either, or shapes that do not compare.

    Example:
      >>> maps, less = {"relu3_3": jnp.full((2, 2, 1), 2.0)}, {"relu3_3": jnp.ones((2, 2, 1))}
      >>> float(content_distance(less, maps, "relu3_3"))
      0.25

    References:
      Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016,
      eq. 1.
    Differs from the paper: divided by the energy of the content's feature maps.
    """
    value, target = _layer(features, layer), _layer(content_features, layer)
    distance = relative_distance(value, target, axes=3)
    return distance if squared else jnp.sqrt(distance)


def _layer(features: Mapping[str, Array], layer: str) -> Array:
    if layer not in features:
        raise InputError(
            f"the features have no layer '{layer}', only {', '.join(features) or 'none'}; "
            "compute it with them."
        )
    return features[layer]
