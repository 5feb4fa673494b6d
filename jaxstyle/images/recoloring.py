"""Give a finished painting the colors of the photograph it was painted from."""

import jax.numpy as jnp

from jaxstyle.images.color import transfer_luminance
from jaxstyle.images.matching import match_colors, match_histograms
from jaxstyle.types import Array, unknown_choice

RECOLORINGS = ("luminance", "match", "histogram")


def recoloring(preserve_color: bool | str) -> str | None:
    """Return the name of a way to recolor, of what a user gave for `preserve_color`.

    Args:
      preserve_color: False for none, True for 'luminance', or one of the names of `recolor`.

    Returns:
      The name, or None for none.

    Raises:
      InputError: another name.

    Example:
      >>> recoloring(True), recoloring(False)
      ('luminance', None)
    """
    if not isinstance(preserve_color, str):
        return RECOLORINGS[0] if preserve_color else None
    if preserve_color not in RECOLORINGS:
        raise unknown_choice("way to preserve color", preserve_color, RECOLORINGS)
    return preserve_color


def recolor(painted: Array, photo: Array, way: str = "luminance") -> Array:
    """Give a painting its photograph's colors.

    'luminance' sees to every place: the painting's brightness under the photograph's colors there,
    with the edges that these have. The others see to the picture as a whole, and strokes keep edges
    and colors of their own: 'match' gives it the photograph's mean color and covariance
    (`match_colors`, the symmetric map), 'histogram' after that the photograph's histogram of red,
    green and blue each (`match_histograms`). Histograms alone would not do: they leave how the
    channels go together, so that a painting of a gray photograph would stay colored.

    Args:
      painted: `[..., h, w, 3]`, sRGB in [0, 1]; may leave it, as the output of a network does.
      photo: `[..., h, w, 3]`, sRGB in [0, 1]; other than for 'luminance', of any size.
      way: see above.

    Returns:
      `[..., h, w, 3]`, clipped to [0, 1].

    Raises:
      InputError: an unknown way, or pictures that `transfer_luminance`, `match_colors` or
        `match_histograms` refuse.

    Example:
      >>> painted, photo = jnp.full((1, 1, 3), 0.5), jnp.array([[[0.1, 0.2, 0.3]]])
      >>> [round(v, 2) for v in recolor(painted, photo, 'match')[0, 0].tolist()]
      [0.1, 0.2, 0.3]

    References:
      Gatys, Bethge, Hertzmann, Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016,
      arXiv:1606.05897.
    Differs from the paper: there the style is recolored before the transfer; here it is the result,
      which needs no other network.
    """
    if way == "luminance":
        return transfer_luminance(jnp.clip(painted, 0, 1), photo)
    if way == "match":
        matched = match_colors(jnp.clip(painted, 0, 1), photo, mode="symmetric")
        return jnp.clip(matched, 0, 1)
    if way == "histogram":
        # Not clipped before: pixels made equal would be ranked by place, to a visible gradient.
        matched = match_colors(painted, photo, mode="symmetric")
        return jnp.clip(match_histograms(matched, photo), 0, 1)
    raise unknown_choice("way to preserve color", way, RECOLORINGS)
