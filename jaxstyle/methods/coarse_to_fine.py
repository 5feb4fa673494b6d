"""Paint a picture from coarse to fine (after Crowson's style-transfer-pytorch)."""

import functools
from collections.abc import Sequence

import jax

from jaxstyle import features, images, losses, optimize
from jaxstyle.methods import per_image
from jaxstyle.types import Array, InputError, Params

OBJECTIVE = losses.ObjectiveConfig(style_statistic="wasserstein", tv=1.0)


def coarse_to_fine(
    content: Array,
    style: Array,
    perception: tuple[Params, features.Network | features.Joined],
    *,
    sizes: Sequence[int],
    objective: losses.ObjectiveConfig = OBJECTIVE,
    style_scale: float = 1.0,
    steps: int = 100,
    first_steps: int = 200,
    solver: optimize.Solver | None = None,
) -> per_image.Solution:
    """Return a picture with the content of one and the style of another, painted in several sizes.

    Each size begins with the picture of the one before, and with what Adam had found there.

    Args:
      content: `[h, w, 3]`, sRGB in [0, 1].
      style: `[h', w', 3]`.
      perception: parameters and network, as `jaxstyle.load_weights` returns them.
      sizes: longer sides, from the first to the last, e.g. from `optimize.scales`.
      objective: what is asked, at every size anew.
      style_scale: longer side of the style in that of the content.
      steps: at each size.
      first_steps: at the first.
      solver: from `optimize.solver`; Adam with averaged iterates if none is given.

    Returns:
      The solution at the last size, with the history of it.

    Raises:
      InputError: no sizes, an unknown name, or a picture too small for a layer.

    Example:
      >>> from jaxstyle import load_weights
      >>> photo, painting = jax.random.uniform(jax.random.key(0), (2, 40, 60, 3))
      >>> goal = losses.ObjectiveConfig(content_layers=('relu2_1',), style_layers=('relu1_1',))
      >>> solution = coarse_to_fine(photo, painting, load_weights(), sizes=(24, 36),
      ...                           objective=goal, steps=2, first_steps=2)
      >>> solution.image.shape
      (24, 36, 3)

    References:
      Crowson, `style-transfer-pytorch`, 2020-2022 (code, MIT license).
    Differs from the paper: distances are relative to their targets; the total variation has no
      diagonal terms.
    """
    if not sizes:
        raise InputError("no sizes are given; name at least one, e.g. (128, 181, 256).")
    goal, weights = _assembled(objective)
    params, network = perception
    problem = per_image.Problem(goal, network)
    if solver is None:
        solver = optimize.solver("adam", learning_rate=0.02, decay=(0.9, 0.99), average=0.99)
    state, solution = None, None
    for size in sizes:
        small = _fitted(content, size)
        pictures = {"content": small, "style": _fitted(style, max(1, round(size * style_scale)))}
        targets = per_image.prepare(problem, params, pictures)
        if state is None:
            state = optimize.start(small, solver)
        else:
            height, width = small.shape[:2]
            state = optimize.rescaled(state, (height, width), solver)
        count = steps if solution else first_steps
        solution = per_image.resume(
            problem, params, targets, weights, state, steps=count, solver=solver
        )
        state = solution.state
    assert solution is not None
    return solution


@functools.lru_cache(maxsize=64)  # two calls alike must find the same program
def _assembled(
    config: losses.ObjectiveConfig,
) -> tuple[losses.Objective, dict[str, float]]:
    return losses.assemble(config)


def _fitted(picture: Array, longer: int) -> Array:
    height, width = picture.shape[:2]
    resized = images.resize(picture, images.fit_size(height, width, longer=longer))
    return jax.numpy.clip(resized, 0.0, 1.0)
