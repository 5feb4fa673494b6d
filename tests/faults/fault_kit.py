"""The tests' side of `fault_run.py`: start a run, make it fail, and look at what is left."""

import collections
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

CANNOT = 77  # the exit status of a run for which the system lacks something
PROGRAM = pathlib.Path(__file__).with_name("fault_run.py")
# Less than the variant 'smoke' of the recipe: what the tests of the front door train.
TINY = (
    "--config=configs/starry_fast.py:smoke",
    "--config.network.widths=(4,4)",
    "--config.style.layers=('relu1_1',)",
    "--config.style.layer_weights=()",
    "--config.content.layers=('relu1_2',)",
    "--config.content.layer_weights=()",
    "--config.style.size=16",
    "--config.data.size=16",
    "--config.samples.count=1",
    "--config.samples.size=16",
)


def load_toy():
    """Return `tests/toy_run.py`, whose folder is no package."""
    spec = importlib.util.spec_from_file_location("toy_run", PROGRAM.parent.parent / "toy_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(result: tuple) -> list[str]:
    """Return what is short and tells one result of the toy from another."""
    return [hashlib.sha256(repr(part).encode()).hexdigest() for part in result]


class Ended(NamedTuple):
    """A run that is over.

    Attributes:
      status: the exit status, -9 for SIGKILL.
      out: standard output.
      err: standard error.
      marks: `[what, phase, seconds]` in order, what being enter, leave or wait.
      pid: it had.
    """

    status: int
    out: str
    err: str
    marks: list
    pid: int

    @property
    def inside(self) -> list[str]:
        """The phases it was in when it ended, the innermost last."""
        stack: list[str] = []
        for what, phase, _ in self.marks:
            if what == "enter":
                stack.append(phase)
            elif what == "leave":
                assert stack.pop() == phase
        return stack

    def seconds(self) -> dict[str, float]:
        """Return how long each phase took, the mean of its occurrences."""
        begun, taken = {}, collections.defaultdict(list)
        for what, phase, when in self.marks:
            if what == "enter":
                begun[phase] = when
            elif what == "leave":
                taken[phase].append(when - begun[phase])
        return {phase: sum(each) / len(each) for phase, each in taken.items()}


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refused(ended: Ended, sentence: str) -> None:
    """Check that a run ended with one sentence and nothing beside it."""
    assert ended.status == 2, ended
    assert re.fullmatch(rf"error: [^\n]*{sentence}[^\n]*\.\n", ended.err), ended.err
    assert "Traceback" not in ended.out and "ERROR" not in ended.out


class Server:
    """The program that starts runs; see `fault_run.serve`."""

    def __init__(self, repository: pathlib.Path, cache: pathlib.Path):
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            cwd=repository,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join([str(repository), str(PROGRAM.parent.parent)]),
                "JAX_PLATFORMS": "cpu",
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
                "JAXSTYLE_COMPILATION_CACHE": str(cache),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, call: str, *arguments: object, **faults: object) -> Ended:
        """Do a run and return how it ended.

        Args:
          call: a function of `fault_run`, 'toy' or 'launch'.
          arguments: for it.
          faults: see `fault_run.begin`.
        """
        return Ended(**self._ask(call=call, arguments=list(map(str, arguments)), **faults))

    def start(self, call: str, *arguments: object, until: str, **faults: object) -> int:
        """Start a run, wait until it enters a phase, and return its process id."""
        arguments = list(map(str, arguments))
        return self._ask(call=call, arguments=arguments, until=until, **faults)["pid"]

    def finish(self, pid: int) -> Ended:
        """Wait for a run that was started."""
        return Ended(**self._ask(finish=pid))

    def _ask(self, **job: object) -> dict:
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the server and what is left of its runs."""
        self._process.communicate()
