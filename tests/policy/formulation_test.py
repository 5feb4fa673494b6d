"""The choice of formulation: scoped, by backend unless forced, and made when tracing."""

import jax
import jax.numpy as jnp
import pytest

from jaxstyle import ops, policy
from jaxstyle.policy import cpu_formulation
from jaxstyle.types import InputError


def _operations(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments))


def test_the_backend_chooses(monkeypatch):
    assert cpu_formulation() == (jax.default_backend() == "cpu")
    for backend in ("gpu", "tpu", "cpu"):
        monkeypatch.setattr(jax, "default_backend", lambda b=backend: b)
        assert cpu_formulation() == (backend == "cpu")


def test_choices_nest_and_end_even_after_an_error():
    with policy.formulation("plain"):
        with policy.formulation("cpu"):
            assert cpu_formulation()
        assert not cpu_formulation()
        with pytest.raises(RuntimeError), policy.formulation("cpu"):
            raise RuntimeError
        assert not cpu_formulation()
    assert cpu_formulation() == (jax.default_backend() == "cpu")


def test_unknown_choice():
    expected = "unknown formulation 'gpu'.*Choices: auto, cpu, plain"
    with pytest.raises(InputError, match=expected), policy.formulation("gpu"):
        pass


def test_plain_is_nothing_but_xla_convolution():
    """What a GPU or TPU gets: one convolution each, and XLA's own gradient."""
    x, kernel = jnp.ones((1, 6, 6, 8)), jnp.ones((3, 3, 8, 8))
    operations = (
        ops.conv2d,
        lambda x, k: ops.conv2d(x, k, stride=2),
        ops.upsample_conv2d,
        ops.conv_transpose2d,
    )
    for operation in operations:
        with policy.formulation("plain"):
            text = _operations(operation, x, kernel)
        assert text.count("conv_general_dilated") == 1
        assert "custom_vjp" not in text and "dot_general" not in text
        with policy.formulation("cpu"):
            assert "custom_vjp" in _operations(operation, x, kernel)


def test_a_jitted_function_follows_the_choice():
    """The choice is in the key of JAX's caches: no program of the other formulation comes back."""
    x, kernel = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))
    function = jax.jit(ops.conv2d)
    for choice in ("plain", "cpu", "plain"):
        with policy.formulation(choice):
            assert ("custom_vjp" in _operations(function, x, kernel)) == (choice == "cpu")


def test_forward_mode_works_in_plain():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    with policy.formulation("plain"):
        y, tangent = jax.jvp(lambda x: ops.conv2d(x, kernel), (x,), (x,))
    assert jnp.array_equal(y, tangent)  # linear
