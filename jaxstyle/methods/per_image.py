"""What every method that optimizes a picture shares: the problem, its loss, the first picture."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxstyle import features, losses, optimize
from jaxstyle.types import Array, InputError, Params, unknown_choice

STARTS = ("content", "style", "noise", "gray")

_NOISE = 0.15  # standard deviation of 'noise'


class Problem(NamedTuple):
    """What is asked of a picture, and who looks at it; nothing in it is traced.

    Attributes:
      objective: the terms.
      network: the row of the table the parameters belong to, or two joined.
    """

    objective: losses.Objective
    network: features.Network | features.Joined


class Context(NamedTuple):
    """What the loss is given besides the picture: arrays, all of which a sweep may vary.

    Attributes:
      params: of the network.
      targets: from `prepare`.
      weights: number by term.
    """

    params: Params
    targets: losses.Targets
    weights: Mapping[str, Array | float]


class Solution(NamedTuple):
    """A finished picture.

    Attributes:
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      history: the loss before each step, `[..., steps]`; not finite where no step was taken.
      state: to go on from, with `optimize.advance`.
    """

    image: Array
    history: Array
    state: optimize.State


def prepare(
    problem: Problem, params: Params, content: Array | None, style: Array | None
) -> losses.Targets:
    """Return the targets of an objective.

    Args:
      problem: its objective says which layers are looked at.
      params: of the network.
      content: `[h, w, 3]`, sRGB in [0, 1], or None for objectives without.
      style: of any size, or None.

    Raises:
      InputError: as `features`.
    """
    references = {
        kind: features.features(params, picture, layers, network=problem.network)
        for kind, picture in (("content", content), ("style", style))
        if picture is not None and (layers := problem.objective.layers)
    }
    return problem.objective.prepare(references)


def loss(image: Array, context: Context, *, problem: Problem) -> tuple[Array, dict[str, Array]]:
    """Return the weighted loss of a picture, and its terms unweighted.

    Args:
      image: `[h, w, 3]`, sRGB in [0, 1] or a little beyond.
      context: targets, weights and parameters.
      problem: what is asked.
    """
    maps = features.features(
        context.params, image, problem.objective.layers, network=problem.network
    )
    terms = problem.objective.evaluate(image, maps, context.targets)
    return losses.weigh(terms, context.weights), terms


def first_picture(
    kind: str, content: Array, style: Array | None = None, *, seed: int | Array = 0
) -> Array:
    """Return the picture an optimization begins with.

    Args:
      kind: 'content'; 'style', scaled to the content's size; 'noise', independent pixels around the
        middle gray; or 'gray'.
      content: `[h, w, 3]`, sRGB in [0, 1]; gives the size.
      style: for 'style'.
      seed: for 'noise'.

    Returns:
      `[h, w, 3]`, sRGB in [0, 1].

    Raises:
      InputError: an unknown kind, or 'style' without one.

    Example:
      >>> first_picture('gray', jnp.zeros((2, 2, 3)))[0, 0].tolist()
      [0.5, 0.5, 0.5]
    """
    if kind not in STARTS:
        raise unknown_choice("start", kind, STARTS)
    if kind == "content":
        return content
    if kind == "style":
        if style is None:
            raise InputError("the start is 'style', but there is no style picture.")
        return jnp.clip(jax.image.resize(style, content.shape, "cubic"), 0.0, 1.0)
    gray = jnp.full_like(content, 0.5)
    if kind == "gray":
        return gray
    noise = jax.random.normal(jax.random.key(seed), content.shape, content.dtype)
    return jnp.clip(gray + _NOISE * noise, 0.0, 1.0)
