"""Ten thousand steps: nothing grows with them, and nothing is compiled again."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import starry_fast
from experiments import train_feedforward
from jaxstyle.placement import place
from jaxstyle.reporting.metrics_file import MetricsFile

STEPS, EVERY = 10_000, 500
PROGRAM = """
import gc, json, os, pathlib, sys, threading
import psutil
from jaxstyle import runtime
runtime.setup(compilation_cache=False)
import jax, numpy as np, toy_run

workdir, steps, every = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
process, seen = psutil.Process(), []

class Data:
    batch = next(iter(toy_run.batches()))
    count = 0
    def __iter__(self):
        return self
    def __next__(self):
        self.count += 1
        return jax.tree.map(np.copy, self.batch)
    def get_state(self):
        return {"count": self.count}
    def close(self):
        pass

def look(step, state):
    gc.collect()
    seen.append({
        "step": step,
        "megabytes": process.memory_info().rss / 1e6,
        "arrays": len(jax.live_arrays()),
        "files": process.num_fds(),
        "threads": len(threading.enumerate()),
        "seconds": sum(process.cpu_times()[:2]),
    })

toy_run.train(workdir, steps, data=Data(), log_every=every // 2, checkpoint_every=every,
              on_checkpoint=look)
print(json.dumps(seen))
"""


def _long_run(repository, workdir):
    """Return what a long run held at every checkpoint."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, workdir, str(STEPS), str(EVERY)],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "tests")]),
            "JAX_PLATFORMS": "cpu",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout.splitlines()[-1])


def test_nothing_grows(repository, tmp_path):
    seen = _long_run(repository, tmp_path)
    assert [look["step"] for look in seen] == list(range(EVERY, STEPS + 1, EVERY))
    settled = [look for look in seen if look["step"] >= STEPS // 5]
    for name in ("arrays", "files", "threads"):
        assert len({look[name] for look in settled}) == 1, (name, seen)
    assert settled[-1]["megabytes"] < settled[0]["megabytes"] + 8
    _check_files(tmp_path)


def _check_files(workdir):
    """Files are bounded by their interval."""
    logged = list(range(EVERY // 2, STEPS + 1, EVERY // 2))
    for name in ("metrics.jsonl", "timings.jsonl"):
        lines = (workdir / name).read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == logged
        assert max(map(len, lines)) < 200
    kept = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert kept == [f"{STEPS - EVERY:08d}", f"{STEPS:08d}"]


def test_nothing_is_compiled_after_the_first_line_of_the_metrics(tmp_path, monkeypatch):
    """The recipe's own step, data, logging and checkpoints, until training is over."""
    config = starry_fast.get_config("smoke")
    config.steps = 8
    compiled: list[str] = []
    lines: list[int] = []
    append = MetricsFile.append

    def listen(event: str, seconds: float, **about: object) -> None:
        if "backend_compile" in event and lines:
            compiled.append(str(about))

    def note(self, step, values):
        append(self, step, values)
        lines.append(step)

    class Over(Exception):
        pass

    def over(*_):
        raise Over

    monkeypatch.setattr(MetricsFile, "append", note)
    monkeypatch.setattr(train_feedforward, "_save", over)
    assert place(config.data.batch).devices == 2  # copying to and fro compiles nothing either
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with pytest.raises(Over):
            train_feedforward.run(config, pathlib.Path(tmp_path / "run"))
        assert lines == [2, 4, 6, 8]
        assert not compiled
        jax.jit(lambda x: x * 3 + 1)(1.0)
        assert compiled  # the listener does hear
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        jax.config.update("jax_disable_most_optimizations", before)
