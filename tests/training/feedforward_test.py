"""The training step against losses computed apart from it, in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import features, losses, networks, training
from jaxstyle.training import feedforward

RNG = np.random.default_rng(0)
NETWORK = features.Network("toy", ((4,), (6,)), convention=features.PLAIN)
PERCEPTION = features.initialize(jax.random.key(1), NETWORK)
PROBLEM = feedforward.Problem(
    losses.content(("relu2_1",)),
    losses.style(("relu1_1", "relu2_1"), "moments"),
    losses.total_variation(),
    NETWORK,
)
CONFIG = networks.TransformerConfig(widths=(4, 6), blocks=0, outer_kernels=(3, 3))
STYLE_PICTURE = np.float32(RNG.uniform(size=(20, 12, 3)))
BATCH = RNG.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
BATCH[1] = np.linspace(40, 220, 16)[:, None] // [1, 2, 3]  # noise, and a slow gradient
WEIGHTS = {"content/relu2_1": 1.0, "style/relu1_1": 0.5, "style/relu2_1": 0.7, "tv": 0.3}
# With a decay of 0, the momentum in the optimizer's state is the gradient.
OPTIMIZER = optax.sgd(0.05, momentum=0.0)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def style():
    prepare = jax.jit(functools.partial(feedforward.style_targets, PROBLEM))
    return prepare(PERCEPTION, jnp.asarray(STYLE_PICTURE))


@pytest.fixture(scope="module")
def step(style):
    jitted = jax.jit(feedforward.make_step(PROBLEM, CONFIG, OPTIMIZER))
    return functools.partial(jitted, perception=PERCEPTION, style=style)


def new_state(config=CONFIG) -> training.TrainState:
    variables = networks.init(jax.random.key(0), config)
    params = variables.pop("params")
    return training.create(params, OPTIMIZER, metrics=("loss", *WEIGHTS), extra=variables)


def gradient(state: training.TrainState):
    return state.opt_state[0].trace


def assert_trees_close(found, expected, *, rtol: float):
    """Compare leaf by leaf, relative to the largest number of the whole tree."""
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    assert largest > 0
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * largest, err_msg=str(path))


@jax.jit
def look(image):
    return features.features(PERCEPTION, image, ("relu1_1", "relu2_1"), network=NETWORK)


@jax.jit
def paint(params, image):
    return networks.apply({"params": params}, image, CONFIG)


def maps_of(image):
    maps = look(jnp.asarray(image))
    return {name: np.asarray(value, np.float64) for name, value in maps.items()}


def moments(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = maps.reshape(-1, maps.shape[-1])
    return flat.mean(0), np.cov(flat, rowvar=False, bias=True)


def expected_terms(params, batch=BATCH) -> dict[str, float]:
    """Every unweighted term, averaged over the batch, image by image in float64."""
    style = maps_of(STYLE_PICTURE)
    values = []
    for photo in batch:
        image = np.float32(photo) / 255
        painted = paint(params, jnp.asarray(image))
        photo_maps, maps = maps_of(image), maps_of(painted)
        painted = np.asarray(painted, np.float64)
        wanted = photo_maps["relu2_1"]
        terms = {
            "content/relu2_1": ((maps["relu2_1"] - wanted) ** 2).mean() / (wanted**2).mean(),
            "tv": (np.diff(painted, axis=0) ** 2).mean() + (np.diff(painted, axis=1) ** 2).mean(),
        }
        for layer in ("relu1_1", "relu2_1"):
            pairs = zip(moments(maps[layer]), moments(style[layer]), strict=True)
            terms[f"style/{layer}"] = sum(((a - b) ** 2).sum() / (b**2).sum() for a, b in pairs)
        values.append(terms)
    return {name: float(np.mean([each[name] for each in values])) for name in values[0]}


def test_layers_are_each_named_once():
    assert PROBLEM.layers == ("relu2_1", "relu1_1")


def test_style_targets_are_the_statistics_of_the_picture(style):
    maps = maps_of(STYLE_PICTURE)
    assert sorted(style) == ["style/relu1_1", "style/relu2_1"]
    for layer in ("relu1_1", "relu2_1"):
        for found, expected in zip(style[f"style/{layer}"], moments(maps[layer]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_terms_are_reported_unweighted_and_summed_over_steps(step):
    first = step(new_state(), BATCH, weights=WEIGHTS)
    second = step(first, BATCH, weights=WEIGHTS)
    at_start = expected_terms(new_state().params)
    after_one = expected_terms(first.params)
    assert min(at_start.values()) > 1e-4
    for name in WEIGHTS:
        np.testing.assert_allclose(first.metrics[name], at_start[name], rtol=1e-4)
        np.testing.assert_allclose(
            second.metrics[name], at_start[name] + after_one[name], rtol=1e-4
        )
    loss = sum(WEIGHTS[name] * at_start[name] for name in WEIGHTS)
    np.testing.assert_allclose(first.metrics["loss"], loss, rtol=1e-4)


def test_loss_falls_and_one_program_serves_every_step_and_weighting(step):
    state, sums = new_state(), [0.0]
    for _ in range(30):
        state = step(state, BATCH, weights=WEIGHTS)
        sums.append(float(state.metrics["loss"]))
    loss = np.diff(sums)
    assert loss[-1] < 0.8 * loss[0]
    assert int(state.step) == 30
    step(state, BATCH, weights=dict.fromkeys(WEIGHTS, 2.0))
    assert step.func._cache_size() == 1


def test_a_weight_of_zero_switches_the_gradient_off_but_not_the_report(step):
    weights = {**dict.fromkeys(WEIGHTS, 0.0), "tv": 2.0}
    state = step(new_state(), BATCH, weights=weights)

    def only_variation(params):
        painted = networks.apply({"params": params}, jnp.float32(BATCH) / 255, CONFIG)
        return 2 * jnp.mean(losses.variation(painted))

    expected = jax.jit(jax.grad(only_variation))(new_state().params)
    assert_trees_close(gradient(state), expected, rtol=1e-5)
    weighted = step(new_state(), BATCH, weights=WEIGHTS)
    for name in WEIGHTS:
        np.testing.assert_allclose(state.metrics[name], weighted.metrics[name], rtol=1e-6)
    np.testing.assert_allclose(state.metrics["loss"], 2 * state.metrics["tv"], rtol=1e-6)


def test_the_gradient_is_the_weighted_sum_of_the_terms_gradients(step):
    total = gradient(step(new_state(), BATCH, weights=WEIGHTS))
    parts = [
        gradient(step(new_state(), BATCH, weights={**dict.fromkeys(WEIGHTS, 0.0), name: weight}))
        for name, weight in WEIGHTS.items()
    ]
    assert_trees_close(total, jax.tree.map(lambda *leaves: sum(leaves), *parts), rtol=1e-5)


def test_lanes_of_a_sweep_over_weights_equal_single_runs(step, style):
    values = {name: jnp.array([weight, 0.1 + weight]) for name, weight in WEIGHTS.items()}
    lanes = jax.jit(jax.vmap(step.func, in_axes=(None, None, None, None, 0)))(
        new_state(), BATCH, PERCEPTION, style, values
    )
    for i in range(2):
        alone = step(new_state(), BATCH, weights={k: float(v[i]) for k, v in values.items()})
        lane = jax.tree.map(lambda leaf, i=i: leaf[i], lanes)
        assert_trees_close(gradient(lane), gradient(alone), rtol=1e-5)
        for name in alone.metrics:
            np.testing.assert_allclose(lane.metrics[name], alone.metrics[name], rtol=1e-5)


def test_the_mean_over_the_batch_is_taken_once(step):
    both = step(new_state(), BATCH, weights=WEIGHTS)
    singles = [step(new_state(), BATCH[i : i + 1], weights=WEIGHTS) for i in range(2)]
    means = jax.tree.map(lambda a, b: (a + b) / 2, *map(gradient, singles))
    assert_trees_close(gradient(both), means, rtol=1e-5)
    for name, value in both.metrics.items():
        pair = [float(single.metrics[name]) for single in singles]
        assert abs(pair[0] - pair[1]) > 1e-4  # two different photos
        np.testing.assert_allclose(value, np.mean(pair), rtol=1e-5)


def test_running_averages_of_batch_normalization_are_kept(style):
    config = networks.TransformerConfig(
        widths=(4, 6), blocks=0, outer_kernels=(3, 3), norm="batch", batch_norm_momentum=0.75
    )
    step = jax.jit(feedforward.make_step(PROBLEM, config, OPTIMIZER))
    before = new_state(config)
    after = step(before, BATCH, PERCEPTION, style, WEIGHTS)
    assert set(after.extra) == {"batch_stats"}
    kernel = before.params["encoder_0"]["conv"]["kernel"]
    padded = np.pad(np.float32(BATCH) / 255, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    convolved = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    mean = before.extra["batch_stats"]["encoder_0"]["norm"]["mean"]
    found = after.extra["batch_stats"]["encoder_0"]["norm"]["mean"]
    expected = 0.75 * np.asarray(mean) + 0.25 * convolved.mean((0, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    again = step(after, BATCH, PERCEPTION, style, WEIGHTS)
    assert step._cache_size() == 1
    np.testing.assert_allclose(
        again.extra["batch_stats"]["encoder_0"]["norm"]["mean"][0],
        found[0] * 0.75 + 0.25 * _first_mean(after.params["encoder_0"]["conv"]["kernel"], windows),
        rtol=1e-4,
    )


def _first_mean(kernel, windows) -> float:
    return float(np.einsum("bhwcij,ijc->bhw", windows, np.asarray(kernel)[..., 0]).mean())


def test_other_normalizations_leave_nothing_extra(step):
    assert step(new_state(), BATCH, weights=WEIGHTS).extra == {}
