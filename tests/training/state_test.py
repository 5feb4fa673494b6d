import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import training

PARAMS = {"w": jnp.arange(3.0), "b": jnp.ones(())}


def test_a_run_begins_at_step_zero_with_empty_sums():
    state = training.create(PARAMS, optax.adam(1e-3), metrics=("loss", "tv"))
    assert (state.step.dtype, state.step.shape, int(state.step)) == (jnp.int32, (), 0)
    assert state.extra == {}
    assert sorted(state.metrics) == ["loss", "tv"]
    for value in state.metrics.values():
        assert (value.dtype, value.shape, float(value)) == (jnp.float32, (), 0.0)
    np.testing.assert_array_equal(state.params["w"], PARAMS["w"])
    np.testing.assert_array_equal(state.opt_state[0].mu["w"], np.zeros(3))


def test_every_part_is_traced_and_has_a_stable_name():
    extra = {"mean": jnp.zeros(2)}
    state = training.create(PARAMS, optax.sgd(0.1), metrics=("loss",), extra=extra)
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(state)
    }
    assert names == {"step", "params/w", "params/b", "extra/mean", "metrics/loss"}


def test_weakly_typed_optimizer_states_become_strong():
    """One would come back strong from the first step, and compile the second step anew."""
    weak = optax.GradientTransformation(
        lambda params: {"scale": jnp.asarray(1.0), "count": jnp.asarray(3)},
        lambda updates, state, params=None: (updates, state),
    )
    assert weak.init(PARAMS)["scale"].weak_type
    state = training.create(PARAMS, weak, metrics=("loss",))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert (float(state.opt_state["scale"]), int(state.opt_state["count"])) == (1.0, 3)


def test_state_is_frozen():
    state = training.create(PARAMS, optax.sgd(0.1), metrics=())
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.step = jnp.int32(1)
