"""Packs of photographs: resized copies in ArrayRecord files, read by index.

A pack is a folder or a single file. In an ArrayRecord file of a pack, every record but the last is
an encoded picture, upright RGB in sRGB; the last is its index, JSON: what the pictures are called,
their sizes, and how they were made. The folder holds such files, called shards, and `pack.json`:
how many photographs, their fingerprint, what was left out. `jaxstyle.data.preparing` writes packs.
"""

import bisect
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxstyle.types import InputError

SUFFIX = ".array_record"
MANIFEST = "pack.json"
UNFINISHED = ".unfinished"
FORMAT = "jaxstyle photographs"
VERSION = 1

# Records are read one by one, at random; the defaults read ahead, on threads of their own.
_RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


class Entry(NamedTuple):
    """A picture of a pack: its name, size in pixels, whether it was reduced, and its hash."""

    name: str
    width: int
    height: int
    reduced: bool
    digest: str


@dataclasses.dataclass(frozen=True)
class Index:
    """What a pack, or a shard of one, holds.

    Attributes:
      size: the shorter side that larger photographs were reduced to, in pixels.
      encoding: how pictures are stored, e.g. `'JPEG 95'`.
      recipe: a hash of what the whole pack was asked to be: photographs and settings.
      entries: the pictures, in the order of their records.
      left_out: photographs that could not be read: reason by name.
    """

    size: int
    encoding: str
    recipe: str
    entries: tuple[Entry, ...]
    left_out: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """A short hash of names and pictures, the same however they are spread over files."""
        whole = hashlib.sha256()
        for entry in self.entries:
            name = entry.name.encode(errors="surrogatepass")
            whole.update(b"%d %b %b\n" % (len(name), name, entry.digest.encode()))
        return whole.hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        own = {name: getattr(self, name) for name in ("size", "encoding", "recipe")}
        rows = [list(entry) for entry in self.entries]
        left_out = dict(self.left_out)
        return {"format": FORMAT, "version": VERSION, **own, "photos": rows, "left_out": left_out}


def merge(indexes: Iterable[Index]) -> Index:
    """Return the index of several shards of one pack, in their order."""
    parts = list(indexes)
    entries = tuple(itertools.chain.from_iterable(part.entries for part in parts))
    left_out = {name: why for part in parts for name, why in part.left_out.items()}
    return dataclasses.replace(parts[0], entries=entries, left_out=left_out)


def digest(data: bytes) -> str:
    """Return the hash of an encoded picture that an `Entry` holds."""
    return hashlib.sha256(data).hexdigest()[:16]


def shard_name(index: int, count: int) -> str:
    """Return the file name of shard `index` of `count`.

    Example:
      >>> shard_name(3, 12)
      'photos-00003-of-00012.array_record'
    """
    return f"photos-{index:05}-of-{count:05}{SUFFIX}"


def is_pack(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a pack, from its suffix or its `pack.json`; it may be damaged."""
    path = pathlib.Path(path)
    if path.suffix.lower() == SUFFIX and path.is_file():
        return True
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


class PackFiles:
    """Pictures of a pack; see `files.PhotoFiles`.

    Files are opened when first read from, once per process; threads read at the same time.

    Args:
      shards: the ArrayRecord files.
      counts: how many pictures each holds.
      index: of all.
    """

    _lock: threading.Lock
    _readers: dict[int, Any]
    _process: int

    def __init__(self, shards: Sequence[pathlib.Path], counts: Sequence[int], index: Index):
        self.names = tuple(entry.name for entry in index.entries)
        self.fingerprint = index.fingerprint
        self.reduced_to = index.size if any(entry.reduced for entry in index.entries) else None
        self._shards = tuple(shards)
        self._ends = tuple(itertools.accumulate(counts))
        self._forget()

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of picture `index`; an OSError or ValueError if damaged."""
        shard = bisect.bisect_right(self._ends, index)
        within = index - (self._ends[shard - 1] if shard else 0)
        reader = self._reader(shard)
        try:
            data = reader.read([within])[0]
        except (RuntimeError, IndexError) as error:
            raise ValueError("its record in the pack is damaged") from error
        if not data:  # of a file that was cut short after it was opened
            raise ValueError("its record in the pack is missing")
        return data

    def _reader(self, shard: int) -> Any:
        with self._lock:
            if self._process != os.getpid():
                self._readers, self._process = {}, os.getpid()
            if shard not in self._readers:
                self._readers[shard] = open_reader(self._shards[shard])
            return self._readers[shard]

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._readers = {}
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_lock", "_readers", "_process"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def pack_files(path: str | os.PathLike[str]) -> PackFiles:
    """Open a pack: all of its index is read and checked, no picture yet.

    Args:
      path: a folder with `pack.json`, or one `.array_record` file.

    Returns:
      The pictures.

    Raises:
      InputError: it is no pack, is damaged or not whole, or was made by a newer version.
    """
    path = pathlib.Path(path)
    if path.is_file():
        index = read_index(path)
        shards, counts = [path], [len(index.entries)]
    else:
        index, shards, counts = _folder(path)
    if not index.entries:
        raise InputError(f"the pack '{path}' holds no photographs; prepare it from others.")
    return PackFiles(shards, counts, index)


def read_index(file: pathlib.Path) -> Index:
    """Return the index of one ArrayRecord file of a pack.

    Raises:
      InputError: it is damaged, not whole, or nothing that `prepare` writes.
    """
    try:
        reader = open_reader(file)
        records = reader.num_records()
        if not records:  # what a file that is cut short appears to have
            raise ValueError("no records")
        data = reader.read([records - 1])[0]
        reader.close()
        index = _parse(json.loads(data))
        if records != len(index.entries) + 1:
            raise ValueError("other records than its index lists")
    except InputError:  # a ValueError too
        raise
    except _Newer:
        raise InputError(
            f"the pack '{file}' was made by a newer version of jaxstyle; update jaxstyle, or "
            "prepare the photographs again."
        ) from None
    except OSError as error:
        raise InputError(f"the pack's '{file}' cannot be read: {error.strerror}.") from error
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"'{file}' is damaged or not whole, or was not made by `jaxstyle prepare`; copy it "
            "again, or prepare it again."
        ) from error
    return index


def read_manifest(folder: pathlib.Path) -> tuple[Index, list[pathlib.Path]]:
    """Return the index of a folder, put together from its shards, and their paths.

    Raises:
      InputError: as `pack_files`.
    """
    index, shards, _ = _folder(folder)
    return index, shards


def manifest(index: Index, shards: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of `pack.json`.

    Args:
      index: of all shards.
      shards: `file`, `photos` and `bytes` of each.
    """
    about = index.to_json()
    about |= {"photos": len(index.entries), "fingerprint": index.fingerprint}
    about["bytes"] = sum(shard["bytes"] for shard in shards)
    about["shards"] = list(shards)
    return (json.dumps(about, indent=1) + "\n").encode()


def open_reader(file: pathlib.Path) -> Any:
    """Open an ArrayRecord file for reading at random; one that is not whole has no records.

    Raises:
      OSError: it cannot be opened.
      InputError: ArrayRecord is not installed.
    """
    with file.open("rb"):  # the reader takes a missing file for an empty one
        pass
    return array_record().ArrayRecordReader(os.fspath(file), _RANDOM_ACCESS)


def array_record() -> Any:
    """Import ArrayRecord, which comes with Grain where it exists.

    Raises:
      InputError: it is not installed.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise InputError(
            "packs need the package array_record, which Grain brings on Linux and macOS and which "
            "is not installed here; install it, or train from the folder of photographs."
        ) from error
    return array_record_module


class _Newer(ValueError):
    """The index says that it is of a later version of the format."""


def _folder(path: pathlib.Path) -> tuple[Index, list[pathlib.Path], list[int]]:
    try:
        about = json.loads((path / MANIFEST).read_bytes())
        told = [(row["file"], row["photos"], row["bytes"]) for row in about["shards"]]
        fingerprint, count = about["fingerprint"], len(told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _disagrees(path) from error
    if [row[0] for row in told] != [shard_name(k, count) for k in range(count)] or not told:
        raise _disagrees(path)
    shards = [path / file for file, _, _ in told]
    for shard, (_, _, size) in zip(shards, told, strict=True):
        if not shard.is_file():
            raise InputError(f"the pack '{path}' lacks '{shard.name}'; copy or prepare it again.")
        if shard.stat().st_size != size:
            raise InputError(
                f"the pack's '{shard}' has {shard.stat().st_size} bytes in place of {size}; copy "
                "or prepare it again."
            )
    parts = [read_index(shard) for shard in shards]
    index = merge(parts)
    if index.fingerprint != fingerprint or len({part.recipe for part in parts}) != 1:
        raise _disagrees(path)
    return index, shards, [len(part.entries) for part in parts]


def _disagrees(path: pathlib.Path) -> InputError:
    return InputError(
        f"the pack '{path}' is damaged: '{MANIFEST}' and the files beside it do not belong "
        "together; copy or prepare it again."
    )


def _parse(value: Any) -> Index:
    """Return the index in JSON values, a ValueError where they are none."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError("no index of a pack")
    if isinstance(value.get("version"), int) and value["version"] > VERSION:
        raise _Newer
    try:
        left_out = {str(name): str(why) for name, why in value["left_out"].items()}
        entries = tuple(Entry(*row) for row in value["photos"])
        index = Index(value["size"], value["encoding"], value["recipe"], entries, left_out)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no index of a pack") from error
    kinds = (str, int, int, bool, str)
    for entry in entries:
        if not all(isinstance(part, kind) for part, kind in zip(entry, kinds, strict=True)):
            raise ValueError(f"no picture of a pack: {entry}")
    if not (isinstance(index.size, int) and isinstance(index.encoding, str)):
        raise ValueError("no settings of a pack")
    return index
