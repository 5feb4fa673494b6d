"""Who computes the launches of a sweep: this process one by one, or the machines of a Ray cluster.

A task names no code: all tasks of a sweep are the work of one function, given by its import path,
`'experiments.sweep:work'`, so that another process can find it. It is called as

    work(payload, report) -> outcome

with `report(steps)` to tell how far it is. Payload and outcome are what JSON can hold, and pass
through JSON here too, so that every executor gives the same. Work that was asked to stop returns
`{'signal': number}`; a task whose worker dies is given to another, so work must be safe to repeat.
"""

import dataclasses
import functools
import importlib
import json
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from jaxstyle.reporting.progress import Progress
from jaxstyle.types import InputError

Report = Callable[[int], None]
Work = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]

SIGNAL = "signal"  # the key of an outcome that is no end


@final
@dataclasses.dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
      name: no other task has it.
      steps: that it takes, for the bar.
      payload: what the work is given; JSON can hold it. Paths in it should be absolute.
    """

    name: str
    steps: int
    payload: Mapping[str, Any]


@final
@dataclasses.dataclass(frozen=True)
class Ended:
    """How a task ended.

    Attributes:
      task: which.
      outcome: what the work returned, empty when it failed.
      failure: a sentence, '' when it did not fail.
      trace: the traceback of an error that nobody foresaw, for the one who looks for it.
    """

    task: Task
    outcome: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    failure: str = ""
    trace: str = ""


OnDone = Callable[[Ended], None]


def run_local(
    tasks: Sequence[Task], work: str, *, on_done: OnDone, progress: bool = True
) -> int | None:
    """Do all tasks in this process, one after the other.

    A task that fails does not keep the others from being done.

    Args:
      tasks: in order.
      work: import path of the function, `'package.module:function'`.
      on_done: called once per task when it has ended, in this process.
      progress: show a bar of all steps.

    Returns:
      None when all have ended, or the number of the signal that stopped the work.

    Raises:
      InputError: two tasks have one name.
      ValueError, ImportError, AttributeError: `work` names no function.
    """
    function = load(work)
    with Total(tasks, progress) as total:
        for task in tasks:
            ended = perform(function, task, functools.partial(total.at, task.name))
            if (number := stopped_by(ended)) is not None:
                return number
            total.end(task.name)
            on_done(ended)
    return None


def perform(function: Work, task: Task, report: Report) -> Ended:
    """Call the work for a task, and turn what it raises into a failure.

    Args:
      function: the work.
      task: what to do.
      report: takes the steps done.
    """
    try:
        payload = json.loads(json.dumps(dict(task.payload)))
        return Ended(task, json.loads(json.dumps(dict(function(payload, report)))))
    except KeyboardInterrupt:  # outside of what the work itself guards
        return Ended(task, {SIGNAL: int(signal.SIGINT)})
    except InputError as error:
        return Ended(task, failure=str(error))
    except Exception as error:
        return Ended(task, failure=sentence_of(error), trace=traceback.format_exc())


def load(work: str) -> Work:
    """Return the function at an import path.

    Example:
      >>> load("math:sqrt")(2.25)
      1.5
    """
    module, _, name = work.partition(":")
    return getattr(importlib.import_module(module), name)


def sentence_of(error: BaseException) -> str:
    """Return a sentence about an error that nobody foresaw.

    Example:
      >>> sentence_of(KeyError("beta"))
      "the work ended with KeyError: 'beta'."
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = f": {lines[0].rstrip('.')}" if lines else ""
    return f"the work ended with {type(error).__name__}{told}."


def stopped_by(ended: Ended) -> int | None:
    """Return the number of the signal that stopped a task before its end, None for an end."""
    return ended.outcome.get(SIGNAL)


class Total:
    """One bar for the steps of all tasks; a context manager.

    Args:
      tasks: all.
      shown: False shows nothing but what is said.
    """

    def __init__(self, tasks: Sequence[Task], shown: bool):
        self._steps = {task.name: task.steps for task in tasks}
        if len(self._steps) < len(tasks):
            raise InputError("two tasks have one name.")
        self._done = dict.fromkeys(self._steps, 0)
        self._shown = 0
        steps = sum(self._steps.values())
        self._bar = Progress(start=0, steps=steps, batch_size=0, enabled=shown and steps > 0)

    def at(self, name: str, steps: int) -> None:
        """Note how many steps of a task are done; fewer than before when it began anew."""
        self._done[name] = max(0, min(steps, self._steps[name]))
        total = sum(self._done.values())
        if total != self._shown:
            self._shown = total
            self._bar.advance(total)
            self._bar.metrics(total, {})

    def end(self, name: str) -> None:
        """Note that a task ended, whatever became of it."""
        self.at(name, self._steps[name])

    def say(self, sentence: str) -> None:
        """Write a sentence above the bar."""
        self._bar.say(sentence)

    def __enter__(self) -> "Total":
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)
