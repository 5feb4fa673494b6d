"""A file appears whole or not at all: written beside its place, then renamed into it."""

import os
import pathlib


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
