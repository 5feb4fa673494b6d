"""The same training on one device and on several."""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from jaxstyle import features, losses, networks, training
from jaxstyle.checkpoints import Checkpointer
from jaxstyle.distributed import Group
from jaxstyle.placement import AXIS, Placement, place
from jaxstyle.training import feedforward


def _load(name):
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shared = _load("shared_run")


def _on(devices):
    if devices == 1:
        return Placement()
    return Placement(Group(), Mesh(np.array(jax.devices()[:devices]), (AXIS,)))


@pytest.mark.parametrize("batch, devices", [(8, 8), (16, 8), (4, 4), (6, 6), (7, 7), (11, 1)])
def test_a_batch_is_divided_among_as_many_devices_as_share_it_evenly(batch, devices, capsys):
    assert jax.device_count() == 8
    placement = place(batch)
    assert placement.devices == devices
    told = capsys.readouterr().out
    assert (f"{devices} of 8 devices are used" in told) == (devices < 8)
    assert ("data.batch=8 would" in told) == (devices < 8)


def test_state_is_everywhere_and_batches_are_divided():
    placement = _on(4)
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(3), "weight": 0.5}
    spread = placement.everywhere(tree)
    assert spread["weight"] == 0.5
    for name in ("w", "key"):
        assert spread[name].is_fully_replicated and len(spread[name].devices()) == 4
    back = placement.here(spread)
    assert not back["w"].committed and not back["key"].committed
    np.testing.assert_array_equal(back["w"], tree["w"])
    assert jax.random.normal(back["key"]) == jax.random.normal(tree["key"])
    batch = placement.batch(np.arange(24, dtype=np.uint8).reshape(8, 3))
    assert [shard.data.shape for shard in batch.addressable_shards] == [(2, 3)] * 4
    np.testing.assert_array_equal(batch, np.arange(24).reshape(8, 3))


def test_on_one_device_nothing_is_placed():
    placement, tree = Placement(), {"w": jnp.ones(2)}
    assert placement.everywhere(tree) is tree and placement.here(tree) is tree
    batch = np.zeros(3)
    assert placement.batch(batch) is batch
    assert placement.largest(7) == 7


@pytest.fixture(scope="module")
def curves(tmp_path_factory, squares):
    """Runs of 12 steps on 1, 2, 4 and 8 devices: their folders and outcomes."""
    runs = {}
    for devices in (1, 2, 4, 8):
        folder = tmp_path_factory.mktemp(f"on{devices}")
        runs[devices] = folder, shared.train(folder, squares, 12, _on(devices))
    return runs


def test_any_number_of_devices_learns_the_same(curves):
    """The whole batch counts, also in the spread that all its pictures decide together."""
    folder, alone = curves[1]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4
    for devices in (2, 4, 8):
        other, outcome = curves[devices]
        for mine, its in zip(
            jax.tree.leaves(alone.state), jax.tree.leaves(outcome.state), strict=True
        ):
            assert not its.committed
            np.testing.assert_allclose(its, mine, rtol=1e-5, atol=1e-7)
        for mine, its in zip(
            lines, (other / "metrics.jsonl").read_text().splitlines(), strict=True
        ):
            mine, its = json.loads(mine), json.loads(its)
            assert mine["step"] == its["step"]
            for name in ("loss", "size"):
                assert its[name] == pytest.approx(mine[name], rel=1e-4)


@pytest.mark.parametrize("devices", [1, 4])
def test_saved_on_eight_devices_a_run_goes_on_with_fewer(tmp_path, squares, curves, devices):
    shared.train(tmp_path, squares, 6, _on(8))
    saved = Checkpointer(tmp_path).restore_latest(shared.new_state())
    assert saved.step == 6 and all(
        len(leaf.devices()) == 1 for leaf in jax.tree.leaves(saved.state)
    )
    outcome = shared.train(tmp_path, squares, 12, _on(devices))
    assert outcome.resumed_from == 6
    wanted = jax.tree.leaves(curves[1][1].state)
    for its, mine in zip(jax.tree.leaves(outcome.state), wanted, strict=True):
        np.testing.assert_allclose(its, mine, rtol=1e-5, atol=1e-7)


def test_a_network_learns_on_eight_devices_what_it_learns_on_one():
    """With batch normalization, whose statistics are those of the whole batch."""
    config = networks.TransformerConfig(widths=(4, 6, 8), blocks=0, norm="batch")
    network = features.network("embedded")
    perception = features.initialize(jax.random.key(1), network)
    problem = feedforward.Problem(
        losses.content(("relu1_2",), "scale_free"),
        losses.style(("relu1_1",), "moments", "scale_free"),
        losses.total_variation("mean"),
        network,
    )
    weights = {"content/relu1_2": 1.0, "style/relu1_1": 2.0, "tv": 0.1}
    optimizer = optax.sgd(0.05)
    variables = dict(networks.init(jax.random.key(0), config))
    params = variables.pop("params")
    rng = np.random.default_rng(0)
    painting = jnp.asarray(rng.random((16, 16, 3), np.float32))
    style = jax.jit(functools.partial(feedforward.style_targets, problem))(perception, painting)
    step = jax.jit(feedforward.make_step(problem, config, optimizer))
    batches = rng.integers(0, 256, (2, 8, 16, 16, 3), dtype=np.uint8)
    ends = []
    for devices in (1, 8):
        placement = _on(devices)
        state = training.create(params, optimizer, metrics=("loss", *weights), extra=variables)
        state, known = placement.everywhere((state, (perception, style)))
        for batch in batches:
            state = step(state, placement.batch(batch), *known, weights)
        assert len(state.step.devices()) == devices
        ends.append(placement.here(state))
    assert float(ends[0].metrics["loss"]) == pytest.approx(float(ends[1].metrics["loss"]), rel=1e-5)
    for leaf, first, one, many in zip(
        jax.tree.leaves_with_path(params),
        jax.tree.leaves(params),
        jax.tree.leaves(ends[0].params),
        jax.tree.leaves(ends[1].params),
        strict=True,
    ):
        moved = float(jnp.linalg.norm(one - first))
        assert float(jnp.linalg.norm(many - one)) <= 1e-3 * moved + 1e-7, leaf[0]
    for one, many in zip(
        jax.tree.leaves(ends[0].extra), jax.tree.leaves(ends[1].extra), strict=True
    ):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-6)
