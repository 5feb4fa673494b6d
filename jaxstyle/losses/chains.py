"""Improvements of the Gram matrices: shifted activations, and correlations of adjacent layers."""

import itertools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from jaxstyle import ops, policy
from jaxstyle.images import gaussian_blur
from jaxstyle.losses.distances import GRAM_NORMALIZATIONS, gram_distance
from jaxstyle.losses.objective import (
    Features,
    Objective,
    References,
    Statistic,
    Targets,
    layer_maps,
    of_layers,
    term_names,
)
from jaxstyle.statistics import gram, relative_distance, squared_distance
from jaxstyle.statistics.gram import flatten_positions
from jaxstyle.types import Array, InputError, unknown_choice


def geometric_shares(layers: Sequence[str], kind: str = "style") -> tuple[float, ...]:
    """Return shares that halve from layer to layer, for `layer_weights`.

    Args:
      layers: from the shallowest to the deepest.
      kind: 'style', `2^(D - d)` for the layer `d` of `D`, prefers shallow layers; 'content',
        `2^d`, deep ones.

    Returns:
      One share for each layer.

    Raises:
      InputError: unknown `kind`.

    Example:
      >>> geometric_shares(("relu1_1", "relu2_1", "relu3_1"))
      (4.0, 2.0, 1.0)

    References:
      Novak, Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603
      (layer weights).
    """
    if kind not in ("style", "content"):
        raise unknown_choice("kind of shares", kind, ("style", "content"))
    depths = range(1, len(layers) + 1)
    return tuple(2.0 ** (len(layers) - d if kind == "style" else d) for d in depths)


def shifted_style(
    layers: Sequence[str],
    normalize: str = "scale_free",
    *,
    shift: float = -1.0,
    name: str = "style",
) -> Objective:
    """Ask for the Gram matrices of `F + s`.

    Maps after a ReLU are mostly 0, and so are then the entries of their Gram matrix, whatever the
    style. Shifted maps are not: two channels that are silent in the same places count as alike.

    Args:
      layers: e.g. `('relu1_1', 'relu2_1')`.
      normalize: of `gram_distance`: 'scale_free', or a paper's.
      shift: added to all maps, in the units of the network, which are not those of another; 0 is
        `style`.
      name: of the terms, `'name/layer'`; the reference is always `'style'`.

    Returns:
      An objective whose targets are the shifted Gram matrices of the reference.

    Raises:
      InputError: no layers, one twice, or an unknown `normalize`.

    Example:
      >>> goal = shifted_style(("relu1_1",))
      >>> goal.prepare({"style": {"relu1_1": jnp.full((4, 4, 1), 3.0)}})["style/relu1_1"].tolist()
      [[4.0]]

    References:
      Novak, Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603
      (activation shift).
    """
    shifted = Statistic("Gram", lambda maps: gram(maps + shift), gram_distance, GRAM_NORMALIZATIONS)
    return of_layers(layers, "style", name, shifted, normalize)


def cross_gram(shallow: Array, deep: Array, *, blur: float = 0.0) -> Array:
    """Return how strongly the channels of one layer go with those of a deeper one.

    `G[i, k] = sum over positions of F[i] H[k] / (h w)`, where `H` are the deeper maps, every
    position repeated until they have the size of the shallower ones, and blurred.

    Args:
      shallow: `[..., h, w, c]`, feature maps of any range.
      deep: `[..., h // 2^n, w // 2^n, d]`, of the same pictures.
      blur: standard deviation of a Gaussian that `H` is blurred with, in positions of the shallower
        layer; 0 leaves it.

    Returns:
      `[..., c, d]`, at least float32.

    Raises:
      InputError: maps that are not of one picture, or a negative `blur`.

    Example:
      >>> cross_gram(jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]]), jnp.array([[[10.0]]])).tolist()
      [[25.0]]

    References:
      Novak, Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603
      (correlations of different layers, blurred correlations).
    """
    if not 0 <= blur < math.inf:
        raise InputError(f"the blur is {blur}; give a standard deviation of 0 or more.")
    deep = _enlarged(deep, shallow.shape[-3:-1])
    if blur > 0:
        deep = gaussian_blur(deep, blur)
    one, other = flatten_positions(shallow), flatten_positions(deep)
    dtype = jnp.promote_types(jnp.promote_types(one.dtype, other.dtype), jnp.float32)
    products = jnp.einsum(
        "...ni,...nk->...ik",
        one,
        other,
        preferred_element_type=dtype,
        precision=policy.product_precision(one.dtype),
    )
    return products / one.shape[-2]


def _enlarged(deep: Array, size: tuple[int, ...]) -> Array:
    """Repeat positions to the size of a shallower layer; those a pool dropped repeat the last."""
    # Of `h` and `h // 2^n` the quotient, rounded down, has the bits of `2^n`.
    factor = 2 ** max((size[0] // max(deep.shape[-3], 1)).bit_length() - 1, 0)
    if tuple(side // factor for side in size) != deep.shape[-3:-1]:
        raise InputError(
            f"maps of {deep.shape[-3]}x{deep.shape[-2]} are not those of a layer deeper than one "
            f"of {size[0]}x{size[1]}; name the layers from shallow to deep, of one picture."
        )
    deep = ops.upsample2d(deep, factor) if factor > 1 else deep
    rest = [have - side for have, side in zip(size, deep.shape[-3:-1], strict=True)]
    return ops.pad2d(deep, ((0, rest[0]), (0, rest[1])), "replicate") if any(rest) else deep


# Of cross Gram matrices over positions, `[..., c, d]`.
CHAIN_NORMALIZATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "scale_free": lambda value, target: relative_distance(value, target, axes=2),
    # Eq. 4 of Gatys et al. 2016, for matrices that are not square: 4 c d in place of 4 c^2.
    "gatys": lambda value, target: (
        squared_distance(value, target, axes=2) / (4.0 * target.shape[-2] * target.shape[-1])
    ),
}


def chain_links(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the links of a chain of layers, for `layer_weights`.

    Args:
      layers: from the shallowest to the deepest.

    Returns:
      One name less than there are layers.

    Example:
      >>> chain_links(("relu1_1", "relu2_1", "relu3_1"))
      ('relu1_1-relu2_1', 'relu2_1-relu3_1')
    """
    return tuple(f"{shallow}-{deep}" for shallow, deep in itertools.pairwise(layers))


def chained_style(
    layers: Sequence[str],
    normalize: str = "scale_free",
    *,
    shift: float = 0.0,
    blur: float = 0.0,
    name: str = "chain",
) -> Objective:
    """Ask for the correlations of each layer with the next.

    A Gram matrix says which features of one size go together; the chain, which small ones are part
    of which larger ones, so that textures do not stray to where they do not belong.

    Args:
      layers: two or more, from the shallowest to the deepest; the paper takes all convolutions.
      normalize: 'scale_free', or 'gatys', `|G - A|^2 / (4 c d)`.
      shift: added to all maps first, as in `shifted_style`.
      blur: of `cross_gram`.
      name: of the terms, `'name/shallower-deeper'`; the reference is always `'style'`.

    Returns:
      An objective whose targets are the cross Gram matrices of the reference.

    Raises:
      InputError: fewer than two layers, one twice, a negative `blur`, or an unknown `normalize`;
        when prepared or evaluated, layers that are not in the order of their depth.

    Example:
      >>> goal = chained_style(("relu1_1", "relu2_1"), blur=1.0)
      >>> painting = {"relu1_1": jnp.ones((8, 6, 4)), "relu2_1": jnp.ones((4, 3, 5))}
      >>> {term: target.shape for term, target in goal.prepare({"style": painting}).items()}
      {'chain/relu1_1-relu2_1': (4, 5)}

    References:
      Novak, Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603
      (correlation chain, blurred correlations).
    Differs from the paper: the strength of the blur is an option, and the same for all links.
    """
    if normalize not in CHAIN_NORMALIZATIONS:
        raise unknown_choice("chain normalization", normalize, tuple(CHAIN_NORMALIZATIONS))
    if not 0 <= blur < math.inf:
        raise InputError(f"the blur is {blur}; give a standard deviation of 0 or more.")
    layers = tuple(term_names(name, layers).values())
    if len(layers) < 2:
        raise InputError(f"the chain has one layer, '{layers[0]}'; name two or more.")
    pairs = zip(chain_links(layers), itertools.pairwise(layers), strict=True)
    terms = {f"{name}/{link}": pair for link, pair in pairs}

    def take(features: Features, shallow: str, deep: str) -> Array:
        maps = (layer_maps(features, layer) + shift for layer in (shallow, deep))
        return cross_gram(*maps, blur=blur)

    def prepare(references: References) -> Targets:
        if "style" not in references:
            return {}
        return {term: take(references["style"], *pair) for term, pair in terms.items()}

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del image
        values = {}
        for term, pair in terms.items():
            if term not in targets:
                raise InputError(
                    f"there is no target for '{term}'; pass what prepare({{'style': features}}) "
                    "returned."
                )
            values[term] = CHAIN_NORMALIZATIONS[normalize](take(features, *pair), targets[term])
        return values

    return Objective(layers, prepare, evaluate)
