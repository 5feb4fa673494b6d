"""Names shared by every room: array aliases and the one error a user can cause."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

Array = jax.Array
Params = Mapping[str, Any]


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence: what was given, what is allowed, what to do. Front doors
    (`launch.py`, `python -m jaxstyle`) print it as one line and exit with status 2; a library
    caller catches a `ValueError`.
    """


def unknown_choice(what: str, given: object, allowed: Sequence[str]) -> InputError:
    """Return the error for a name that is not one of `allowed`, with the nearest match.

    Args:
      what: what the name stands for, e.g. `'layer of vgg19'`.
      given: the name that was given, or what was given in its place.
      allowed: the names that exist.

    Returns:
      An `InputError` to raise.

    Example:
      >>> str(unknown_choice('pooling', 'maximum', ('max', 'average')))
      "unknown pooling 'maximum'; did you mean 'max'? Choices: max, average."
    """
    near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.4)
    listed = ", ".join(allowed)
    if near:
        listed = f"did you mean '{near[0]}'? Choices: {listed}"
    else:
        listed = f"choices: {listed}"
    return InputError(f"unknown {what} '{given}'; {listed}.")
