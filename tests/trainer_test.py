"""The trainer: metrics against NumPy, what it leaves behind, and its refusals."""

import dataclasses
import importlib.util
import json
import pathlib

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.checkpoints import Checkpointer
from jaxstyle.types import InputError


def _load_toy():
    spec = importlib.util.spec_from_file_location("toy_run", TOY_PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOY_PROGRAM = pathlib.Path(__file__).with_name("toy_run.py")
toy = _load_toy()


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_file_is_means_per_interval(tmp_path):
    rate = 0.1

    @jax.jit
    def step(state, batch):
        (loss, terms), grads = jax.value_and_grad(toy.loss_fn, has_aux=True)(
            state.params, batch["x"], batch["y"]
        )
        params = jax.tree.map(lambda p, g: p - rate * g, state.params, grads)
        sums = {k: state.metrics[k] + v for k, v in (terms | {"loss": loss}).items()}
        return dataclasses.replace(state, step=state.step + 1, params=params, metrics=sums)

    toy.train(tmp_path, 12, step_fn=step)
    slope, offset, rows = np.zeros(4), 0.0, []
    for batch, _ in zip(toy.batches(), range(12), strict=False):
        x, y = np.float64(batch["x"]), np.float64(batch["y"])
        residual = x @ slope + offset - y
        square, size = np.mean(residual**2), np.sum(slope**2)
        rows.append((square + 0.01 * size, square, size))
        slope = slope - rate * (2 * x.T @ residual / toy.BATCH + 0.02 * slope)
        offset = offset - rate * 2 * residual.mean()
    lines = lines_of(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert [list(line) for line in lines] == [["step", "loss", "fit/square", "size"]] * 3
    for line, (start, end) in zip(lines, [(0, 5), (5, 10), (10, 12)], strict=True):
        expected = np.mean(rows[start:end], axis=0)
        np.testing.assert_allclose(list(line.values())[1:], expected, rtol=1e-5)


def test_timings_are_kept_apart(tmp_path):
    toy.train(tmp_path)
    lines = lines_of(tmp_path / "timings.jsonl")
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert all(line["seconds"] > 0 and line["images_per_second"] > 0 for line in lines[1:])
    assert "seconds" not in (tmp_path / "metrics.jsonl").read_text()


def compilations(caplog) -> int:
    return sum(record.getMessage().startswith("Compiling jit(step)") for record in caplog.records)


def test_step_is_compiled_once_also_after_a_restart(tmp_path, caplog):
    step = toy.make_step.__wrapped__()
    with jax.log_compiles():
        toy.train(tmp_path, data=toy.signal_at(7), step_fn=step)
        toy.train(tmp_path, step_fn=step)
    assert compilations(caplog) == 1


def test_state_on_several_devices_stays_there(tmp_path, caplog):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    step = toy.make_step.__wrapped__(everywhere)

    def run(steps):
        state = jax.device_put(toy.new_state(), everywhere)
        return toy.train(tmp_path, steps, step_fn=step, state=state)

    with jax.log_compiles():
        run(6)
        resumed = run(12)
    assert resumed.resumed_from == 6
    assert compilations(caplog) == 1
    for leaf in jax.tree.leaves(resumed.state):
        assert leaf.sharding.is_equivalent_to(everywhere, leaf.ndim)


def test_finished_run_returns_its_state_without_opening_the_data(tmp_path, capsys):
    class Closed:
        def __iter__(self):
            raise AssertionError("the data was opened")

    done = toy.train(tmp_path)
    result = toy.result_of(tmp_path, 12)
    assert capsys.readouterr().out == ""
    again = toy.train(tmp_path, data=Closed())
    assert capsys.readouterr().out == "all 12 steps are done already\n"
    assert again.step == again.resumed_from == 12 and not again.interrupted
    assert toy.bits(again.state) == toy.bits(done.state) == result[0]
    assert toy.result_of(tmp_path, 12) == result


def test_lost_metrics_lines_are_named(tmp_path, capsys):
    toy.train(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    capsys.readouterr()
    toy.train(tmp_path)
    assert "metrics.jsonl has lost the lines after step 0" in capsys.readouterr().out


def test_on_checkpoint_sees_every_checkpoint(tmp_path):
    seen = []
    toy.train(tmp_path, on_checkpoint=lambda step, state: seen.append((step, int(state.step))))
    assert seen == [(4, 4), (8, 8), (12, 12)]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["00000008", "00000012"]


def poisoned(field, at):
    step = toy.make_step()

    def poison(state, batch):
        state = step(state, batch)
        if int(state.step) == at:
            bad = jax.tree.map(lambda leaf: leaf * jnp.nan, getattr(state, field))
            state = dataclasses.replace(state, **{field: bad})
        return state

    return poison


def test_not_a_number_in_the_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"'loss' became NaN.* steps 9 and 10 \(step 8 is saved\)"):
        toy.train(tmp_path, step_fn=poisoned("metrics", 9))
    lines = lines_of(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [5]
    assert Checkpointer(tmp_path).restore_latest(toy.new_state()).step == 8


def test_not_a_number_in_a_parameter_is_not_saved(tmp_path):
    options = {"log_every": 100, "checkpoint_every": 3}
    message = r"parameter '(slope|offset)' became NaN .* steps 4 and 6 \(step 3 is saved\)"
    with pytest.raises(InputError, match=message):
        toy.train(tmp_path, step_fn=poisoned("params", 6), **options)
    assert Checkpointer(tmp_path).restore_latest(toy.new_state()).step == 3


def test_not_a_number_before_the_first_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"steps 1 and 4 \(no checkpoint is saved\)"):
        toy.train(tmp_path, step_fn=poisoned("metrics", 2))


def test_data_that_ends(tmp_path):
    data = grain.MapDataset.range(7).map(lambda i: {"x": np.ones(4, np.float32) * i, "y": i / 1.0})
    with pytest.raises(InputError, match="the data ended after 2 steps; let it repeat"):
        toy.train(tmp_path, data=data.to_iter_dataset().batch(toy.BATCH, drop_remainder=True))


def test_memory_that_runs_out(tmp_path):
    def step(state, batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    with pytest.raises(InputError, match="does not fit into memory with 3 images per batch"):
        toy.train(tmp_path, step_fn=step)


def test_other_failures_of_the_device_are_not_explained_away(tmp_path):
    def step(state, batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        toy.train(tmp_path, step_fn=step)


def test_metrics_file_that_cannot_be_written(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match="metrics.jsonl cannot be read or written: Is a directory"):
        toy.train(tmp_path)


def test_step_that_does_not_count(tmp_path):
    with pytest.raises(ValueError, match="state.step is 0 after 4 steps"):
        toy.train(tmp_path, step_fn=lambda state, batch: state)


def test_fewer_steps_than_are_done(tmp_path):
    toy.train(tmp_path, steps=6)
    with pytest.raises(InputError, match="is at step 6, beyond the 5 steps wanted"):
        toy.train(tmp_path, steps=5)


@pytest.mark.parametrize("name", ["steps", "log_every", "checkpoint_every", "keep"])
def test_counts_below_one(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        toy.train(tmp_path, **{name: 0})
