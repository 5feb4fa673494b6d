"""The loop of a per-image run: chunks of steps, metrics, checkpoints, intermediates, signals.

    WORKDIR/metrics.jsonl     loss and terms after every chunk; the same bytes after an interruption
    WORKDIR/checkpoints/      see `jaxstyle.checkpoints`; of a part of a run, in a folder of its own

Chunks begin at the same steps whether or not a run was interrupted, so the same programs compute
the same numbers: a run that was stopped or killed and started again gives the bits of one that was
not, the memory of L-BFGS included.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from jaxstyle.checkpoints import FOLDER, Checkpointer
from jaxstyle.optimize import CONVERGED, NOT_FINITE, RUNNING, State
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.reporting.progress import Progress, groups_of
from jaxstyle.signals import StopSignals
from jaxstyle.types import Array, InputError

METRICS_FILE = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run computes; the functions are jitted.

    Attributes:
      advance: `(state, steps) -> (state, history)`, with `steps` static.
      measure: `state -> {'loss': ..., term: ...}`, of the picture as it stands.
      picture: `state -> [h, w, 3]`.
      start: `() -> state` at step 0.
      whole: a state as it is saved, whatever devices it is divided among, from one of this work.
      placed: the other way round.
    """

    advance: Callable[[State, int], tuple[State, Array]]
    measure: Callable[[State], Mapping[str, Array]]
    picture: Callable[[State], Array]
    start: Callable[[], State]
    whole: Callable[[State], State] = lambda state: state
    placed: Callable[[State], State] = lambda state: state


def begun_at(work: Work, state: State) -> Work:
    """Return the work that begins with a state of its own.

    Args:
      work: what to compute.
      state: at step 0, whole; kept as it is, so that the work can begin twice.
    """
    return dataclasses.replace(work, start=lambda: work.placed(jax.tree.map(jax.numpy.copy, state)))


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several optimizations that follow each other in a run.

    Attributes:
      folder: of its checkpoints.
      before: steps of the parts before it.
      total: steps of the run.
    """

    folder: pathlib.Path
    before: int
    total: int

    @property
    def begun(self) -> bool:
        """Whether a checkpoint of it was saved."""
        # What a kill left behind has a suffix, and is no checkpoint.
        return any(path.name.isdigit() for path in (self.folder / FOLDER).glob("*"))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a call of `paint` ended.

    Attributes:
      state: where it stands.
      step: steps done in all.
      status: `optimize.RUNNING` (all steps done, or interrupted), `CONVERGED` or `NOT_FINITE`.
      seconds: how long the call took, compilation included.
      signal: the number of the signal that stopped it, or None.
    """

    state: State
    step: int
    status: int
    seconds: float
    signal: int | None


def paint(
    work: Work,
    *,
    workdir: pathlib.Path,
    steps: int,
    chunk: int,
    save_every: int,
    keep: int = 2,
    display_weights: Mapping[str, float] | None = None,
    on_save: Callable[[int, np.ndarray], None] | None = None,
    progress: bool = True,
    part: Part | None = None,
) -> Outcome:
    """Optimize a picture for `steps` steps in all, from the latest checkpoint if there is one.

    Ctrl-C and SIGTERM finish the chunk, save and return; a second one ends the process at once.

    Args:
      work: what to compute.
      workdir: an existing folder that no other process uses (`jaxstyle.workdir.claim`).
      steps: the last step, at least 1.
      chunk: steps in one program; metrics come after each.
      save_every: steps between checkpoints and intermediate pictures, a multiple of `chunk`.
      keep: checkpoints to keep.
      display_weights: weight by term; progress then shows weighted sums beside the loss.
      on_save: called with step and picture at every save.
      progress: show a bar.
      part: of a run of several; the numbers of its steps in metrics, pictures and the bar are those
        of the run.

    Returns:
      The outcome.

    Raises:
      InputError: numbers below 1, memory runs out, or a file cannot be read or written.
    """
    began = time.monotonic()
    for name, count in {"steps": steps, "chunk": chunk, "save_every": save_every}.items():
        if count < 1:
            raise InputError(f"{name} is {count}; it must be at least 1.")
    if save_every % chunk:
        raise InputError(f"save_every is {save_every}; make it a multiple of chunk, {chunk}.")
    part = part or Part(workdir, 0, steps)
    before, state, step = part.before, work.start(), 0
    checkpointer, metrics = (
        Checkpointer(part.folder, keep=keep),
        MetricsFile(workdir / METRICS_FILE),
    )
    restored = checkpointer.restore_latest(work.whole(state))
    if restored is not None:
        step, state = restored.step, work.placed(restored.state)
    metrics.cut_back(before + step)
    bar = Progress(
        start=before + step,
        steps=part.total,
        batch_size=0,
        groups=groups_of(display_weights or {}),
        enabled=progress and step < steps,
    )
    if step:
        done = f"continuing from step {before + step} of {part.total}"
        bar.say(done if before + step < part.total else "all steps are done")
    stop, status = StopSignals(), int(state.status)
    with stop, bar, explained():
        while step < steps and status == RUNNING and stop.signal is None:
            end = min(step - step % chunk + chunk, steps)
            state, _ = work.advance(state, end - step)
            step, status = int(state.step), int(state.status)
            bar.advance(before + step)
            values = {name: np.float32(value) for name, value in work.measure(state).items()}
            if step and np.isfinite(values["loss"]):
                # A bad number may have led back to where a line is.
                metrics.cut_back(before + step - 1)
                metrics.append(before + step, values)
                bar.metrics(before + step, values)
            if step % save_every == 0 or step == steps or stop.signal or status != RUNNING:
                checkpointer.save(step, work.whole(state), {})
                if on_save is not None:
                    on_save(before + step, np.asarray(work.picture(state)))
    if stop.signal is not None:
        bar.say(f"stopped at step {before + step}; the same command continues")
    elif status == CONVERGED:
        bar.say(f"converged at step {before + step}")
    elif status == NOT_FINITE:
        bar.say(
            f"the loss became NaN or infinite in step {before + step + 1}; the picture before it "
            "is kept (try a lower solver.learning_rate or smaller weights in another --workdir)"
        )
    return Outcome(state, step, status, time.monotonic() - began, stop.signal)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what the machine can lack, memory or room on the disk, into an `InputError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError("the picture does not fit into memory; choose a smaller size.") from error
    except OSError as error:
        raise InputError(
            f"{error.filename or 'a file of the run'} cannot be read or written: "
            f"{os.strerror(error.errno) if error.errno else error}."
        ) from error
