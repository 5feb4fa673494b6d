"""The policy: what 'auto' is on each backend, and that float32 means float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxstyle import ops, policy
from jaxstyle.policy import precision
from jaxstyle.types import InputError

FLOAT32, BFLOAT16, FLOAT64 = (np.dtype(jnp.dtype(d)) for d in ("float32", "bfloat16", "float64"))


class _Device:
    def __init__(self, capability):
        if capability is not None:
            self.compute_capability = capability


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be on another one."""

    def be(backend, capability=None):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        monkeypatch.setattr(jax, "devices", lambda: [_Device(capability)])
        precision._best.cache_clear()

    yield be
    precision._best.cache_clear()


@pytest.mark.parametrize(
    ("backend", "capability", "expected"),
    [
        ("cpu", None, FLOAT32),
        ("tpu", None, BFLOAT16),
        ("gpu", "9.0", BFLOAT16),
        ("gpu", "10.0", BFLOAT16),
        ("gpu", "8.0", BFLOAT16),
        ("gpu", "7.5", FLOAT32),  # before Ampere
        ("gpu", "gfx90a", FLOAT32),
        ("gpu", None, FLOAT32),
        ("METAL", None, FLOAT32),
    ],
)
def test_auto_is_by_device(machine, backend, capability, expected):
    machine(backend, capability)
    assert policy.compute_dtype("auto", FLOAT32) == expected
    assert policy.compute_dtype("auto", FLOAT64) == FLOAT64  # who gives more digits wants them
    assert policy.compute_dtype("auto", BFLOAT16) == BFLOAT16
    for given in (FLOAT32, FLOAT64):  # and a word is a word
        assert policy.compute_dtype("float32", given) == FLOAT32
        assert policy.compute_dtype("bfloat16", given) == BFLOAT16
        assert policy.compute_dtype(None, given) == given


def test_unknown_precision():
    with pytest.raises(InputError, match="unknown precision 'bf16'.*auto, float32, bfloat16"):
        policy.compute_dtype("bf16", FLOAT32)


def test_float32_is_not_tf32_unless_the_user_says_so(machine):
    machine("gpu", "9.0")
    assert policy.product_precision(FLOAT32) == lax.Precision.HIGHEST
    assert policy.product_precision(BFLOAT16) is None
    with jax.default_matmul_precision("tensorfloat32"):
        assert policy.product_precision(FLOAT32) is None
    machine("cpu")
    assert policy.product_precision(FLOAT32) is None  # there it is float32 anyway


@pytest.mark.parametrize("operation", [ops.conv2d, ops.upsample_conv2d, ops.conv_transpose2d])
def test_convolutions_and_their_gradients_are_told(machine, operation):
    x, kernel = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))

    def loss(x, kernel):
        return jnp.sum(operation(x, kernel))

    machine("gpu", "9.0")
    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
    # The convolution and its two gradients (of a linear loss the first is dropped, or kept).
    assert text.count("conv_general_dilated[") == text.count("HIGHEST, Precision.HIGHEST") >= 2
    with jax.default_matmul_precision("tensorfloat32"):
        assert "HIGHEST" not in str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
