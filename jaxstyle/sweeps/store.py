"""Where the results of a sweep lie: a folder that every machine sees, or a URL such as `s3://`.

A folder is used as it is. For a URL a machine works in a scratch folder of its own, and what it has
finished is published: pictures and metrics first, `result.json` last, so a cell that was killed on
the way is not finished there either.

    URL/sweep-id.txt      names the scratch folder; a URL that was emptied gets a new one
    URL/cells/NAME/       what `publish` sends

The scratch folder is `jaxstyle/sweeps/NAME-ID` in the user's cache folder, or in
`JAXSTYLE_SCRATCH`. It may be deleted whenever nothing works in it.
"""

import contextlib
import os
import pathlib
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, final

from jaxstyle.sweeps.plan import CELLS
from jaxstyle.sweeps.results import RESULT_FILE
from jaxstyle.types import InputError, unknown_choice

ID_FILE = "sweep-id.txt"

# Folders exist only by what lies in them, an upload is there whole or not at all, and `makedirs`
# might make a bucket of a misspelled name.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}
_NAMED = ("s3", "gs", "az", "hdfs", "sftp", "smb", "file", "memory")  # in a refusal


@final
class Store:
    """The results of one sweep, as `open_store` returns them.

    Paths are relative to the sweep, with slashes: 'results.csv', 'cells/0003_beta=10'. Whatever
    fails on the way to a URL is an `InputError` with its reason.

    Attributes:
      where: as the user gave it, without a password.
      local: the folder to work in.
    """

    def __init__(self, where: str, local: pathlib.Path, remote: "_Remote | None" = None):
        self.where, self.local, self._remote = where, local, remote

    @property
    def is_remote(self) -> bool:
        """Whether results have to be published to be seen by others."""
        return self._remote is not None

    def publish(self, folder: str) -> None:
        """Send a finished cell, `result.json` last; one that was there is replaced.

        Drafts (`*.tmp`) and hidden files stay. Nothing happens where `local` is the place itself.

        Args:
          folder: of the cell, with its `result.json`.
        """
        if self._remote is not None:
            with _explained(f"{self.where}/{folder}", "written"):
                self._remote.publish(self.local, folder)

    def finished(self) -> set[str]:
        """Return the names of the cells that have a `result.json`, whatever became of them."""
        if self._remote is None:
            return {file.parent.name for file in self.local.glob(f"{CELLS}/*/{RESULT_FILE}")}
        with _explained(self.where, "read"):
            parts = (file.split("/") for file in self._remote.files(CELLS))
            return {part[1] for part in parts if len(part) == 3 and part[2] == RESULT_FILE}

    def fetch(self, folders: Iterable[str]) -> None:
        """Bring cells into `local`, except those that are there as they are.

        Args:
          folders: of the cells.
        """
        if self._remote is not None:
            with _explained(self.where, "read"):
                self._remote.fetch(self.local, list(folders))

    def put_file(self, file: str) -> None:
        """Send one file, such as the table or the report; one that was there is replaced."""
        if self._remote is not None:
            with _explained(f"{self.where}/{file}", "written"):
                self._remote.put([(self.local / file, file)])

    def fetch_file(self, file: str) -> bool:
        """Bring one file into `local`, in place of the one there.

        Returns:
          Whether `local` has it now; False leaves `local` as it is.
        """
        if self._remote is None:
            return (self.local / file).is_file()
        with _explained(f"{self.where}/{file}", "read"):
            if not self._remote.exists(file):
                return False
            self._remote.get([(file, self.local / file)])
            return True

    def exists(self, file: str) -> bool:
        """Return whether a file is there for everybody to see."""
        if self._remote is None:
            return (self.local / file).exists()
        with _explained(f"{self.where}/{file}", "read"):
            return self._remote.exists(file)


def open_store(where: str) -> Store:
    """Return the place of a sweep's results. A URL must be writable: it gets its `sweep-id.txt`.

    Args:
      where: a folder, which need not exist, or a URL that fsspec knows.

    Raises:
      InputError: the URL's protocol is unknown or its package is missing, or it cannot be reached,
        read or written, for instance for lack of credentials.

    Example:
      >>> open_store("runs/weights").local.as_posix()
      'runs/weights'
    """
    if "://" not in where:
        return Store(where, pathlib.Path(os.path.expanduser(where)))
    shown = re.sub(r"(?<=://)[^/@]*@", "", where).rstrip("/")
    remote = _connect(where, shown)
    with _explained(shown, "used"):
        identity = _identity(remote, shown)
    name = re.sub(r"[^\w.-]+", "_", shown.rpartition("/")[2], flags=re.ASCII)[:40]
    local = _scratch() / f"{name or 'sweep'}-{identity}"
    try:
        local.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the scratch folder {local} cannot be made: {error.strerror}; set JAXSTYLE_SCRATCH to "
            "a folder that can be written."
        ) from error
    return Store(shown, local, remote)


class _Remote:
    """Files below a URL. Raises what fsspec and its backends raise."""

    def __init__(self, system: Any, root: str):
        self._system, self._root = system, root.rstrip("/")
        protocols = {system.protocol} if isinstance(system.protocol, str) else {*system.protocol}
        self._is_object_store = bool(protocols & _OBJECT_STORES)

    def files(self, folder: str) -> list[str]:
        """Return the files below a folder, none if there is no such folder."""
        self._system.invalidate_cache()  # others publish too
        found = self._system.find(self._path(folder))
        return sorted(path[len(self._root) + 1 :] for path in found)

    def exists(self, file: str) -> bool:
        self._system.invalidate_cache()
        return self._system.exists(self._path(file))

    def read(self, file: str) -> bytes:
        return self._system.cat_file(self._path(file))

    def put(self, files: list[tuple[pathlib.Path, str]]) -> None:
        self._make_folders(remote for _, remote in files)
        self._system.put(
            [str(local) for local, _ in files], [self._path(remote) for _, remote in files]
        )

    def get(self, files: list[tuple[str, pathlib.Path]]) -> None:
        for _, local in files:
            local.parent.mkdir(parents=True, exist_ok=True)
        self._system.get(
            [self._path(remote) for remote, _ in files], [str(local) for _, local in files]
        )

    def write_whole(self, file: str, content: bytes) -> None:
        """Write a new file so that nobody sees a part of it."""
        self._make_folders([file])
        if self._is_object_store:
            self._system.pipe_file(self._path(file), content)
        else:
            draft = self._path(f"{file}.{uuid.uuid4().hex[:8]}.tmp")
            self._system.pipe_file(draft, content)
            self._system.mv(draft, self._path(file))

    def publish(self, local: pathlib.Path, folder: str) -> None:
        result = f"{folder}/{RESULT_FILE}"
        content = (local / result).read_bytes()
        if self.exists(result):  # not finished while its files are replaced
            self._system.rm_file(self._path(result))
        files = (path for path in sorted((local / folder).rglob("*")) if path.is_file())
        pairs = [(path, path.relative_to(local).as_posix()) for path in files]
        if pairs := [(path, name) for path, name in pairs if name != result and _is_whole(path)]:
            self.put(pairs)
        self.write_whole(result, content)

    def fetch(self, local: pathlib.Path, folders: list[str]) -> None:
        missing = [folder for folder in folders if not self._is_there(local, folder)]
        names = [name for folder in missing for name in self.files(folder)]
        for folder in missing:
            (local / folder / RESULT_FILE).unlink(missing_ok=True)
        for last in (False, True):
            if some := [name for name in names if name.endswith(f"/{RESULT_FILE}") is last]:
                self.get([(name, local / name) for name in some])

    def _is_there(self, local: pathlib.Path, folder: str) -> bool:
        result = f"{folder}/{RESULT_FILE}"
        return (local / result).exists() and (local / result).read_bytes() == self.read(result)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_folders(self, files: Iterable[str]) -> None:
        if not self._is_object_store:
            for folder in {self._path(file).rpartition("/")[0] for file in files}:
                self._system.makedirs(folder, exist_ok=True)


def _connect(where: str, shown: str) -> _Remote:
    try:
        import fsspec
    except ImportError:
        raise InputError(
            f"{shown} is a URL, and the package fsspec is not installed: pip install "
            "'jaxstyle[sweep]'; or give a folder."
        ) from None
    protocol = where.partition("://")[0]
    if protocol.split("::")[-1] not in fsspec.available_protocols():
        raise unknown_choice("protocol", protocol, _NAMED)
    try:
        return _Remote(*fsspec.core.url_to_fs(where))
    except ImportError as error:
        raise InputError(f"{shown} cannot be used: {_sentence(error)}.") from error
    except Exception as error:  # each backend has its own, for credentials as for syntax
        raise _failure(shown, "used", error) from error


def _identity(remote: _Remote, shown: str) -> str:
    """Return the sweep's id, a new one for a new place."""
    if not remote.exists(ID_FILE):
        identity = uuid.uuid4().hex[:16]
        remote.write_whole(ID_FILE, f"{identity}\n".encode())
        return identity  # of two that come at a time, one works elsewhere, which does no harm
    identity = remote.read(ID_FILE).decode(errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{16}", identity):
        raise InputError(f"{shown}/{ID_FILE} is damaged; delete it.")
    return identity


def _scratch() -> pathlib.Path:
    """Return the folder in which scratch folders are made."""
    if chosen := os.environ.get("JAXSTYLE_SCRATCH", ""):
        return pathlib.Path(chosen).expanduser().absolute()
    try:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        base = tempfile.gettempdir()
    return pathlib.Path(base) / "jaxstyle" / "sweeps"


@contextlib.contextmanager
def _explained(place: str, doing: str) -> Iterator[None]:
    """Turn what any backend may raise into a sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise _failure(place, doing, error) from error


def _failure(place: str, doing: str, error: Exception) -> InputError:
    return InputError(
        f"{place} cannot be {doing} ({type(error).__name__}: {_sentence(error)}); check the "
        "address, the network and your credentials."
    )


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no reason given"


def _is_whole(file: pathlib.Path) -> bool:
    return not file.name.startswith(".") and file.suffix != ".tmp"
