"""Weighting: from a handful of numbers in a config to the weighted sum of named terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxstyle.types import Array, InputError, unknown_choice

_LARGEST = 1e38  # float32 ends at 3.4e38


def weigh(terms: Mapping[str, Array], weights: Mapping[str, Array | float]) -> Array:
    """Return the total loss, the sum over terms of weight times term.

    Weights are ordinary traced values: one compiled program serves every weighting, and `jax.vmap`
    over the weights is a sweep. A weight of 0 switches a term off without compiling anew.

    Args:
      terms: `{name: [...]}`, from `Objective.evaluate`.
      weights: `{name: number or [...]}`, exactly the names of the terms; arrays broadcast against
        the term from the right.

    Returns:
      `[...]`, of the terms' dtype, one value per image.

    Raises:
      InputError: no terms, a term without a weight, a weight without a term, or shapes that do not
        broadcast.

    Example:
      >>> terms = {"content/relu4_1": jnp.array([0.5, 0.25]), "tv": jnp.array([0.0, 2.0])}
      >>> weigh(terms, {"content/relu4_1": 2.0, "tv": 0.25}).tolist()
      [1.0, 1.0]
    """
    if not terms:
        raise InputError("there are no terms to weigh; combine at least one objective.")
    for name in weights:
        if name not in terms:
            raise unknown_choice("weight", name, tuple(terms))
    missing = [name for name in terms if name not in weights]
    if missing:
        raise InputError(
            f"no weight is given for {', '.join(map(repr, missing))}; "
            "give every term one, 0 to leave it out of the total."
        )
    shapes = [jnp.shape(value) for value in (*terms.values(), *weights.values())]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(
            f"terms and weights of shapes {', '.join(map(str, shapes))} do not broadcast; "
            "give numbers, or one weight for each image."
        ) from None
    total: Any = 0.0
    for name, term in terms.items():
        weight = jnp.asarray(weights[name], dtype=term.dtype)
        total += jnp.broadcast_to(weight, shape) * jnp.broadcast_to(term, shape)
    return total


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that a person cannot mean.

    Args:
      weights: number by term; not traced.

    Raises:
      InputError: naming one that is negative, not finite or above 1e38, or when all are 0.

    Example:
      >>> check_weights({"content/relu4_1": 1.0, "tv": 0.0})
    """
    wrong = [name for name, weight in weights.items() if not 0 <= weight <= _LARGEST]
    if wrong:
        allowed = "at most 1e38" if weights[wrong[0]] > _LARGEST else "0 or more"
        raise InputError(f"the weight of {wrong[0]} is {weights[wrong[0]]}; weights are {allowed}.")
    if not any(weights.values()):
        raise InputError("all weights are 0; give content or style one.")


def layer_weights(
    prefix: str,
    layers: Sequence[str],
    weight: Array | float,
    shares: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Divide one weight among the layers of an objective.

    The layers' weights sum to `weight`, so that a longer list of layers does not shift the balance
    of content and style. A recipe that puts a weight `w` on each of `n` layers passes `n * w`.

    Args:
      prefix: the terms' name before the slash, e.g. `'style'`.
      layers: the objective's layers.
      weight: their total; may be traced.
      shares: relative weight of each layer, at least 0, in any scale (divided by their sum); equal
        shares without it.

    Returns:
      `{'prefix/layer': weight}`, ready to be merged into the weights that `weigh` takes.

    Raises:
      InputError: no layers, a number of shares that is not that of the layers, a negative share,
        or shares that sum to 0.

    Example:
      >>> layer_weights("style", ("relu1_1", "relu2_1"), 8.0, shares=(3, 1))
      {'style/relu1_1': 6.0, 'style/relu2_1': 2.0}
    """
    if not layers:
        raise InputError(f"there are no {prefix} layers to weigh; name at least one.")
    shares = (1.0,) * len(layers) if shares is None else tuple(shares)
    if len(shares) != len(layers):
        raise InputError(
            f"{len(shares)} shares are given for {len(layers)} {prefix} layers; give one for each."
        )
    try:
        total = sum(shares)
        usable = min(shares) >= 0 and total > 0
    except TypeError:  # of texts or tuples, which configs can hold
        usable = False
    if not usable:
        raise InputError(
            f"the shares {shares} of the {prefix} layers must be at least 0 and not all 0."
        )
    return {
        f"{prefix}/{layer}": weight * (share / total)
        for layer, share in zip(layers, shares, strict=True)
    }
