"""The training step of several image-transformation networks at once, on the same photographs.

Each network has its own style and its own weights of the terms: N paintings, or one painting in N
weightings. They share everything else: the photographs, whose content is looked at once, and the
loss network, which sees the pictures of all networks as one batch. Parameters, optimizer states and
running averages are stacked along a first axis, so the whole is one `TrainState`. What a network
learns does not depend on the others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxstyle import losses, networks
from jaxstyle.training import state as states
from jaxstyle.training.feedforward import Problem, content_targets, terms
from jaxstyle.training.state import TrainState
from jaxstyle.types import Array, InputError, Params, unknown_choice

FORMULATIONS = ("unrolled", "vmap")

Tree = TypeVar("Tree")


def formulation_for(backend: str) -> str:
    """Return the formulation that `make_step` should have on a backend: 'unrolled', everywhere.

    Measured on two shared CPU cores, the default recipe's network at 128 px, batches of 4
    (`benchmarks/many_networks.py`): for 2, 4 and 8 networks the unrolled step takes 0.96, 0.92 and
    0.87 of the time of as many single steps, 'vmap' 1.24-1.44, 1.40 and 1.74. It needs more memory
    (1.5 instead of 1.1 GB for 4) and compiles longer (29 instead of 18 s). On a GPU, where nothing
    was measured yet, gradients of grouped convolutions by their kernels are known to be slow.

    Args:
      backend: `jax.default_backend()`.

    Example:
      >>> formulation_for('cpu')
      'unrolled'
    """
    del backend
    return "unrolled"


def stacked(trees: Sequence[Tree]) -> Tree:
    """Stack trees of one structure along a new first axis: one network, or lane, each.

    Args:
      trees: parameters, targets, weights or states, `[...]` each leaf.

    Returns:
      The same tree with leaves `[n, ...]`.

    Example:
      >>> stacked([{'w': jnp.zeros(3)}, {'w': jnp.ones(3)}])['w'].shape
      (2, 3)
    """
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


def network_of(tree: Tree, index: int) -> Tree:
    """Return one network's part of what is stacked.

    Args:
      tree: leaves `[n, ...]`.
      index: of the network, from 0.

    Example:
      >>> network_of({'w': jnp.arange(6).reshape(2, 3)}, 1)['w'].tolist()
      [3, 4, 5]
    """
    return jax.tree.map(lambda leaf: leaf[index], tree)


def metric_names(names: Sequence[str], terms: Sequence[str]) -> tuple[str, ...]:
    """Return what the step reports: `loss`, the mean over the networks, and `name/...` of each.

    Args:
      names: of the networks.
      terms: of the objective.

    Example:
      >>> metric_names(('a', 'b'), ('tv',))
      ('loss', 'a/loss', 'a/tv', 'b/loss', 'b/tv')
    """
    return ("loss", *(f"{name}/{term}" for name in names for term in ("loss", *terms)))


def create(
    variables: Sequence[Mapping[str, Any]],
    optimizer: optax.GradientTransformation,
    *,
    names: Sequence[str],
    terms: Sequence[str],
) -> TrainState:
    """Return the state before the first step.

    Args:
      variables: of each network, as `networks.init` makes them.
      optimizer: of one network.
      names: of the networks, in the order of `variables`.
      terms: names of the objective's terms.

    Raises:
      InputError: no network, or not one name for each.

    Example:
      >>> config = networks.TransformerConfig(widths=(4, 6), blocks=0)
      >>> variables = networks.init(jax.random.key(0), config)
      >>> state = create([variables] * 2, optax.adam(1e-3), names=('a', 'b'), terms=('tv',))
      >>> state.params['output']['conv']['kernel'].shape
      (2, 9, 9, 4, 3)
    """
    if not variables or len(set(names)) != len(variables) or len(names) != len(variables):
        raise InputError(
            f"{len(variables)} networks are named {', '.join(map(repr, names)) or 'nothing'}; "
            "give each a name of its own."
        )
    every = dict(stacked([dict(own) for own in variables]))
    params = every.pop("params")
    metrics = metric_names(names, terms)
    return states.create(params, per_network(optimizer), metrics=metrics, extra=every)


def per_network(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the optimizer for stacked networks, each of which it treats as if it were alone.

    That matters where numbers of one network meet, as in clipping by the norm of all gradients.

    Args:
      optimizer: of one network.

    Example:
      >>> clip = per_network(optax.clip_by_global_norm(1.0))
      >>> gradient = jnp.array([[3.0, 4.0], [0.3, 0.4]])
      >>> clip.update(gradient, clip.init(gradient), gradient)[0].round(3).tolist()
      [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]
    """
    return optax.GradientTransformation(jax.vmap(optimizer.init), jax.vmap(optimizer.update))


def make_step(
    problem: Problem,
    config: networks.TransformerConfig,
    optimizer: optax.GradientTransformation,
    names: Sequence[str],
    *,
    formulation: str = "unrolled",
) -> Callable[..., TrainState]:
    """Return the pure training step `step(state, batch, perception, style, weights)`.

    One update of every network by the gradient of its own loss, the mean over the batch of the
    weighted sum of terms; see `feedforward.make_step`, which does the same for one.

    Args:
      problem: what every network is trained for, but for style and weights.
      config: of every network.
      optimizer: of one network.
      names: of the networks.
      formulation: how the networks' own passes are computed, 'unrolled', one after the other, or
        'vmap', as convolutions in groups. Results agree to float32 rounding.

    Returns:
      A function `(TrainState, uint8 batch [b, h, w, 3], perception params, stacked style targets,
      {term: [n] weights}) -> TrainState`; jit it once, donating the state.

    Raises:
      InputError: an unknown formulation.
    """
    if formulation not in FORMULATIONS:
        raise unknown_choice("formulation of many networks", formulation, FORMULATIONS)
    unrolled, count = formulation == "unrolled", len(names)
    paint = _paint_in_turn if unrolled else _paint_in_groups
    separate = per_network(optimizer)

    def step(
        state: TrainState,
        batch: Array,
        perception: Params,
        style: losses.Targets,
        weights: Mapping[str, Array],
    ) -> TrainState:
        photo = batch.astype(jnp.float32) / 255
        content = content_targets(problem, perception, photo)

        def loss(params: Any) -> tuple[Array, tuple[dict[str, Array], Params]]:
            painted, extra = paint(params, state.extra, photo, config, problem.dtype)
            joined = painted.reshape(-1, *painted.shape[2:])
            maps = problem.see(perception, joined, problem.layers)
            maps = {name: leaf.reshape(count, -1, *leaf.shape[1:]) for name, leaf in maps.items()}

            def means(painted: Array, maps: Any, style: Any, weights: Any) -> dict[str, Array]:
                values = terms(problem, painted, maps, content, style)
                values = {"loss": losses.weigh(values, weights), **values}
                return {name: jnp.mean(value) for name, value in values.items()}

            report = jax.vmap(means)(painted, maps, style, weights)
            return jnp.sum(report["loss"]), (report, extra)

        # Cut up before it is differentiated: the gradient of a cut is as large as the whole.
        params = [network_of(state.params, i) for i in range(count)] if unrolled else state.params
        gradient, (report, extra) = jax.grad(loss, has_aux=True)(params)
        if unrolled:
            gradient = stacked(gradient)
        updates, opt_state = separate.update(gradient, state.opt_state, state.params)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            extra=extra,
            opt_state=opt_state,
            metrics=_added(state.metrics, report, names),
        )

    return step


def _paint_in_turn(
    params: Sequence[Params],
    extra: Params,
    photo: Array,
    config: networks.TransformerConfig,
    dtype: str | None,
) -> tuple[Array, Params]:
    """Return all networks' pictures, `[n, b, h, w, 3]`, and their changed running averages."""
    results = [
        networks.apply_train({"params": own, **network_of(extra, i)}, photo, config, dtype=dtype)
        for i, own in enumerate(params)
    ]
    changed = [_without_params(variables) for _, variables in results]
    return jnp.stack([painted for painted, _ in results]), stacked(changed)


def _paint_in_groups(
    params: Params,
    extra: Params,
    photo: Array,
    config: networks.TransformerConfig,
    dtype: str | None,
) -> tuple[Array, Params]:
    """Do the same in one pass."""

    def paint(params: Params, extra: Params) -> tuple[Array, Params]:
        variables = {"params": params, **extra}
        painted, changed = networks.apply_train(variables, photo, config, dtype=dtype)
        return painted, _without_params(changed)

    return jax.vmap(paint)(params, extra)


def _without_params(variables: Params) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if name != "params"}


def _added(
    sums: Mapping[str, Array], report: Mapping[str, Array], names: Sequence[str]
) -> dict[str, Array]:
    """Add a step's `{term: [n]}` to the sums."""
    values = {"loss": jnp.mean(report["loss"])}
    for i, name in enumerate(names):
        values |= {f"{name}/{term}": value[i] for term, value in report.items()}
    return {name: total + values[name] for name, total in sums.items()}
