"""Interruptions: whatever stops a run and whenever, the same command gives the same bits."""

import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxstyle.checkpoints import Checkpointer
from jaxstyle.reporting.metrics_file import MetricsFile


def _load_toy():
    spec = importlib.util.spec_from_file_location("toy_run", TOY_PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOY_PROGRAM = pathlib.Path(__file__).with_name("toy_run.py")
toy = _load_toy()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The uninterrupted run of 12 steps."""
    workdir = tmp_path_factory.mktemp("reference")
    outcome = toy.train(workdir)
    assert not outcome.interrupted and outcome.signal is None
    assert outcome.step == 12 and outcome.resumed_from is None
    result = toy.result_of(workdir, 12)
    assert result[0] == toy.bits(outcome.state)
    return result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_a_step_the_run_resumes_to_the_same_bits(tmp_path, reference, number, capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for stop in (1, 4, 5, 7, 11) if number == signal.SIGINT else (6,):
        workdir = tmp_path / str(stop)
        workdir.mkdir()
        outcome = toy.train(workdir, data=toy.signal_at(stop, number))
        assert outcome.interrupted and outcome.signal == number
        assert outcome.step == int(outcome.state.step) == stop
        assert capsys.readouterr().out == (f"stopped at step {stop}; the same command continues\n")
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        outcome = toy.train(workdir)
        assert not outcome.interrupted and outcome.resumed_from == stop
        assert toy.result_of(workdir, 12) == reference
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
    toy.train(workdir)
    monkeypatch.undo()
    contents = {_content(path): path for path in copies}
    # Three lines and three checkpoints, of which one is dropped in two moves.
    assert len(contents) >= 10
    resumed_from = set()
    for path in contents.values():
        line = next(path.glob("metrics.jsonl"), None)
        if line is not None:  # a line that a kill has cut short
            line.write_bytes(line.read_bytes() + b'{"step": 15, "lo')
        resumed_from.add(toy.train(path).resumed_from)
        assert toy.result_of(path, 12) == reference
        assert not list((path / "checkpoints").glob("*.d*"))
    assert resumed_from == {None, 4, 8, 12}


def _content(folder):
    return tuple(
        (str(file.relative_to(folder)), file.read_bytes() if file.is_file() else b"")
        for file in sorted(folder.rglob("*"))
        if file.name != "timings.jsonl"
    )


def test_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path, reference, capsys):
    toy.train(tmp_path)
    (tmp_path / "checkpoints/00000012/record.json").write_text("")
    capsys.readouterr()
    outcome = toy.train(tmp_path)
    assert outcome.resumed_from == 8
    assert toy.result_of(tmp_path, 12) == reference
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and "record.json is damaged" in out[0]
    assert out[1] == "continuing from step 8 of 12"


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    before, during, outcomes = signal.getsignal(signal.SIGINT), [], []
    data = toy.ActAt(3, lambda: during.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=lambda: outcomes.append(toy.train(tmp_path, data=data)))
    thread.start()
    thread.join()
    assert outcomes[0].step == 12 and not outcomes[0].interrupted
    assert during == [before] and signal.getsignal(signal.SIGINT) is before


def test_ignored_signals_stay_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        outcome = toy.train(tmp_path, data=toy.signal_at(3))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.step == 12 and not outcome.interrupted


@pytest.fixture
def start(repository):
    """A function that starts the toy program; what is left of it is killed in the end."""
    children = []

    def start_child(workdir, *options) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, str(TOY_PROGRAM), str(workdir), *options],
            env=os.environ | {"PYTHONPATH": str(repository), "JAX_PLATFORMS": "cpu"},
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


def wait_for(path):
    for _ in range(30000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear in five minutes")
