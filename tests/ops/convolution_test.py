"""Convolutions against `lax.conv_general_dilated` and its autodiff, and against loops in NumPy.

Inputs are small whole numbers: every sum is exact in float32, so two formulations that mean the same
give the same bits, in whatever order they add.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from jaxstyle import ops
from jaxstyle.types import InputError

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
FORMULATIONS = ("cpu", "plain")
PADDINGS = ("zero", "reflect", "replicate", "valid", "same")
NUMPY_MODES = {"zero": "constant", "reflect": "reflect", "replicate": "edge"}


def _whole(seed, *shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def _same_widths(size, k, stride):
    """TensorFlow's rule: ceil(size / stride) outputs, the odd pixel after."""
    total = max((-(-size // stride) - 1) * stride + k - size, 0)
    return total // 2, total - total // 2


def _reference(x, kernel, bias, stride, padding):
    k_h, k_w = kernel.shape[:2]
    widths = ((k_h // 2, k_h // 2), (k_w // 2, k_w // 2))
    if padding in ("reflect", "replicate"):
        x = jnp.pad(x, ((0, 0), *widths, (0, 0)), mode=NUMPY_MODES[padding])
        widths = "VALID"
    elif padding in ("valid", "same"):
        widths = padding.upper()
    y = lax.conv_general_dilated(x, kernel, (stride, stride), widths, dimension_numbers=DIMENSIONS)
    return y + bias.reshape(1, 1, 1, -1)


def _with_gradients(function, x, kernel, bias):
    """The result, and the gradients for a cotangent of whole numbers."""
    y, pull = jax.vjp(function, x, kernel, bias)
    cotangent = jnp.asarray(_whole(7, *y.shape))
    return y, *pull(cotangent)


def _equal(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


KERNELS = [(1, 1), (2, 2), (3, 3), (4, 4), (9, 9), (1, 3), (5, 2)]
# In, out: few channels on either side, on both, on neither take different roads.
CHANNELS = [(3, 6), (6, 3), (2, 1), (5, 7)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", KERNELS)
def test_conv2d_and_gradients_equal_lax(size, stride):
    cases = []
    for index, padding in enumerate(PADDINGS):
        c_in, c_out = CHANNELS[index % 4] if size == (9, 9) else CHANNELS[(index + size[0]) % 4]
        height, width = [(11, 10), (10, 13), (9, 9)][index % 3]
        x, kernel = _whole(index, 2, height, width, c_in), _whole(index + 9, *size, c_in, c_out)
        cases.append((padding, (x, kernel, _whole(3, c_out))))

    def run(convolve):
        def all_cases(arguments):
            return [
                _with_gradients(lambda *a, p=padding: convolve(*a, stride=stride, padding=p), *a)
                for (padding, _), a in zip(cases, arguments, strict=True)
            ]

        return jax.jit(all_cases)([arguments for _, arguments in cases])

    expected = run(_reference)
    for choice in FORMULATIONS:
        with ops.formulation(choice):
            _equal(run(ops.conv2d), expected)
