"""Arrays in a folder, as Orbax writes and reads them, without what its threads print meanwhile."""

import contextlib
import functools
import gc
import logging
import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.types import Array

_SECONDS_TO_SETTLE = 10  # for Orbax's threads, after an error

State = TypeVar("State")


def save(path: pathlib.Path, state: Any) -> None:
    """Write a pytree of arrays.

    Args:
      path: a folder that does not exist yet.
      state: the arrays.

    Raises:
      OSError: the system refuses; only its number and what it says are left of Orbax's error.
      ValueError: it is nothing Orbax can save.
    """
    from orbax.checkpoint import v1 as ocp  # when it is needed: it takes long to load

    try:
        with _silent_orbax():
            ocp.save(path, state)
        return
    except (OSError, ValueError) as error:
        code = _code(error)
        if code is None:
            raise
    with _silent_orbax():
        gc.collect()  # asyncio's tasks tell of their own errors when they go
    raise OSError(code, os.strerror(code))


def load(path: pathlib.Path, like: State) -> State:
    """Read the arrays of `like`, all or a part of those saved.

    Args:
      path: the folder.
      like: arrays of the same names and shapes; the result has their dtypes and devices.
    """
    from orbax.checkpoint import v1 as ocp

    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context, _silent_orbax():
        return jax.tree.map(_free_like, ocp.load(path, abstract), like)


def _free_like(value: Array, like: Array) -> Array:
    """Return `value` tied to its device only if `like` is; Orbax ties everything.

    A state that was free to follow its batch to several devices must be free again after a restart.
    """
    if like.committed:
        return value
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(value)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    return jnp.asarray(np.asarray(value))


@contextlib.contextmanager
def _silent_orbax() -> Iterator[None]:
    """Keep Orbax's threads from logging what comes back as an exception anyway, page by page.

    Some of them work on after that; they are waited for, or they would log later, and write into a
    folder that is being deleted.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    running = set(threading.enumerate())
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_unraisable, hook)
    try:
        yield
        sys.unraisablehook = hook  # after an error TensorStore's threads may be late
    finally:
        deadline = time.monotonic() + _SECONDS_TO_SETTLE
        for thread in set(threading.enumerate()) - running:
            if type(thread).__module__.startswith("orbax.") or thread.name.startswith("asyncio_"):
                thread.join(max(0.0, deadline - time.monotonic()))
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _unraisable(otherwise: Callable[[Any], Any], what: Any) -> None:
    """Pass over what TensorStore says when an error has ended the loop that waited for it."""
    closed = isinstance(what.exc_value, RuntimeError) and "loop is closed" in str(what.exc_value)
    if not (closed and what.object is None):
        otherwise(what)


def system_error(error: BaseException) -> str | None:
    """Return what the system said, e.g. `No space left on device`; None if it said nothing."""
    if isinstance(error, OSError):
        return error.strerror
    code = _code(error)
    return None if code is None else os.strerror(code)


def _code(error: BaseException) -> int | None:
    """Return the number of what the system said."""
    if isinstance(error, OSError):
        return error.errno
    code = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's way
    return int(code[1]) if code else None
