"""Dreams: what a layer sees in the image is to become stronger. These terms fall without bound."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.losses.objective import (
    Features,
    Objective,
    References,
    Targets,
    layer_maps,
    term_names,
)
from jaxstyle.losses.patches import best_matches, chosen
from jaxstyle.statistics import FLOOR
from jaxstyle.statistics.gram import flatten_positions
from jaxstyle.types import Array, InputError, unknown_choice

DREAM_NORMALIZATIONS = ("scale_free", "google")


def energy(features: Array, *, channel: int | None = None) -> Array:
    """Return the mean square of a layer's activations.

    Args:
      features: `[..., h, w, c]`, any range.
      channel: of this one only; of all without it.

    Returns:
      `[...]`, at least float32, one value per image.

    Raises:
      InputError: features that are not floating-point `[..., h, w, c]`, or a channel they do not
        have.

    Example:
      >>> maps = jnp.array([[[1.0, 3.0]], [[1.0, 4.0]]])
      >>> float(energy(maps)), float(energy(maps, channel=1))
      (6.75, 12.5)
    """
    samples = flatten_positions(features)
    if channel is not None:
        if not 0 <= channel < samples.shape[-1]:
            raise InputError(
                f"there is no channel {channel}; the layer has {samples.shape[-1]}, "
                f"0 to {samples.shape[-1] - 1}."
            )
        samples = samples[..., channel : channel + 1]
    dtype = jnp.promote_types(samples.dtype, jnp.float32)
    return jnp.mean(jnp.square(samples.astype(dtype)), axis=(-2, -1))


def activation(
    layers: Sequence[str],
    normalize: str = "scale_free",
    *,
    channel: int | None = None,
    name: str = "dream",
) -> Objective:
    """Ask for strong activations: the terms are minus the strength, which falls without bound.

    Args:
      layers: e.g. `('relu4_3',)`.
      normalize: 'scale_free', `-mean F^2 / mean P^2` with the maps `P` of the reference 'content',
        the first picture: -1 at first on every network and layer; 'google', `-1/2 sum F^2`, needs
        no reference.
      channel: only this one is asked for, still relative to all of `P`; all without it.
      name: of the terms, `'name/layer'`.

    Returns:
      An objective whose targets, where it has any, are the reference's mean squares.

    Raises:
      InputError: no layers, one twice, or an unknown `normalize`; when evaluated, a channel that
        the layer does not have.

    Example:
      >>> goal, maps = activation(("relu4_3",)), {"relu4_3": jnp.full((2, 2, 8), 3.0)}
      >>> targets = goal.prepare({"content": maps})
      >>> float(goal.evaluate(jnp.zeros((16, 16, 3)), maps, targets)["dream/relu4_3"])
      -1.0

    References:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, 2015, and the
      notebook released with it, whose gradient at the layer is the activation itself.
    """
    _check(normalize)

    def strength(maps: Array, target: Any) -> Array:
        value = energy(maps, channel=channel)
        if target is not None:
            return value / jnp.maximum(target, FLOOR)
        count = maps.shape[-3] * maps.shape[-2] * (maps.shape[-1] if channel is None else 1)
        return value * (count / 2)

    need = None if normalize == "google" else "content"
    return _dream(layers, name, need, energy, strength)


def guided_activation(
    layers: Sequence[str], normalize: str = "scale_free", *, name: str = "dream"
) -> Objective:
    """Ask for the guide's features where the image's are most like them.

    Every position's features `x` are drawn to those of the guide `y` whose product with them is
    largest: the term is minus their product, which falls without bound. Which one it is, is not
    differentiated.

    Args:
      layers: e.g. `('relu3_3',)`.
      normalize: 'scale_free', the mean over positions of `-x y`, divided by the mean of `y y` over
        those of the guide; 'google', the sum.
      name: of the terms, `'name/layer'`; the reference is always 'guide'.

    Returns:
      An objective whose targets are the positions of the guide, `[..., m, c]`.

    Raises:
      InputError: no layers, one twice, or an unknown `normalize`.

    Example:
      >>> goal, maps = guided_activation(("relu3_3",)), {"relu3_3": jnp.full((2, 2, 8), 3.0)}
      >>> targets = goal.prepare({"guide": maps})
      >>> float(goal.evaluate(jnp.zeros((8, 8, 3)), maps, targets)["dream/relu3_3"])
      -1.0

    References:
      Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, 2015, and the
      notebook released with it ("controlling dreams").
    """
    _check(normalize)

    def strength(maps: Array, target: Any) -> Array:
        samples, target = flatten_positions(maps), jax.lax.stop_gradient(target)
        dtype = jnp.promote_types(samples.dtype, jnp.float32)
        best = chosen(target, best_matches(samples, target, normalized=False))
        products = jnp.sum(samples.astype(dtype) * best.astype(dtype), axis=-1)
        if normalize == "google":
            return jnp.sum(products, axis=-1)
        scale = jnp.mean(jnp.sum(jnp.square(target.astype(dtype)), axis=-1), axis=-1)
        return jnp.mean(products, axis=-1) / jnp.maximum(scale, FLOOR * target.shape[-1])

    return _dream(layers, name, "guide", flatten_positions, strength)


def _check(normalize: str) -> None:
    if normalize not in DREAM_NORMALIZATIONS:
        raise unknown_choice("dream normalization", normalize, DREAM_NORMALIZATIONS)


def _dream(
    layers: Sequence[str],
    name: str,
    reference: str | None,
    take: Callable[[Array], Array],
    strength: Callable[[Array, Any], Array],
) -> Objective:
    """Wire a strength, of a layer and what is taken of the reference, to layers."""
    terms = term_names(name, layers)

    def prepare(references: References) -> Targets:
        if reference is None or reference not in references:
            return {}
        maps = references[reference]
        return {term: take(layer_maps(maps, layer)) for term, layer in terms.items()}

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del image
        values = {}
        for term, layer in terms.items():
            if reference is not None and term not in targets:
                raise InputError(
                    f"there is no target for '{term}'; pass what "
                    f"prepare({{'{reference}': features}}) returned."
                )
            target = None if reference is None else targets[term]
            values[term] = -strength(layer_maps(features, layer), target)
        return values

    return Objective(tuple(terms.values()), prepare, evaluate)
