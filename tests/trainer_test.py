"""The trainer: metrics against NumPy, and the bits after every kind of interruption.

Run as a program, this file trains the toy problem in a process of its own, to be killed.
"""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import trainer
from jaxstyle.checkpoints import Checkpointer
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.types import InputError

BATCH = 3
OPTIMIZER = optax.adam(0.05)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "opt_state", "extra", "metrics"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class ToyState:
    step: jax.Array
    params: dict
    opt_state: object
    extra: dict
    metrics: dict


def new_state() -> ToyState:
    params = {"slope": jnp.zeros(4), "offset": jnp.zeros(())}
    extra = {"key": jax.random.key(7), "average": jnp.zeros(4, jnp.bfloat16)}
    zeros = {name: jnp.zeros(()) for name in ("loss", "fit/square", "size")}
    return ToyState(jnp.int32(0), params, OPTIMIZER.init(params), extra, zeros)


def loss_fn(params, x, y):
    residual = x @ params["slope"] + params["offset"] - y
    terms = {"fit/square": jnp.mean(residual**2), "size": jnp.sum(params["slope"] ** 2)}
    return terms["fit/square"] + 0.01 * terms["size"], terms


@functools.cache
def make_step(sharding=None):
    """Return the jitted step; one for all tests that do not look at its cache."""

    @functools.partial(jax.jit, donate_argnames=("state",), out_shardings=sharding)
    def step(state, batch):
        key, noise_key = jax.random.split(state.extra["key"])
        x = batch["x"] + 0.01 * jax.random.normal(noise_key, batch["x"].shape)
        (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, x, batch["y"]
        )
        updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = (0.9 * state.extra["average"] + 0.1 * params["slope"]).astype(jnp.bfloat16)
        metrics = {name: state.metrics[name] + value for name, value in terms.items()}
        metrics["loss"] = state.metrics["loss"] + loss
        extra = {"key": key, "average": average}
        return ToyState(state.step + 1, params, opt_state, extra, metrics)

    return step


class Jitter(grain.transforms.RandomMap):
    def random_map(self, element, rng):
        x = np.float32([element, element**2 % 7, element % 3, 1]) / 8
        x = (x + rng.normal(0, 0.1, 4)).astype(np.float32)
        return {"x": x, "y": np.float32(x @ [1, -2, 0.5, 3])}


def batches(source=range(10)):
    data = grain.MapDataset.source(list(source)).seed(5).shuffle().repeat().random_map(Jitter())
    read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return data.to_iter_dataset(read).batch(BATCH, drop_remainder=True)


def train(workdir, steps=12, *, step_fn=None, state=None, data=None, **options):
    settings = {"log_every": 5, "checkpoint_every": 4, "progress": False} | options
    return trainer.train(
        step_fn or make_step(),
        state or new_state(),
        data if data is not None else batches(),
        workdir=workdir,
        steps=steps,
        batch_size=BATCH,
        **settings,
    )


def bits(tree) -> dict[str, tuple]:
    """Return dtype, shape and bytes of every leaf by path."""

    def leaf_bits(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        return str(array.dtype), array.shape, array.tobytes()

    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(where): leaf_bits(leaf) for where, leaf in leaves}


def result_of(workdir, steps) -> tuple:
    """Return all that an interruption must not change: state, data position, metrics file."""
    step, state, notes = Checkpointer(workdir).restore_latest(new_state())
    assert step == steps
    return bits(state), notes, (workdir / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The uninterrupted run of 12 steps."""
    workdir = tmp_path_factory.mktemp("reference")
    outcome = train(workdir)
    assert not outcome.interrupted and outcome.signal is None
    assert outcome.step == 12 and outcome.resumed_from is None
    result = result_of(workdir, 12)
    assert result[0] == bits(outcome.state)
    return result


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class ActAt:
    """Batches that do something while the given one is fetched."""

    def __init__(self, batch, action):
        self._batch, self._action = batch, action

    def __iter__(self):
        self._data, self._count = iter(batches()), 0
        return self

    def __next__(self):
        self._count += 1
        if self._count == self._batch:
            self._action()
        return next(self._data)

    def __getattr__(self, name):  # get_state, set_state, close
        return getattr(self._data, name)


def signal_at(batch, number=signal.SIGINT):
    """Return batches that send this process a signal while the given one is fetched."""
    return ActAt(batch, lambda: os.kill(os.getpid(), number))


def test_metrics_file_is_means_per_interval(tmp_path):
    rate = 0.1

    @jax.jit
    def step(state, batch):
        (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, batch["x"], batch["y"]
        )
        params = jax.tree.map(lambda p, g: p - rate * g, state.params, grads)
        sums = {k: state.metrics[k] + v for k, v in (terms | {"loss": loss}).items()}
        return dataclasses.replace(state, step=state.step + 1, params=params, metrics=sums)

    train(tmp_path, 12, step_fn=step)
    slope, offset, rows = np.zeros(4), 0.0, []
    for batch, _ in zip(batches(), range(12), strict=False):
        x, y = np.float64(batch["x"]), np.float64(batch["y"])
        residual = x @ slope + offset - y
        square, size = np.mean(residual**2), np.sum(slope**2)
        rows.append((square + 0.01 * size, square, size))
        slope = slope - rate * (2 * x.T @ residual / BATCH + 0.02 * slope)
        offset = offset - rate * 2 * residual.mean()
    lines = lines_of(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert [list(line) for line in lines] == [["step", "loss", "fit/square", "size"]] * 3
    for line, (start, end) in zip(lines, [(0, 5), (5, 10), (10, 12)], strict=True):
        expected = np.mean(rows[start:end], axis=0)
        np.testing.assert_allclose(list(line.values())[1:], expected, rtol=1e-5)


def test_timings_are_kept_apart(tmp_path):
    train(tmp_path)
    lines = lines_of(tmp_path / "timings.jsonl")
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert all(line["seconds"] > 0 and line["images_per_second"] > 0 for line in lines[1:])
    assert "seconds" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_a_step_the_run_resumes_to_the_same_bits(tmp_path, reference, number, capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for stop in (1, 4, 5, 7, 11) if number == signal.SIGINT else (6,):
        workdir = tmp_path / str(stop)
        workdir.mkdir()
        outcome = train(workdir, data=signal_at(stop, number))
        assert outcome.interrupted and outcome.signal == number
        assert outcome.step == int(outcome.state.step) == stop
        assert capsys.readouterr().out == (f"stopped at step {stop}; the same command continues\n")
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        outcome = train(workdir)
        assert not outcome.interrupted and outcome.resumed_from == stop
        assert result_of(workdir, 12) == reference
        assert capsys.readouterr().out == f"continuing from step {stop} of 12\n"


def test_killed_between_any_two_writes_the_run_resumes_to_the_same_bits(
    tmp_path, reference, monkeypatch
):
    """Copy the workdir whenever the trainer is about to write, or has written; resume each copy."""
    workdir, copies = tmp_path / "run", []
    workdir.mkdir()

    def copy(*_):
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(workdir, copies[-1])

    def around(owner, name):
        wrapped = getattr(owner, name)

        def copying(*args, **kwargs):
            copy()
            result = wrapped(*args, **kwargs)
            copy()
            return result

        monkeypatch.setattr(owner, name, copying)

    around(MetricsFile, "append")
    around(Checkpointer, "save")
    around(pathlib.Path, "rename")
    around(shutil, "rmtree")
    train(workdir)
    monkeypatch.undo()
    contents = {_content(path): path for path in copies}
    # Three lines and three checkpoints, of which one is dropped in two moves.
    assert len(contents) >= 10
    resumed_from = set()
    for path in contents.values():
        line = next(path.glob("metrics.jsonl"), None)
        if line is not None:  # a line that a kill has cut short
            line.write_bytes(line.read_bytes() + b'{"step": 15, "lo')
        resumed_from.add(train(path).resumed_from)
        assert result_of(path, 12) == reference
        assert not list((path / "checkpoints").glob("*.d*"))
    assert resumed_from == {None, 4, 8, 12}


def _content(folder):
    return tuple(
        (str(file.relative_to(folder)), file.read_bytes() if file.is_file() else b"")
        for file in sorted(folder.rglob("*"))
        if file.name != "timings.jsonl"
    )


def compilations(caplog) -> int:
    return sum(record.getMessage().startswith("Compiling jit(step)") for record in caplog.records)


def test_step_is_compiled_once_also_after_a_restart(tmp_path, caplog):
    step = make_step.__wrapped__()
    with jax.log_compiles():
        train(tmp_path, data=signal_at(7), step_fn=step)
        train(tmp_path, step_fn=step)
    assert compilations(caplog) == 1


def test_state_on_several_devices_stays_there(tmp_path, caplog):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    step = make_step.__wrapped__(everywhere)

    def run(steps):
        state = jax.device_put(new_state(), everywhere)
        return train(tmp_path, steps, step_fn=step, state=state)

    with jax.log_compiles():
        run(6)
        resumed = run(12)
    assert resumed.resumed_from == 6
    assert compilations(caplog) == 1
    for leaf in jax.tree.leaves(resumed.state):
        assert leaf.sharding.is_equivalent_to(everywhere, leaf.ndim)


def test_finished_run_returns_its_state_without_opening_the_data(tmp_path, reference, capsys):
    class Closed:
        def __iter__(self):
            raise AssertionError("the data was opened")

    done = train(tmp_path)
    capsys.readouterr()
    again = train(tmp_path, data=Closed())
    assert capsys.readouterr().out == "all 12 steps are done already\n"
    assert again.step == again.resumed_from == 12 and not again.interrupted
    assert bits(again.state) == bits(done.state)
    assert result_of(tmp_path, 12) == reference


def test_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path, reference, capsys):
    train(tmp_path)
    (tmp_path / "checkpoints/00000012/record.json").write_text("")
    capsys.readouterr()
    outcome = train(tmp_path)
    assert outcome.resumed_from == 8
    assert result_of(tmp_path, 12) == reference
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and "record.json is damaged" in out[0]
    assert out[1] == "continuing from step 8 of 12"


def test_lost_metrics_lines_are_named(tmp_path, capsys):
    train(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    capsys.readouterr()
    train(tmp_path)
    assert "metrics.jsonl has lost the lines after step 0" in capsys.readouterr().out


def test_on_checkpoint_sees_every_checkpoint(tmp_path):
    seen = []
    train(tmp_path, on_checkpoint=lambda step, state: seen.append((step, int(state.step))))
    assert seen == [(4, 4), (8, 8), (12, 12)]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["00000008", "00000012"]


def poisoned(field, at):
    step = make_step()

    def poison(state, batch):
        state = step(state, batch)
        if int(state.step) == at:
            bad = jax.tree.map(lambda leaf: leaf * jnp.nan, getattr(state, field))
            state = dataclasses.replace(state, **{field: bad})
        return state

    return poison


def test_not_a_number_in_the_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"'loss' became NaN.* steps 9 and 10 \(step 8 is saved\)"):
        train(tmp_path, step_fn=poisoned("metrics", 9))
    lines = lines_of(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [5]
    assert Checkpointer(tmp_path).restore_latest(new_state()).step == 8


def test_not_a_number_in_a_parameter_is_not_saved(tmp_path):
    options = {"log_every": 100, "checkpoint_every": 3}
    message = r"parameter '(slope|offset)' became NaN .* steps 4 and 6 \(step 3 is saved\)"
    with pytest.raises(InputError, match=message):
        train(tmp_path, step_fn=poisoned("params", 6), **options)
    assert Checkpointer(tmp_path).restore_latest(new_state()).step == 3


def test_not_a_number_before_the_first_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"steps 1 and 4 \(no checkpoint is saved\)"):
        train(tmp_path, step_fn=poisoned("metrics", 2))


def test_data_that_ends(tmp_path):
    data = grain.MapDataset.range(7).map(lambda i: {"x": np.ones(4, np.float32) * i, "y": i / 1.0})
    with pytest.raises(InputError, match="the data ended after 2 steps; let it repeat"):
        train(tmp_path, data=data.to_iter_dataset().batch(BATCH, drop_remainder=True))


def test_memory_that_runs_out(tmp_path):
    def step(state, batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    with pytest.raises(InputError, match="does not fit into memory with 3 images per batch"):
        train(tmp_path, step_fn=step)


def test_other_failures_of_the_device_are_not_explained_away(tmp_path):
    def step(state, batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        train(tmp_path, step_fn=step)


def test_metrics_file_that_cannot_be_written(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match="metrics.jsonl cannot be read or written: Is a directory"):
        train(tmp_path)


def test_step_that_does_not_count(tmp_path):
    with pytest.raises(ValueError, match="state.step is 0 after 4 steps"):
        train(tmp_path, step_fn=lambda state, batch: state)


def test_fewer_steps_than_are_done(tmp_path):
    train(tmp_path, steps=6)
    with pytest.raises(InputError, match="is at step 6, beyond the 5 steps wanted"):
        train(tmp_path, steps=5)


@pytest.mark.parametrize("name", ["steps", "log_every", "checkpoint_every", "keep"])
def test_counts_below_one(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        train(tmp_path, **{name: 0})


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    before, during, outcomes = signal.getsignal(signal.SIGINT), [], []
    data = ActAt(3, lambda: during.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=lambda: outcomes.append(train(tmp_path, data=data)))
    thread.start()
    thread.join()
    assert outcomes[0].step == 12 and not outcomes[0].interrupted
    assert during == [before] and signal.getsignal(signal.SIGINT) is before


def test_ignored_signals_stay_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        outcome = train(tmp_path, data=signal_at(3))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.step == 12 and not outcome.interrupted


@pytest.fixture
def start():
    """A function that runs this file as a program; what is left of it is killed in the end."""
    children = []
    root = pathlib.Path(__file__).resolve().parent.parent

    def start_child(workdir, *options) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, __file__, str(workdir), *options],
            env=os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def test_second_signal_ends_the_process_at_once(tmp_path, start):
    child = start(tmp_path, "--steps=100000", "--sleep=600")
    wait_for(tmp_path / "fetching")
    sent = 0
    while child.poll() is None:
        child.send_signal(signal.SIGINT)
        sent += 1
        time.sleep(0.5)
    assert child.returncode == -signal.SIGINT
    assert sent >= 2  # the first one is noted, and the fetch goes on


def test_process_killed_and_stopped_at_random_resumes_to_the_same_bits(tmp_path, start):
    steps, rng = 120, random.Random(0)
    reference, disturbed = tmp_path / "reference", tmp_path / "disturbed"
    reference.mkdir()
    disturbed.mkdir()
    undisturbed = start(reference, f"--steps={steps}")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        child = start(disturbed, f"--steps={steps}")
        wait_for(disturbed / "fetching")
        time.sleep(rng.uniform(0, 0.12))
        child.send_signal(number)
        _finish(disturbed, child)
        (disturbed / "fetching").unlink()
    _finish(disturbed, start(disturbed, f"--steps={steps}"))
    assert undisturbed.wait(300) == 0
    expected = result_of(reference, steps)
    assert expected[2].count(b"\n") == steps // 5
    assert result_of(disturbed, steps) == expected
    # The signals did fall into the runs, and those that can be answered were.
    log = (disturbed / "log").read_text()
    assert re.findall(r"^exit (.*)", log, re.M) == ["-9", "143", "-9", "130", "0"]
    assert log.count("the same command continues") == 2


def _finish(workdir, child):
    output = child.communicate(timeout=300)[0]
    with (workdir / "log").open("a") as log:
        log.write(f"{output}exit {child.returncode}\n")


def wait_for(path):
    for _ in range(30000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear in five minutes")


def main(workdir: str, steps: str, sleep: str = "--sleep=0.004") -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner may ignore it
    seconds = float(sleep.removeprefix("--sleep="))

    fetched = itertools.count(1)

    def fetch(batch):
        if next(fetched) >= 3:  # by now the step is compiled
            pathlib.Path(workdir, "fetching").touch()
            time.sleep(seconds)
        return batch

    outcome = train(
        pathlib.Path(workdir),
        int(steps.removeprefix("--steps=")),
        data=batches().map(fetch),
        checkpoint_every=20,
        progress=True,
    )
    return 128 + outcome.signal if outcome.signal else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
