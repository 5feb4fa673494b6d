"""The training step of an image-transformation network (Johnson et al. 2016, section 3)."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxstyle import features, losses, networks
from jaxstyle.training.state import TrainState
from jaxstyle.types import Array, Params


class Problem(NamedTuple):
    """What the network is trained for.

    Attributes:
      content: objective whose targets are each photo's own features.
      style: objective whose targets are prepared once, from the style picture.
      regularizer: objective that needs no targets.
      perception: the loss network (static).
      dtype: what both networks compute in, see `jaxstyle.policy.compute_dtype`; None is the
        photographs' float32. Parameters, losses and the optimizer are float32 whatever it is.
    """

    content: losses.Objective
    style: losses.Objective
    regularizer: losses.Objective
    perception: features.Network | features.Joined
    dtype: str | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers the loss looks at."""
        return tuple(dict.fromkeys(self.content.layers + self.style.layers))

    def see(self, perception: Params, image: Array, layers: Sequence[str]) -> dict[str, Array]:
        """Return the loss network's maps of images `[..., h, w, 3]`, sRGB in [0, 1]."""
        return features.features(
            perception, image, layers, network=self.perception, dtype=self.dtype
        )


def style_targets(problem: Problem, perception: Params, style: Array) -> losses.Targets:
    """Prepare the style's targets.

    Args:
      problem: what is trained for.
      perception: parameters of the loss network.
      style: `[h, w, 3]`, sRGB in [0, 1].

    Returns:
      A pytree for `evaluate`.
    """
    maps = problem.see(perception, style, problem.style.layers)
    return problem.style.prepare({"style": maps})


def content_targets(problem: Problem, perception: Params, photo: Array) -> losses.Targets:
    """Prepare the content's targets; nothing is differentiated through them.

    Args:
      problem: what is trained for.
      perception: parameters of the loss network.
      photo: `[b, h, w, 3]`, sRGB in [0, 1].

    Returns:
      A pytree for `terms`.
    """
    wanted = problem.see(perception, photo, problem.content.layers)
    return problem.content.prepare({"content": jax.lax.stop_gradient(wanted)})


def terms(
    problem: Problem,
    painted: Array,
    maps: Mapping[str, Array],
    content: losses.Targets,
    style: losses.Targets,
) -> dict[str, Array]:
    """Return every term of the objective, unweighted, for each image.

    Args:
      problem: what is trained for.
      painted: `[b, h, w, 3]`, the network's output.
      maps: its features at `problem.layers`.
      content: from `content_targets`.
      style: from `style_targets`.

    Returns:
      `{term: [b]}`.
    """
    return {
        **problem.content.evaluate(painted, maps, content),
        **problem.style.evaluate(painted, maps, style),
        **problem.regularizer.evaluate(painted, maps, ()),
    }


def evaluate(
    problem: Problem,
    perception: Params,
    style: losses.Targets,
    photo: Array,
    painted: Array,
) -> dict[str, Array]:
    """Return every term of the objective, unweighted, for each image.

    Args:
      problem: what is trained for.
      perception: parameters of the loss network.
      style: from `style_targets`.
      photo: `[b, h, w, 3]`, sRGB in [0, 1].
      painted: the network's output for it, of the same shape.

    Returns:
      `{term: [b]}`.
    """
    content = content_targets(problem, perception, photo)
    maps = problem.see(perception, painted, problem.layers)
    return terms(problem, painted, maps, content, style)


def make_step(
    problem: Problem, config: networks.TransformerConfig, optimizer: optax.GradientTransformation
) -> Callable[..., TrainState]:
    """Return the pure training step `step(state, batch, perception, style, weights)`.

    The step takes bytes `[b, h, w, 3]` (a quarter of the floats' traffic), applies one update of
    the optimizer to the mean over the batch of the weighted sum of terms, and adds every unweighted
    term and the loss to the state's sums.

    Args:
      problem: what is trained for.
      config: the network.
      optimizer: of the run.

    Returns:
      A function `(TrainState, uint8 batch, perception params, style targets, {term: weight})
      -> TrainState`; jit it once, donating the state.
    """

    def step(
        state: TrainState,
        batch: Array,
        perception: Params,
        style: losses.Targets,
        weights: Mapping[str, Array | float],
    ) -> TrainState:
        photo = batch.astype(jnp.float32) / 255

        def loss(params: Params) -> tuple[Array, tuple[dict[str, Array], Params]]:
            variables = {"params": params, **state.extra}
            painted, changed = networks.apply_train(variables, photo, config, dtype=problem.dtype)
            values = evaluate(problem, perception, style, photo, painted)
            total = jnp.mean(losses.weigh(values, weights))
            means = {name: jnp.mean(value) for name, value in values.items()}
            return total, ({"loss": total, **means}, changed)

        gradient, (report, changed) = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            extra={name: value for name, value in changed.items() if name != "params"},
            opt_state=opt_state,
            metrics={name: state.metrics[name] + report[name] for name in state.metrics},
        )

    return step
