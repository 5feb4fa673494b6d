"""Networks trained together against the same networks trained alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import features, losses, networks, training
from jaxstyle.training import feedforward, many
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)
NETWORK = features.Network("toy", ((4,), (6,)), convention=features.PLAIN)
PERCEPTION = features.initialize(jax.random.key(1), NETWORK)
PROBLEM = feedforward.Problem(
    losses.content(("relu2_1",)),
    losses.style(("relu1_1", "relu2_1"), "moments"),
    losses.total_variation(),
    NETWORK,
)
CONFIG = networks.TransformerConfig(widths=(4, 6), blocks=0, outer_kernels=(3, 3), norm="batch")
NAMES = ("a", "b", "c")
PAINTINGS = [np.float32(RNG.uniform(size=shape)) for shape in ((20, 12, 3), (9, 9, 3), (16, 8, 3))]
WEIGHTS = [
    {"tv": 0.3, "content/relu2_1": 1.0, "style/relu1_1": 0.5, "style/relu2_1": 0.7},
    {"tv": 0.0, "content/relu2_1": 0.2, "style/relu1_1": 2.0, "style/relu2_1": 0.1},
    {"tv": 1.0, "content/relu2_1": 3.0, "style/relu1_1": 0.0, "style/relu2_1": 0.4},
]
BATCHES = RNG.integers(0, 256, (4, 2, 16, 16, 3), dtype=np.uint8)
# With a decay of 0, the momentum in the optimizer's state is the gradient.
SGD = optax.sgd(0.05, momentum=0.0)

both = pytest.mark.parametrize("formulation", many.FORMULATIONS)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def styles():
    prepare = jax.jit(functools.partial(feedforward.style_targets, PROBLEM))
    return [prepare(PERCEPTION, jnp.asarray(painting)) for painting in PAINTINGS]


@functools.cache
def step_together(formulation, optimizer, names=NAMES):
    return jax.jit(
        many.make_step(PROBLEM, CONFIG, optimizer, names, formulation=formulation),
    )


@functools.cache
def step_alone(optimizer):
    return jax.jit(feedforward.make_step(PROBLEM, CONFIG, optimizer))


def variables(i):
    return networks.init(jax.random.key(i), CONFIG)


def train_together(formulation, optimizer, steps, weights=WEIGHTS, targets=None):
    step = step_together(formulation, optimizer)
    state = many.create(
        [variables(i) for i in range(3)], optimizer, names=NAMES, terms=tuple(WEIGHTS[0])
    )
    style = many.stacked(targets or styles())
    for batch in BATCHES[:steps]:
        state = step(state, batch, PERCEPTION, style, many.stacked(weights))
    return state


@functools.cache
def train_alone(i, optimizer, steps):
    own = variables(i)
    params = own.pop("params")
    state = training.create(params, optimizer, metrics=("loss", *WEIGHTS[i]), extra=own)
    for batch in BATCHES[:steps]:
        state = step_alone(optimizer)(state, batch, PERCEPTION, styles()[i], WEIGHTS[i])
    return state


def assert_trees_close(found, expected, *, rtol: float):
    """Compare leaf by leaf, relative to the largest number of the whole tree."""
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    assert largest > 0
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * largest, err_msg=str(path))


# The loss network sees another batch than it does alone, so sums are taken in another order:
# float32 rounding, 1e-7 for each, in some hundreds of additions.
ROUNDING = 5e-6


@both
def test_the_gradient_of_each_network_is_its_own(formulation):
    together = train_together(formulation, SGD, 1)
    for i in range(3):
        lane, alone = many.network_of(together.opt_state, i), train_alone(i, SGD, 1)
        assert_trees_close(lane[0].trace, alone.opt_state[0].trace, rtol=ROUNDING)


@both
def test_lanes_equal_single_runs(formulation):
    together = train_together(formulation, SGD, 4)
    assert int(together.step) == 4
    for i, name in enumerate(NAMES):
        alone = train_alone(i, SGD, 4)
        assert_trees_close(many.network_of(together.params, i), alone.params, rtol=ROUNDING)
        assert_trees_close(many.network_of(together.extra, i), alone.extra, rtol=ROUNDING)
        for term, value in alone.metrics.items():
            np.testing.assert_allclose(together.metrics[f"{name}/{term}"], value, rtol=1e-4)
    mean = np.mean([together.metrics[f"{name}/loss"] for name in NAMES])
    np.testing.assert_allclose(together.metrics["loss"], mean, rtol=1e-6)


@both
def test_lanes_equal_single_runs_of_adam(formulation):
    """Where a gradient is nearly 0, Adam's first steps are its sign: rounding counts in full.

    So a few parameters may differ by some of the 4 steps of 1e-3, the others by rounding.
    """
    optimizer = optax.adam(1e-3)
    together = train_together(formulation, optimizer, 4)
    for i in range(3):
        lane, alone = many.network_of(together.params, i), train_alone(i, optimizer, 4).params
        pairs = zip(jax.tree.leaves(lane), jax.tree.leaves(alone), strict=True)
        apart = np.concatenate([np.abs(np.ravel(a) - np.ravel(b)) for a, b in pairs])
        assert apart.max() <= 8.1e-3
        assert np.mean(apart > 1e-5) < 0.01
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), alone, variables(i)["params"])
        assert max(jax.tree.leaves(moved)) > 3e-3


@both
def test_a_network_does_not_notice_the_others(formulation):
    """To the bit: it is one program, and only the others' numbers change."""
    before = train_together(formulation, SGD, 2)
    weights = [WEIGHTS[0], dict.fromkeys(WEIGHTS[1], 7.0), WEIGHTS[2]]
    swapped = [styles()[0], styles()[2], styles()[2]]
    after = train_together(formulation, SGD, 2, weights, swapped)
    for i, same in enumerate((True, False, True)):
        pair = (many.network_of(state.params, i) for state in (before, after))
        equal = jax.tree.map(lambda a, b: bool((a == b).all()), *pair)
        assert all(jax.tree.leaves(equal)) == same


@both
def test_clipping_is_by_the_norm_of_one_network(formulation):
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    together = train_together(formulation, optimizer, 1)
    for i in range(3):
        lane = many.network_of(together.params, i)
        moved = jax.tree.map(lambda a, b: a - b, lane, variables(i)["params"])
        np.testing.assert_allclose(float(optax.tree.norm(moved)), 1e-3, rtol=1e-3)


@both
def test_the_loss_network_runs_once_for_the_photographs_and_once_for_all_pictures(
    formulation, monkeypatch
):
    seen, look = [], features.features

    def remember(params, image, layers, **options):
        seen.append((image.shape, tuple(layers)))
        return look(params, image, layers, **options)

    monkeypatch.setattr(features, "features", remember)
    state = many.create([variables(i) for i in range(3)], SGD, names=NAMES, terms=tuple(WEIGHTS[0]))
    step = many.make_step(PROBLEM, CONFIG, SGD, NAMES, formulation=formulation)
    stacks = many.stacked(styles()), many.stacked(WEIGHTS)
    jax.eval_shape(step, state, BATCHES[0], PERCEPTION, *stacks)
    assert seen == [((2, 16, 16, 3), ("relu2_1",)), ((6, 16, 16, 3), PROBLEM.layers)]


def test_one_program_serves_every_step():
    train_together("unrolled", SGD, 3)
    assert step_together("unrolled", SGD)._cache_size() == 1


def test_one_network_is_a_network_alone():
    step = step_together("unrolled", SGD, ("only",))
    state = many.create([variables(0)], SGD, names=("only",), terms=tuple(WEIGHTS[0]))
    stacks = many.stacked(styles()[:1]), many.stacked(WEIGHTS[:1])
    state = step(state, BATCHES[0], PERCEPTION, *stacks)
    alone = train_alone(0, SGD, 1)
    assert_trees_close(many.network_of(state.params, 0), alone.params, rtol=ROUNDING)
    np.testing.assert_allclose(state.metrics["loss"], alone.metrics["loss"], rtol=1e-5)


def test_what_the_state_holds():
    state = many.create([variables(0)] * 2, optax.adam(1e-3), names=("x", "y"), terms=("tv",))
    assert set(state.metrics) == {"loss", "x/loss", "x/tv", "y/loss", "y/tv"}
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert set(state.extra) == {"batch_stats"}


@pytest.mark.parametrize("names", [("x",), ("x", "x"), ("x", "y", "z"), ()])
def test_every_network_has_a_name_of_its_own(names):
    with pytest.raises(InputError, match="2 networks are named"):
        many.create([variables(0)] * 2, SGD, names=names, terms=("tv",))


def test_unknown_formulations_are_refused():
    with pytest.raises(InputError, match="'unroled'; did you mean 'unrolled'"):
        many.make_step(PROBLEM, CONFIG, SGD, NAMES, formulation="unroled")
    assert many.formulation_for("cpu") in many.FORMULATIONS
    assert many.formulation_for("gpu") in many.FORMULATIONS
