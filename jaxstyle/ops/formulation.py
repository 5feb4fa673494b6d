"""Which formulation of an operation is traced: the CPU's own, or the plain one of XLA."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

from jaxstyle.types import unknown_choice

CHOICES = ("auto", "cpu", "plain")
_chosen: contextvars.ContextVar[str] = contextvars.ContextVar("formulation", default="auto")


@contextlib.contextmanager
def formulation(choice: str) -> Iterator[None]:
    """Trace operations in one formulation, whatever the backend.

    The choice is made while tracing, so it acts on functions traced inside the block; a function
    jitted before keeps what it was traced with. Results agree to float32 rounding. Reverse-mode
    derivatives work in every formulation, forward-mode (`jax.jvp`) in 'plain' only.

    Args:
      choice: 'auto' (by `jax.default_backend()`), 'cpu' or 'plain'.

    Example:
      >>> with formulation('plain'):
      ...     assert not cpu_formulation()
    """
    if choice not in CHOICES:
        raise unknown_choice("formulation", choice, CHOICES)
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


def cpu_formulation() -> bool:
    """Return whether operations traced now use the CPU's formulation."""
    choice = _chosen.get()
    return choice == "cpu" or (choice == "auto" and jax.default_backend() == "cpu")
