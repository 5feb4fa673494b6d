"""Pictures optimized against a student while it learns, to learn from them.

A small perceptual network that tells its teacher's maps on photographs can still be fooled: an
optimizer finds pictures whose statistics the student takes for a painting's, and the teacher does
not. So a few pictures are kept that move, a step at a time, towards the style of other pictures as
the student sees it at present, and the student is taught on them as on photographs. A picture lives
for `_ROUNDS` visits and is then replaced by a new photograph.

References:
  Ross, Gordon and Bagnell, A Reduction of Imitation Learning and Structured Prediction to No-Regret
  Online Learning, 2011, arXiv:1011.0686: learn on the states that the learner itself leads to.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxstyle import features
from jaxstyle.losses import objective
from jaxstyle.types import Array, Params

_GROUPS = 12  # visited in turn
_ROUNDS = 36  # visits in the life of a group
_UPDATES = 2  # in a visit
_LEARNING_RATE = 0.03  # of Adam, for pixels in [0, 1]
_OPTIMIZER = optax.adam(_LEARNING_RATE)


class Pool(NamedTuple):
    """Pictures under way.

    Attributes:
      image: `[groups, n, h, w, 3]`, sRGB in [0, 1].
      reference: of the same shape, the pictures whose style they move to.
      solver: Adam's state, one for each group.
    """

    image: Array
    reference: Array
    solver: Any


def start(count: int, size: int) -> Pool:
    """Return a pool of gray pictures; each is replaced at its first visit.

    Args:
      count: pictures that each visit gives.
      size: their height and width.

    Example:
      >>> start(2, 8).image.shape
      (12, 2, 8, 8, 3)
    """
    gray = jnp.full((_GROUPS, count, size, size, 3), 0.5)
    # Not the same array twice: a training step that is given the memory of its state needs both.
    return Pool(gray, jnp.copy(gray), jax.vmap(_OPTIMIZER.init)(gray))


def visit(
    pool: Pool,
    step: Array,
    fresh: Array,
    student: Params,
    network: features.Network,
    layers: tuple[str, ...],
) -> tuple[Pool, Array]:
    """Move one group of pictures on, or replace it.

    Args:
      pool: as it stands.
      step: of the training; it decides whose turn it is, and whose time is over.
      fresh: at least `[2 n, h, w, 3]`, photographs to replace a group with: the last `n` are its
        pictures, the first its references.
      student: parameters of the network to fool.
      network: its row of the table.
      layers: whose means and covariances make the style.

    Returns:
      The pool, and the group, `[n, h, w, 3]`.
    """
    group, rounds = step % _GROUPS, step // _GROUPS
    # Groups end their lives at different times, so that there are pictures of every age.
    over = (rounds == 0) | ((rounds + _ROUNDS // _GROUPS * group) % _ROUNDS == 0)
    count = pool.image.shape[1]
    begun = (fresh[-count:], fresh[:count], _OPTIMIZER.init(fresh[:count]))
    turn = jax.tree.map(lambda new, old: jnp.where(over, new, old[group]), Pool(*begun), pool)

    style = objective.style(layers, "moments")
    targets = style.prepare(
        {"style": features.features(student, turn.reference, layers, network=network)}
    )

    def distance(image: Array) -> Array:
        maps = features.features(student, image, layers, network=network)
        terms = style.evaluate(image, maps, targets)
        return jnp.sum(sum(terms.values(), jnp.zeros(())))

    def update(state: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
        image, solver = state
        updates, solver = _OPTIMIZER.update(jax.grad(distance)(image), solver)
        return (jnp.clip(optax.apply_updates(image, updates), 0.0, 1.0), solver), None

    (image, solver), _ = jax.lax.scan(update, (turn.image, turn.solver), None, _UPDATES)
    turn = Pool(image, turn.reference, solver)
    return jax.tree.map(lambda old, new: old.at[group].set(new), pool, turn), image
