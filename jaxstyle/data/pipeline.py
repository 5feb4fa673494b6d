"""Endless shuffled batches of random crops, by Grain, resumable at every batch.

Batch k of a stream is a function of the source, the settings and k alone (`stream.batch_list`).
Threads, worker processes and the size of the read-ahead decide when it is made, never what it
holds; a checkpoint is the number k, so a run may go on with other threads or workers than it began
with.
"""

import dataclasses
import math
import multiprocessing
import numbers
import operator
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from jaxstyle.data import stream
from jaxstyle.data.photos import Photos
from jaxstyle.data.skipped import SkippedPhotos
from jaxstyle.types import InputError

MOST_THREADS = 8


def default_threads() -> int:
    """Return how many threads decode: one per core this process may use, at most 8.

    Decoding and resizing release Python's lock; what holds it is about a seventh of the work (0.25
    of 1.7 ms for a crop of a small JPEG), so threads beyond `MOST_THREADS` add little; there,
    worker processes do.
    """
    try:
        cores = len(os.sched_getaffinity(0))  # a container may own fewer than the machine has
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return min(cores, MOST_THREADS)


def make_batches(
    source: Photos,
    *,
    size: int,
    batch: int,
    seed: int,
    flip: bool = True,
    scale: tuple[float, float] = (1.0, 1.5),
    threads: int | None = None,
    prefetch: int | None = None,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> "PhotoBatches":
    """Make the endless stream of training batches.

    Every epoch visits each photograph once, in an order of its own; batches run across the ends of
    epochs. A photograph that cannot be used is replaced by another, chosen by the seed, so that one
    broken file shifts nothing. Each crop is drawn as `augment.random_crop` says.

    Pixels stay uint8: four times less to move to the device than float32, and dividing by 255 costs
    nothing inside the training step.

    Args:
      source: photographs, from `open_photos`.
      size: side of the crops in pixels.
      batch: crops per batch, on this process.
      seed: from 0 to 2**32 - 1; decides order and crops.
      flip: mirror left to right half of the time.
      scale: range of the scale of the whole photograph before cutting, relative to the one where
        its shorter side is `size`; each at least 1.
      threads: threads that make batches, in this process or in each worker; 0 makes each batch when
        it is asked for. None: one per core, at most 8; with workers, 1 in each.
      prefetch: batches made ahead, per process or worker. None: two more than threads.
      workers: worker processes; 0 uses this process only, which is enough unless a GPU outruns
        `default_threads` (`benchmarks/data_pipeline.py` tells). Workers start a fresh Python, so
        a script must guard its start by `if __name__ == '__main__':`.
      process_index: which process of a multi-host run this is. Element i of the one stream goes to
        process `i % process_count`, so a global batch is the same however many processes share it.
      process_count: how many processes there are.

    Returns:
      The stream: `iter()` it as often as needed; each iterator yields uint8
      `[batch, size, size, 3]`, sRGB, without end, and has `get_state`, `set_state` and `close`.
      Iterators are Orbax checkpointables. `.skipped` says which photographs were replaced or
      converted.

    Raises:
      InputError: a value is out of its range, or a pack's photographs were reduced to less than
        `size` times the largest scale. While iterating: no photograph can be used any more.

    Example:
      >>> from jaxstyle.data import open_photos
      >>> batches = iter(make_batches(open_photos(), size=32, batch=4, seed=0))
      >>> next(batches).shape
      (4, 32, 32, 3)
      >>> batches.close()
    """
    if len(scale) != 2 or not all(isinstance(number, numbers.Real) for number in scale):
        raise InputError(f"scale {tuple(scale)} must be two numbers, e.g. (1.0, 1.5).")
    low, high = scale
    settings = stream.Settings(
        # Python's own numbers, because a position is saved as JSON.
        size=operator.index(size),
        batch=operator.index(batch),
        seed=operator.index(seed),
        flip=bool(flip),
        scale=(float(low), float(high)),
        process_index=operator.index(process_index),
        process_count=operator.index(process_count),
    )
    if threads is None:
        threads = 1 if workers else default_threads()
    if prefetch is None:
        prefetch = threads + 2
    counts = {"threads": threads, "prefetch": prefetch, "workers": workers}
    for name, count in counts.items():
        if count < 0:
            raise InputError(f"{name} {count} must be 0 or more.")
    _check_reduced(source, settings)
    return PhotoBatches(source, settings, **counts)


def _check_reduced(source: Photos, settings: stream.Settings) -> None:
    """Refuse crops that a pack's pictures are too small for: nothing else would tell of the blur.

    Photographs that were small when taken are no reason: nothing better is to be had of them.
    """
    there, needed = source.reduced_to, settings.shorter_side
    if there is not None and there < needed:
        low, high = settings.scale
        raise InputError(
            f"the pack '{source.where}' holds photographs reduced to a shorter side of {there} "
            f"pixels, and crops of {settings.size} at scales of {low:g} to {high:g} need {needed}: "
            f"prepare it again with --size {needed}, or make crops of at most "
            f"{math.floor(there / high)}."
        )


class PhotoBatches(grain.IterDataset[np.ndarray]):
    """The stream that `make_batches` makes.

    Attributes:
      settings: what decides the content.
      skipped: photographs that were replaced or converted, of the batches handed out so far by any
        iterator of this object.
    """

    def __init__(
        self,
        source: Photos,
        settings: stream.Settings,
        *,
        threads: int,
        prefetch: int,
        workers: int,
    ):
        super().__init__()
        self.settings = settings
        self.skipped = SkippedPhotos()
        self._source = source
        # Fewer batches in flight than threads would leave threads idle.
        self._read = grain.ReadOptions(threads, max(prefetch, threads) if threads else 0)
        self._workers = workers
        self._worker_buffer = max(1, prefetch)

    def identity(self) -> dict[str, Any]:
        """Return what a resumed run must share with the run it continues, as JSON values.

        The batch is that of all processes: they share one stream, and a run may go on with another
        number of them.
        """
        identity = dataclasses.asdict(self.settings)
        del identity["process_index"]
        identity["batch"] *= identity.pop("process_count")
        identity["scale"] = list(self.settings.scale)
        identity["photos"] = f"{len(self._source)} ({self._source.fingerprint})"
        return identity

    def __iter__(self) -> "PhotoBatchIterator":
        """Return an iterator that starts with batch 0."""
        return PhotoBatchIterator(self)

    def open_at(self, start: int) -> Iterator[stream.Example]:
        """Return Grain's iterator over batch `start` and on; used by `PhotoBatchIterator`."""
        batches = stream.batch_list(self._source, self.settings)[start:]
        dataset = batches.to_iter_dataset(self._read)
        if self._workers:
            if not flags.FLAGS.is_parsed():
                # Grain's workers ask absl for settings, which a notebook or a test never parses.
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(self._workers, self._worker_buffer), _start_worker
            )
        return iter(dataset)


class PhotoBatchIterator(grain.DatasetIterator[np.ndarray]):
    """Yields batches, uint8 `[batch, size, size, 3]`; see `make_batches`."""

    def __init__(self, batches: PhotoBatches):
        super().__init__()
        self._batches = batches
        self._position = 0
        self._open: list[Any] = []  # Grain's iterator, from the first need of it
        # An iterator still open when Python exits must stop its workers before modules are torn
        # down; Grain alone would print tracebacks then.
        weakref.finalize(self, _shut, self._open)

    def __next__(self) -> np.ndarray:
        """Return the next batch, and note which photographs it replaced or converted."""
        self.start_prefetch()
        example = next(self._open[0])
        self._position += 1
        record = self._batches.skipped
        for note in example.notes:
            (record.add_skipped if note.skipped else record.add_converted)(note.name, note.what)
        # From a worker the array is a view of shared memory, which a copy gives back at once.
        return np.array(example.pixels)

    def get_state(self) -> dict[str, Any]:
        """Return the position, and of which stream, as JSON values."""
        return {"next_batch": self._position, "stream": self._batches.identity()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to the position that `get_state` returned.

        Args:
          state: the saved position.

        Raises:
          InputError: it is the position in another stream: other photographs or other settings.
        """
        then, now = dict(state["stream"]), self._batches.identity()
        then.pop("process_count", None)  # recorded once, always 1
        differing = [
            f"{key} was {then.get(key)} and is {now.get(key)}"
            for key in sorted(then.keys() | now.keys())
            if then.get(key) != now.get(key)
        ]
        if differing:
            raise InputError(
                f"the saved position belongs to other training data: {', '.join(differing)}; "
                "restore the settings and photographs, or start a new run."
            )
        _shut(self._open)
        self._position = state["next_batch"]

    def start_prefetch(self) -> None:
        """Start making batches now instead of at the first `next`."""
        self._assert_not_closed()
        if not self._open:
            self._open.append(self._batches.open_at(self._position))
            self._open[0].start_prefetch()

    def close(self) -> None:
        """Stop threads and workers; the iterator cannot be used after."""
        _shut(self._open)
        super().close()

    def __str__(self) -> str:
        return f"PhotoBatchIterator(next_batch={self._position})"


def _shut(open_iterators: list[Any]) -> None:
    while open_iterators:
        open_iterators.pop().close()


def _start_worker(index: int, count: int) -> None:
    """Set up a worker process: leave Ctrl-C to the trainer, and end when it ends.

    Ctrl-C reaches every process of the terminal; the trainer needs its workers to finish the step
    it saves. A trainer that is killed cannot stop them, and they would wait forever.
    """
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
