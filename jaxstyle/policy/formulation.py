"""Which formulation of an operation is traced: the CPU's own, or the plain one of XLA."""

import contextlib
from collections.abc import Iterator

import jax

from jaxstyle.types import unknown_choice

CHOICES = ("auto", "cpu", "plain")
# JAX keeps this value in the keys of its caches: a jitted function is traced anew when it changes.
_chosen = jax.make_user_context("auto")


@contextlib.contextmanager
def formulation(choice: str) -> Iterator[None]:
    """Trace operations in one formulation, whatever the backend.

    Results agree to float32 rounding. Reverse-mode derivatives work in every formulation,
    forward-mode (`jax.jvp`) in 'plain' only.

    Args:
      choice: 'auto' (by `jax.default_backend()`), 'cpu' or 'plain'.

    Raises:
      InputError: for an unknown choice.

    Example:
      >>> with formulation('plain'):
      ...     assert not cpu_formulation()
    """
    if choice not in CHOICES:
        raise unknown_choice("formulation", choice, CHOICES)
    with _chosen(choice):
        yield


def cpu_formulation() -> bool:
    """Return whether operations traced now use the CPU's formulation."""
    choice = _chosen.value
    return choice == "cpu" or (choice == "auto" and jax.default_backend() == "cpu")
