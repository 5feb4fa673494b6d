"""Winograd's convolution: its algebra exactly, its values and gradients to its stated accuracy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxstyle import ops, policy
from jaxstyle.ops import winograd

# Compile fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _lax(x, kernel, padding):
    k = kernel.shape[0]
    widths = [(k // 2, k // 2)] * 2
    if padding == "reflect":
        x = jnp.pad(x, ((0, 0), *widths, (0, 0)), mode="reflect")
        widths = "VALID"
    elif padding in ("valid", "same"):
        widths = padding.upper()
    return lax.conv_general_dilated(
        x, kernel, (1, 1), widths, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _close(ours, expected):
    """Root mean square error below 2e-6, no entry wrong by more than 2e-5 of the largest."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    assert ours.shape == expected.shape
    error = ours - expected
    assert np.sqrt(np.mean(error**2)) < 2e-6 * np.sqrt(np.mean(expected**2))
    assert np.abs(error).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_the_algebra_is_exact(k):
    """A [(G K G^T) * (B X B^T)] A^T is the correlation of a 6x6 tile with a kernel, in float64."""
    from_tile, from_kernel, to_output = winograd.matrices(k)
    rng = np.random.default_rng(k)
    x, kernel = rng.normal(size=(6, 6)), rng.normal(size=(k, k))
    side = 7 - k
    expected = sum(kernel[i, j] * x[i : i + side, j : j + side] for i in range(k) for j in range(k))
    values = (from_kernel @ kernel @ from_kernel.T) * (from_tile @ x @ from_tile.T)
    np.testing.assert_allclose(to_output @ values @ to_output.T, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_a_flipped_kernel_has_the_same_values_elsewhere(k):
    """With `mirrored`, the kernel's own values make the correlation with the flipped one."""
    from_tile, to_output = winograd.mirrored(k)
    from_kernel = winograd.matrices(k)[1]
    rng = np.random.default_rng(k)
    x, kernel = rng.normal(size=(6, 6)), rng.normal(size=(k, k))
    side, flipped = 7 - k, kernel[::-1, ::-1]
    expected = sum(
        flipped[i, j] * x[i : i + side, j : j + side] for i in range(k) for j in range(k)
    )
    values = (from_kernel @ kernel @ from_kernel.T) * (from_tile @ x @ from_tile.T)
    np.testing.assert_allclose(to_output @ values @ to_output.T, expected, rtol=0, atol=1e-12)


@pytest.fixture(autouse=True)
def _from_64_channels(monkeypatch):
    """It pays from 256 channels on; 64 of them test the same code in less time."""
    monkeypatch.setattr(winograd, "_FEWEST_CHANNELS", 64)


# Batches in one strip, batches in several, one image in several bands, and 2x2 kernels. Sides that
# tiles of 4 (or 5) outputs do not divide.
CASES = {
    "one strip": ((4, 15, 14), 3, "zero", 64, 72),
    "images by strips": ((9, 13, 16), 3, "reflect", 72, 64),
    "bands": ((1, 51, 47), 3, "valid", 64, 64),
    "2x2": ((1, 41, 43), 2, "same", 64, 64),
}


@pytest.mark.parametrize("name", CASES)
def test_conv2d_and_gradients_equal_lax(name):
    shape, k, padding, c_in, c_out = CASES[name]
    x, kernel = _normal(0, *shape, c_in), _normal(1, k, k, c_in, c_out)

    def both(x, kernel):
        results = []
        for convolve in (functools.partial(ops.conv2d, padding=padding), _lax):
            arguments = (padding,) if convolve is _lax else ()
            y, pull = jax.vjp(lambda x, k, f=convolve, a=arguments: f(x, k, *a), x, kernel)
            results.append((y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))))
        return results

    with policy.formulation("cpu"):
        forward = jax.make_jaxpr(lambda x, k: ops.conv2d(x, k, padding=padding))(x, kernel)
        assert "conv_general_dilated" not in str(forward)  # this road was taken
        ours, expected = jit(both)(x, kernel)
    for mine, theirs in zip(ours, expected, strict=True):
        _close(mine, theirs)


def test_upsampling_takes_it_too():
    x, kernel = _normal(0, 1, 40, 36, 64), _normal(1, 3, 3, 64, 16)
    large = x.repeat(2, 1).repeat(2, 2)
    with policy.formulation("cpu"):
        assert "conv_general_dilated" not in str(jax.make_jaxpr(ops.upsample_conv2d)(x, kernel))
        _close(
            jit(ops.upsample_conv2d)(x, kernel),
            jit(_lax, static_argnums=2)(large, kernel, "reflect"),
        )


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "dtype"),
    [
        ((4, 16, 16, 63), (3, 3, 63, 64), 1, "float32"),  # few channels
        ((4, 16, 16, 64), (3, 3, 64, 63), 1, "float32"),
        ((1, 16, 16, 64), (3, 3, 64, 64), 1, "float32"),  # few tiles
        ((4, 16, 16, 64), (3, 3, 64, 64), 2, "float32"),
        ((4, 16, 16, 64), (3, 1, 64, 64), 1, "float32"),
        ((4, 20, 20, 64), (5, 5, 64, 64), 1, "float32"),
        ((4, 16, 16, 16), (3, 3, 16, 16), 1, "bfloat16"),  # needs float32's digits
    ],
)
def test_where_it_does_not_pay_nothing_changes(shape, kernel, stride, dtype):
    arrays = jnp.ones(shape, dtype), jnp.ones(kernel, dtype)
    assert not winograd.pays(*arrays, stride, ((1, 1), (1, 1)))
    with policy.formulation("cpu"):
        program = jax.make_jaxpr(lambda x, k: ops.conv2d(x, k, stride=stride))(*arrays)
    assert str(program).count("conv_general_dilated[") == 1


def test_transformations():
    """vmap over pictures and kernels, a gradient in a scan, and the gradient of a gradient."""
    xs, kernels = _normal(0, 2, 4, 16, 16, 64), _normal(1, 2, 3, 3, 64, 64) / 24

    def slopes(convolve):
        def loss(x, kernel):
            return jnp.sum(convolve(x, kernel) ** 2)

        return lambda x, kernel: jax.grad(loss, (0, 1))(x, kernel)

    ours = slopes(ops.conv2d)

    def curvature(x, kernel):
        return jax.grad(lambda x, k: jnp.vdot(ours(x, k)[1], k[::-1]), (0, 1))(x, kernel)

    def plain_curvature(x, kernel):
        plain = slopes(lambda x, k: _lax(x, k, "zero"))
        return jax.grad(lambda x, k: jnp.vdot(plain(x, k)[1], k[::-1]), (0, 1))(x, kernel)

    with policy.formulation("cpu"):
        lanes = jit(jax.vmap(ours))(xs, kernels)
        scanned = jit(lambda *a: lax.scan(lambda c, i: (c, ours(*i)), 0, a)[1])(xs, kernels)
        second = jit(curvature)(xs[0], kernels[0])
    single = jit(slopes(lambda x, k: _lax(x, k, "zero")))
    for i in range(2):
        for part, expected in enumerate(single(xs[i], kernels[i])):
            _close(lanes[part][i], expected)
            _close(scanned[part][i], expected)
    for mine, theirs in zip(second, jit(plain_curvature)(xs[0], kernels[0]), strict=True):
        _close(mine, theirs)


def test_repeated_gradients_have_the_same_bits():
    x, kernel = _normal(0, 9, 16, 16, 64), _normal(1, 3, 3, 64, 64)

    def loss(x, kernel):
        return jnp.sum(ops.conv2d(x, kernel) ** 2)

    with policy.formulation("cpu"):
        function = jax.jit(jax.grad(loss, (0, 1)))
        first = function(x, kernel)
        for _ in range(4):
            jax.tree.map(np.testing.assert_array_equal, function(x, kernel), first)
