"""Gradients inside loops: the same values, and programs without what is slow there.

In a loop body XLA keeps the transposed operands of a convolution's own gradient, for which the CPU
has no fast kernel (8x to 340x slower). What makes ours fast is visible in the compiled program: its
convolutions all have the standard layout, so that is what these tests look at, not at a clock.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from jaxstyle import ops, policy

STANDARD = "b01f_01io->b01f"
LENGTH = 3

# For what is compiled to compare with: fast, not well.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _whole(seed, *shape):
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


OPERATIONS = {
    "conv2d": lambda x, k: ops.conv2d(x, k, padding="reflect"),
    "strided": lambda x, k: ops.conv2d(x, k, stride=2),
    "few_out": lambda x, k: ops.conv2d(x, k[..., :3]),
    "upsampled": lambda x, k: ops.upsample_conv2d(x, k),
    "transposed": lambda x, k: ops.conv_transpose2d(x, k),
}


def _gradients(operation, x, kernel):
    return jax.grad(lambda x, k: jnp.sum(operation(x, k) ** 2), (0, 1))(x, kernel)


def _in_scan(operation):
    """Gradients for several inputs, each computed in one turn of a loop."""

    def run(xs, kernels):
        def turn(carry, inputs):
            return carry, _gradients(operation, *inputs)

        return lax.scan(turn, 0, (xs, kernels))[1]

    return run


def _compile(function, *arguments):
    """The program, and the layouts of its convolutions after all optimizations."""
    program = jax.jit(function).lower(*arguments).compile()
    text = program.as_text()
    layouts = re.findall(r"= \S+ convolution\(.*dim_labels=(\S+?)[,\s]", text)
    assert len(layouts) == text.count(" convolution(")  # none has escaped the pattern
    return program, set(layouts)


INPUTS = _whole(0, LENGTH, 1, 6, 6, 8), _whole(1, LENGTH, 3, 3, 8, 8)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_in_a_scan_are_right_and_use_standard_convolutions_only(name):
    operation = OPERATIONS[name]
    with policy.formulation("plain"):
        outside = quick_jit(
            lambda *a: [_gradients(operation, x, k) for x, k in zip(*a, strict=True)]
        )
        expected = jax.tree.map(lambda *turns: np.stack(turns), *outside(*INPUTS))
    with policy.formulation("cpu"):
        program, layouts = _compile(_in_scan(operation), *INPUTS)
    jax.tree.map(np.testing.assert_array_equal, program(*INPUTS), expected)
    text = program.as_text()
    assert "while(" in text  # the loop is still one
    assert layouts <= {STANDARD}
    assert "reversal" not in text  # of a convolution's window


def test_the_check_sees_the_slow_layout():
    """Without our gradients the same program has transposed convolutions."""
    with policy.formulation("plain"):
        _, layouts = _compile(_in_scan(OPERATIONS["conv2d"]), *INPUTS)
    assert layouts - {STANDARD}


def test_descent_in_a_fori_loop_equals_steps_outside():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 7, 6, 6)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 6, 5)) * 0.2, jnp.float32)

    def step(_, state):
        gradients = _gradients(OPERATIONS["conv2d"], *state)
        return jax.tree.map(lambda a, g: a - 1e-3 * g, state, gradients)

    with policy.formulation("plain"):
        outside, apart = (x, kernel), quick_jit(step)
        for i in range(4):
            outside = apart(i, outside)
    with policy.formulation("cpu"):
        inside = quick_jit(lambda x, k: lax.fori_loop(0, 4, step, (x, k)))(x, kernel)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), inside, outside
    )
    assert float(jnp.max(jnp.abs(inside[0] - x))) > 0.01


def test_line_search_recovers_a_kernel():
    """L-BFGS with a zoom line search evaluates value and gradient inside a `while_loop`."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 5)), jnp.float32)
    true = jnp.asarray(rng.normal(size=(3, 3, 5, 5)), jnp.float32)

    def run(x, true):
        wanted = ops.conv2d(x, true)

        def loss(kernel):
            return jnp.mean((ops.conv2d(x, kernel) - wanted) ** 2)

        solver = optax.lbfgs()

        def turn(carry, _):
            kernel, state = carry
            value, gradient = optax.value_and_grad_from_state(loss)(kernel, state=state)
            updates, state = solver.update(
                gradient, state, kernel, value=value, grad=gradient, value_fn=loss
            )
            return (optax.apply_updates(kernel, updates), state), value

        start = jnp.zeros_like(true)
        (kernel, _), values = lax.scan(turn, (start, solver.init(start)), None, length=40)
        return kernel, values

    with policy.formulation("cpu"):
        program, layouts = _compile(run, x, true)
    kernel, values = program(x, true)
    assert layouts == {STANDARD}
    assert values[-1] < 1e-6 * values[0]
    np.testing.assert_allclose(kernel, true, atol=2e-2)
