"""Several pictures in one program: how many, in which form, and the loop that paints them.

A lane is one picture of a stacked state: every array of `optimize.State` has a leading axis. The
loop is that of `jaxstyle.painter` for one picture; what a lane leaves behind, its metrics and its
picture, is what a run of its own would leave.

    WORKDIR/launches/0001/checkpoints/   of all lanes of a launch, while it is under way
    WORKDIR/cells/NAME/metrics.jsonl     of each lane
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle import painter
from jaxstyle.checkpoints import Checkpointer
from jaxstyle.optimize import RUNNING, State
from jaxstyle.reporting.metrics_file import MetricsFile, read_metrics
from jaxstyle.signals import StopSignals
from jaxstyle.training.many import stacked as stacked
from jaxstyle.types import Array, unknown_choice

VMAP, MAP, LOOP = "vmap", "map", "loop"
FORMS = (VMAP, MAP, LOOP)
"""How lanes are computed: all at once, one after the other in one program, or one to a program."""


_CPU_LANES = 8
_CPU_TOGETHER, _CPU_TABLES, _CPU_MAPPED = 192 * 192, 256 * 256, 512 * 512  # pixels, at most
_ACCELERATOR_LANES = 64


def in_form(form: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of stacked arguments from a function of one lane.

    Args:
      form: 'vmap', 'map' (`jax.lax.map`) or 'loop', for which there must be one lane: it is then
        computed just as a run of its own.
      function: of two pytrees, `(shared, own) -> result`; the first is the same for all lanes.

    Returns:
      `(shared, stacked) -> stacked result`.

    Raises:
      InputError: an unknown form.

    Example:
      >>> double = in_form("map", lambda factor, x: factor * x)
      >>> double(2.0, jnp.arange(3.0)).tolist()
      [0.0, 2.0, 4.0]
    """
    if form not in FORMS:
        raise unknown_choice("form", form, FORMS)
    if form == VMAP:
        return jax.vmap(function, in_axes=(None, 0))
    if form == MAP:
        return lambda shared, stacked: jax.lax.map(lambda own: function(shared, own), stacked)

    def alone(shared: Any, stacked: Any) -> Any:
        one = jax.tree.map(lambda leaf: leaf[0], stacked)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(shared, one))

    return alone


class Choice(NamedTuple):
    """A form, and how many lanes it may have.

    Attributes:
      form: 'vmap', 'map' or 'loop'.
      lanes: at most; 1 for 'loop'.
      why: in words.
    """

    form: str
    lanes: int
    why: str


def choose(
    backend: str,
    pixels: int,
    *,
    quasi_newton: bool = False,
    searches: bool = False,
    strips: bool = False,
) -> Choice:
    """Return the form for pictures of a size, by what `benchmarks/sweep_speed.py` measured.

    On two CPU cores eight lanes of `vmap` take 0.84 of the loop's time at 128 x 128 pixels with the
    embedded network, four 0.72 with VGG-16. From 256 x 256 pixels on one picture keeps the cores
    busy, and with Adam `vmap` takes 0.95 to 1.10; `map`, which computes lanes one after the other
    without going back to Python, 0.93 to 0.99 (0.95 at 512), and little more memory than one lane.
    With L-BFGS `map` has to move the tables of all lanes and takes 0.99 to 1.05, `vmap` 0.97 to
    0.98. Sixteen lanes are no better than eight. An accelerator wants as many as its memory holds.

    Args:
      backend: of JAX.
      pixels: of a picture.
      quasi_newton: whether the optimizer is L-BFGS, whose state is many pictures large.
      searches: whether the optimizer looks for the length of its steps: lanes then wait for the
        slowest.
      strips: whether pictures are seen in strips, because one alone is large.

    Example:
      >>> [choose("cpu", side * side).form for side in (128, 256, 1024)]
      ['vmap', 'map', 'loop']
    """
    if strips:
        return Choice(LOOP, 1, "pictures in strips")
    if searches:
        return Choice(LOOP, 1, "with a line search lanes would wait for the slowest")
    if backend != "cpu":
        return Choice(VMAP, _ACCELERATOR_LANES, f"one program on the {backend}")
    if pixels > (_CPU_TABLES if quasi_newton else _CPU_MAPPED):
        return Choice(LOOP, 1, "a picture of this size keeps the CPU busy alone")
    if pixels > _CPU_TOGETHER and not quasi_newton:
        return Choice(MAP, _CPU_LANES, "one after the other is faster at this size")
    return Choice(VMAP, _CPU_LANES, "faster together at this size")


class Work(NamedTuple):
    """What a launch computes, by functions of stacked states.

    Attributes:
      advance: `(state, step, steps) -> (state, history)`: `steps` steps, from `step` on; it may use
        the memory of the state it is given.
      measure: `state -> {'loss': [lanes], term: [lanes]}`, of the pictures as they stand.
      picture: `state -> [lanes, h, w, 3]`, sRGB in [0, 1].
      start: `() -> state` at step 0.
    """

    advance: Callable[[State, int, int], tuple[State, Array]]
    measure: Callable[[State], Mapping[str, Array]]
    picture: Callable[[State], Array]
    start: Callable[[], State]


@final
@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a call of `paint_lanes` ended.

    Attributes:
      state: where it stands.
      steps: taken by each lane.
      statuses: of each lane: `optimize.RUNNING` (all steps done, or interrupted), `CONVERGED` or
        `NOT_FINITE`.
      metrics: of each lane at its last step; empty where the first number was bad already.
      signal: the number of the signal that stopped it, or None.
    """

    state: State
    steps: list[int]
    statuses: list[int]
    metrics: list[dict[str, float]]
    signal: int | None


def paint_lanes(
    work: Work,
    folders: Sequence[pathlib.Path],
    *,
    steps: int,
    chunk: int,
    save_every: int,
    part: painter.Part,
    report: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Optimize the lanes of a launch for `steps` steps in all, from its latest checkpoint.

    Ctrl-C and SIGTERM finish the chunk, save and return. A lane whose numbers go bad stays at its
    last good picture, and the others go on.

    Args:
      work: what to compute.
      folders: of the lanes' metrics files; they exist.
      steps: the last step, at least 1.
      chunk: steps in one program; metrics come after each.
      save_every: steps between checkpoints, a multiple of `chunk`.
      part: where the checkpoints are and which steps of the whole these are.
      report: told how many steps are done.

    Returns:
      The outcome.

    Raises:
      InputError: memory runs out, or a file cannot be read or written.
    """
    state, step = work.start(), 0
    files = [MetricsFile(folder / painter.METRICS_FILE) for folder in folders]
    with StopSignals() as stop, painter.explained():
        checkpointer = Checkpointer(part.folder, keep=1)
        restored = checkpointer.restore_latest(state)
        if restored is not None:
            step, state = restored.step, restored.state
        for file in files:
            file.cut_back(part.before + step)
        statuses = np.asarray(state.status)
        while step < steps and RUNNING in statuses and stop.signal is None:
            end = min(step - step % chunk + chunk, steps)
            state, _ = work.advance(state, step, end - step)
            _record(files, statuses == RUNNING, part.before, state, work.measure(state))
            step, statuses = end, np.asarray(state.status)
            report(part.before + step)
            if step % save_every == 0 or step == steps or stop.signal or RUNNING not in statuses:
                checkpointer.save(step, state, {})
    return Outcome(
        state,
        [part.before + int(taken) for taken in np.asarray(state.step)],
        [int(status) for status in statuses],
        [_last(file) for file in files],
        stop.signal,
    )


def _record(
    files: Sequence[MetricsFile],
    ran: np.ndarray,
    before: int,
    state: State,
    measured: Mapping[str, Array],
) -> None:
    """Write a line for every lane that has moved, as `painter.paint` does for one."""
    values = {name: np.asarray(value, np.float32) for name, value in measured.items()}
    taken = np.asarray(state.step)
    for lane, file in enumerate(files):  # there may be more lanes than files
        step = int(taken[lane])
        if ran[lane] and step and np.isfinite(values["loss"][lane]):
            # A bad number may have led back to where a line is.
            file.cut_back(before + step - 1)
            file.append(before + step, {name: v[lane] for name, v in values.items()})


def _last(file: MetricsFile) -> dict[str, float]:
    records = read_metrics(file.path) if file.path.exists() else []
    return {k: v for k, v in records[-1].items() if k != "step"} if records else {}
