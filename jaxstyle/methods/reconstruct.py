"""What a layer keeps of a picture: another picture that it sees alike, from noise."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp

from jaxstyle import features, losses, optimize
from jaxstyle.methods import per_image
from jaxstyle.types import Array, Params, unknown_choice

KINDS = ("content", "style")


def reconstruct(
    picture: Array,
    perception: tuple[Params, features.Network | features.Joined],
    layers: Sequence[str],
    *,
    kind: str = "content",
    statistic: str = "gram",
    tv_weight: float = 0.0,
    start: str = "noise",
    seed: int = 0,
    steps: int = 200,
    solver: optimize.Solver | None = None,
) -> per_image.Solution:
    """Return a picture with the feature maps of another one, or with their statistics.

    Args:
      picture: `[h, w, 3]`, sRGB in [0, 1].
      perception: parameters and network, as `jaxstyle.load_weights` returns them.
      layers: e.g. `('relu4_2',)`.
      kind: 'content' for the maps, 'style' for their statistics, wherever in the picture.
      statistic: of 'style', see `losses.style`.
      tv_weight: of the total variation; the layers' weights sum to 1.
      start: see `first_picture`: 'noise' or 'gray'.
      seed: of the noise.
      steps: of the solver.
      solver: from `optimize.solver`; L-BFGS if none is given.

    Returns:
      The solution.

    Raises:
      InputError: an unknown name, or a picture too small for a layer.

    Example:
      >>> import jax
      >>> from jaxstyle import load_weights
      >>> picture = jax.random.uniform(jax.random.key(0), (16, 16, 3))
      >>> solution = reconstruct(picture, load_weights(), ('relu1_1',), steps=20)
      >>> bool(solution.history[-1] < 0.1 * solution.history[0])
      True

    References:
      Gatys, Ecker, Bethge, A Neural Algorithm of Artistic Style, 2015, arXiv:1508.06576, figure 1;
      Mahendran, Vedaldi, Understanding Deep Image Representations by Inverting Them, 2015.
    """
    if kind not in KINDS:
        raise unknown_choice("kind of reconstruction", kind, KINDS)
    layers = tuple(layers)
    params, network = perception
    problem = per_image.Problem(_goal(kind, layers, statistic), network)
    return per_image.solve(
        problem,
        params,
        per_image.prepare(problem, params, {kind: picture}),
        {**losses.layer_weights(kind, layers, 1.0), "tv": tv_weight},
        per_image.first_picture(start, jnp.asarray(picture), seed=seed),
        steps=steps,
        solver=solver or optimize.solver("lbfgs", learning_rate=1.0),
    )


@functools.lru_cache(maxsize=64)  # two calls alike must find the same program
def _goal(kind: str, layers: tuple[str, ...], statistic: str) -> losses.Objective:
    asked = losses.content(layers) if kind == "content" else losses.style(layers, statistic)
    return losses.combine(asked, losses.total_variation())
