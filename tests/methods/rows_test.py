"""Rows divided among devices: the numbers of one device, and on each a part of the arrays."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features, losses, optimize, policy
from jaxstyle.methods import per_image
from jaxstyle.methods.rows import Divided, Rows, fetched, mesh_of, of_maps, of_state
from jaxstyle.types import InputError

# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SMALL = features.Network("small", ((3,), (5,), (4,)), readouts=(("relu2_1", 6),))
GOAL = losses.combine(
    losses.content(("relu3_1",)),
    losses.style(("relu1_1",)),
    losses.style(("relu2_1",), "moments", name="moments"),
    losses.style(("relu3_1",), "wasserstein", name="transport"),
    losses.total_variation(),
)
WEIGHTS = dict.fromkeys(
    ("content/relu3_1", "style/relu1_1", "moments/relu2_1", "transport/relu3_1", "tv"), 1.0
)


def _params(network, seed=0):
    """Random, with biases, so that padding by zeros is not padding by nothing."""
    params = features.initialize(jax.random.key(seed), network)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + np.float32(rng.normal(0, 0.1, leaf.shape)), params)


def _image(*size, seed=1):
    return np.random.default_rng(seed).random((*size, 3), np.float32)


def _collectives(program):
    """Return `(operation, numbers in its largest result)` of all exchanges in a program."""
    found = []
    for line in program.as_text().splitlines():
        match = re.search(r"= (.*?) (all-gather|all-to-all|collective-permute)(-start)?\(", line)
        if match:
            sizes = re.findall(r"\[([\d,]*)\]", match[1])
            counts = [math.prod(int(n) for n in size.split(",") if n) for size in sizes]
            found.append((match[2], max(counts)))
    return found


def _run(mesh, network, size, optimizer, steps):
    """Return the program of some steps, and what it makes of a picture."""
    rows, axis = Rows(mesh), of_state((*size, 3))
    problem = per_image.Problem(GOAL, network, mesh=mesh)
    solver = optimize.solver(optimizer, memory=3, learning_rate=0.02)
    pictures = {"content": _image(*size, seed=3), "style": _image(21, 18, seed=4)}
    params = rows.divided(_params(network), lambda shape: None)

    @jit
    def prepare(pictures):
        targets = per_image.prepare(problem, params, rows.joined(pictures))
        return rows.within(targets, of_maps)

    @jit
    def start(image):
        return rows.within(optimize.start(rows.joined(image), solver), axis)

    @jit
    def advance(state, context):
        state, history = optimize.advance(
            rows.joined(state),
            rows.joined(context),
            loss=functools.partial(per_image.loss, problem=problem),
            solver=solver,
            steps=steps,
        )
        return rows.within(state, axis), history

    weights = {name: jnp.float32(weight) for name, weight in WEIGHTS.items()}
    targets = prepare(rows.divided(pictures, of_maps))
    context = per_image.Context(params, targets, weights)
    state = start(rows.divided(_image(*size), axis))
    program = advance.lower(state, context).compile()
    after, history = program(state, context)
    return program, state, fetched(after), np.asarray(history)


THERE = len(jax.local_devices())

CASES = {
    # Heights that 4 devices do not share evenly at any layer, or at some; L-BFGS has flat tables.
    "zero, 67 rows": ("zero", "max", (67, 18), "lbfgs"),
    "reflect, 70 rows": ("reflect", "average", (70, 17), "lbfgs"),
    "circular, 64 rows": ("circular", "average", (64, 16), "adam"),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_one_device(case):
    padding, pooling, size, optimizer = CASES[case]
    network = features.adjusted(SMALL, padding=padding, pooling=pooling)
    with policy.formulation("plain"):
        _, _, one, history = _run(None, network, size, optimizer, 2)
    program, state, four, theirs = _run(mesh_of(4, size[0]), network, size, optimizer, 2)
    np.testing.assert_allclose(theirs, history, rtol=2e-6)
    for found, wanted in zip(jax.tree.leaves(four), jax.tree.leaves(one), strict=True):
        assert found.shape == wanted.shape
        scale = max(float(np.abs(wanted).max()), 1e-6)
        # Differences of steps have the rounding of what they are taken of, logits of about 1.
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-5 * scale + 5e-7)
    # What travels: rows of a map, never a map; 4 rows of the widest are 4 * 18 * 4 numbers.
    kinds = _collectives(program)
    assert kinds
    assert {kind for kind, _ in kinds} == {"collective-permute"}
    assert max(numbers for _, numbers in kinds) <= 6 * size[1] * 6 < math.prod(size) * 3 / 4
    divided = [leaf for leaf in jax.tree.leaves(state, is_leaf=_is_divided) if _is_divided(leaf)]
    assert len(divided) >= 3
    for leaf in divided:
        part = leaf.array.addressable_shards[0].data.shape[leaf.axis]
        assert part == -(-leaf.size // 4)


def _is_divided(leaf):
    return isinstance(leaf, Divided)


@pytest.mark.parametrize(
    ("padding", "pooling", "size"),
    [("replicate", "max", (53, 19))],
)
def test_maps_and_gradients_are_those_of_one_device(padding, pooling, size):
    network = features.adjusted(SMALL, padding=padding, pooling=pooling)
    params, image = _params(network), _image(*size)
    layers, mesh = ("relu1_1", "conv1_1", "pool1", "relu2_1", "relu3_1", "image"), mesh_of(4, 64)

    def see(params, image, mesh):
        if mesh is None:
            return features.features(params, image, layers, network=network)
        return features.features_across(params, image, layers, network=network, mesh=mesh)

    def value(params, image, mesh):
        total = 0.0
        for found in see(params, image, mesh).values():
            angles = jnp.arange(found.size, dtype=found.dtype).reshape(found.shape)
            total += jnp.mean(found**2 * (1.5 + jnp.sin(angles))) / jnp.mean(found**2)
        return total

    def run(mesh):
        @jit
        def both(params, image):
            return see(params, image, mesh), jax.grad(value, (0, 1))(params, image, mesh)

        return both(params, image)

    one, four = run(None), run(mesh)  # one in the CPU's own formulation
    assert list(four[0]) == list(one[0])
    for found, wanted in zip(jax.tree.leaves(four), jax.tree.leaves(one), strict=True):
        assert found.shape == wanted.shape
        # A bias has the sum over all positions, whose order differs.
        assert np.abs(found - wanted).max() <= 3e-5 * np.abs(wanted).max()


def test_a_device_needs_its_share_of_the_memory():
    network = dataclasses.replace(SMALL, padding="reflect")
    params, layers = _params(network), ("relu1_1", "relu3_1")

    def needed(mesh):
        rows = Rows(mesh)
        problem = per_image.Problem(losses.style(layers), network, mesh=mesh)
        targets = {f"style/{layer}": jnp.eye(n) for layer, n in zip(layers, (3, 4), strict=True)}
        context = per_image.Context(params, targets, dict.fromkeys(targets, 1.0))

        def loss(image):
            image = rows.joined(image)
            slope = jax.grad(lambda image: per_image.loss(image, context, problem=problem)[0])
            return rows.within(slope(image), of_maps)

        image = rows.divided(jnp.zeros((512, 64, 3)), of_maps)
        with policy.formulation("plain"):
            program = jit(loss).lower(image).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert needed(mesh_of(4, 512)) < 0.4 * needed(None)


def test_what_is_divided_comes_back():
    rows, image = Rows(mesh_of(4, 70)), _image(70, 5)
    tree = {"image": image, "flat": image.ravel(), "table": np.ones((2, image.size)), "n": 3.0}
    divided = rows.divided(tree, of_state(image.shape))
    assert [divided[name].array.shape for name in ("image", "flat", "table")] == [
        (72, 5, 3),
        (1052,),
        (2, 1052),
    ]
    assert divided["n"].sharding.is_fully_replicated
    for name, found in fetched(divided).items():
        np.testing.assert_array_equal(found, tree[name])
    inside = jit(lambda tree: rows.within(rows.joined(tree), of_state(image.shape)))(divided)
    for name, found in fetched(inside).items():
        np.testing.assert_array_equal(found, tree[name])
    for same in (Rows().divided(tree, of_maps), Rows().joined(tree), Rows().within(tree, of_maps)):
        assert same is tree


def test_devices():
    assert mesh_of(1, 16) is None
    assert mesh_of(0, 16) is None
    assert (mesh_of(0, 64).size, mesh_of(0, 40).size, mesh_of(3, 48).size) == (4, 2, 3)


@pytest.mark.parametrize(
    ("devices", "height", "message"),
    [
        (-1, 64, "features.devices is -1; give 1 or more, or 0 for all."),
        (99, 4096, f"features.devices is 99, but there are {THERE}; give at most that many (on a"),
        (4, 63, "63 rows (with the margin) are too few for 4 devices, at least 16 each; set"),
    ],
)
def test_errors(devices, height, message):
    with pytest.raises(InputError) as raised:
        mesh_of(devices, height)
    assert message in str(raised.value)
