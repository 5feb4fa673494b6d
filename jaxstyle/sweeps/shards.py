"""A sweep divided among machines that know nothing of each other: `--shard=0/4` to `--shard=3/4`.

Every machine makes the same plan, divides it in the same way and takes its share. Nothing that
happens while they work changes the division, so no launch is done twice and none is left out.
"""

import re
from collections.abc import Sequence

from jaxstyle.types import InputError

Shard = tuple[int, int]


def shard_of(text: str) -> Shard:
    """Return which share of a sweep is meant, and of how many.

    Shares are counted from 0, as schedulers count the tasks of an array.

    Args:
      text: 'I/N' with I from 0 to N-1; '' is everything, '0/1'.

    Raises:
      InputError: it is something else.

    Example:
      >>> shard_of("3/4")
      (3, 4)
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text or "0/1", re.ASCII)
    if match is None:
        raise InputError(
            f"--shard is '{text}'; write I/N, share I of N counted from 0, such as --shard=0/4."
        )
    index, count = int(match[1]), int(match[2])
    if not index < count:
        raise InputError(
            f"--shard is '{text}'; shares are counted from 0, so {_span(count)} (a SLURM array of "
            f"{max(count, 1)} is --array=0-{max(count, 1) - 1})."
        )
    return index, count


def share(steps: Sequence[int], shard: Shard) -> list[int]:
    """Return the launches of a shard: their positions, in order.

    The longest launches are given away first, each to the shard with the least to do, so the
    steps of two shards differ by no more than one launch has.

    Args:
      steps: of all launches, finished or not.
      shard: see `shard_of`.

    Example:
      >>> [share([100, 100, 300, 100], (i, 2)) for i in range(2)]
      [[2], [0, 1, 3]]

    References:
      Graham, "Bounds on multiprocessing timing anomalies", 1969 (longest processing time first).
    """
    index, count = shard
    loads = [0] * count
    mine = []
    for position in sorted(range(len(steps)), key=lambda each: (-steps[each], each)):
        # A launch without steps counts too, so that these do not all go to one shard.
        least = min(range(count), key=lambda each: (loads[each], each))
        loads[least] += max(steps[position], 1)
        if least == index:
            mine.append(position)
    return sorted(mine)


def _span(count: int) -> str:
    if count == 0:
        return "there is none of 0"
    return "the only one is 0/1" if count == 1 else f"0/{count} to {count - 1}/{count} exist"
