"""Patch matching: every neighborhood of the image is to be some neighborhood of the style."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxstyle import policy
from jaxstyle.losses.objective import (
    Features,
    Objective,
    References,
    Targets,
    layer_maps,
    term_names,
)
from jaxstyle.statistics import FLOOR
from jaxstyle.types import Array, InputError, unknown_choice

_MOST_SCORES = 2**24  # numbers held at once while patches are compared; 64 MB in float32


def unfold(features: Array, *, size: int = 3, stride: int = 1) -> Array:
    """Return all patches of feature maps, as one list of vectors.

    Args:
      features: `[..., h, w, c]`.
      size: side of the square patches.
      stride: step from one patch to the next, in both directions.

    Returns:
      `[..., n, size * size * c]`, patches that lie inside the map, row by row.

    Raises:
      InputError: a size or stride below 1, or a map smaller than one patch.

    Example:
      >>> unfold(jnp.arange(6.0).reshape(2, 3, 1), size=2)[..., 0, :].tolist()
      [0.0, 1.0, 3.0, 4.0]
    """
    if min(size, stride) < 1:
        raise InputError(f"patches of size {size} and stride {stride}; give 1 or more for both.")
    if features.ndim < 3 or min(features.shape[-3:-1]) < size:
        raise InputError(
            f"maps of shape {features.shape} are smaller than a patch of {size}x{size}; "
            "use a larger picture or shallower layers."
        )
    *lead, height, width, channels = features.shape
    rows, columns = ((side - size) // stride + 1 for side in (height, width))
    views = [
        features[
            ...,
            y : y + (rows - 1) * stride + 1 : stride,
            x : x + (columns - 1) * stride + 1 : stride,
            :,
        ]
        for y in range(size)
        for x in range(size)
    ]
    return jnp.concatenate(views, axis=-1).reshape(*lead, rows * columns, size * size * channels)


def best_matches(patches: Array, candidates: Array, *, normalized: bool = True) -> Array:
    """Return which candidate each patch is most like.

    Args:
      patches: `[..., n, d]`.
      candidates: `[..., m, d]`; leading axes are those of the patches, or none.
      normalized: by `p . s / (|p| |s|)`, the cosine of their angle; by `p . s` otherwise, which
        prefers strong candidates.

    Returns:
      `[..., n]`, indices into the candidates; of several best ones the first. Nothing is
      differentiated. The comparisons are made in blocks, never more than 64 MB of them at once for
      one image.

    Raises:
      InputError: patches of different sizes, or leading axes that do not match.

    Example:
      >>> candidates = jnp.array([[0.0, 1.0], [9.0, 9.0]])
      >>> patches = jnp.array([[0.0, 2.0], [3.0, 2.0]])
      >>> best_matches(patches, candidates).tolist()
      [0, 1]
      >>> best_matches(patches, candidates, normalized=False).tolist()
      [1, 1]
    """
    if candidates.shape[-1] != patches.shape[-1] or candidates.shape[:-2] not in (
        (),
        patches.shape[:-2],
    ):
        raise InputError(
            f"patches {patches.shape} cannot be compared with {candidates.shape}; "
            "take both from one layer and in one size, from one style or one for each image."
        )
    patches, candidates = map(jax.lax.stop_gradient, (patches, candidates))
    if candidates.ndim == 2:
        flat = patches.reshape(-1, patches.shape[-1])
        return _search(flat, candidates, normalized).reshape(patches.shape[:-1])
    pairs = [x.reshape(-1, *x.shape[-2:]) for x in (patches, candidates)]
    found = jax.vmap(lambda p, c: _search(p, c, normalized))(*pairs)
    return found.reshape(patches.shape[:-1])


def _search(patches: Array, candidates: Array, normalized: bool) -> Array:
    """As `best_matches`, of `[n, d]` and `[m, d]`."""
    count, size = patches.shape
    dtype = jnp.promote_types(patches.dtype, jnp.float32)
    energy = jnp.sum(jnp.square(candidates.astype(dtype)), axis=-1)
    scale = jax.lax.rsqrt(jnp.maximum(energy, FLOOR * size)) if normalized else None

    def search(block: Array) -> Array:
        scores = jnp.einsum(
            "nd,md->nm",
            block,
            candidates,
            preferred_element_type=dtype,
            precision=policy.product_precision(block.dtype),
        )
        return jnp.argmax(scores if scale is None else scores * scale[None], axis=-1)

    rows = max(1, _MOST_SCORES // candidates.shape[0])
    if rows >= count:
        return search(patches)
    blocks = -(-count // rows)
    rows = -(-count // blocks)  # blocks of nearly one size, so that little is padded
    padded = jnp.pad(patches, ((0, blocks * rows - count), (0, 0)))
    found = jax.lax.map(search, padded.reshape(blocks, rows, size))
    return found.reshape(-1)[:count]


def _relative(squares: Array, energies: Array, size: int) -> Array:
    energy = jnp.maximum(jnp.mean(energies, axis=-1), FLOOR * size)
    return jnp.mean(squares, axis=-1) / energy


# Of the squared distance of each patch of the image, the energy of each of the style, their size.
PATCH_NORMALIZATIONS: dict[str, Callable[[Array, Array, int], Array]] = {
    "scale_free": _relative,
    "li_wand": lambda squares, energies, size: jnp.sum(squares, axis=-1),
}


def patch_distance(patches: Array, target: Array, *, normalize: str = "scale_free") -> Array:
    """Return how far the patches of an image are from the most similar ones of the style.

    `sum over i of |p_i - s_k(i)|^2`, where `k(i)` is the style patch whose normalized
    cross-correlation with `p_i` is largest. Which one that is, is not differentiated.

    Args:
      patches: `[..., n, d]`, from `unfold`.
      target: `[..., m, d]`, of the same kind; without a batch axis it serves every image.
      normalize: 'scale_free', the mean over the image's patches divided by the mean of `|s|^2` over
        the style's, means the same on every network, layer and size of picture; 'li_wand' is the
        sum.

    Returns:
      `[...]`, at least float32, one value per image.

    Raises:
      InputError: unknown `normalize`, or patches that do not compare.

    Example:
      >>> style = jnp.array([[2.0, 0.0], [0.0, 2.0]])
      >>> float(patch_distance(jnp.array([[3.0, 0.0], [0.0, 2.0]]), style))
      0.125

    References:
      Li, Wand, Combining Markov Random Fields and Convolutional Neural Networks for Image
      Synthesis, 2016, arXiv:1601.04589, eqs. 2-3.
    Differs from the paper: its code steps, where patches overlap, by the mean of what each asks
      for; the gradient of eq. 2, which is this one's, is the sum.
    """
    if normalize not in PATCH_NORMALIZATIONS:
        raise unknown_choice("patch normalization", normalize, tuple(PATCH_NORMALIZATIONS))
    index = best_matches(patches, target)
    dtype = jnp.promote_types(patches.dtype, jnp.float32)
    patches, target = patches.astype(dtype), jax.lax.stop_gradient(target.astype(dtype))
    squares = jnp.sum(jnp.square(patches - chosen(target, index)), axis=-1)
    energies = jnp.sum(jnp.square(target), axis=-1)
    return PATCH_NORMALIZATIONS[normalize](squares, energies, patches.shape[-1])


def chosen(candidates: Array, index: Array) -> Array:
    """Return the candidates that `best_matches` found.

    Args:
      candidates: `[..., m, d]`; leading axes are those of the index, or none.
      index: `[..., n]`.

    Returns:
      `[..., n, d]`.

    Example:
      >>> chosen(jnp.array([[1.0], [2.0]]), jnp.array([1, 1, 0])).tolist()
      [[2.0], [2.0], [1.0]]
    """
    if candidates.ndim == 2:
        return jnp.take(candidates, index, axis=0, mode="clip")
    return jnp.take_along_axis(candidates, index[..., None], axis=-2, mode="clip")


def mrf_style(
    layers: Sequence[str],
    normalize: str = "scale_free",
    *,
    size: int = 3,
    stride: int = 1,
    references: Sequence[str] = ("style",),
    name: str = "style",
) -> Objective:
    """Ask that every patch of the image's maps is one of the style's.

    Keeps what a Gram matrix does not, how the parts of the style lie next to each other. The time
    of one evaluation grows with the positions of the image times those of the style: a stride of 2
    is 16 times faster.

    Args:
      layers: e.g. `('relu3_1', 'relu4_1')`.
      normalize: of `patch_distance`: 'scale_free' or 'li_wand'.
      size: side of the square patches, in positions of the layer.
      stride: step from one patch to the next, of the image and the style.
      references: kinds whose patches are pooled, e.g. `('style', 'style turned', 'style larger')`
        for the same picture in several sizes and angles. All of them are needed.
      name: of the terms, `'name/layer'`.

    Returns:
      An objective whose targets are the references' patches, `[..., m, size * size * c]`.

    Raises:
      InputError: no layers, one twice, no references, a size or stride below 1, an unknown
        `normalize`; when prepared or evaluated, maps smaller than a patch.

    Example:
      >>> goal = mrf_style(("relu3_1",))
      >>> targets = goal.prepare({"style": {"relu3_1": jnp.ones((5, 7, 4))}})
      >>> targets["style/relu3_1"].shape
      (15, 36)

    References:
      Li, Wand, Combining Markov Random Fields and Convolutional Neural Networks for Image
      Synthesis, 2016, arXiv:1601.04589, section 3 (patches of 3x3 of relu3_1 and relu4_1).
    """
    if normalize not in PATCH_NORMALIZATIONS:
        raise unknown_choice("patch normalization", normalize, tuple(PATCH_NORMALIZATIONS))
    if min(size, stride) < 1:
        raise InputError(f"patches of size {size} and stride {stride}; give 1 or more for both.")
    if isinstance(references, str) or not references:
        raise InputError(f"references is '{references}'; give a tuple of kinds, ('style',).")
    terms = term_names(name, layers)

    def prepare(given: References) -> Targets:
        missing = [kind for kind in references if kind not in given]
        if len(missing) == len(references):
            return {}
        if missing:
            raise InputError(f"the references lack '{missing[0]}'; give all of {references}.")
        return {
            term: jnp.concatenate(
                [
                    unfold(layer_maps(given[kind], layer), size=size, stride=stride)
                    for kind in references
                ],
                axis=-2,
            )
            for term, layer in terms.items()
        }

    def evaluate(image: Array, features: Features, targets: Targets) -> dict[str, Array]:
        del image
        values = {}
        for term, layer in terms.items():
            if term not in targets:
                raise InputError(
                    f"there is no target for '{term}'; pass what prepare returned for the "
                    f"references {tuple(references)}."
                )
            patches = unfold(layer_maps(features, layer), size=size, stride=stride)
            values[term] = patch_distance(patches, targets[term], normalize=normalize)
        return values

    return Objective(tuple(terms.values()), prepare, evaluate)
