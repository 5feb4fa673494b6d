"""Ray as the executor of a sweep: every task on some machine of a cluster, the lost ones again.

Ray starts and watches the worker processes, places tasks by the resources they declare and tells
when a worker or a machine is gone. How often a lost task is tried is decided here.
"""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxstyle.signals import StopSignals
from jaxstyle.sweeps import ray_cluster
from jaxstyle.sweeps.executors import (
    Ended,
    OnDone,
    Report,
    Task,
    Total,
    load,
    perform,
    sentence_of,
    stopped_by,
)
from jaxstyle.types import InputError

TRIES = 3  # of a task whose worker dies

_SECONDS_TO_SAVE = 120.0  # after a signal, before workers are ended
_SECONDS_BETWEEN_LOOKS = 0.5


def run_ray(
    tasks: Sequence[Task],
    work: str,
    *,
    address: str = "",
    cpus: float = 1,
    gpus: float = 0,
    on_done: OnDone,
    progress: bool = True,
    source: pathlib.Path | None = None,
) -> int | None:
    """Do all tasks on the machines of a Ray cluster, as many at a time as they have room for.

    A task whose worker is lost (killed, out of memory, its machine gone) is given to another, three
    times at most. Ctrl-C and SIGTERM let running work save itself and return; a second one ends
    this process at once. Workers find their GPUs by Ray; this process should not hold one, so keep
    JAX from starting here, or start it with `JAX_PLATFORMS=cpu`, which is not passed on to workers
    that declare a GPU.

    Args:
      tasks: independent of each other.
      work: import path of the function, `'package.module:function'`, on every machine.
      address: of the cluster that this machine belongs to, 'auto' or 'HOST:PORT'; '' starts one on
        this machine and ends it afterwards.
      cpus: that a task takes of its machine; JAX uses as many threads as it likes.
      gpus: that a task takes; 0 computes on the CPU, a half lets two tasks share one.
      on_done: called once per task when it has ended, in this process.
      progress: show a bar of all steps.
      source: the folder of the packages `experiments` and `jaxstyle`. A cluster gets a copy of the
        folders in it that hold Python files, and of nothing else: pictures have to be where every
        machine finds them.

    Returns:
      None when all have ended, or the number of the signal.

    Raises:
      InputError: Ray is not installed or runs in this process already, no cluster answers, this
        machine has less than a task declares, or two tasks have one name.
    """
    resources = ray_cluster.Resources(cpus, gpus)
    with Total(tasks, progress) as total, ray_cluster.connected(address, source, gpus) as ray:
        if missing := ray_cluster.missing(ray, resources):
            if not address:
                raise InputError(f"{missing}; lower --ray_cpus or --ray_gpus.")
            total.say(f"{missing}; waiting for one with more to join the cluster")
        with StopSignals() as stop:
            crew = _Crew(ray, work, resources)
            for task in tasks:
                crew.begin(task)
            while crew.running and stop.signal is None:
                for ended in crew.ended():
                    total.end(ended.task.name)
                    on_done(ended)
                for name, cause in crew.lost.items():
                    total.at(name, 0)
                    total.say(f"{name}: its worker was lost ({cause}); it begins again")
                for name, steps in crew.reports().items():
                    total.at(name, steps)
            if stop.signal is not None:
                total.say("stopping: running work saves where it stands (again ends it at once)")
                crew.stop()
        return stop.signal


class _Crew:
    """The tasks that Ray has, and what is heard of them.

    Attributes:
      running: tasks that have not ended, by the reference to their outcome.
      lost: why, by the name of the tasks that began again since the last look.
    """

    def __init__(self, ray: Any, work: str, resources: ray_cluster.Resources):
        self._ray, self._work = ray, work
        # Tried again here rather than by Ray, which would do so silently, and without end when a
        # worker takes too much memory.
        self._run = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(
            _in_worker
        )
        board = ray.remote(num_cpus=0, max_restarts=-1)(_Board)
        self._board = board.remote()
        self._asked = self._board.read.remote()
        self._tries: collections.Counter[str] = collections.Counter()
        self.running: dict[Any, Task] = {}
        self.lost: dict[str, str] = {}

    def begin(self, task: Task) -> None:
        """Give a task to Ray, which begins it when a machine has room."""
        self._tries[task.name] += 1
        reference = self._run.remote(self._work, task, self._tries[task.name], self._board)
        self.running[reference] = task

    def ended(self) -> list[Ended]:
        """Wait a moment and return the tasks that have ended; lost ones begin again."""
        self.lost = {}
        ready, _ = self._ray.wait([*self.running], timeout=_SECONDS_BETWEEN_LOOKS)
        return [ended for each in ready if (ended := self._outcome(each, self.running.pop(each)))]

    def reports(self) -> Mapping[str, int]:
        """Return the steps done by the name of the running tasks, as far as they told."""
        ready, _ = self._ray.wait([self._asked], timeout=0)
        if not ready:
            return {}
        told: Mapping[tuple[str, int], int] = {}
        with contextlib.suppress(self._ray.exceptions.RayError):  # its machine was lost too
            told = self._ray.get(self._asked)
        self._asked = self._board.read.remote()
        current = {(task.name, self._tries[task.name]) for task in self.running.values()}
        return {name: steps for (name, tries), steps in told.items() if (name, tries) in current}

    def stop(self) -> None:
        """Interrupt what runs, drop what waits, and give the workers time to save."""
        references = [*self.running]
        for reference in reversed(references):  # what waits first, lest it begins
            self._ray.cancel(reference)
        self._ray.wait(references, num_returns=len(references), timeout=_SECONDS_TO_SAVE)

    def _outcome(self, reference: Any, task: Task) -> Ended | None:
        errors = self._ray.exceptions
        try:
            ended: Ended = self._ray.get(reference)
        except errors.RayTaskError as error:  # `perform` lets none through, so before it began
            return Ended(task, failure=sentence_of(error.cause), trace=str(error))
        except (errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
            return Ended(task, failure=sentence_of(error), trace=str(error))
        except errors.RayError as error:
            return self._again(task, _cause(error))
        if stopped_by(ended) is not None:  # not by us: its machine is shutting down
            return self._again(task, "it was told to stop")
        return dataclasses.replace(ended, task=task)

    def _again(self, task: Task, cause: str) -> Ended | None:
        if self._tries[task.name] < TRIES:
            self.lost[task.name] = cause
            self.begin(task)
            return None
        return Ended(task, failure=f"its worker was lost {TRIES} times (at last: {cause}).")


class _Board:
    """Where workers note how far they are; an actor of Ray's."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], int] = {}

    def note(self, name: str, tries: int, steps: int) -> None:
        self._steps[name, tries] = steps

    def read(self) -> dict[tuple[str, int], int]:
        return self._steps


def _in_worker(work: str, task: Task, tries: int, board: Any) -> Ended:
    """Do a task in a process that Ray started."""
    from jaxstyle import runtime

    runtime.setup()
    return perform(lambda *given: load(work)(*given), task, _reporter(board, task.name, tries))


def _reporter(board: Any, name: str, tries: int) -> Report:
    next_time = 0.0

    def report(steps: int) -> None:
        nonlocal next_time
        if time.monotonic() >= next_time:
            next_time = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            board.note.remote(name, tries, steps)  # nobody waits for an answer

    return report


def _cause(error: Exception) -> str:
    """Return how a worker was lost."""
    return {
        "WorkerCrashedError": "the process crashed or was killed",
        "OutOfMemoryError": "memory ran out",
        "NodeDiedError": "the machine is gone",
    }.get(type(error).__name__, f"Ray said {type(error).__name__}")
