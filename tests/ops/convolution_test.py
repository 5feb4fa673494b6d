"""Convolutions against `lax.conv_general_dilated` and its autodiff, and against loops in NumPy.

Inputs are small whole numbers: every sum is exact in float32, so two formulations that mean the
same give the same bits, in whatever order they add.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxstyle import ops, policy
from jaxstyle.ops import convolution
from jaxstyle.types import InputError

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PADDINGS = ("zero", "reflect", "replicate", "circular", "valid", "same")
NUMPY_MODES = {"zero": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

# Hundreds of small programs: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(params=["cpu", "plain"])
def formulation(request):
    with policy.formulation(request.param):
        yield request.param


def _whole(seed, *shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def _equal(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def _with_gradients(function, *arguments):
    """The result, and the gradients by every argument for a cotangent of whole numbers."""
    y, pull = jax.vjp(function, *arguments)
    return y, *pull(jnp.asarray(_whole(7, *y.shape)))


def _lax(x, kernel, bias, stride, padding):
    k_h, k_w = kernel.shape[:2]
    widths = ((k_h // 2, k_h // 2), (k_w // 2, k_w // 2))
    if padding in ("reflect", "replicate", "circular"):
        x = jnp.pad(x, ((0, 0), *widths, (0, 0)), mode=NUMPY_MODES[padding])
        widths = "VALID"
    elif padding in ("valid", "same"):
        widths = padding.upper()
    y = lax.conv_general_dilated(x, kernel, (stride, stride), widths, dimension_numbers=DIMENSIONS)
    return y + bias.reshape(1, 1, 1, -1)


def _loops(x, kernel, stride, padding):
    """The definition: one sum of products per output pixel. `x` is `[h, w, c]`."""
    size, k = np.array(x.shape[:2]), np.array(kernel.shape[:2])
    widths = [(n // 2, n // 2) for n in k]
    if padding == "valid":
        widths = [(0, 0)] * 2
    elif padding == "same":
        # ceil(size / stride) outputs, the odd pixel after.
        totals = np.maximum((-(-size // stride) - 1) * stride + k - size, 0)
        widths = [(t // 2, t - t // 2) for t in totals]
    x = np.pad(x, [*widths, (0, 0)], mode=NUMPY_MODES.get(padding, "constant"))
    out = [(x.shape[axis] - k[axis]) // stride + 1 for axis in (0, 1)]
    y = np.zeros((*out, kernel.shape[3]))
    for i, j in itertools.product(*map(range, out)):
        window = x[i * stride : i * stride + k[0], j * stride : j * stride + k[1]]
        y[i, j] = np.einsum("abc,abco->o", window, kernel)
    return y


# --- conv2d: values and gradients ---

KERNELS = [(1, 1), (2, 2), (3, 3), (4, 4), (9, 9), (1, 3), (5, 2)]
# In, out: few channels on either side, on both, on neither take different roads.
CHANNELS = [(3, 6), (6, 3), (2, 1), (5, 7)]


def _compare_with_lax(size, stride, paddings, channels):
    cases = []
    for index in range(len(paddings)):
        c_in, c_out = channels[index % len(channels)]
        height, width = [(11, 10), (10, 13), (9, 9)][index % 3]
        x, kernel = _whole(index, 2, height, width, c_in), _whole(index + 9, *size, c_in, c_out)
        cases.append((x, kernel, _whole(3, c_out)))

    def run(convolve):
        def all_cases(cases):
            return [
                _with_gradients(lambda *a, p=p: convolve(*a, stride=stride, padding=p), *case)
                for p, case in zip(paddings, cases, strict=True)
            ]

        return jit(all_cases)(cases)

    _equal(run(ops.conv2d), run(_lax))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", KERNELS)
def test_cpu_conv2d_and_gradients_equal_lax(size, stride):
    turn = KERNELS.index(size) + stride
    paddings = [PADDINGS[(turn + i) % 6] for i in (0, 1, 3)]
    channels = CHANNELS[turn % 4 :] + CHANNELS[: turn % 4]
    if size == (9, 9):  # 81 taps take long to compile
        paddings, channels = [{1: "reflect", 2: "same"}[stride]], [(5, 7)]
    with policy.formulation("cpu"):
        _compare_with_lax(size, stride, paddings, channels)


@pytest.mark.parametrize("channels", CHANNELS)
def test_cpu_gradients_equal_lax_for_few_and_many_channels(channels):
    """Two of them the ends of an image-transformation network: 9x9 from and to few channels."""
    with policy.formulation("cpu"):
        _compare_with_lax((9, 9) if 3 in channels else (3, 3), 1, ["zero"], [channels])


@pytest.mark.parametrize(
    ("k", "c_in", "c_out", "strides"),
    [
        (3, 3, 16, (2, 2)),
        (9, 3, 16, (2, 2)),
        (3, 2, 17, (1, 2)),
        (3, 4, 64, (1, 2)),
        (3, 3, 65, (1, 1)),
    ],
)
def test_from_few_channels_blocks_of_pixels_are_convolved_as_one(k, c_in, c_out, strides):
    arguments = _whole(0, 2, 7, 11, c_in), _whole(1, k, k, c_in, c_out), _whole(2, c_out)
    run = functools.partial(ops.conv2d, padding="replicate")
    with policy.formulation("cpu"):
        program = str(jax.make_jaxpr(run)(*arguments))
        ours = jit(functools.partial(_with_gradients, run))(*arguments)
    assert f"window_strides={strides}" in program
    plain = functools.partial(_lax, stride=1, padding="replicate")
    _equal(ours, jit(functools.partial(_with_gradients, plain))(*arguments))


def test_kernel_gradient_of_a_strided_convolution_is_made_of_matrix_products():
    x, kernel = _whole(0, 2, 9, 12, 5), _whole(1, 3, 3, 5, 7)

    def gradient(kernel):
        return jax.grad(lambda k: jnp.sum(ops.conv2d(x, k, stride=2) ** 2))(kernel)

    def expected(kernel):
        return jax.grad(lambda k: jnp.sum(_lax(x, k, np.zeros(7, np.float32), 2, "zero") ** 2))(
            kernel
        )

    with policy.formulation("cpu"):
        program = str(jax.make_jaxpr(gradient)(kernel))
        _equal(jit(gradient)(kernel), jit(expected)(kernel))
    assert program.count("dot_general[") == 3 and "rhs_dilation=(2, 2)" not in program


# --- Very large pictures: in strips ---


def _most_windows(jaxpr):
    """Numbers in the windows of the largest convolution, loops looked into."""
    sizes = [0]
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            kernel, (y,) = equation.invars[1].aval.shape, equation.outvars
            sizes.append(int(np.prod(y.aval.shape[:3]) * np.prod(kernel[:3])))
        inner = (getattr(value, "jaxpr", value) for value in equation.params.values())
        sizes += [_most_windows(value) for value in inner if hasattr(value, "eqns")]
    return max(sizes)


@pytest.mark.parametrize("most", [2000, 1])
@pytest.mark.parametrize("channels", CHANNELS[:2])
@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (9, 1), (2, 2)])
def test_strips_equal_lax(monkeypatch, k, stride, channels, most):
    monkeypatch.setattr(convolution, "_MOST_WINDOWS", most)
    x, kernel = _whole(0, 2, 21, 14, channels[0]), _whole(1, k, k, *channels)
    bias = _whole(2, channels[1])
    run = functools.partial(ops.conv2d, stride=stride, padding="zero")
    with policy.formulation("cpu"):
        jaxpr = jax.make_jaxpr(run)(x, kernel, bias).jaxpr
        _equal(jit(run)(x, kernel, bias), _lax(x, kernel, bias, stride, "zero"))
    row = 2 * 14 * k * k * channels[0]  # a strip has one row at least
    assert 0 < _most_windows(jaxpr) <= max(most, row)


def test_gradients_of_strips_equal_lax(monkeypatch):
    monkeypatch.setattr(convolution, "_MOST_WINDOWS", 2000)
    with policy.formulation("cpu"):
        _compare_with_lax((3, 3), 1, ["reflect"], [(3, 6)])


@pytest.mark.parametrize("stride", [1, 2])
def test_plain_conv2d_and_gradients_equal_lax(stride):
    with policy.formulation("plain"):
        _compare_with_lax((3, 2), stride, PADDINGS, CHANNELS)


@pytest.mark.parametrize(("k", "stride"), [(1, 1), (3, 2), (4, 1), (2, 2)])
def test_conv2d_is_its_definition(formulation, k, stride):
    x, kernel = _whole(0, 6, 5, 2), _whole(1, k, k, 2, 3)

    def run(x, kernel):
        return [ops.conv2d(x, kernel, stride=stride, padding=padding) for padding in PADDINGS]

    for padding, result in zip(PADDINGS, jit(run)(x, kernel), strict=True):
        np.testing.assert_array_equal(result, _loops(x, kernel, stride, padding), err_msg=padding)


@pytest.mark.parametrize("lead", [(), (1,), (2, 3)])
def test_leading_dimensions_are_kept(formulation, lead):
    x, kernel, bias = _whole(0, *lead, 5, 6, 2), _whole(1, 3, 3, 2, 4), _whole(2, 4)
    flat = [_loops(image, kernel, 1, "reflect") + bias for image in x.reshape(-1, 5, 6, 2)]
    result = jit(functools.partial(ops.conv2d, padding="reflect"))(x, kernel, bias)
    np.testing.assert_array_equal(result, np.reshape(flat, (*lead, 5, 6, 4)))


def test_low_precision_keeps_its_dtype(formulation):
    x, kernel = _whole(0, 5, 5, 6), _whole(1, 3, 3, 6, 3)
    low = jit(ops.conv2d)(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    exact = _loops(x, kernel, 1, "zero")
    np.testing.assert_allclose(np.asarray(low, np.float64), exact, atol=1, rtol=0.02)


# --- Transformations ---


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_equals_a_loop(axes, stride):
    lanes = 3
    x = _whole(0, *([lanes] if axes[0] == 0 else []), 6, 7, 5)
    kernel = _whole(1, *([lanes] if axes[1] == 0 else []), 3, 3, 5, 3)

    def both(x, kernel):
        return _with_gradients(functools.partial(ops.conv2d, stride=stride), x, kernel)

    with policy.formulation("cpu"):
        result = jit(jax.vmap(both, axes))(x, kernel)
        lane = jit(both)
        for i in range(lanes):
            expected = lane(x[i] if axes[0] == 0 else x, kernel[i] if axes[1] == 0 else kernel)
            _equal([r[i] for r in result], list(expected))


@pytest.mark.parametrize(("channels", "stride"), [((3, 6), 1), ((6, 3), 1), ((5, 7), 2)])
def test_second_order_gradients_equal_lax(channels, stride):
    """Gradient of a gradient, by picture and kernel, through products of both."""
    x, kernel = _whole(0, 1, 5, 6, channels[0]), _whole(1, 3, 3, *channels)
    along = _whole(2, *x.shape), _whole(3, *kernel.shape)
    bias = np.zeros(channels[1], np.float32)

    def curvature(convolve):
        def loss(x, kernel):
            return jnp.sum(convolve(x, kernel, bias, stride=stride, padding="zero") ** 2)

        def slope(x, kernel):
            gradients = jax.grad(loss, (0, 1))(x, kernel)
            return sum(jnp.vdot(g, v) for g, v in zip(gradients, along, strict=True))

        return jit(jax.grad(slope, (0, 1)))(x, kernel)

    expected = curvature(_lax)
    assert all(np.any(np.asarray(part)) for part in expected)
    with policy.formulation("cpu"):
        _equal(curvature(ops.conv2d), expected)


def test_repeated_gradients_have_the_same_bits():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 17, 19, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 8, 8)), jnp.float32)

    def loss(x, kernel):
        return jnp.sum(ops.conv2d(x, kernel, padding="reflect") ** 2)

    first = jax.jit(jax.grad(loss, (0, 1)))
    again = jax.jit(jax.grad(lambda *a: loss(*a), (0, 1)))  # traced and compiled anew
    expected = first(x, kernel)
    for function in (first, first, first, again):
        _equal(function(x, kernel), expected)


# --- Doubling the size ---


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 3)])
def test_upsample_conv2d_is_repetition_and_convolution(formulation, shape, padding):
    x, kernel, bias = _whole(0, *shape, 2), _whole(1, 3, 3, 2, 3), _whole(2, 3)
    large = x.repeat(2, 0).repeat(2, 1)
    result = jit(functools.partial(ops.upsample_conv2d, padding=padding))(x, kernel, bias)
    np.testing.assert_array_equal(result, _loops(large, kernel, 1, padding) + bias)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_upsample_conv2d_gradients_equal_lax(formulation, padding):
    x, kernel, bias = _whole(0, 2, 4, 3, 6), _whole(1, 3, 3, 6, 3), _whole(2, 3)

    def expected(x, kernel, bias):
        return _lax(x.repeat(2, 1).repeat(2, 2), kernel, bias, 1, padding)

    def ours(x, kernel, bias):
        return ops.upsample_conv2d(x, kernel, bias, padding=padding)

    arguments = x, kernel, bias
    results = [jit(functools.partial(_with_gradients, f))(*arguments) for f in (ours, expected)]
    _equal(*results)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 3)])
def test_conv_transpose2d_paints_every_pixel_with_the_kernel(formulation, shape):
    x, kernel, bias = _whole(0, *shape, 2), _whole(1, 3, 3, 4, 2), _whole(2, 4)
    height, width = shape
    canvas = np.zeros((2 * height + 1, 2 * width + 1, 4))
    for i, j in itertools.product(range(height), range(width)):
        canvas[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("aboc,c->abo", kernel, x[i, j])
    expected = canvas[: 2 * height, : 2 * width] + bias
    np.testing.assert_array_equal(jit(ops.conv_transpose2d)(x, kernel, bias), expected)


@pytest.mark.parametrize("c_in", [3, 6])
def test_conv_transpose2d_is_the_gradient_of_a_strided_convolution(formulation, c_in):
    """And its own gradients are those of that gradient."""
    x, kernel = _whole(0, 2, 3, 4, c_in), _whole(1, 3, 3, 2, c_in)

    def expected(x, kernel):
        def forward(large):
            return lax.conv_general_dilated(
                large, kernel, (2, 2), "SAME", dimension_numbers=DIMENSIONS
            )

        return jax.vjp(forward, jnp.zeros((2, 6, 8, 2)))[1](x)[0]

    ours = jit(functools.partial(_with_gradients, ops.conv_transpose2d))(x, kernel)
    _equal(ours, jit(functools.partial(_with_gradients, expected))(x, kernel))


@pytest.mark.parametrize("operation", [ops.upsample_conv2d, ops.conv_transpose2d])
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_doubling_keeps_leading_dimensions(formulation, operation, lead):
    x, kernel = _whole(0, *lead, 3, 4, 2), _whole(1, 3, 3, 2, 2)
    single = jit(operation)
    images = [single(image, kernel) for image in x.reshape(-1, 3, 4, 2)]
    result = jit(operation)(x, kernel)
    np.testing.assert_array_equal(result, np.reshape(images, (*lead, 6, 8, 2)))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_upsample2d_repeats(factor):
    x = _whole(0, 2, 3, 4, 5)
    result = jit(ops.upsample2d, static_argnums=1)(x, factor)
    np.testing.assert_array_equal(result, x.repeat(factor, 1).repeat(factor, 2))


# --- What users may get wrong ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.conv2d(jnp.ones((4, 4, 2)), jnp.ones((3, 3, 3, 8))),
            "the map has 2 channels, but the kernel (3, 3, 3, 8) takes 3.",
        ),
        (
            lambda: ops.conv2d(jnp.ones((4, 4, 3)), jnp.ones((3, 3, 3, 8)), padding="reflext"),
            "unknown padding 'reflext'; did you mean 'reflect'?",
        ),
        (
            lambda: ops.conv2d(jnp.ones((4, 2, 3)), jnp.ones((3, 3, 3, 8)), padding="valid"),
            "a map of 4x2 is smaller than the kernel 3x3; use a larger picture",
        ),
        (
            lambda: ops.upsample_conv2d(jnp.ones((4, 4, 3)), jnp.ones((5, 5, 3, 8))),
            "upsample_conv2d takes a 3x3 kernel, not (5, 5).",
        ),
        (
            lambda: ops.upsample_conv2d(
                jnp.ones((4, 4, 3)), jnp.ones((3, 3, 3, 8)), padding="valid"
            ),
            "unknown padding of upsample_conv2d 'valid'",
        ),
        (
            lambda: ops.conv_transpose2d(jnp.ones((4, 4, 3)), jnp.ones((3, 3, 3, 8))),
            "conv_transpose2d takes a kernel [3, 3, c_out, 3], not (3, 3, 3, 8).",
        ),
        (
            lambda: ops.conv2d(jnp.ones((4, 4, 3)), jnp.ones((3, 3, 3, 8)), jnp.ones(3)),
            "the bias has the shape (3,), but the kernel makes 8 channels; give (8,).",
        ),
        (
            lambda: ops.upsample_conv2d(
                jnp.ones((4, 4, 3)), jnp.ones((3, 3, 3, 8)), jnp.ones((1, 8))
            ),
            "the bias has the shape (1, 8)",
        ),
        (
            lambda: ops.conv_transpose2d(jnp.ones((4, 4, 3)), jnp.ones((4, 4, 3, 3))),
            "conv_transpose2d takes a kernel [3, 3, c_out, 3], not (4, 4, 3, 3).",
        ),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(formulation, call, message):
    with pytest.raises(InputError) as raised:
        call()
    assert message in str(raised.value)


def test_a_small_map_is_reported_with_its_own_size():
    """Not with the size after padding, which the user never sees."""
    with pytest.raises(InputError, match="a map of 1x2 is smaller than the kernel 4x4"):
        ops.conv2d(jnp.ones((1, 2, 3)), jnp.ones((4, 4, 3, 8)), padding="valid")
