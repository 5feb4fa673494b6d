"""Time programs against each other: every variant in a process of its own, one call in turn.

A machine that others use is slow at times; calls in turn see the same minutes, so their ratio means
something where their seconds do not.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Timing(NamedTuple):
    """What a worker took.

    Attributes:
      seconds: of its calls, one a round.
      peak: bytes.
      warm_up: seconds of its first call.
      value: that its first call returned.
    """

    seconds: list[float]
    peak: float
    warm_up: float
    value: float


def resident_peak() -> float:
    """Return the most bytes this process has had in main memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(call: Callable[[], float], peak: Callable[[], float] = resident_peak) -> None:
    """Be a worker: warm up, then run `call` once for every line on stdin and answer its seconds.

    Args:
      call: does the work, waits for it, and returns a number that tells whether it is right (a
        loss, a mean pixel).
      peak: returns the most bytes taken so far.
    """
    began = time.perf_counter()
    value = call()
    warm_up = time.perf_counter() - began
    call()
    _answer(value=value, warm_up=warm_up)
    for _ in sys.stdin:
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
        _answer(seconds=seconds, peak=peak())


def _answer(**values: float) -> None:
    print("@" + json.dumps(values), flush=True)


def collect(
    variants: Mapping[str, Sequence[str]], rounds: int, *, one_by_one: bool = False
) -> dict[str, Timing]:
    """Run the variants in turn.

    Args:
      variants: command line of each worker, by name.
      rounds: calls of each.
      one_by_one: whether a worker starts when the one before is warm, so that seconds of first
        calls mean something too.
    """
    workers, ready = {}, {}
    for name, command in variants.items():
        workers[name] = _start(command)
        if one_by_one:
            ready[name] = _read(workers[name])
    ready = ready or {name: _read(worker) for name, worker in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, float] = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            answer = _read(worker)
            times[name].append(answer["seconds"])
            peaks[name] = answer["peak"]
    for worker in workers.values():
        worker.communicate()
    return {
        name: Timing(times[name], peaks[name], ready[name]["warm_up"], ready[name]["value"])
        for name in variants
    }


def compare(
    variants: Mapping[str, Sequence[str]],
    rounds: int,
    *,
    baseline: Callable[[str], bool],
    kind: Callable[[str], str] = lambda name: "",
) -> dict[str, dict[str, float]]:
    """Run the variants in turn and print a table.

    Args:
      variants: command line of each worker, by name.
      rounds: calls of each.
      baseline: which variants the others are compared with; the best of them counts as 1.
      kind: of a variant; each is compared with baselines of its own kind, and all of a kind that
        has none with any.

    Returns:
      For every variant its median, minimum and maximum seconds, peak bytes, warm-up seconds, the
      ratio of its median and of its minimum to the best baseline's, the lowest and highest ratio
      to the baseline with the best median in one round, and its value.
    """
    timings = collect(variants, rounds)
    times = {name: timing.seconds for name, timing in timings.items()}
    rivals = {name: _rivals(name, list(variants), baseline, kind) for name in variants}
    rounds_of = {}
    for name, seconds in times.items():
        rival = min(rivals[name], key=lambda other: statistics.median(times[other]))
        rounds_of[name] = [a / b for a, b in zip(seconds, times[rival], strict=True)]
    table = {
        name: {
            "median": statistics.median(seconds),
            "min": min(seconds),
            "max": max(seconds),
            "ratio_median": statistics.median(seconds)
            / min(statistics.median(times[rival]) for rival in rivals[name]),
            "ratio_min": min(seconds) / min(min(times[rival]) for rival in rivals[name]),
            "ratio_low": min(rounds_of[name]),
            "ratio_high": max(rounds_of[name]),
            "peak": timings[name].peak,
            "warm_up": timings[name].warm_up,
            "value": timings[name].value,
        }
        for name, seconds in times.items()
    }
    _print(table)
    return table


def _rivals(
    name: str,
    variants: Sequence[str],
    baseline: Callable[[str], bool],
    kind: Callable[[str], str],
) -> list[str]:
    """Return what a variant is compared with."""
    alike = [other for other in variants if baseline(other) and kind(other) == kind(name)]
    return alike or [other for other in variants if baseline(other)] or [variants[0]]


def precision_of(name: str) -> str:
    """Return 'bf16' or 'float32', by a variant's name."""
    return "bf16" if "bf16" in name else "float32"


def is_torch(name: str) -> bool:
    """Return whether a variant is PyTorch's, by its name."""
    return name.startswith("torch")


def _start(command: Sequence[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(worker: subprocess.Popen) -> dict[str, float]:
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("@"):
            return json.loads(line[1:])
    raise SystemExit(f"a worker ended early: {' '.join(map(str, worker.args))}")


def _print(table: Mapping[str, Mapping[str, float]]) -> None:
    print(
        f"{'':26s} {'median':>9s} {'min':>9s} {'max':>9s}  {'ratio':>6s} {'of min':>6s} "
        f"{'rounds':>11s} {'peak':>8s} {'first call':>10s}  value"
    )
    for name, row in table.items():
        print(
            f"{name:26s} {row['median'] * 1e3:7.1f}ms {row['min'] * 1e3:7.1f}ms "
            f"{row['max'] * 1e3:7.1f}ms  {row['ratio_median']:6.2f} {row['ratio_min']:6.2f} "
            f"{row['ratio_low']:5.2f}-{row['ratio_high']:5.2f} "
            f"{row['peak'] / 2**20:5.0f}MiB {row['warm_up']:9.1f}s  {row['value']:.5f}"
        )
    sys.stdout.flush()
