"""The training loop: steps, metrics, checkpoints, signals. It touches the world; the step does not.

    WORKDIR/metrics.jsonl     means of the loss and its terms; the same bytes after any interruption
    WORKDIR/timings.jsonl     seconds and images per second; as the runs went, not repeatable
    WORKDIR/checkpoints/      see `jaxstyle.checkpoints`

Whatever decides the result is in the checkpoint: the state, which carries the sums of the metrics
since the last line of the file, and the position of the data. So k steps, a kill at any instant and
the same command again give the bits of an uninterrupted run on the same kind of device.

On several devices, and in several processes, a run goes on from any checkpoint on any other number
of them; only the order in which numbers are added differs then.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.checkpoints import Checkpointer
from jaxstyle.data import prefetch_to_device
from jaxstyle.placement import Placement
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.reporting.progress import Progress, groups_of
from jaxstyle.signals import StopSignals
from jaxstyle.types import Array, InputError

METRICS_FILE = "metrics.jsonl"
TIMINGS_FILE = "timings.jsonl"

_STEPS_AHEAD = 2  # of the device, by the host
_BATCHES_AHEAD = 2  # on their way to an accelerator
# What collectives say when the other side is gone: Gloo on CPUs, NCCL on GPUs.
_LOST = re.compile("gloo|nccl|coordination|connection|heartbeat|UNAVAILABLE", re.IGNORECASE)


class TrainState(Protocol):
    """What the trainer asks of a state: a registered, frozen or plain dataclass with these fields.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: a pytree of arrays.
      metrics: float32 scalars by name, `loss` among them: sums over the steps since the last log.
    """

    @property
    def step(self) -> Array: ...  # noqa: D102
    @property
    def params(self) -> Any: ...  # noqa: D102
    @property
    def metrics(self) -> Mapping[str, Array]: ...  # noqa: D102


State = TypeVar("State", bound=TrainState)


@dataclasses.dataclass(frozen=True)
class Outcome(Generic[State]):
    """How a call of `train` ended.

    Attributes:
      state: the state after `step` steps.
      step: steps done in all.
      resumed_from: the step of the checkpoint the call began with, None if it began anew.
      seconds: how long the call took, compilation included.
      signal: the number of the signal that stopped it (2 for Ctrl-C, 15 for SIGTERM), or None. A
        front door then exits with 128 + this number.
    """

    state: State
    step: int
    resumed_from: int | None
    seconds: float
    signal: int | None

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked to stop; the same command continues."""
        return self.signal is not None


def train(
    step_fn: Callable[[State, Any], State],
    state: State,
    batches: Iterable[Any],
    *,
    workdir: str | os.PathLike[str],
    steps: int,
    batch_size: int,
    log_every: int,
    checkpoint_every: int,
    keep: int = 2,
    display_weights: Mapping[str, float] | None = None,
    progress: bool = True,
    on_checkpoint: Callable[[int, State], None] | None = None,
    placement: Placement | None = None,
) -> Outcome[State]:
    """Train for `steps` steps in all, from the latest checkpoint in `workdir` if there is one.

    Ctrl-C and SIGTERM finish the step, save and return; a second one ends the process at once. The
    host stays up to two steps ahead of the device, so data is read while it works; only logs and
    checkpoints wait for it.

    Args:
      step_fn: jitted pure function `(state, batch) -> state`: adds 1 to `state.step` and the step's
        values to `state.metrics`; it may donate the state.
      state: the state at step 0, its metrics zero; also tells what a checkpoint must hold.
      batches: a `grain.IterDataset` (or anything whose iterator has Grain's `get_state` and
        `set_state`) that does not end; one element is one batch.
      workdir: an existing folder that no other process uses (`jaxstyle.workdir.claim`).
      steps: the last step, at least 1.
      batch_size: images per batch, for the speed shown.
      log_every: steps between lines of the metrics file; the last step always gets one.
      checkpoint_every: steps between checkpoints; there is always one at the end.
      keep: checkpoints to keep, at least 1.
      display_weights: weight by term; progress then shows the weighted sum of each group of terms
        (the part of the name before the slash) beside the loss.
      progress: show a bar (lines, where there is no terminal); sentences are printed anyway.
      on_checkpoint: called with step and state after each checkpoint; it must not keep the state if
        `step_fn` donates it. Of several processes, the first one's is called.
      placement: the devices and processes that share the work (`jaxstyle.placement.place`); each
        process's batches are then its share. None: one device.

    Returns:
      The outcome, `interrupted` or finished. A finished workdir gives its state at once.

    Raises:
      InputError: a metric or parameter is not finite (the last good checkpoint stays), the data
        ends early, memory runs out, or a file cannot be read or written.

    Example:
      >>> import grain, optax, tempfile
      >>> from jaxstyle.training.state import create
      >>> @jax.jit
      ... def step(state, batch):
      ...     error = jnp.mean(batch) - state.params
      ...     metrics = {"loss": state.metrics["loss"] + error**2}
      ...     params = state.params + 0.1 * error
      ...     return dataclasses.replace(state, step=state.step + 1, params=params, metrics=metrics)
      >>> state = create(jnp.zeros(()), optax.sgd(0.1), metrics=("loss",))
      >>> batches = grain.MapDataset.range(2, 4).repeat().to_iter_dataset().batch(2)
      >>> outcome = train(step, state, batches, workdir=tempfile.mkdtemp(), steps=50, batch_size=2,
      ...                 log_every=10, checkpoint_every=25, progress=False)
      >>> outcome.step, round(float(outcome.state.params), 2)
      (50, 2.49)
    """
    began = time.monotonic()
    check_counts(steps=steps, log_every=log_every, checkpoint_every=checkpoint_every)
    placement = placement or Placement()
    first = placement.group.first
    with _explained(batch_size, placement):
        run = _Run(step_fn, state, pathlib.Path(workdir), steps, keep, on_checkpoint, placement)
    resumed_from = run.step if run.step else None
    bar = Progress(
        start=run.step,
        steps=steps,
        batch_size=batch_size,
        groups=groups_of(display_weights or {}),
        enabled=progress and run.step < steps and first,
    )
    say = bar.say if first else _nothing
    stop = StopSignals()
    if run.step == steps:
        say(f"all {steps} steps are done already")
    else:
        if run.step:
            say(f"continuing from step {run.step} of {steps}")
        reading = contextlib.closing(run.open(batches))
        with stop, bar, _explained(batch_size, placement), reading as data:
            while not run.told_to_stop(stop.signal) and run.step < steps:
                run.do_step(data)
                bar.advance(run.step)
                if run.step % log_every == 0 or run.step == steps:
                    run.log(bar)
                if run.step % checkpoint_every == 0 or run.step == steps:
                    run.save(data)
            if run.step > run.saved_at:
                run.save(data)
    run.told_to_stop(stop.signal)
    if run.signal is not None:
        say(f"stopped at step {run.step}; the same command continues")
    return Outcome(
        placement.here(run.state), run.step, resumed_from, time.monotonic() - began, run.signal
    )


def _nothing(sentence: str) -> None:
    del sentence


class _Run(Generic[State]):
    """A run between two steps: the state, what has been logged and what has been saved.

    Attributes:
      state: the state after `step` steps.
      step: steps done.
      saved_at: the step of the last checkpoint, 0 when there is none.
      signal: the signal that told the run to stop, None until all processes know it.
    """

    def __init__(
        self,
        step_fn: Callable[[State, Any], State],
        state: State,
        workdir: pathlib.Path,
        steps: int,
        keep: int,
        on_checkpoint: Callable[[int, State], None] | None,
        placement: Placement,
    ):
        self._step_fn = step_fn
        self._on_checkpoint = on_checkpoint
        self._placement, self._group = placement, placement.group
        self._checkpointer = Checkpointer(workdir, keep=keep, group=placement.group)
        self._metrics = MetricsFile(workdir / METRICS_FILE)
        self._timings = workdir / TIMINGS_FILE
        self._opened = time.monotonic()
        self._under_way: collections.deque[tuple[Array, Array | int]] = collections.deque()
        self.signal: int | None = None
        self._own_signal = 0
        self.state, self.step = placement.everywhere(state), 0
        self._logged_at, self._position = 0, None
        restored = self._checkpointer.restore_latest(self.state)
        if restored is not None:
            self.step, self.state = restored.step, restored.state
            self._logged_at = restored.notes["logged_at"]
            self._position = restored.notes["position"]
        self.saved_at = self.step
        if self.step > steps:
            raise InputError(
                f"workdir {workdir} is at step {self.step}, beyond the {steps} steps wanted; "
                "choose another --workdir."
            )
        last_line = self._group.from_first(lambda: self._metrics.cut_back(self.step))
        if last_line != self._logged_at:
            self._group.say(f"{self._metrics.path} has lost the lines after step {last_line}")

    def open(self, batches: Iterable[Any]) -> Any:
        """Return the data iterator, at the position the state belongs to; it places batches."""
        data = iter(batches)
        if self._position is not None:
            data.set_state(self._position)  # type: ignore[attr-defined]
        # A CPU computes where the batches are made.
        ahead = 0 if jax.default_backend() == "cpu" else _BATCHES_AHEAD
        return prefetch_to_device(data, self._placement.batch, ahead)

    def do_step(self, data: Iterator[Any]) -> None:
        """Hand one more step to the device, and wait for the one before the last.

        Not further ahead: a signal should not have to wait for a long queue, nor the batches in it
        fill the memory.
        """
        try:
            batch = next(data)
        except StopIteration:
            raise InputError(
                f"the data ended after {self.step} steps; let it repeat, or train for fewer steps."
            ) from None
        self.state = self._step_fn(self.state, batch)
        self.step += 1
        done = jnp.copy(self.state.step)  # as the next step may donate it
        self._under_way.append((done, self._placement.largest(self._own_signal)))
        if len(self._under_way) > _STEPS_AHEAD:
            done, signal = self._under_way.popleft()
            done.block_until_ready()
            if self._group.count > 1:
                self.signal = int(signal) or None

    def told_to_stop(self, signal: int | None) -> bool:
        """Whether to stop before the next step.

        Args:
          signal: what this process was told. Several agree on it with the steps they are ahead of
            the device, because all must stop at the same one.
        """
        self._own_signal = signal or 0
        if self._group.count == 1:
            self.signal = signal
        return self.signal is not None

    def log(self, bar: Progress) -> None:
        """Write the means since the last log to the metrics file, and begin new sums."""
        sums = self._finite_metrics()
        count = np.float32(self.step - self._logged_at)
        means = {name: np.float32(value) / count for name, value in sums.items()}
        if self._group.first:
            self._metrics.append(self.step, means)
            self._log_time(bar.images_per_second)
        zeros = jax.tree.map(jnp.zeros_like, self.state.metrics)
        self.state = dataclasses.replace(self.state, metrics=zeros)  # type: ignore[type-var]
        self._logged_at = self.step
        bar.metrics(self.step, means)

    def save(self, data: Any) -> None:
        """Save a checkpoint, unless the numbers have gone bad since the last one."""
        self._finite_metrics()
        for where, leaf in jax.tree.leaves_with_path(self.state.params):
            if not np.isfinite(np.asarray(leaf, np.float32)).all():
                name = jax.tree_util.keystr(where, simple=True, separator="/")
                raise self._not_finite(f"parameter '{name}'")
        if int(self.state.step) != self.step:
            raise ValueError(
                f"state.step is {int(self.state.step)} after {self.step} steps; step_fn must add 1."
            )
        notes = {"position": data.get_state(), "logged_at": self._logged_at}
        alone = self._group.count == 1
        one = self._placement.here(self.state) if alone else self.state
        self._checkpointer.save(self.step, one, notes)
        self.saved_at = self.step
        if self._on_checkpoint is not None and self._group.first:
            self._on_checkpoint(self.step, self._placement.here(self.state))

    def _finite_metrics(self) -> Mapping[str, np.ndarray]:
        """Return the sums of the metrics once the device has them; refuse NaN and infinity."""
        sums = jax.device_get(self.state.metrics)
        for name in sorted(sums, key=lambda name: (name != "loss", name)):
            if not np.isfinite(sums[name]):
                raise self._not_finite(f"'{name}'")
        return sums

    def _not_finite(self, what: str) -> InputError:
        """Return the error for NaN or infinity since the last time the numbers were looked at."""
        first = max(self._logged_at, self.saved_at) + 1
        when = (
            f"in step {first}" if first == self.step else f"between steps {first} and {self.step}"
        )
        kept = f"step {self.saved_at} is saved" if self.saved_at else "no checkpoint is saved"
        return InputError(
            f"{what} became NaN or infinite {when} ({kept}); start again in another --workdir with "
            "a lower learning rate or smaller loss weights."
        )

    def _log_time(self, images_per_second: float | None) -> None:
        """Append to the file of what depends on the machine."""
        seconds = round(time.monotonic() - self._opened, 3)
        speed = None if images_per_second is None else round(images_per_second, 3)
        record = {"step": self.step, "seconds": seconds, "images_per_second": speed}
        with self._timings.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


@contextlib.contextmanager
def _explained(batch_size: int, placement: Placement) -> Iterator[None]:
    """Turn what the machine can lack into a sentence."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if placement.group.count > 1 and _LOST.search(str(error)):
            raise InputError(
                "another process of the run has ended; start all of them again with the same "
                "commands, and the run goes on from its latest checkpoint."
            ) from error
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"the training step does not fit into memory with {batch_size} images per batch; make "
            "the batch or the pictures smaller."
        ) from error
    except OSError as error:
        raise InputError(
            f"{error.filename or 'a file of the run'} cannot be read or written: "
            f"{error.strerror or error}."
        ) from error


def check_counts(**counts: int) -> None:
    """Refuse settings that count something and are below 1; before a folder is made, best of all.

    Raises:
      InputError: naming the first.

    Example:
      >>> check_counts(steps=100, log_every=10)
    """
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} is {count}; it must be at least 1.")
