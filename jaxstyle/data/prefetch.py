"""Batches that are on the device before the step asks for them."""

import collections
import copy
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import grain

Batch = TypeVar("Batch")
Placed = TypeVar("Placed")


def prefetch_to_device(
    iterator: Iterator[Batch], place: Callable[[Batch], Placed], ahead: int = 2
) -> "PlacedBatches[Placed]":
    """Place batches on the device a little ahead of their use.

    Moving a batch is started and not waited for, so it happens while the device still works on the
    steps before. No thread is needed: Grain's own keep batches ready on the host, and the transfer
    is the device's work.

    Args:
      iterator: with Grain's `get_state` and `set_state`, e.g. of `make_batches`. It belongs to the
        result: whoever goes on using it takes batches away.
      place: starts the move of one batch and returns what the step takes, e.g.
        `functools.partial(jax.device_put, device=sharding)`.
      ahead: batches placed and not handed out, besides the one in use; 0 places each when asked.

    Returns:
      The same batches, placed. Its position is that of the batches handed out: what is placed ahead
      is made again after a restart. What `iterator` raises comes when the batches before it are
      handed out. (The record of skipped photographs is `ahead` batches ahead.)

    Raises:
      ValueError: `ahead` is below 0.

    Example:
      >>> import jax, numpy as np
      >>> numbers = grain.MapDataset.range(5).to_iter_dataset()
      >>> with_device = prefetch_to_device(iter(numbers), jax.device_put, ahead=2)
      >>> int(next(with_device)), with_device.get_state()
      (0, {'next_index': 1})
    """
    if ahead < 0:
        raise ValueError(f"ahead {ahead} must be 0 or more.")
    return PlacedBatches(iterator, place, ahead)


class PlacedBatches(grain.DatasetIterator[Placed], Generic[Placed]):
    """The iterator that `prefetch_to_device` makes."""

    def __init__(self, iterator: Any, place: Callable[[Any], Placed], ahead: int):
        super().__init__()
        self._iterator = iterator
        self._place = place
        self._ahead = ahead
        # A placed batch, and the position after it; or what ended the iteration.
        self._ready: collections.deque[tuple[Placed, Any]] = collections.deque()
        self._error: BaseException | None = None
        self._state = copy.deepcopy(iterator.get_state())

    def __next__(self) -> Placed:
        """Return the next batch, and start placing those that come after it."""
        self._assert_not_closed()
        self._fill(self._ahead + 1)  # before one is taken, which an interruption would lose
        if self._ready:
            placed, self._state = self._ready.popleft()
            return placed
        error, self._error = self._error, None
        assert error is not None
        raise error

    def _fill(self, count: int) -> None:
        while len(self._ready) < count and self._error is None:
            try:
                batch = next(self._iterator)
            except Exception as error:  # StopIteration too: not before the batches that are ready
                self._error = error
                return
            after = copy.deepcopy(self._iterator.get_state())
            self._ready.append((self._place(batch), after))

    def get_state(self) -> Any:
        """Return the position after the last batch handed out, as the iterator inside would."""
        return copy.deepcopy(self._state)

    def set_state(self, state: Any) -> None:
        """Go to a position that this `get_state`, or that of the iterator inside, returned."""
        self._iterator.set_state(state)
        self._ready.clear()
        self._error = None
        self._state = state

    def start_prefetch(self) -> None:
        """Start placing batches now instead of at the first `next`."""
        self._assert_not_closed()
        self._fill(self._ahead)

    def close(self) -> None:
        """Let go of placed batches and close the iterator inside."""
        self._ready.clear()
        self._error = None
        if hasattr(self._iterator, "close"):
            self._iterator.close()
        super().close()

    def __str__(self) -> str:
        return f"PlacedBatches({self._iterator})"
