"""Objectives: what is asked of an image, as named terms with explicit targets.

Example:
  >>> import jax.numpy as jnp
  >>> goal = combine(content(("relu4_1",)), style(("relu1_1",)), total_variation())
  >>> photo, painting = {"relu4_1": jnp.ones((2, 2, 3))}, {"relu1_1": jnp.ones((8, 8, 4))}
  >>> targets = goal.prepare({"content": photo, "style": painting})
  >>> terms = goal.evaluate(jnp.zeros((16, 16, 3)), photo | painting, targets)
  >>> {name: float(value) for name, value in terms.items()}
  {'content/relu4_1': 0.0, 'style/relu1_1': 0.0, 'tv': 0.0}
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxstyle.losses.distances import (
    CONTENT_NORMALIZATIONS,
    GRAM_NORMALIZATIONS,
    MOMENTS_NORMALIZATIONS,
    content_distance,
    gram_distance,
    moments_distance,
)
from jaxstyle.losses.regularization import VARIATIONS, variation
from jaxstyle.losses.transport import (
    SLICED_NORMALIZATIONS,
    TRANSPORT_NORMALIZATIONS,
    gaussian_target,
    gaussian_transport_distance,
    sliced_distance,
    sliced_target,
)
from jaxstyle.statistics import gram, mean_and_covariance
from jaxstyle.types import Array, InputError, unknown_choice

Features = Mapping[str, Array]
References = Mapping[str, Features]
# A pytree: {term: statistic} for terms that have a target, whatever a term without one is given.
Targets = Any


class Objective(NamedTuple):
    """What is asked of an image.

    A plain pair of pure functions and the layers they look at; write another by filling it in.

    Attributes:
      layers: feature maps that `evaluate` needs, and `prepare` of the references.
      prepare: `(references) -> targets`, where references are feature maps by kind and layer,
        `{'content': {layer: [..., h, w, c]}, 'style': {layer: [..., h, w, c]}}`. Targets are
        prepared for the kinds that are given, so a style can be prepared once and contents at every
        batch, and the two dicts merged.
      evaluate: `(image, features, targets) -> {term: [...]}`, each term unweighted, one value per
        image. `image` is `[..., h, w, 3]`, sRGB in [0, 1]; `features` are its maps by layer.
    """

    layers: tuple[str, ...]
    prepare: Callable[[References], Targets]
    evaluate: Callable[[Array, Features, Targets], dict[str, Array]]


class Statistic(NamedTuple):
    """What is taken of a layer's features, and how it is compared and normalized.

    A target is what `prepare` returns where it is more than what is taken of the image.
    """

    name: str
    take: Callable[[Array], Any]
    compare: Callable[..., Array]
    normalizations: Mapping[str, Any]
    prepare: Callable[[Array], Any] | None = None


def _transport(moments: Any, target: Any, *, normalize: str) -> Array:
    (mean, covariance), (target_mean, target_covariance, root) = moments, target
    return gaussian_transport_distance(
        mean, covariance, target_mean, target_covariance, target_root=root, normalize=normalize
    )


_MAPS = Statistic("content", lambda maps: maps, content_distance, CONTENT_NORMALIZATIONS)
STATISTICS = {
    "gram": Statistic("Gram", gram, gram_distance, GRAM_NORMALIZATIONS),
    "moments": Statistic("moments", mean_and_covariance, moments_distance, MOMENTS_NORMALIZATIONS),
    "wasserstein": Statistic(
        "transport", mean_and_covariance, _transport, TRANSPORT_NORMALIZATIONS, gaussian_target
    ),
    "sliced": Statistic(
        "sliced",
        lambda maps: maps,
        lambda maps, target, normalize: sliced_distance(maps, *target, normalize=normalize),
        SLICED_NORMALIZATIONS,
        sliced_target,
    ),
}


def content(
    layers: Sequence[str], normalize: str = "scale_free", *, name: str = "content"
) -> Objective:
    """Ask for the content's feature maps.

    Args:
      layers: e.g. `('relu4_1',)`.
      normalize: of `content_distance`: 'scale_free', 'mean', or a paper's.
      name: of the terms, `'name/layer'`; the reference is always `'content'`.

    Returns:
      An objective whose targets are the reference's feature maps.

    Raises:
      InputError: no layers, one twice, or an unknown `normalize`.

    Example:
      >>> content(("relu4_1",)).layers
      ('relu4_1',)

    References:
      Gatys et al. 2016, section 2.1; Johnson et al. 2016, section 3.2.
    """
    return of_layers(layers, "content", name, _MAPS, normalize)


def style(
    layers: Sequence[str],
    statistic: str = "gram",
    normalize: str = "scale_free",
    *,
    seed: Array | int = 0,
    directions: int | None = None,
    name: str = "style",
) -> Objective:
    """Ask for the style's feature statistics, wherever in the image.

    Args:
      layers: e.g. `('relu1_1', 'relu2_1')`.
      statistic: 'gram'; 'moments' for mean and covariance; 'wasserstein' for the same by optimal
        transport (`gaussian_transport_distance`); 'sliced' for the whole distribution, along
        random directions (`sliced_distance`; slow on a CPU).
      normalize: of the statistic's distance: 'scale_free', or a paper's.
      seed: of the directions of 'sliced', which are part of the targets; may be traced. Targets
        that an objective of another seed prepared have the same shapes and fit this one's
        `evaluate`: that is how to change directions, between chunks of steps or at every step.
      directions: of 'sliced', how many; without it, as many as the layer has channels.
      name: of the terms, `'name/layer'`; the reference is always `'style'`.

    Returns:
      An objective whose targets are the statistics of the reference, of any size; of one style
      picture without a batch axis they serve every image of a batch.

    Raises:
      InputError: no layers, one twice, an unknown `statistic`, a `normalize` it does not have, or
        no directions.

    Example:
      >>> style(("relu1_1", "relu2_1"), statistic="moments").layers
      ('relu1_1', 'relu2_1')

    References:
      Gatys et al. 2016, section 2.2; Johnson et al. 2016, section 3.2; Heitz et al. 2021.
    Differs from the paper: Heitz et al. draw directions at every step; here they stay.
    """
    if statistic not in STATISTICS:
        raise unknown_choice("style statistic", statistic, tuple(STATISTICS))
    if directions is not None and directions < 1:
        raise InputError(f"{directions} directions show nothing; give at least 1.")
    chosen = STATISTICS[statistic]
    if statistic == "sliced":
        prepare = functools.partial(sliced_target, seed=seed, count=directions)
        chosen = chosen._replace(prepare=prepare)
    return of_layers(layers, "style", name, chosen, normalize)


def total_variation(kind: str = "mean", *, wrap: bool = False, name: str = "tv") -> Objective:
    """Ask for a smooth image.

    Args:
      kind: of `variation`: 'mean', 'l1', 'johnson' or 'johnson_code'.
      wrap: of `variation`: whether the image is a tile that continues itself.
      name: of its one term.

    Returns:
      An objective without layers or targets; `evaluate` ignores both arguments.

    Raises:
      InputError: unknown `kind`.

    Example:
      >>> import jax.numpy as jnp
      >>> total_variation().evaluate(jnp.zeros((4, 4, 3)), {}, ())["tv"].item()
      0.0
    """
    if kind not in VARIATIONS:
        raise unknown_choice("total variation", kind, tuple(VARIATIONS))

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del features, targets
        return {name: variation(image, kind=kind, wrap=wrap)}

    return Objective((), lambda references: {}, evaluate)


def combine(*objectives: Objective) -> Objective:
    """Ask for several things at once.

    Args:
      *objectives: with terms of different names.

    Returns:
      The objective with all their layers (each once), targets and terms.

    Raises:
      InputError: no objectives; when prepared or evaluated, two terms of one name.

    Example:
      >>> combine(content(("relu4_1",)), style(("relu1_1", "relu4_1"))).layers
      ('relu4_1', 'relu1_1')
    """
    if not objectives:
        raise InputError("there is nothing to combine; give at least one objective.")

    def prepare(references: References) -> Targets:
        return _union(objective.prepare(references) for objective in objectives)

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        return _union(objective.evaluate(image, features, targets) for objective in objectives)

    layers = dict.fromkeys(layer for objective in objectives for layer in objective.layers)
    return Objective(tuple(layers), prepare, evaluate)


def of_layers(
    layers: Sequence[str], reference: str, name: str, statistic: Statistic, normalize: str
) -> Objective:
    """Wire one statistic and its distance to layers."""
    choices = tuple(statistic.normalizations)
    if normalize not in choices:
        raise unknown_choice(f"{statistic.name} normalization", normalize, choices)
    terms = term_names(name, layers)

    def prepare(references: References) -> Targets:
        if reference not in references:
            return {}
        features = references[reference]
        target = statistic.prepare or statistic.take
        return {term: target(layer_maps(features, layer)) for term, layer in terms.items()}

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del image
        values = {}
        for term, layer in terms.items():
            if term not in targets:
                raise InputError(
                    f"there is no target for '{term}'; pass what "
                    f"prepare({{'{reference}': features}}) returned."
                )
            value = statistic.take(layer_maps(features, layer))
            values[term] = statistic.compare(value, targets[term], normalize=normalize)
        return values

    return Objective(tuple(terms.values()), prepare, evaluate)


def term_names(name: str, layers: Sequence[str]) -> dict[str, str]:
    """Return the layer of each term, by the term's name 'name/layer'; refuse what is no list."""
    if isinstance(layers, str):
        raise InputError(f"layers is the string '{layers}'; give a tuple, ('{layers}',).")
    if not layers:
        raise InputError(f"the {name} objective has no layers; name at least one.")
    terms = {f"{name}/{layer}": layer for layer in layers}
    if len(terms) < len(layers):
        raise InputError(f"the {name} layers {tuple(layers)} name a layer twice; name each once.")
    return terms


def layer_maps(features: Features, layer: str) -> Array:
    """Return the maps of one layer; say which there are where it is not among them."""
    if layer not in features:
        raise InputError(
            f"the features have no layer '{layer}', only {', '.join(features) or 'none'}; "
            "compute it with them."
        )
    return features[layer]


def _union(parts: Any) -> dict[str, Any]:
    union: dict[str, Any] = {}
    for part in parts:
        for term, value in part.items():
            if term in union:
                raise InputError(
                    f"two objectives have a term '{term}'; give one of them another name."
                )
            union[term] = value
    return union
