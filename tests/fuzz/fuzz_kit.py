"""What fuzzing takes: how often, how content is damaged, and what a refusal must look like.

Some dozens of examples of each reader run with the other tests, always the same ones. To look for
new defects, run many at random, each with a time limit that ends the process with a stack trace:

    JAXSTYLE_FUZZ_EXAMPLES=20000 nice python -m pytest tests/fuzz -x
"""

import faulthandler
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from jaxstyle.types import InputError

MANY = int(os.environ.get("JAXSTYLE_FUZZ_EXAMPLES", "0"))
_SECONDS = 30  # that one example may take in the long mode

# Numbers that lengths, counts and offsets of file formats go wrong at.
_ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MORE_ODD = (*_ODD, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

Edit = tuple[str, float, int]


def fuzzed(few: int) -> settings:
    """Return the settings of a test: `few` examples, always the same, or as many as one asks for.

    Args:
      few: examples of an ordinary run.
    """
    return settings(
        max_examples=MANY or few,
        derandomize=not MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def edits(most: int = 4) -> st.SearchStrategy[list[Edit]]:
    """Return lists of changes to some content, see `damaged`."""
    kinds = ("cut", "flip", "set", "odd2", "odd4", "odd8", "drop", "double", "zero", "insert")
    places = st.floats(0, 1, exclude_max=True)
    return st.lists(
        st.tuples(st.sampled_from(kinds), places, st.integers(0, 2**16 - 1)), min_size=1,
        max_size=most,
    )  # fmt: skip


def damaged(content: bytes, changes: list[Edit]) -> bytes:
    """Return content after some changes.

    Args:
      content: of a file.
      changes: kind, place as a part of the length, and a number.
    """
    data = bytearray(content)
    for kind, place, number in changes:
        at = int(place * len(data))
        if kind == "cut":
            del data[at:]
        elif kind == "flip" and data:
            data[at] ^= 1 << number % 8
        elif kind == "set" and data:
            data[at] = number % 256
        elif kind.startswith("odd"):
            width = int(kind[3:])
            value = _MORE_ODD[number % len(_MORE_ODD)] % 256**width
            data[at : at + width] = value.to_bytes(width, "big" if number & 2**15 else "little")
        elif kind == "drop":
            del data[at : at + 1 + number % 64]
        elif kind == "double":
            data[at:at] = data[at : at + 1 + number % 64]
        elif kind == "zero":
            data[at : at + 1 + number % 64] = bytes(len(data[at : at + 1 + number % 64]))
        elif kind == "insert":
            data[at:at] = number.to_bytes(2, "big")
    return bytes(data)


def tried(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a reader with something odd; it may read it, or refuse it in one sentence.

    Returns:
      What it returned, or the `InputError`. Anything else it raises is a defect.
    """
    if MANY:
        faulthandler.dump_traceback_later(_SECONDS, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata
            return function(*arguments, **options)
    except InputError as error:
        assert_sentence(str(error))
        return error
    finally:
        if MANY:
            faulthandler.cancel_dump_traceback_later()


def assert_sentence(text: str) -> None:
    """Assert that a refusal is a line that a person can read."""
    assert text.endswith("."), text
    assert "Traceback" not in text and "\n" not in text.strip(), text
    assert 10 < len(text) < 2000, text


def write(folder: pathlib.Path, name: str, content: bytes) -> pathlib.Path:
    """Write a file and return its path."""
    file = folder / name
    file.write_bytes(content)
    return file
