"""Whether a program fits into the memory, and what would."""

import math
from typing import Any

import jax

from jaxstyle import runtime
from jaxstyle.types import InputError

PER_IMAGE = ", and more with features.rows=64, solver.optimizer=adam or a smaller solver.memory"


def check(
    program: jax.stages.Compiled,
    size: tuple[int, ...],
    params: Any,
    *,
    margin: int = 0,
    devices: int = 1,
    more: str = "",
) -> None:
    """Refuse what would not fit, and say what would; of a CPU, whose memory is everybody's.

    Args:
      program: whose needs are those of one device.
      size: of its picture, `(h, w, 3)`.
      params: of the loss network; all else grows with the picture.
      margin: pixels of `size` around what the user asked for.
      devices: that it runs on; virtual ones of a CPU share one memory.
      more: what else helps, such as `PER_IMAGE`.
    """
    needed, free = devices * runtime.needed_memory(program), runtime.free_memory()
    if jax.default_backend() != "cpu" or needed <= free:
        return
    fixed = devices * sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    share = max(0.0, free - fixed) / max(1, needed - fixed)
    fits = (int(max(size) * math.sqrt(share)) - 2 * margin) // 16 * 16
    advice = f"a size of {fits} would fit{more}" if fits > 0 else "free some of it"
    raise InputError(
        f"{size[1]}x{size[0]} pixels{' (with the margin)' if margin else ''} need "
        f"{needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; {advice}."
    )
