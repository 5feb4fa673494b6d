"""The verdict on stylized pictures: every metric at once, beside those of the photographs."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstyle import features
from jaxstyle.metrics.distances import content_distance, style_distance
from jaxstyle.metrics.similarity import ssim
from jaxstyle.metrics.wasserstein import sliced_wasserstein
from jaxstyle.types import Array, InputError, Params

_look = jax.jit(features.features, static_argnames=("layers", "network"))
_ssim = jax.jit(ssim)

PHOTO = "_photo"  # what the unstylized photograph's values end with


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Whose eyes to look with, and for which painting; from `prepare_judge`.

    Attributes:
      params: of a perceptual network, as `features.features` takes them.
      network: the row of the table they belong to, or two joined.
      painting: `[h, w, 3]`, sRGB in [0, 1].
      painting_maps: its feature maps by style layer.
      content_layer: compared position by position.
    """

    params: Params
    network: features.Network | features.Joined
    painting: Array
    painting_maps: Mapping[str, Array]
    content_layer: str

    @property
    def style_layers(self) -> tuple[str, ...]:
        """The layers compared by Gram matrices."""
        return tuple(self.painting_maps)


def prepare_judge(
    params: Params,
    network: features.Network | features.Joined,
    painting: ArrayLike,
    style_layers: Sequence[str] = (),
    content_layer: str = "",
) -> Judge:
    """Look at a painting once, to judge many pictures by it.

    Args:
      params: of a perceptual network, as `features.features` takes them.
      network: the row of the table they belong to, or two joined; then name the layers.
      painting: `[h, w, 3]`, sRGB in [0, 1], floating point. Its size is a scale: at another size
        the Gram matrices show brush strokes of another size.
      style_layers: `default_layers` if empty.
      content_layer: likewise.

    Returns:
      What `judge` takes.

    Raises:
      InputError: layers that are not there, or a painting too small for them.

    Example:
      >>> examiner = prepare_judge(params, network, painting)  # doctest: +SKIP
    """
    painting = jnp.asarray(painting)
    if not style_layers or not content_layer:
        style, content = default_layers(params, network)
        style_layers, content_layer = style_layers or style, content_layer or content
    maps = _look(params, painting, (*style_layers, content_layer), network=network)
    targets = {layer: maps[layer] for layer in style_layers}
    return Judge(params, network, painting, targets, content_layer)


def default_layers(
    params: Params, network: features.Network | features.Joined
) -> tuple[tuple[str, ...], str]:
    """Return the layers that the field compares, as far as the parameters reach.

    Args:
      params: of a perceptual network.
      network: the row of the table they belong to.

    Returns:
      Style layers `relu1_1 ... relu5_1`, and the content layer `relu3_3`, or the deepest one where
      the parameters end before it.

    Raises:
      InputError: for joined networks, or parameters without any convolution of the network.

    Example:
      >>> network = features.NETWORKS['vgg16']
      >>> default_layers(dict.fromkeys(network.convolutions[:4]), network)
      (('relu1_1', 'relu2_1'), 'relu2_2')
    """
    if isinstance(network, features.Joined):
        raise InputError(f"{network.name} are two networks; name the style and content layers.")
    known = [name for name in network.convolutions if name in params]
    if not known:
        raise InputError(f"there are no parameters of {network.name}; load its weights.")
    style = tuple(f"relu{name[4:]}" for name in known if name.endswith("_1"))
    content = "conv3_3" if "conv3_3" in known else known[-1]
    return style, f"relu{content[4:]}"


def judge(examiner: Judge, photo: ArrayLike, stylized: ArrayLike) -> dict[str, np.ndarray]:
    """Measure a stylized picture against its painting and its photograph.

    Not for `jit`: colors are compared outside of it (see `sliced_wasserstein`). Every size of
    pictures is compiled once.

    Args:
      examiner: the network and the painting, from `prepare_judge`.
      photo: `[..., h, w, 3]`, sRGB in [0, 1], floating point.
      stylized: as `photo`, of the same shape.

    Returns:
      One value per picture, `[...]`, for each of

      * 'style/relu1_1' and so on: relative Gram distance to the painting (squared norms), and
        'style', their mean over layers;
      * 'color': sliced Wasserstein distance of RGB to the painting;
      * 'content': relative distance of the content layer to the photograph's (squared norms);
      * 'ssim': structural similarity with the photograph, of luminance;
      * 'style/relu1_1_photo', 'style_photo', 'color_photo': the same for the photograph as it is,
        the base line.

    Raises:
      InputError: shapes that differ, pictures too small, or layers that are not there.

    Example:
      >>> row = judge(examiner, photo, painted)  # doctest: +SKIP
      >>> 1 - row['style'] / row['style_photo']  # doctest: +SKIP
      0.954
    """
    photo, stylized = jnp.asarray(photo), jnp.asarray(stylized)
    if photo.shape != stylized.shape:
        raise InputError(
            f"the photograph is {photo.shape} and its stylized version {stylized.shape}; give both "
            "the same size."
        )
    before, after = _maps(examiner, photo), _maps(examiner, stylized)
    values: dict[str, ArrayLike] = {
        "content": content_distance(after, before, examiner.content_layer),
        "ssim": _ssim(stylized, photo),
    }
    for suffix, maps, picture in (("", after, stylized), (PHOTO, before, photo)):
        distances = style_distance(maps, examiner.painting_maps, examiner.style_layers)
        values |= {f"style/{layer}{suffix}": value for layer, value in distances.items()}
        values[f"style{suffix}"] = np.mean([np.asarray(v, float) for v in distances.values()], 0)
        values[f"color{suffix}"] = sliced_wasserstein(picture, examiner.painting)
    return {name: np.asarray(value, float) for name, value in values.items()}


def _maps(examiner: Judge, image: Array) -> dict[str, Array]:
    layers = tuple(dict.fromkeys((*examiner.style_layers, examiner.content_layer)))
    return _look(examiner.params, image, layers, network=examiner.network)


def summarize(rows: Sequence[Mapping[str, ArrayLike]]) -> dict[str, float]:
    """Return what many pictures come to.

    Args:
      rows: of `judge`, one picture each.

    Returns:
      The means by the rows' names; 'style_below', 'style/relu1_1_below' and so on, and
      'color_below': by which part of the photographs' mean the pictures' mean is below it, 1 being
      the painting itself; and 'content_root', the mean of the roots.

    Raises:
      InputError: for no rows.

    Example:
      >>> means = summarize([{'style': 1.0, 'style_photo': 4.0, 'content': 0.25}])
      >>> means['style_below'], means['content_root']
      (0.75, 0.5)
    """
    if not rows:
        raise InputError("there are no pictures to summarize; judge at least one.")
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    below = {
        f"{name}_below": 1 - value / means[name + PHOTO] if means[name + PHOTO] else 0.0
        for name, value in means.items()
        if name + PHOTO in means
    }
    return {**means, **below, "content_root": float(np.mean([np.sqrt(r["content"]) for r in rows]))}
