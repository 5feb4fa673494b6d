"""Stylize many picture files: read, batch by size, paint, write; a bad file stops nothing."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np

from jaxstyle import runtime
from jaxstyle.images.recoloring import recoloring
from jaxstyle.io import images
from jaxstyle.io.outputs import Job
from jaxstyle.methods.feedforward import StyleModel, stylize
from jaxstyle.types import Array, InputError

BATCH_PIXELS = 2**22  # of all pictures of a batch together: 64 of 256x256, 4 of 1024x1024

Size = tuple[int, int]
Paint = Callable[[np.ndarray], np.ndarray]
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
      batch: the most pictures in a batch; large pictures come in smaller batches, of about
        `BATCH_PIXELS` pixels.
      max_pixels: see `images.read`.
      report: called with each outcome as it is known, from this thread.

    Returns:
      The outcomes, in the order they were reported: pictures of one size follow each other.

    Raises:
      InputError: for a `strength` outside [0, 1], an unknown `preserve_color` or a `batch` below
        1. What is wrong with a file is in its outcome instead.

    Example:
      >>> outcomes = stylize_files(model, jobs, strength=0.8)  # doctest: +SKIP
      >>> [outcome.error for outcome in outcomes if outcome.error]  # doctest: +SKIP
      []
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength is {strength}; choose 0 (the photo) to 1 (the full style).")
    recoloring(preserve_color)
    if batch < 1:
        raise InputError(f"the batch is {batch}; give at least 1.")
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        report(outcome)

    groups = _group(jobs, max_pixels, tell)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for (height, width), members in groups.items():
            paint = _painter(model, strength, preserve_color, parity)
            for part, count in _batches(members, min(batch, BATCH_PIXELS // (height * width))):
                for outcome in _stylize_batch(paint, part, count, max_pixels, pool):
                    tell(outcome)
    return outcomes


def _painter(model: StyleModel, strength: float, preserve_color: bool | str, parity: bool) -> Paint:
    """Return a function from `[n, h, w, 3]` to the same, which owns what is compiled for it."""

    @jax.jit
    def painted(model: StyleModel, stack: Array, strength: Array) -> Array:
        return stylize(
            model, stack, strength=strength, preserve_color=preserve_color, parity=parity
        )

    @functools.cache
    def program(shape: tuple[int, ...]) -> jax.stages.Compiled:
        stack = jax.ShapeDtypeStruct(shape, np.float32)
        compiled = painted.lower(model, stack, np.float32(strength)).compile()
        _check_memory(compiled)
        return compiled

    def paint(stack: np.ndarray) -> Array:
        return program(stack.shape)(model, stack, np.float32(strength))

    return functools.partial(_within_memory, paint)


def _check_memory(program: jax.stages.Compiled) -> None:
    """Raise MemoryError where the system would end the process: a CPU's memory is everybody's."""
    if jax.default_backend() != "cpu":
        return
    needed = runtime.needed_memory(program)
    free = runtime.free_memory()
    if needed > free:
        raise MemoryError(f"it needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _group(
    jobs: Sequence[Job], max_pixels: int | None, tell: Callable[[Outcome], None]
) -> dict[Size, list[Job]]:
    """Sort jobs by the size of their pictures, from the headers alone; tell what is unreadable."""
    groups: dict[Size, list[Job]] = {}
    for job in jobs:
        size = _attempt(images.read_size, job.source, max_pixels=max_pixels)
        if isinstance(size, InputError):
            tell(Outcome(job, str(size)))
        else:
            groups.setdefault(size, []).append(job)
    return groups


def _batches(jobs: Sequence[Job], limit: int) -> Iterator[tuple[Sequence[Job], int]]:
    """Cut a group into batches of nearly equal length, each with the length to fill it up to.

    One length per group means one compilation per size.
    """
    number = -(-len(jobs) // max(1, limit))
    length = -(-len(jobs) // number)
    for start in range(0, len(jobs), length):
        yield jobs[start : start + length], length


def _stylize_batch(
    paint: Paint, jobs: Sequence[Job], length: int, max_pixels: int | None, pool: Executor
) -> Iterator[Outcome]:
    """Read, paint and write one batch, filled up to `length` with copies of its first picture."""

    def read(job: Job) -> images.Picture | InputError:
        return _attempt(images.read, job.source, max_pixels=max_pixels)

    readable: dict[Size, list[tuple[Job, images.Picture]]] = {}
    for job, picture in zip(jobs, pool.map(read, jobs), strict=True):
        if isinstance(picture, InputError):
            yield Outcome(job, str(picture))
        else:  # nearly always one size, but a header can be wrong about it
            readable.setdefault(picture.pixels.shape[:2], []).append((job, picture))
    for members in readable.values():
        stack = [picture.pixels for _, picture in members]
        painted = _attempt(paint, np.stack(stack + stack[:1] * (length - len(stack))))
        if isinstance(painted, InputError):
            yield from (Outcome(job, f"'{job.source}': {painted}") for job, _ in members)
            continue
        targets, pictures = zip(*members, strict=True)
        yield from pool.map(_write, targets, pictures, painted[: len(members)])


def _write(job: Job, picture: images.Picture, painted: np.ndarray) -> Outcome:
    error = _attempt(images.write, job.target, painted, like=picture)
    if error is not None:
        return Outcome(job, str(error))
    flattened = picture.alpha is not None and not images.holds_alpha(job.target)
    return Outcome(job, flattened=flattened)


def _within_memory(paint: Callable[[np.ndarray], Array], stack: np.ndarray) -> np.ndarray:
    """Paint a batch; where the device's memory is too small for it, one picture after the other."""
    try:
        return np.asarray(paint(stack))
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
    return np.concatenate([_within_memory(paint, picture[None]) for picture in stack])


def _attempt(function: Callable[..., _T], *args: Any, **options: Any) -> _T | InputError:
    """Call a function; what is wrong with its input becomes its result."""
    try:
        return function(*args, **options)
    except InputError as error:
        return error
