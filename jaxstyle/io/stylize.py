"""Stylize many picture files: read, batch by size, paint, write; a bad file stops nothing."""

import dataclasses
import functools
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np

from jaxstyle import policy, runtime
from jaxstyle.images.recoloring import recoloring
from jaxstyle.io import images
from jaxstyle.io.outputs import Job
from jaxstyle.methods.feedforward import StyleModel, stylize
from jaxstyle.types import Array, InputError

BATCH_PIXELS = 2**22  # of all pictures of a batch together: 64 of 256x256, 4 of 1024x1024

Size = tuple[int, int]
Paint = Callable[[StyleModel, np.ndarray], Array]
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
      job: the source and the target.
      error: one sentence if it failed, else None.
      flattened: whether transparency was lost, as the target's format has none.
    """

    job: Job
    error: str | None = None
    flattened: bool = False


def stylize_files(
    model: StyleModel,
    jobs: Sequence[Job],
    *,
    strength: float = 1.0,
    preserve_color: bool | str = False,
    parity: bool = False,
    precision: str = "auto",
    batch: int = 8,
    max_pixels: int | None = images.MAX_PIXELS,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Stylize picture files.

    Pictures of one size go through the network together. One program is compiled per size and
    dropped before the next, and no more than one batch is in memory at a time. Neither padding nor
    resizing happens for the sake of batching: instance normalization sees each picture whole and
    alone.

    Args:
      model: the network.
      jobs: from `jaxstyle.io.outputs.plan_outputs`.
      strength: 0 copies the pictures, 1 is the full style.
      preserve_color: keep the pictures' own colors; False, True, or how: 'luminance' (as True),
        'match' or 'histogram', see `jaxstyle.stylize`.
      parity: see `jaxstyle.stylize`.
      precision: of the network: 'auto', 'float32' or 'bfloat16', see `jaxstyle.stylize`.
      batch: the most pictures in a batch; large pictures come in smaller batches, of about
        `BATCH_PIXELS` pixels.
      max_pixels: see `images.read`.
      report: called with each outcome as it is known, from this thread.

    Returns:
      The outcomes, in the order they were reported: pictures of one size follow each other.

    Raises:
      InputError: for a `strength` outside [0, 1], an unknown `preserve_color` or `precision`, or
        a `batch` below 1. What is wrong with a file is in its outcome instead.

    Example:
      >>> outcomes = stylize_files(model, jobs, strength=0.8)  # doctest: +SKIP
      >>> [outcome.error for outcome in outcomes if outcome.error]  # doctest: +SKIP
      []
    """
    return stylize_in_styles(
        {"": model},
        {"": jobs},
        strength=strength,
        preserve_color=preserve_color,
        parity=parity,
        precision=precision,
        batch=batch,
        max_pixels=max_pixels,
        report=report,
    )


def stylize_in_styles(
    models: Mapping[str, StyleModel],
    jobs: Mapping[str, Sequence[Job]],
    *,
    strength: float = 1.0,
    preserve_color: bool | str = False,
    parity: bool = False,
    precision: str = "auto",
    batch: int = 8,
    max_pixels: int | None = images.MAX_PIXELS,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Stylize picture files with several models, each file read once.

    As `stylize_files` otherwise. Models of one architecture share a compiled program.

    Args:
      models: the networks by name.
      jobs: of each of the models.
      strength: see `stylize_files`, as the rest.
      preserve_color: see there.
      parity: see there.
      precision: see there.
      batch: see there.
      max_pixels: see there.
      report: see there.

    Returns:
      The outcomes, one for each job, in the order they were reported: pictures of one size follow
      each other, and of a batch of them the results of one model.

    Raises:
      InputError: as `stylize_files`.

    Example:
      >>> stylize_in_styles({'a': a, 'b': b}, {'a': jobs_of_a, 'b': jobs_of_b})  # doctest: +SKIP
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength is {strength}; choose 0 (the photo) to 1 (the full style).")
    recoloring(preserve_color)
    policy.compute_dtype(precision, np.dtype("float32"))
    if batch < 1:
        raise InputError(f"the batch is {batch}; give at least 1.")
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        report(outcome)

    groups = _group(_by_source(jobs), max_pixels, tell)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for (height, width), members in groups.items():
            paint = _painter(strength, preserve_color, parity, precision)
            for part, count in _batches(members, min(batch, BATCH_PIXELS // (height * width))):
                for outcome in _stylize_batch(paint, models, part, count, max_pixels, pool):
                    tell(outcome)
    return outcomes


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """A source, and what is to be made of it, by model."""

    source: pathlib.Path
    jobs: dict[str, Job]


def _by_source(jobs: Mapping[str, Sequence[Job]]) -> list[_Wanted]:
    """Collect the jobs of one source; where a model has several, each is read for itself."""
    wanted: dict[tuple[pathlib.Path, int], dict[str, Job]] = {}
    for name, own in jobs.items():
        times: Counter[pathlib.Path] = Counter()
        for job in own:
            wanted.setdefault((job.source, times[job.source]), {})[name] = job
            times[job.source] += 1
    return [_Wanted(source, by_model) for (source, _), by_model in wanted.items()]


def _painter(strength: float, preserve_color: bool | str, parity: bool, precision: str) -> Paint:
    """Return a function from `[n, h, w, 3]` to the same, which owns what is compiled for it."""

    @functools.partial(jax.jit, compiler_options=runtime.compiler_options(precision))
    def painted(model: StyleModel, stack: Array, strength: Array) -> Array:
        return stylize(
            model,
            stack,
            strength=strength,
            preserve_color=preserve_color,
            parity=parity,
            precision=precision,
        )

    programs: dict[tuple[Any, ...], jax.stages.Compiled] = {}

    def paint(model: StyleModel, stack: np.ndarray) -> Array:
        kind = (model.config, stack.shape)
        if kind not in programs:
            compiled = painted.lower(model, stack, np.float32(strength)).compile()
            _check_memory(compiled)
            programs[kind] = compiled
        return programs[kind](model, stack, np.float32(strength))

    return paint


def _check_memory(program: jax.stages.Compiled) -> None:
    """Raise MemoryError where the system would end the process: a CPU's memory is everybody's."""
    if jax.default_backend() != "cpu":
        return
    needed = runtime.needed_memory(program)
    free = runtime.free_memory()
    if needed > free:
        raise MemoryError(f"it needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _group(
    wanted: Sequence[_Wanted], max_pixels: int | None, tell: Callable[[Outcome], None]
) -> dict[Size, list[_Wanted]]:
    """Sort sources by the size of their pictures, from the headers alone; tell the unreadable."""
    groups: dict[Size, list[_Wanted]] = {}
    for item in wanted:
        size = _attempt(images.read_size, item.source, max_pixels=max_pixels)
        if isinstance(size, InputError):
            for job in item.jobs.values():
                tell(Outcome(job, str(size)))
        else:
            groups.setdefault(size, []).append(item)
    return groups


def _batches(wanted: Sequence[_T], limit: int) -> Iterator[tuple[Sequence[_T], int]]:
    """Cut a group into batches of nearly equal length, each with the length to fill it up to.

    One length per group means one compilation per size.
    """
    number = -(-len(wanted) // max(1, limit))
    length = -(-len(wanted) // number)
    for start in range(0, len(wanted), length):
        yield wanted[start : start + length], length


def _stylize_batch(
    paint: Paint,
    models: Mapping[str, StyleModel],
    wanted: Sequence[_Wanted],
    length: int,
    max_pixels: int | None,
    pool: Executor,
) -> Iterator[Outcome]:
    """Read, paint and write one batch, filled up to `length` with copies of its first picture."""

    def read(item: _Wanted) -> images.Picture | InputError:
        return _attempt(images.read, item.source, max_pixels=max_pixels)

    readable: dict[Size, list[tuple[_Wanted, images.Picture]]] = {}
    for item, picture in zip(wanted, pool.map(read, wanted), strict=True):
        if isinstance(picture, InputError):
            yield from (Outcome(job, str(picture)) for job in item.jobs.values())
        else:  # nearly always one size, but a header can be wrong about it
            readable.setdefault(picture.pixels.shape[:2], []).append((item, picture))
    for members in readable.values():
        for name, model in models.items():
            own = [(item.jobs[name], picture) for item, picture in members if name in item.jobs]
            if not own:
                continue
            stack = [picture.pixels for _, picture in own]
            full = np.stack(stack + stack[:1] * (length - len(stack)))
            painted = _attempt(_within_memory, paint, model, full)
            if isinstance(painted, InputError):
                yield from (Outcome(job, f"'{job.source}': {painted}") for job, _ in own)
                continue
            targets, pictures = zip(*own, strict=True)
            yield from pool.map(_write, targets, pictures, painted[: len(own)])


def _write(job: Job, picture: images.Picture, painted: np.ndarray) -> Outcome:
    error = _attempt(images.write, job.target, painted, like=picture)
    if error is not None:
        return Outcome(job, str(error))
    flattened = picture.alpha is not None and not images.holds_alpha(job.target)
    return Outcome(job, flattened=flattened)


def _within_memory(paint: Paint, model: StyleModel, stack: np.ndarray) -> np.ndarray:
    """Paint a batch; where the device's memory is too small for it, one picture after the other."""
    try:
        return np.asarray(paint(model, stack))
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        if len(stack) == 1:
            height, width = stack.shape[1:3]
            amount = f" ({error})" if isinstance(error, MemoryError) and str(error) else ""
            raise InputError(
                f"a picture of {width}x{height} does not fit into this device's memory{amount}; "
                "make it smaller."
            ) from error
    return np.concatenate([_within_memory(paint, model, picture[None]) for picture in stack])


def _attempt(function: Callable[..., _T], *args: Any, **options: Any) -> _T | InputError:
    """Call a function; what is wrong with its input becomes its result."""
    try:
        return function(*args, **options)
    except InputError as error:
        return error
