"""A sweep on a real Ray cluster of two workers, one of which is killed in the middle."""

import os
import signal
import subprocess
import sys
import time

import psutil

from jaxstyle.sweeps.plan import read_plan
from jaxstyle.sweeps.results import read_result

SWEEP = ["--sweep=objective.beta=1,5", "--sweep=start=content,noise", "--sweep_lanes=1"]
RECIPE = [
    "--config=configs/gatys.py:smoke",
    "--config.solver.optimizer=adam",
    "--config.solver.learning_rate=0.02",
    "--config.size=32",
    "--config.steps=400",
    "--config.save_every=20",
]


def _launch(repository, folder, *flags):
    command = [sys.executable, "launch.py", *RECIPE, *SWEEP, f"--workdir={folder}", *flags]
    return subprocess.Popen(
        command,
        cwd=repository,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAXSTYLE_COMPILATION_CACHE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _workers(process):
    """The processes of Ray that compute a launch."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[:1] == ["ray::_in_worker"]:
                found.append(child)
        except psutil.Error:  # gone since
            continue
    return found


def test_a_killed_worker_loses_nothing(repository, tmp_path):
    ray = _launch(repository, tmp_path / "ray", "--executor=ray", "--ray_cpus=1")
    until = time.monotonic() + 300
    while not list((tmp_path / "ray").glob("cells/*/metrics.jsonl")):
        assert time.monotonic() < until and ray.poll() is None, ray.communicate()[0]
        time.sleep(0.02)
    assert not list((tmp_path / "ray").glob("cells/*/result.json"))  # in the middle of the first
    killed = _workers(ray)
    assert killed
    killed[0].send_signal(signal.SIGKILL)
    told, _ = ray.communicate(timeout=500)
    assert ray.returncode == 0, told
    assert "its worker was lost" in told and "4 of 4 cells are done" in told
    local = _launch(repository, tmp_path / "local")
    out, _ = local.communicate(timeout=300)
    assert local.returncode == 0, out
    made = read_plan(tmp_path / "local")
    assert made == read_plan(tmp_path / "ray") and len(made.launches) == 4
    cells = sorted((tmp_path / "local" / "cells").iterdir())
    assert [cell.name for cell in cells] == sorted(
        p.name for p in (tmp_path / "ray/cells").iterdir()
    )
    for cell in cells:
        other = tmp_path / "ray" / "cells" / cell.name
        for file in ("picture.png", "metrics.jsonl", "config.json"):
            assert (cell / file).read_bytes() == (other / file).read_bytes(), (cell.name, file)
        assert read_result(other).status == "done"
