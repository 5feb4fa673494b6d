"""Convolutions in bfloat16 on a CPU: exact where every number is, else within bfloat16's digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxstyle import ops, policy
from jaxstyle.ops import half

# Compile fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
BFLOAT16 = jnp.dtype("bfloat16")


def _lax(x, kernel, widths):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), widths, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _with_gradients(function, x, kernel, g):
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(g.astype(y.dtype))


def _whole(seed, *shape):
    """-1, 0 and 1: sums of hundreds of products stay below 256, which bfloat16 holds exactly."""
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "kernel", "widths"),
    [
        ((2, 6, 7), (3, 3, 32, 40), ((1, 1), (1, 1))),
        ((1, 5, 4), (3, 3, 33, 96), ((0, 0), (0, 0))),  # products row by row
        ((2, 4, 5), (2, 2, 40, 128), ((1, 0), (0, 1))),  # of an upsampling
        ((1, 4, 3), (1, 1, 32, 65), ((0, 0), (0, 0))),
        ((1, 6, 6), (3, 2, 32, 32), ((3, 4), (0, 5))),  # the gradient's widths are negative
    ],
)
def test_values_and_gradients_are_exact_on_whole_numbers(size, kernel, widths):
    x, taps = _whole(0, *size, kernel[2]), _whole(1, *kernel)
    g = _whole(2, *_lax(x, taps, widths).shape)

    def run(function, *arrays):
        return jit(functools.partial(_with_gradients, function))(*arrays)

    expected = run(lambda x, k: _lax(x, k, widths), x, taps, g)
    ours = run(
        lambda x, k: half.convolve(x, k, widths), x.astype(BFLOAT16), taps.astype(BFLOAT16), g
    )
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.dtype == BFLOAT16
        assert np.abs(theirs).max() > 2  # there is something to sum
        np.testing.assert_array_equal(mine.astype(np.float32), theirs)


@pytest.mark.parametrize(
    ("kernel", "padding", "stride"),
    [
        ((9, 9, 3, 32), "same", 1),
        ((3, 3, 32, 64), "same", 2),
        ((3, 3, 32, 64), "reflect", 1),
        ((3, 3, 96, 72), "zero", 1),
        ((9, 9, 32, 3), "reflect", 1),
    ],
)
def test_any_convolution_is_float32s_rounded(kernel, padding, stride):
    """By half a unit of the last place, 2^-9; reflected, gradients are sums of rounded numbers."""
    rng = np.random.default_rng(kernel[2])
    x = jnp.asarray(rng.normal(size=(2, 11, 10, kernel[2])), BFLOAT16)
    taps = jnp.asarray(rng.normal(size=kernel), BFLOAT16)
    convolve = functools.partial(ops.conv2d, stride=stride, padding=padding)
    g = jax.random.normal(jax.random.key(0), jax.eval_shape(convolve, x, taps).shape, BFLOAT16)
    run = jit(functools.partial(_with_gradients, convolve))
    with policy.formulation("cpu"):
        ours = run(x, taps, g)
        expected = run(*(array.astype(jnp.float32) for array in (x, taps, g)))
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.dtype == BFLOAT16 and theirs.dtype == jnp.float32
        scale = np.sqrt(np.mean(np.square(theirs)))
        error = np.abs(np.asarray(mine, np.float64) - np.asarray(theirs, np.float64))
        absolute = 2**-6 if padding == "reflect" and mine.shape == x.shape else 1e-4
        assert (error <= 2**-8 * np.abs(theirs) + absolute * scale).all()
        assert np.sqrt(np.mean(error**2)) < 0.003 * scale


@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_upsampling_is_the_plain_convolution_of_the_enlarged_map(padding):
    x, kernel = _whole(0, 2, 5, 4, 32), _whole(1, 3, 3, 32, 34)
    convolve = functools.partial(ops.upsample_conv2d, padding=padding)
    g = _whole(2, 2, 10, 8, 34)
    run = functools.partial(_with_gradients, convolve)
    with policy.formulation("plain"):
        expected = jit(run)(x, kernel, g)
    with policy.formulation("cpu"):
        ours = jit(run)(x.astype(BFLOAT16), kernel.astype(BFLOAT16), g)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine.astype(np.float32), theirs, rtol=2**-7, atol=0)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_equals_a_loop(axes):
    lanes = 3
    x = _whole(0, *([lanes] if axes[0] == 0 else []), 1, 6, 7, 32).astype(BFLOAT16)
    kernel = _whole(1, *([lanes] if axes[1] == 0 else []), 3, 3, 32, 32).astype(BFLOAT16)
    g = _whole(2, 1, 6, 7, 32)

    def run(x, kernel):
        return _with_gradients(lambda x, k: half.convolve(x, k, ((1, 1), (1, 1))), x, kernel, g)

    together = jit(jax.vmap(run, axes))(x, kernel)
    one = jit(run)
    for lane in range(lanes):
        alone = one(x[lane] if axes[0] == 0 else x, kernel[lane] if axes[1] == 0 else kernel)
        for mine, theirs in zip(together, alone, strict=True):
            np.testing.assert_array_equal(mine[lane], theirs)


def test_gradients_inside_a_loop():
    """Where operands of other layouts would miss the fast path, or be refused."""
    x = _whole(0, 1, 6, 6, 32).astype(BFLOAT16)
    kernel = _whole(1, 3, 3, 32, 32).astype(BFLOAT16)

    def loss(x, kernel):
        return jnp.sum(half.convolve(x, kernel, ((1, 1), (1, 1))).astype(jnp.float32) ** 2)

    def step(carry, _):
        by_x, by_kernel = jax.grad(loss, (0, 1))(*carry)
        return (carry[0] - by_x.astype(BFLOAT16) / 64, carry[1] - by_kernel / 1024), None

    looped, _ = jax.jit(lambda carry: lax.scan(step, carry, length=2))((x, kernel))
    unrolled = (x, kernel)
    for _ in range(2):
        unrolled, _ = jax.jit(step)(unrolled, None)
    for mine, theirs in zip(looped, unrolled, strict=True):
        np.testing.assert_allclose(
            mine.astype(np.float32), theirs.astype(np.float32), atol=2**-7, rtol=2**-7
        )


def test_second_derivatives():
    x = _whole(0, 1, 4, 4, 32).astype(BFLOAT16)
    kernel = _whole(1, 3, 3, 32, 32).astype(BFLOAT16)

    def energy(function):
        def value(x, k):
            return jnp.sum(function(x, k).astype(jnp.float32) ** 2)

        def slope(x, k):
            return jnp.sum(jax.grad(value)(x, k).astype(jnp.float32) ** 2)

        return jit(jax.grad(slope))

    widths = ((1, 1), (1, 1))
    ours = energy(lambda x, k: half.convolve(x, k, widths))(x, kernel)
    exact = energy(lambda x, k: _lax(x, k, widths))
    expected = exact(x.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_allclose(
        ours.astype(np.float32), expected, atol=0.02 * float(jnp.abs(expected).max()), rtol=0
    )


@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3, 16, 64), 1), ((9, 9, 32, 32), 1), ((3, 3, 32, 64), 2)]
)
def test_where_it_does_not_pay_float32_computes(kernel, stride):
    assert not half.pays(kernel, stride)
    assert half.pays((3, 3, 32, 64), 1)
    arrays = jnp.ones((1, 16, 16, kernel[2]), BFLOAT16), jnp.ones(kernel, BFLOAT16)
    with policy.formulation("cpu"):
        text = str(jax.make_jaxpr(functools.partial(ops.conv2d, stride=stride))(*arrays))
    assert "dot_general" not in text and "f32[1,16,16" in text
    with policy.formulation("plain"):  # elsewhere bfloat16 stays what it is
        text = str(jax.make_jaxpr(functools.partial(ops.conv2d, stride=stride))(*arrays))
    assert "f32" not in text
