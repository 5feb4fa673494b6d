"""Textures from an example, from noise (Gatys et al. 2015)."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp

from jaxstyle import features, losses, optimize
from jaxstyle.methods import per_image
from jaxstyle.types import Array, InputError, Params

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

_ALIGNED = 16  # four pools


def texture(
    example: Array,
    perception: tuple[Params, features.Network | features.Joined],
    *,
    size: tuple[int, int],
    layers: Sequence[str] = LAYERS,
    layer_weights: Sequence[float] = (),
    statistic: str = "gram",
    normalize: str = "scale_free",
    tv_weight: float = 0.1,
    seamless: bool = False,
    margin: int = 16,
    seed: int = 0,
    steps: int = 300,
    solver: optimize.Solver | None = None,
) -> per_image.Solution:
    """Return a picture of any size that is made like an example.

    Args:
      example: `[h, w, 3]`, sRGB in [0, 1].
      perception: parameters and network, as `jaxstyle.load_weights` returns them.
      size: height and width of the texture.
      layers: whose statistics are those of the example.
      layer_weights: shares, one a layer; () is alike.
      statistic: see `losses.style`.
      normalize: of its distance.
      tv_weight: of the total variation; the layers' weights sum to their number.
      seamless: whether the right side continues on the left, and the bottom at the top. Sides are
        then multiples of 16.
      margin: pixels that are made beyond each border and cut off, since a network sees less of what
        is at a border; none where seamless.
      seed: of the noise to begin with.
      steps: of the solver.
      solver: from `optimize.solver`; L-BFGS if none is given.

    Returns:
      The solution; its state has the margin.

    Raises:
      InputError: a size that cannot be, an unknown name, or a picture too small for a layer.

    Example:
      >>> import jax
      >>> from jaxstyle import load_weights
      >>> example = jax.random.uniform(jax.random.key(0), (20, 30, 3))
      >>> tile = texture(example, load_weights(), size=(16, 32), layers=('relu1_1',),
      ...                steps=2, seamless=True)
      >>> tile.image.shape
      (16, 32, 3)

    References:
      Gatys, Ecker, Bethge, Texture Synthesis Using Convolutional Neural Networks, 2015,
      arXiv:1505.07376, section 3.
    Differs from the paper: distances are relative to their targets by default; pixels are bounded
      by a sigmoid; the histogram is not matched afterwards, which `images.match_histograms` does.
    """
    if len(size) != 2 or min(size) < 1 or margin < 0:
        raise InputError(f"the size is {size} with a margin of {margin}; give height and width.")
    if seamless and any(side % _ALIGNED for side in size):
        raise InputError(
            f"a seamless texture of {size[0]}x{size[1]} cannot be; give multiples of {_ALIGNED}."
        )
    params, network = perception
    goal = _goal(tuple(layers), statistic, normalize, seamless)
    weights = losses.layer_weights("style", layers, float(len(layers)), layer_weights or None)
    targets = per_image.prepare(per_image.Problem(goal, network), params, {"style": example})
    seen = features.adjusted(network, padding="circular") if seamless else network
    margin = 0 if seamless else margin
    blank = jnp.zeros((size[0] + 2 * margin, size[1] + 2 * margin, 3))
    solution = per_image.solve(
        per_image.Problem(goal, seen),
        params,
        targets,
        {**weights, "tv": tv_weight},
        per_image.first_picture("noise", blank, seed=seed),
        steps=steps,
        solver=solver or optimize.solver("lbfgs", learning_rate=1.0),
    )
    image = solution.image[margin : margin + size[0], margin : margin + size[1]]
    return solution._replace(image=image)


@functools.lru_cache(maxsize=64)  # two calls alike must find the same program
def _goal(
    layers: tuple[str, ...], statistic: str, normalize: str, seamless: bool
) -> losses.Objective:
    style = losses.style(layers, statistic, normalize)
    return losses.combine(style, losses.total_variation(wrap=seamless))
