"""Several processes are one run: who they are, what they agree on, and what happens to one alone.

The runs are real: processes of this machine that find each other over the loopback.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxstyle.distributed import Group, Membership, membership
from jaxstyle.types import InputError

PROGRAM = pathlib.Path(__file__).with_name("shared_run.py")
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}
PATIENCE = 240  # seconds, on a busy machine


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        (SLURM, Membership(None, None, None)),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),  # no srun
        (MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:9"}, Membership(None, 4, 3)),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, Membership(None, None, None)),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
    ],
)
def test_the_cluster_tells_who_this_process_is(environment, expected):
    assert membership(environment=environment) == expected


def test_flags_tell_it_everywhere():
    assert membership("host:1", 3, 0, environment={}) == Membership("host:1", 3, 0)
    assert membership("host:1", 1, 0, environment={}) is None
    assert membership("host:1", environment=MPI) == Membership("host:1", 4, 3)


@pytest.mark.parametrize(
    "told, environment, sentence",
    [
        (("host", 2, 0), {}, "must be HOST:PORT"),
        (("host:1", 2, 2), {}, "ids go from 0"),
        (("host:1", -1, 0), {}, "ids go from 0"),
        (("host:1", 2, -1), {}, "all three"),
        (("", 2, 0), {}, "all three"),
        (("", 0, -1), MPI, "add --coordinator_address"),
    ],
)
def test_half_of_the_flags_are_not_enough(told, environment, sentence):
    with pytest.raises(InputError, match=sentence):
        membership(*told, environment=environment)


def test_one_process_agrees_with_itself():
    group = Group()
    assert (group.index, group.count, group.first) == (0, 1, True)
    assert group.from_first(lambda: [1, "a"]) == [1, "a"]
    assert group.every(5).tolist() == [5]
    group.check_same("settings", {"a": 1})
    with pytest.raises(InputError, match="no"):
        group.from_first(lambda: (_ for _ in ()).throw(InputError("no")))


def _start(workdir, squares, steps, *, sleep=0.0, processes=2, devices=2, settings=("s", "s")):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    environment["PYTHONPATH"] = str(PROGRAM.parent.parent)
    started = []
    for index in range(processes):
        told = [address, str(processes), str(index)] if processes > 1 else []
        started.append(
            subprocess.Popen(
                [sys.executable, PROGRAM, workdir, squares, str(steps), str(sleep), settings[index]]
                + told,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return started


def _finish(started):
    """Return exit statuses and outputs, without what the libraries print."""
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in started]
    kept = [
        [line for line in text.splitlines() if not line.startswith("[Gloo]")] for text in outputs
    ]
    return [process.returncode for process in started], kept


def _results(outputs):
    """Return step, devices and parameters that the processes ended with; they must agree."""
    lines = {line for output in outputs for line in output if line.startswith("result")}
    (line,) = lines
    _, step, devices, numbers = line.split()
    return int(step), int(devices), np.frombuffer(bytes.fromhex(numbers), np.float32)


def _wait_for(file, started):
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, "the run did not get under way"
        assert all(process.poll() is None for process in started), _finish(started)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, squares):
    """A run of two processes with two devices each: its folder and its parameters."""
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    statuses, outputs = _finish(_start(workdir, squares, 30, sleep=0.001))
    assert statuses == [0, 0], outputs
    step, devices, params = _results(outputs)
    assert (step, devices) == (30, 4)
    return workdir, params


def test_two_processes_learn_what_one_learns(tmp_path, squares, uninterrupted):
    workdir, params = uninterrupted
    statuses, outputs = _finish(_start(tmp_path / "one", squares, 30, processes=1, devices=1))
    assert statuses == [0], outputs
    step, devices, alone = _results(outputs)
    assert (step, devices) == (30, 1)
    np.testing.assert_allclose(params, alone, rtol=2e-5, atol=1e-6)
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == [
        "00000028",
        "00000030",
    ]
    lines = [
        (run / "metrics.jsonl").read_text().splitlines() for run in (workdir, tmp_path / "one")
    ]
    assert len(lines[0]) == len(lines[1]) == 10


def test_killed_in_the_middle_the_run_resumes_to_the_same_bits(tmp_path, squares, uninterrupted):
    """One of the two is gone without a word; the other ends, too, and both start again."""
    workdir = tmp_path / "run"
    started = _start(workdir, squares, 30, sleep=0.1)
    _wait_for(workdir / "fetching", started)
    started[1].kill()
    statuses, outputs = _finish(started)
    assert statuses[1] == -signal.SIGKILL
    # Whichever notices first: the collective, which becomes a sentence, or JAX's own watch.
    assert statuses[0] in (2, -signal.SIGABRT), outputs[0]
    if statuses[0] == 2:
        assert any("another process of the run has ended" in line for line in outputs[0])
    kept = sorted(path.name for path in (workdir / "checkpoints").glob("[0-9]*[0-9]"))
    assert kept and int(kept[-1]) < 30
    statuses, outputs = _finish(_start(workdir, squares, 30, sleep=0.001))
    assert statuses == [0, 0], outputs
    assert f"continuing from step {int(kept[-1])} of 30" in outputs[0]
    _, _, params = _results(outputs)
    assert params.tobytes() == uninterrupted[1].tobytes()
    metrics = [(run / "metrics.jsonl").read_bytes() for run in (workdir, uninterrupted[0])]
    assert metrics[0] == metrics[1]


def test_told_to_stop_one_process_stops_all_at_the_same_step(tmp_path, squares, uninterrupted):
    """And what they saved goes on with one process, on one device."""
    workdir = tmp_path / "run"
    started = _start(workdir, squares, 30, sleep=0.1)
    _wait_for(workdir / "fetching", started)
    started[1].send_signal(signal.SIGTERM)
    statuses, outputs = _finish(started)
    assert statuses == [143, 143], outputs
    stopped, _, _ = _results(outputs)
    assert 4 < stopped < 30
    assert f"stopped at step {stopped}; the same command continues" in outputs[0]
    statuses, outputs = _finish(_start(workdir, squares, 30, sleep=0.1, processes=1, devices=1))
    assert statuses == [0], outputs
    assert f"continuing from step {stopped} of 30" in outputs[0]
    _, devices, params = _results(outputs)
    assert devices == 1
    np.testing.assert_allclose(params, uninterrupted[1], rtol=2e-5, atol=1e-6)


def test_processes_of_different_commands_are_refused(tmp_path, squares):
    statuses, outputs = _finish(_start(tmp_path / "run", squares, 30, settings=("a", "b")))
    assert statuses == [2, 2], outputs
    for output in outputs:
        assert any("process 1 of the run was started with other settings" in x for x in output)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused_to_all_processes(tmp_path, squares):
    workdir = tmp_path / "run"
    first = _start(workdir, squares, 200, sleep=0.1)
    with contextlib.ExitStack() as stack:
        for process in first:
            stack.callback(process.communicate)
            stack.callback(process.kill)
        _wait_for(workdir / "fetching", first)
        second = _start(workdir, squares, 200, sleep=0.1)
        statuses, outputs = _finish(second)
        assert statuses == [2, 2], outputs
        for output in outputs:
            assert any("is in use" in line or "used by" in line for line in output), output
        assert all(process.poll() is None for process in first)
