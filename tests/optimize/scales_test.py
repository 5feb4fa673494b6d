"""Sizes from coarse to fine, and what goes along from one to the next, against Pillow."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxstyle import optimize
from jaxstyle.types import InputError

RNG = np.random.default_rng(4)
IMAGE = jnp.float32(RNG.uniform(0.1, 0.9, (6, 8, 3)))
TARGET = jnp.float32(RNG.uniform(0.1, 0.9, (6, 8, 3)))
LARGER, SMALLER = (9, 13), (4, 5)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(1.02, 5.0))
def test_sizes_grow_by_the_ratio_up_to_the_last(largest, smallest, ratio):
    sizes = optimize.scales(largest, smallest, ratio)
    assert sizes[-1] == largest
    assert min(sizes) >= min(smallest, largest)
    for small, large in zip(sizes, sizes[1:], strict=False):
        assert small < large
        assert abs(large - ratio * small) <= 0.5 + 0.5 * ratio  # both are rounded
    assert (sizes[0] - 0.5) / ratio <= smallest + 0.5  # there is no room for another


def test_sizes_by_hand():
    assert optimize.scales(1000, 128) == (177, 250, 354, 500, 707, 1000)
    assert optimize.scales(64, 16, 2.0) == (16, 32, 64)
    assert optimize.scales(100, 512) == (100,)
    assert optimize.scales(3, 1, 1.1) == (1, 2, 3)  # each once


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 1), "sizes from 1 to 0; give at least 1"),
        ((8, -2), "sizes from -2 to 8; give at least 1"),
        ((8, 2, 1.0), "the ratio of scales is 1.0; give one above 1"),
        ((8, 2, 0.5), "the ratio of scales is 0.5"),
        ((8, 2, math.inf), "the ratio of scales is inf"),
        ((8, 2, math.nan), "the ratio of scales is nan"),
    ],
)
def test_sizes_that_do_not_grow_are_refused(arguments, sentence):
    with pytest.raises(InputError) as caught:
        optimize.scales(*arguments)
    assert sentence in str(caught.value)


SOLVERS = {
    "adam": optimize.solver("adam", learning_rate=0.05),
    "adam, averaged": optimize.solver("adam", learning_rate=0.05, average=0.7),
    "adam, cosine": optimize.solver("adam", learning_rate=0.05, schedule="cosine", steps=9),
    "adam, sigmoid": optimize.solver("adam", learning_rate=0.2, parameters="sigmoid"),
    "lbfgs": optimize.solver("lbfgs", learning_rate=1.0, memory=3),
    "lbfgs, pixels": optimize.solver("lbfgs", learning_rate=1.0, memory=3, parameters="pixels"),
    "lbfgs, zoom": optimize.solver("lbfgs", learning_rate=1.0, memory=2, line_search="zoom"),
}
EVERY = pytest.mark.parametrize("name", SOLVERS)


def bowl(image, target):
    value = jnp.mean((image - target) ** 2)
    return value, {"bowl": value}


def advanced(state, target, solver, steps):
    go = functools.partial(optimize.advance, loss=bowl, solver=solver, steps=steps)
    return jax.jit(go)(state, target)[0]


@functools.cache
def under_way(name):
    """Four steps in one size."""
    return advanced(optimize.start(IMAGE, SOLVERS[name]), TARGET, SOLVERS[name], 4)


def resampled(picture, size, method):
    """By Pillow, in double precision."""
    filters = {"cubic": Image.Resampling.BICUBIC, "linear": Image.Resampling.BILINEAR}
    channels = [
        Image.fromarray(np.ascontiguousarray(np.float32(picture)[..., c])).resize(
            size[::-1], filters[method]
        )
        for c in range(picture.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def adam_of(state):
    return next(part for part in state.solver if hasattr(part, "mu"))


@EVERY
@pytest.mark.parametrize("size", [LARGER, SMALLER])
def test_the_picture_as_it_stands_is_resampled(name, size):
    solver = SOLVERS[name]
    state = optimize.rescaled(under_way(name), size, solver)
    before = optimize.picture(under_way(name), solver)
    expected = np.clip(resampled(before, size, "cubic"), 0, 1)
    # The sigmoid holds what is from 0.001 to 0.999.
    np.testing.assert_allclose(optimize.picture(state, solver), expected, atol=1.1e-3)
    assert int(state.step) == 0 and int(state.status) == optimize.RUNNING
    np.testing.assert_array_equal(state.good, state.numbers)


@EVERY
def test_a_program_for_the_new_size_takes_it(name):
    """Structure, shapes, dtypes and weak types are those of an optimization begun there."""
    state = optimize.rescaled(under_way(name), LARGER, SOLVERS[name])
    begun = optimize.start(jnp.zeros((*LARGER, 3)), SOLVERS[name])
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, begun)


@EVERY
def test_it_goes_on_from_there(name):
    solver = SOLVERS[name]
    target = 1 - jnp.asarray(resampled(TARGET, LARGER, "cubic"))
    moved = optimize.rescaled(under_way(name), LARGER, solver)
    ended = advanced(moved, target, solver, 6)
    first, last = (bowl(optimize.picture(s, solver), target)[0] for s in (moved, ended))
    assert float(last) < 0.95 * float(first)


def test_the_average_is_taken_not_the_last_iterate():
    solver = SOLVERS["adam, averaged"]
    state = under_way("adam, averaged")
    moved = optimize.rescaled(state, IMAGE.shape[:2], solver)
    np.testing.assert_allclose(moved.numbers, optimize.picture(state, solver), atol=1e-6)
    assert np.abs(moved.numbers - state.numbers).max() > 0.02
    assert not np.any(moved.average)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name.startswith("adam")])
@pytest.mark.parametrize("size", [LARGER, SMALLER])
def test_adams_moments_go_along_and_its_steps_are_kept(name, size):
    old, new = (
        adam_of(under_way(name)),
        adam_of(optimize.rescaled(under_way(name), size, SOLVERS[name])),
    )
    assert int(new.count) == int(old.count) == 4
    for moved, expected in (
        (new.mu, resampled(old.mu, size, "cubic")),
        (new.nu, resampled(old.nu, size, "linear")),
    ):
        np.testing.assert_allclose(moved, expected, atol=2e-6 * np.abs(expected).max())
    assert float(new.nu.min()) >= 0


@pytest.mark.parametrize("name", [name for name in SOLVERS if name.startswith("lbfgs")])
def test_lbfgs_forgets(name):
    solver = SOLVERS[name]
    moved = optimize.rescaled(under_way(name), LARGER, solver)
    begun = optimize.start(optimize.picture(moved, solver), solver)
    for have, want in zip(*map(jax.tree.leaves, (moved.solver, begun.solver)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)  # numbers, written twice
    states = (under_way(name).solver, optimize.start(IMAGE, solver).solver)
    knows, knew = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(s)]) for s in states)
    assert not np.array_equal(knows, knew)  # there was something to forget


def test_a_schedule_begins_anew():
    name = "adam, cosine"
    moved = optimize.rescaled(under_way(name), LARGER, SOLVERS[name])
    counts = [[int(part.count) for part in s.solver] for s in (under_way(name), moved)]
    assert counts == [[4, 4], [4, 0]]


@pytest.mark.parametrize("name", ["adam", "adam, averaged", "lbfgs"])
def test_a_margin_is_made_anew_around_what_is_inside(name):
    solver, margin = SOLVERS[name], 2
    state = under_way(name)
    wide = functools.partial(np.pad, pad_width=((margin, margin), (margin, margin), (0, 0)))

    def is_map(leaf):
        return np.ndim(leaf) == 3

    # Around the same inside, a border of nonsense.
    framed = jax.tree.map(
        lambda x: jnp.asarray(wide(x, mode="constant", constant_values=0.25)) if is_map(x) else x,
        state,
    )
    plain = optimize.rescaled(state, LARGER, solver)
    moved = optimize.rescaled(framed, LARGER, solver, margin=margin)
    assert moved.numbers.shape == (LARGER[0] + 2 * margin, LARGER[1] + 2 * margin, 3)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(moved), strict=True):
        if is_map(one):
            np.testing.assert_allclose(other, wide(one, mode="reflect"), atol=1e-6)


@pytest.mark.parametrize("parameters", ["clipped", "pixels", "sigmoid"])
def test_edges_do_not_overshoot(parameters):
    """A cubic does, between black and white."""
    solver = optimize.solver("adam", parameters=parameters)
    squares = jnp.zeros((6, 6, 3)).at[::2, :3].set(1.0).at[1::2, 3:].set(1.0)
    raw = resampled(squares, LARGER, "cubic")
    assert raw.min() < -0.01 and raw.max() > 1.01
    moved = optimize.rescaled(optimize.start(squares, solver), LARGER, solver)
    image = optimize.parameterization(parameters).decode(moved.numbers)
    assert float(image.min()) >= 0 and float(image.max()) <= 1
    np.testing.assert_allclose(image, np.clip(raw, 0, 1), atol=1.1e-3)


@pytest.mark.parametrize("name", ["adam, averaged", "lbfgs"])
def test_jitted_and_lane_by_lane_it_is_the_same(name):
    solver = SOLVERS[name]
    move = functools.partial(optimize.rescaled, size=LARGER, solver=solver, margin=1)
    one = under_way(name)
    other = advanced(optimize.start(1 - IMAGE, solver), TARGET, solver, 2)
    both = jax.jit(jax.vmap(move))(jax.tree.map(lambda *leaves: jnp.stack(leaves), one, other))
    for lane, state in enumerate((one, other)):
        for single in (move(state), jax.jit(move)(state)):
            for have, want in zip(jax.tree.leaves(both), jax.tree.leaves(single), strict=True):
                np.testing.assert_allclose(have[lane], want, atol=1e-5)
