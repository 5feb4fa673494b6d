"""What a training run shows while it goes on: a bar on a terminal, now and then a line elsewhere.

step 412/1300 ━━━━━━━━━━━╺━━━━━━━━━━━━━━━━━━━━━━━━  31%  12.3 images/s  0:04:48 left
loss 1.431   content 0.812   style 0.598   tv 0.0210

"""

import collections
import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import SupportsFloat, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Groups = Mapping[str, Mapping[str, float]]

_SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal
_SECONDS_BETWEEN_MARKS = 1.0
_MARKS = 30


def groups_of(weights: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Group weighted terms by the part of their name before the slash.

    Args:
      weights: weight by term name, e.g. `'style/relu2_1'`.

    Returns:
      Weights by group and term, groups in the order of their first term.

    Example:
      >>> groups_of({"style/relu1_1": 0.6, "style/relu2_1": 0.4, "tv": 0.3})
      {'style': {'style/relu1_1': 0.6, 'style/relu2_1': 0.4}, 'tv': {'tv': 0.3}}
    """
    groups: dict[str, dict[str, float]] = {}
    for name, weight in weights.items():
        groups.setdefault(name.partition("/")[0], {})[name] = weight
    return groups


def group_totals(metrics: Mapping[str, SupportsFloat], groups: Groups) -> dict[str, float]:
    """Return `loss`, and for each group the weighted sum of its terms.

    Args:
      metrics: mean by term name, and `loss`; a group's term that is missing counts as 0.
      groups: see `groups_of`.

    Example:
      >>> groups = {"style": {"style/relu1_1": 0.5, "style/relu2_1": 0.5}}
      >>> group_totals({"loss": 2.0, "style/relu1_1": 1.0, "style/relu2_1": 3.0}, groups)
      {'loss': 2.0, 'style': 2.0}
    """
    totals = {"loss": float(metrics["loss"])} if "loss" in metrics else {}
    for group, weights in groups.items():
        totals[group] = sum(w * float(metrics.get(name, 0.0)) for name, w in weights.items())
    return totals


class Speed:
    """Steps per second over about the last half minute, without the first step's compilation.

    Args:
      clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=_MARKS)
        self._last: tuple[float, int] | None = None

    def advance(self, step: int) -> None:
        """Note that `step` steps are done."""
        self._last = (self._clock(), step)
        if not self._marks or self._last[0] - self._marks[-1][0] >= _SECONDS_BETWEEN_MARKS:
            self._marks.append(self._last)

    @property
    def steps_per_second(self) -> float | None:
        """The speed, or None before there are two steps to measure between."""
        if self._last is None:
            return None
        seconds, steps = (now - then for now, then in zip(self._last, self._marks[0], strict=True))
        return steps / seconds if steps > 0 and seconds > 0 else None


class Progress:
    """Shows how far a run is; a context manager around the training loop.

    On a terminal: a bar that is drawn anew a few times per second. Elsewhere (a file, a pipe): one
    plain line at the first metrics, at the last, and about every ten seconds between.

    Args:
      start: steps already done.
      steps: steps in all.
      batch_size: images per step; 0 shows steps per second instead of images.
      groups: the terms to show beside the loss, see `groups_of`.
      enabled: False shows nothing but what is said with `say`.
      stream: where to write; standard output when None.
      clock: returns seconds.
    """

    def __init__(
        self,
        *,
        start: int,
        steps: int,
        batch_size: int,
        groups: Groups | None = None,
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = stream or sys.stdout
        self._start, self._step, self._steps, self._batch_size = start, start, steps, batch_size
        self._groups = groups or {}
        self._totals: dict[str, float] = {}
        self._clock = clock
        self._speed = Speed(clock)
        self._next_line = -float("inf")
        self._enabled = enabled
        self._live = self._open_live() if enabled and _is_terminal(self._stream) else None

    @property
    def images_per_second(self) -> float | None:
        """The present speed, None while it is unknown."""
        speed = self._speed.steps_per_second
        return None if speed is None else speed * self._batch_size

    @property
    def seconds_left(self) -> float | None:
        """The time to the last step at the present speed, None while that is unknown."""
        speed = self._speed.steps_per_second
        return None if speed is None else (self._steps - self._step) / speed

    def advance(self, step: int) -> None:
        """Show that `step` steps are done."""
        self._step = step
        self._speed.advance(step)

    def metrics(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Show new means of the loss and its terms."""
        self._totals = group_totals(metrics, self._groups)
        due = self._clock() >= self._next_line or step >= self._steps
        if self._enabled and self._live is None and due:
            self._next_line = self._clock() + _SECONDS_BETWEEN_LINES
            self.say("  ".join(filter(None, (self._count(), self._terms(), self._pace()))))

    def say(self, sentence: str) -> None:
        """Write a sentence on a line of its own, above the bar if there is one."""
        if self._live is not None:
            self._live.console.print(Text(sentence))
        else:
            print(sentence, file=self._stream, flush=True)

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
        bar = ProgressBar(total=max(self._steps, 1), completed=self._step)
        percent = f"{100 * self._step // max(self._steps, 1):3d}%"
        table.add_row(self._count(), bar, "  ".join(filter(None, (percent, self._pace()))))
        waiting = "compiling ..." if self._step == self._start else ""
        return Group(table, Text(self._terms() or waiting, no_wrap=True, overflow="ellipsis"))

    def _open_live(self) -> Live:
        return Live(self, console=Console(file=self._stream), refresh_per_second=4)

    def _count(self) -> str:
        width = len(str(self._steps))
        return f"step {self._step:{width}d}/{self._steps}"

    def _terms(self) -> str:
        return "   ".join(f"{name} {_short(value)}" for name, value in self._totals.items())

    def _pace(self) -> str:
        images, seconds = self.images_per_second, self.seconds_left
        if images is None or seconds is None:
            return ""
        pace = f"{images:.3g} images/s" if self._batch_size else self._steps_per_second()
        return f"{pace}  {_duration(seconds)} left"

    def _steps_per_second(self) -> str:
        return f"{self._speed.steps_per_second or 0.0:.3g} steps/s"


def _is_terminal(stream: TextIO) -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # not a file, or a closed one
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    return False


def _short(value: float) -> str:
    """Return about four significant digits: 1.431, 0.0210, 12.43."""
    size = abs(value)
    if size and not 1e-3 <= size < 1e4:
        return f"{value:.2e}"
    decimals = 4 if size < 1 else 4 - len(str(int(size)))
    return f"{value:.{decimals}f}"


def _duration(seconds: float) -> str:
    """Return hours, minutes and seconds, e.g. `0:04:48`."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
