"""Write the files of a pack: each appears whole, or not at all."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from jaxstyle.data import packs

# A record of its own chunk, with its own hash: one damaged place costs one photograph. JPEG does
# not compress further.
_WRITING = "group_size:1,uncompressed"


class Packed(NamedTuple):
    """A photograph's record, or why it has none."""

    name: str
    data: bytes
    entry: packs.Entry | None
    reason: str = ""


class Writer:
    """Writes an ArrayRecord file of a pack: whole, by a rename at the end, or not at all."""

    def __init__(self, file: pathlib.Path, index: packs.Index):
        self._file = file
        self._draft = file.with_name(file.name + ".tmp")
        self._index = index
        self._entries: list[packs.Entry] = []
        self._left_out: dict[str, str] = {}

    def __enter__(self) -> "Writer":
        with self._draft.open("wb"):  # an error of the system's, not the library's own
            pass
        self._writer = packs.array_record().ArrayRecordWriter(os.fspath(self._draft), _WRITING)
        return self

    def add(self, packed: Packed) -> None:
        """Write a photograph, or note that it is left out."""
        if packed.entry is None:
            self._left_out[packed.name] = packed.reason
            return
        self._write(packed.data)
        self._entries.append(packed.entry)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(RuntimeError):
                self._writer.close()
            self._draft.unlink(missing_ok=True)
            return
        index = dataclasses.replace(
            self._index, entries=tuple(self._entries), left_out=self._left_out
        )
        self._write(json.dumps(index.to_json(), separators=(",", ":")).encode())
        with _as_os_error():
            self._writer.close()
        packs.read_index(self._draft)  # what is put in place is whole
        sync(self._draft)
        os.replace(self._draft, self._file)
        sync(self._file.parent)

    def _write(self, data: bytes) -> None:
        with _as_os_error():
            self._writer.write(data)


def join(shards: list[pathlib.Path], parts: list[packs.Index], file: pathlib.Path) -> None:
    """Write the records of all shards into one file."""
    with Writer(file, parts[0]) as writer:
        for shard, part in zip(shards, parts, strict=True):
            reader = packs.open_reader(shard)
            for k, entry in enumerate(part.entries):
                writer.add(Packed(entry.name, reader.read([k])[0], entry))
            reader.close()
            for name, why in part.left_out.items():
                writer.add(Packed(name, b"", None, why))


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn what ArrayRecord raises while writing, e.g. on a full disk, into Python's own."""
    try:
        yield
    except RuntimeError as error:
        told = str(error).partition("failed: ")[2] or str(error)
        raise OSError(told.partition(";")[0]) from error


def sync(path: pathlib.Path) -> None:
    """Wait until a file or folder is on the disk; some file systems do not sync folders."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not path.is_dir():
            raise
