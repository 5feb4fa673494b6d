"""Run a recipe under random kills until it is done, and compare it with an undisturbed run.

    python benchmarks/soak.py --minutes 30
    python benchmarks/soak.py --minutes 5 --config configs/starry_fast.py:smoke --kills-per-minute 6

The recipe is trained as often as fits into the time, each time in a new folder, with SIGKILL (three
of four) or SIGTERM at random instants, and the same command again after each. What is left must be
that of the undisturbed run to the bit: the metrics file, the model, the pictures, and state and
position of the data in the newest checkpoint. `--config.KEY=VALUE` after the options goes to the
recipe.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from typing import NamedTuple

import jax
import numpy as np
import psutil
from orbax.checkpoint import v1 as ocp

_ROOT = pathlib.Path(__file__).resolve().parent.parent


class Attempt(NamedTuple):
    """One process: from its start to its end.

    Attributes:
      status: its exit status, negative for a signal.
      seconds: it lasted.
      phase: it was in when the signal came, '' where none did.
      memory: `(step, resident bytes)` as it went.
      output: what it printed.
    """

    status: int
    seconds: float
    phase: str
    memory: list[tuple[int, int]]
    output: str


def main() -> int:
    """Run, report, and return 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--config", default="configs/starry_fast.py:smoke")
    parser.add_argument("--steps", type=int, default=400, help="of each run")
    parser.add_argument("--kills-per-minute", type=float, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options, rest = parser.parse_known_args()
    every = max(1, options.steps // 20)
    command = [
        *(sys.executable, str(_ROOT / "launch.py"), f"--config={options.config}"),
        f"--config.steps={options.steps}",
        f"--config.log_every={max(1, every // 2)}",
        f"--config.checkpoint.every={every}",
        *rest,
    ]
    rng, until = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    attempts: list[Attempt] = []
    differing, runs, lost = 0, 0, 0.0
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        calm = pathlib.Path(folder, "undisturbed")
        undisturbed = _attempt(command, calm, None)
        if undisturbed.status:
            print(undisturbed.output)
            return 1
        print(f"undisturbed: {undisturbed.seconds:.0f} s", flush=True)
        while time.monotonic() < until:
            workdir = pathlib.Path(folder, f"run{runs}")
            taken = _until_done(command, workdir, rng, 60 / options.kills_per_minute)
            attempts += taken
            wrong = _differences(calm, workdir) if taken[-1].status == 0 else ["it did not finish"]
            differing += bool(wrong)
            runs += 1
            lost += sum(attempt.seconds for attempt in taken) - undisturbed.seconds
            ended = collections.Counter(attempt.status for attempt in taken)
            print(f"run {runs}: {dict(ended)}, {'; '.join(wrong) or 'the same bits'}", flush=True)
            if taken[-1].status:
                print(taken[-1].output)
            shutil.rmtree(workdir, ignore_errors=True)
        _report(attempts, runs, differing, lost)
        _report_growth(undisturbed.memory, calm)
    return 1 if differing else 0


def _until_done(
    command: list[str], workdir: pathlib.Path, rng: random.Random, between: float
) -> list[Attempt]:
    """Start the command again and again until it is done or refuses to go on."""
    attempts = []
    while True:
        number = rng.choices((signal.SIGKILL, signal.SIGTERM), (3, 1))[0]
        after = rng.expovariate(1 / between)
        attempts.append(_attempt(command, workdir, (number, after)))
        if attempts[-1].status not in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
            return attempts


def _attempt(command: list[str], workdir: pathlib.Path, kill: tuple[int, float] | None) -> Attempt:
    """Run the command, with a signal after some seconds, and watch its memory."""
    began, phase, memory, clock = time.monotonic(), "", [], time.time()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}"], cwd=_ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            if kill and not phase and time.monotonic() - began > kill[1]:
                phase = _phase(workdir, clock)
                process.send_signal(kill[0])
            with contextlib.suppress(psutil.Error):
                memory.append((_step(workdir), psutil.Process(process.pid).memory_info().rss))
            time.sleep(0.02 if kill and not phase else 0.2)
        output.seek(0)
        seconds = time.monotonic() - began
        return Attempt(process.returncode, seconds, phase, memory, output.read())


def _phase(workdir: pathlib.Path, begun: float) -> str:
    """Tell by its files what a process that began at some time is doing."""
    if not (workdir / "checkpoints").exists():
        return "starting anew"
    with contextlib.suppress(FileNotFoundError):  # it goes on meanwhile
        drafts = list((workdir / "checkpoints").glob("*.draft"))
        if any((draft / "arrays").exists() for draft in drafts):
            return "finishing a checkpoint"
        if drafts:
            return "saving a checkpoint"
    if list((workdir / "checkpoints").glob("*.discarded")):
        return "dropping a checkpoint"
    if (workdir / "model").exists():
        return "writing results"
    with contextlib.suppress(FileNotFoundError):
        if (workdir / "metrics.jsonl").stat().st_mtime > begun:
            return "training"
    return "starting again"


def _step(workdir: pathlib.Path) -> int:
    """Return the last step in the metrics file, 0 before the first."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return json.loads((workdir / "metrics.jsonl").read_bytes().splitlines()[-1])["step"]
    return 0


def _differences(calm: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """Name what is not as in the undisturbed run."""
    wrong = []
    for name in ("metrics.jsonl", "config.json"):
        if (calm / name).read_bytes() != (workdir / name).read_bytes():
            wrong.append(f"{name} differs")
    for part in ("model", "stylized"):
        names = {path.name for path in (*calm.glob(f"{part}/*"), *workdir.glob(f"{part}/*"))}
        for name in sorted(names):
            files = [folder / part / name for folder in (calm, workdir)]
            if not all(map(os.path.exists, files)):
                wrong.append(f"{part}/{name} is not in both")
            elif files[0].read_bytes() != files[1].read_bytes():
                wrong.append(f"{part}/{name} differs")
    newest = [max(path.glob("checkpoints/[0-9]*")) for path in (calm, workdir)]
    if newest[0].name != newest[1].name:
        wrong.append(f"the newest checkpoint is {newest[1].name}, not {newest[0].name}")
    records = [json.loads((path / "record.json").read_text()) for path in newest]
    if records[0] != records[1]:
        wrong.append("the newest checkpoint's record (the position of the data) differs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not told where the arrays are to be: anywhere
        arrays = [jax.tree.leaves_with_path(ocp.load(path / "arrays")) for path in newest]
    for (where, one), (_, other) in zip(*arrays, strict=True):
        if np.asarray(one).tobytes() != np.asarray(other).tobytes():
            wrong.append(f"{jax.tree_util.keystr(where)} of the newest checkpoint differs")
    return wrong


def _report(attempts: list[Attempt], runs: int, differing: int, lost: float) -> None:
    phases = collections.Counter(attempt.phase for attempt in attempts if attempt.phase)
    kinds = collections.Counter(attempt.status for attempt in attempts)
    print(f"\n{runs} runs, {differing} of them differ; {phases.total()} signals:")
    for phase, count in phases.most_common():
        print(f"  {count:4d} while {phase}")
    print(f"exit statuses: {dict(kinds)}")
    print(f"time lost to signals: {lost:.0f} s, {lost / max(1, phases.total()):.1f} s each")


def _report_growth(memory: list[tuple[int, int]], workdir: pathlib.Path) -> None:
    """Compare the first and the last tenth of the undisturbed run's steps."""
    lines = (workdir / "timings.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    times = [
        1e3 * (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
        for before, after in zip(records, records[1:], strict=False)
    ]
    tenth = max(1, len(times) // 10)
    last = records[-1]["step"]
    ends = {
        "first": ([m for s, m in memory if 0 < s <= last * 0.1], times[:tenth]),
        "last": ([m for s, m in memory if last * 0.9 <= s < last], times[-tenth:]),
    }
    print("undisturbed run, first and last tenth of its steps:")
    for name, (sizes, steps) in ends.items():
        size = f"{statistics.median(sizes) / 2**20:.0f} MiB" if sizes else "not seen"
        print(f"  {name:5s} {size}, {statistics.median(steps):.0f} ms a step with checkpoints")


if __name__ == "__main__":
    sys.exit(main())
