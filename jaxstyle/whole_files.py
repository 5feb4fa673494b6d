"""A file appears whole or not at all: written beside its place, then renamed into it."""

import json
import os
import pathlib
from typing import Any


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Put a file in its place; a reader sees the old one or the new one, never a part.

    Args:
      path: the file; its folder must exist.
      content: all of it.

    Raises:
      OSError: it cannot be written; what was there before stays.

    Example:
      >>> import tempfile
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "results.csv"
      >>> replace_file(file, b"index,name")
      >>> file.read_bytes()
      b'index,name'
    """
    file = pathlib.Path(path)
    draft = file.with_name(file.name + ".tmp")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, file)


def json_bytes(
    record: Any, *, indent: int = 1, sort_keys: bool = False, allow_nan: bool = True
) -> bytes:
    r"""Return a record as the content of a JSON file, UTF-8 and readable.

    A file's name may hold bytes that are no UTF-8, which Python keeps as lone surrogates; they are
    written as JSON's escapes, and `json.loads` gives the same name back.

    Args:
      record: values that JSON can hold.
      indent: spaces a level.
      sort_keys: as `json.dumps` has it.
      allow_nan: likewise.

    Raises:
      ValueError: NaN or infinity, where they are not allowed.

    Example:
      >>> json_bytes({"style": "\u00fc\udcff.jpg"}).decode().splitlines()[1]
      ' "style": "ü\\udcff.jpg"'
    """
    how: dict[str, Any] = {"indent": indent, "sort_keys": sort_keys, "allow_nan": allow_nan}
    text = json.dumps(record, ensure_ascii=False, **how)
    # Outside of ASCII a surrogate can only be inside a string, where `\udcff` is its escape.
    return (text + "\n").encode("utf-8", "backslashreplace")
