import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import features, training
from jaxstyle.training import counterexamples, distillation
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)
STUDENT = features.Network("toy", ((4, 5), (6,)), features.PLAIN, padding="reflect")
LARGE = features.Network("large", ((7, 8), (9,)), features.PLAIN)
IMAGE = jnp.float32(RNG.uniform(size=(3, 12, 16, 3)))


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def drawn(network: features.Network, seed: int):
    """Random parameters with biases: He's zeros would hide a mistake in them."""
    params = features.initialize(jax.random.key(seed), network)
    return {
        name: {
            "kernel": layer["kernel"],
            "bias": jnp.float32(RNG.uniform(0, 0.2, layer["bias"].shape)),
        }
        for name, layer in params.items()
    }


def readouts(channels: dict[str, int], seed: int = 2):
    return distillation.initialize(jax.random.key(seed), STUDENT, channels)["readout"]


# Compiled as a whole, since one operation at a time compiles each of them.
look = jax.jit(features.features, static_argnames=("layers", "network"))
perturb = jax.jit(distillation.perturb)
errors = jax.jit(distillation.errors, static_argnums=3)


def targets(teachers, image):
    def compute(params):
        known = zip(teachers, params, strict=True)
        return distillation.targets([t._replace(params=p) for t, p in known], image)

    return jax.jit(compute)([teacher.params for teacher in teachers])


# Targets.


def test_each_teacher_teaches_its_own_layers_with_reflection():
    own, large = drawn(STUDENT, 0), drawn(LARGE, 1)
    wanted = targets(
        [
            distillation.Teacher(own, STUDENT, ("relu1_1",)),
            distillation.Teacher(large, LARGE, ("relu2_1", "relu1_2")),
        ],
        IMAGE,
    )
    assert {name: maps.shape for name, maps in wanted.items()} == {
        "relu1_1": (3, 12, 16, 4),
        "relu2_1": (3, 6, 8, 9),
        "relu1_2": (3, 12, 16, 8),
    }
    padded = np.pad(np.asarray(IMAGE), ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    first = np.einsum("bhwcij,ijco->bhwo", windows, own["conv1_1"]["kernel"])
    expected = np.maximum(first + np.asarray(own["conv1_1"]["bias"]), 0)
    np.testing.assert_allclose(wanted["relu1_1"], expected, rtol=1e-4, atol=1e-5)


def test_a_layer_has_one_teacher():
    teacher = distillation.Teacher(drawn(STUDENT, 0), STUDENT, ("relu1_1", "relu1_2"))
    with pytest.raises(InputError, match="relu1_2 is taught twice"):
        targets([teacher, teacher._replace(layers=("relu1_2",))], IMAGE)


# Perturbation: on gray pictures each kind leaves its own trace.


def test_perturbation_mixes_noises_and_recolors_in_the_shares_it_says():
    count = 2000
    gray = np.float32(RNG.uniform(0.3, 0.7, (count, 1, 1, 1)))
    image = np.broadcast_to(gray, (count, 4, 4, 3))
    result = np.asarray(perturb(jax.random.key(0), jnp.asarray(image)))
    assert result.min() >= 0 and result.max() <= 1
    untouched = (result == image).all((1, 2, 3))
    noisy = np.ptp(result[..., 0], axis=(1, 2)) > 0
    flat = ~untouched & ~noisy
    recolored = flat & (np.ptp(result[:, 0, 0], axis=-1) > 1e-6)
    mixed = flat & ~recolored
    # Three deviations of a share of 15% in 2000 are 2.4%.
    np.testing.assert_allclose(
        [part.mean() for part in (untouched, noisy, recolored, mixed)],
        [0.55, 0.15, 0.15, 0.15],
        atol=0.03,
    )
    neighbor = np.roll(gray, 1, axis=0)[mixed, 0, 0, 0]
    own, value = gray[mixed, 0, 0, 0], result[mixed, 0, 0, 0]
    assert (value > np.minimum(own, neighbor) - 1e-6).all()
    assert (value < np.maximum(own, neighbor) + 1e-6).all()
    noise = (result - image)[noisy]
    assert 0.05 < noise.std() < 0.15  # 0.15 t, t uniform: 0.15 / sqrt(3), less what is clipped
    assert abs(noise.mean()) < 0.01
    shift = (result - image)[recolored, 0, 0]
    assert np.abs(shift).max() < 0.25 + 0.2 * 0.7 + 1e-6


def test_perturbation_depends_on_the_key_alone_and_stays_in_range():
    image = jnp.float32(RNG.integers(0, 2, (40, 4, 4, 3)))  # nothing but extremes
    first, again, other = (perturb(jax.random.key(k), image) for k in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()
    assert float(first.min()) == 0 and float(first.max()) == 1


# Student and readouts.


def test_student_and_readouts_have_the_shapes_of_their_layers():
    params = distillation.initialize(jax.random.key(0), STUDENT, {"relu2_1": 512, "relu1_1": 64})
    assert list(params["student"]) == ["conv1_1", "conv1_2", "conv2_1"]
    shapes = jax.tree.map(jnp.shape, params["readout"])
    assert shapes == {
        "relu1_1": {"kernel": (4, 64), "bias": (64,)},
        "relu2_1": {"kernel": (6, 512), "bias": (512,)},
    }
    kernel = np.asarray(params["readout"]["relu2_1"]["kernel"])
    np.testing.assert_allclose(kernel.var(), 2 / 6, rtol=0.1)


@pytest.mark.parametrize("layer", ["relu5_4", "conv1_1", "pool1"])
def test_only_relu_layers_of_the_student_can_be_taught(layer):
    with pytest.raises(InputError, match=f"unknown relu layer of toy '{layer}'"):
        distillation.initialize(jax.random.key(0), STUDENT, {"relu1_1": 4, layer: 4})


def test_a_perfect_student_has_no_error_and_a_silent_one_has_error_one():
    student = drawn(STUDENT, 0)
    layers = ("relu1_1", "relu2_1")
    wanted = targets([distillation.Teacher(student, STUDENT, layers)], IMAGE)
    identity = {
        layer: {
            "kernel": jnp.eye(maps.shape[-1]) / jnp.sqrt(jnp.mean(maps**2)),
            "bias": jnp.zeros(maps.shape[-1]),
        }
        for layer, maps in wanted.items()
    }
    silent = jax.tree.map(jnp.zeros_like, identity)
    perfect = errors({"student": student, "readout": identity}, IMAGE, wanted, STUDENT)
    nothing = errors({"student": student, "readout": silent}, IMAGE, wanted, STUDENT)
    assert (
        set(perfect) == set(distillation.terms(layers)) == {*layers, *(f"gram/{n}" for n in layers)}
    )
    for layer in distillation.terms(layers):
        assert perfect[layer].shape == (3,)
        np.testing.assert_allclose(perfect[layer], 0, atol=1e-10)
        np.testing.assert_allclose(jnp.mean(nothing[layer]), 1, rtol=1e-5)


def test_errors_are_those_of_the_readout_relative_to_the_teachers_energy():
    student, large = drawn(STUDENT, 0), drawn(LARGE, 1)
    layers = ("relu1_2", "relu2_1")
    wanted = targets([distillation.Teacher(large, LARGE, layers)], IMAGE)
    readout = readouts({"relu1_2": 8, "relu2_1": 9})
    readout["relu2_1"]["bias"] = jnp.float32(RNG.normal(size=9))
    found = errors({"student": student, "readout": readout}, IMAGE, wanted, STUDENT)
    maps = look(student, IMAGE, layers, network=STUDENT)
    for layer in layers:
        own, target = np.asarray(maps[layer], np.float64), np.asarray(wanted[layer], np.float64)
        told = own @ np.asarray(readout[layer]["kernel"]) + np.asarray(readout[layer]["bias"])
        target = target / np.sqrt((target**2).mean())
        told = np.maximum(told, 0)
        np.testing.assert_allclose(found[layer], ((told - target) ** 2).mean((1, 2, 3)), rtol=1e-4)
        grams = [np.einsum("bhwi,bhwj->bij", x, x) / x[0, ..., 0].size for x in (told, target)]
        energy = (grams[1] ** 2).sum((1, 2)).mean()
        expected = ((grams[0] - grams[1]) ** 2).sum((1, 2)) / energy
        np.testing.assert_allclose(found[f"gram/{layer}"], expected, rtol=1e-4)


# Balance.


def test_balance_scales_channels_and_changes_nothing_else():
    student = drawn(STUDENT, 0)
    readout = readouts({"relu1_1": 8, "relu2_1": 9})  # nobody teaches relu1_2
    ignored = readout["relu1_1"]["kernel"].at[2].set(0.0)
    readout["relu1_1"]["kernel"] = ignored
    balanced = distillation.balance({"student": student, "readout": readout}, STUDENT)
    layers = ("relu1_1", "relu1_2", "relu2_1")
    before = look(student, IMAGE, layers, network=STUDENT)
    after = look(balanced, IMAGE, layers, network=STUDENT)
    lengths = {
        layer: np.linalg.norm(np.asarray(part["kernel"]), axis=1) for layer, part in readout.items()
    }
    assert lengths["relu1_1"][2] == 0
    lengths["relu1_1"][2] = 0.01 * lengths["relu1_1"].max()
    lengths["relu1_2"] = np.ones(5)
    for layer in layers:
        expected = np.asarray(before[layer]) * lengths[layer]
        assert np.ptp(lengths[layer]) > 0.1 or layer == "relu1_2"
        np.testing.assert_allclose(
            after[layer], expected, rtol=0, atol=2e-5 * expected.max(), err_msg=layer
        )


# What is kept.


def test_the_loudest_channels_of_the_readouts_are_kept():
    student, readout = drawn(STUDENT, 0), readouts({"relu1_1": 8, "relu1_2": 6, "relu2_1": 9})
    readout["relu1_2"]["bias"] = jnp.float32([0.0, -3, 0.1, 4, -9, 5])
    params = {"student": student, "readout": readout}
    network = dataclasses.replace(STUDENT, readouts=(("relu1_2", 2), ("relu2_1", 20)))
    finish = jax.jit(distillation.finish, static_argnums=1)
    kept = finish(params, network, IMAGE)
    assert kept["relu1_2"]["kernel"].shape == (1, 1, 5, 2)
    assert kept["relu2_1"]["kernel"].shape == (1, 1, 6, 9)  # no more than there are
    assert "relu1_1" not in kept
    layers = ("relu1_1", "relu1_2", "relu2_1")
    own = look(student, IMAGE, layers, network=STUDENT)
    found = look(kept, IMAGE, layers, network=network)
    for layer, chosen in (("relu1_2", [3, 5]), ("relu2_1", range(9))):
        told = np.asarray(own[layer]) @ np.asarray(readout[layer]["kernel"])
        told = np.maximum(told + np.asarray(readout[layer]["bias"]), 0)[..., list(chosen)]
        np.testing.assert_allclose(found[layer], told, rtol=0, atol=2e-5 * told.max())
    balanced = look(distillation.balance(params, STUDENT), IMAGE, layers, network=STUDENT)
    np.testing.assert_array_equal(found["relu1_1"], balanced["relu1_1"])


# The step.


def test_training_brings_the_errors_down_and_compiles_once():
    layers = ("relu1_1", "relu2_1")
    teacher = distillation.Teacher(drawn(LARGE, 1), LARGE, layers)
    params = distillation.initialize(jax.random.key(0), STUDENT, {"relu1_1": 7, "relu2_1": 9})
    optimizer = optax.adam(1e-2)
    names = distillation.terms(layers)
    state = training.create(params, optimizer, metrics=("loss", *names))
    make = functools.partial(distillation.make_step, [teacher], STUDENT, optimizer, seed=5)
    step = jax.jit(make(gram_weight=0.25))
    batch = np.uint8(np.round(np.asarray(IMAGE) * 255))
    start, sums = state, [0.0]
    for _ in range(30):
        state = step(state, batch, [teacher.params])
        sums.append(float(state.metrics["loss"]))
    assert step._cache_size() == 1 and int(state.step) == 30
    loss = np.diff(sums)
    assert loss[-5:].mean() < 0.6 * loss[:5].mean()
    total = sum(float(state.metrics[layer]) for layer in layers)
    total += 0.25 * sum(float(state.metrics[f"gram/{layer}"]) for layer in layers)
    np.testing.assert_allclose(state.metrics["loss"], total, rtol=1e-5)

    # The first report, computed apart: the errors of the batch as perturbed at step 0.
    first = step(start, batch, [teacher.params])
    key = jax.random.fold_in(jax.random.key(5), 0)
    image = perturb(key, jnp.float32(batch) / 255)
    wanted = targets([teacher], image)
    expected = errors(params, image, wanted, STUDENT)
    for name in names:
        np.testing.assert_allclose(first.metrics[name], expected[name].mean(), rtol=1e-4)


def test_counterexamples_take_the_place_of_the_last_photographs():
    layers = ("relu1_1", "relu1_2", "relu2_1")
    teacher = distillation.Teacher(drawn(LARGE, 1), LARGE, layers)
    channels = {"relu1_1": 7, "relu1_2": 8, "relu2_1": 9}
    params = distillation.initialize(jax.random.key(0), STUDENT, channels)
    batch = np.uint8(RNG.integers(0, 256, (3, 12, 12, 3)))
    pool = counterexamples.start(1, 12)
    optimizer = optax.adam(1e-2)
    state = training.create(
        params, optimizer, metrics=("loss", *distillation.terms(layers)), extra={"pool": pool}
    )
    step = jax.jit(distillation.make_step([teacher], STUDENT, optimizer, seed=5))
    after = step(state, batch, [teacher.params])
    photos = jnp.float32(batch) / 255
    own = distillation.balance(params, STUDENT)
    visit = jax.jit(
        functools.partial(counterexamples.visit, network=STUDENT, layers=("relu1_1", "relu2_1"))
    )
    pool, fooling = visit(pool, jnp.int32(0), photos, own)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6), after.extra, {"pool": pool}
    )
    image = perturb(jax.random.fold_in(jax.random.key(5), 0), photos)
    image = jnp.concatenate([image[:2], fooling])
    expected = errors(params, image, targets([teacher], image), STUDENT)
    for name in distillation.terms(layers):
        np.testing.assert_allclose(after.metrics[name], expected[name].mean(), rtol=1e-4)
