"""All that a training run is, as one pytree: what comes back after an interruption."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxstyle.types import Array, Params


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "extra", "opt_state", "metrics"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """State of a training run.

    Attributes:
      step: int32 scalar, steps done.
      params: what the optimizer changes.
      extra: what the forward pass changes (running averages of batch norm), `{}` otherwise.
      opt_state: of the optimizer.
      metrics: sums over the steps since the last report, float32 scalars by name. They are part of
        the state so that a report after an interruption averages over the same steps.
    """

    step: Array
    params: Params
    extra: Params
    opt_state: Any
    metrics: Mapping[str, Array]


def create(
    params: Params,
    optimizer: optax.GradientTransformation,
    *,
    metrics: tuple[str, ...],
    extra: Params | None = None,
) -> TrainState:
    """Return the state before the first step.

    Args:
      params: initial parameters.
      optimizer: of the run.
      metrics: names the step will report.
      extra: see `TrainState`.

    Example:
      >>> state = create({'w': jnp.ones(2)}, optax.adam(1e-3), metrics=('loss',))
      >>> int(state.step)
      0
    """
    opt_state = optimizer.init(params)
    # Weakly typed scalars would become strong after the first step and compile it a second time.
    opt_state = jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), opt_state)
    zeros = {name: jnp.zeros((), jnp.float32) for name in metrics}
    return TrainState(jnp.zeros((), jnp.int32), params, extra or {}, opt_state, zeros)
