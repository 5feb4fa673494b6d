"""The folder of one run: the record of its configuration, and the lock that keeps others out.

A run is resumed by giving the same command again. That is only safe when the settings are the same,
so the first start writes them to `config.json` and every later one must agree with it.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from jaxstyle.types import InputError
from jaxstyle.whole_files import json_bytes

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"

_SHOWN = 6  # differing settings named in a refusal
_SECONDS_BETWEEN_TRIES = 0.2
_TRIES = 100  # to lock a folder that others delete


class Claim:
    """A workdir that belongs to this process until `release`, or until the process ends.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: pathlib.Path, lock: int):
        self.path = path
        self._lock: int | None = lock

    def release(self) -> None:
        """Give the folder up, so that another process may claim it. Doing it twice is harmless."""
        if self._lock is not None:
            os.close(self._lock)  # the lock goes with its file descriptor
            self._lock = None

    def is_current(self) -> bool:
        """Return whether the locked file is still the one in the folder."""
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), os.stat(self.path / LOCK_FILE))
        except FileNotFoundError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class _InUse(InputError):
    """Another process holds the lock."""


def claim(
    workdir: str | os.PathLike[str], config: Mapping[str, Any], *, shared: bool = False
) -> Claim:
    """Take a folder for a run with these settings, new or resumed.

    The folder is made when it is missing. A new one gets `config.json`: the settings, flat and
    sorted. In one that has it, the settings must be the same.

    Args:
      workdir: the folder; a leading `~` is the user's home.
      config: settings that decide the result, nested or with dotted keys; values that JSON can hold
        (a tuple counts as a list).
      shared: let in others who say so too, such as the shards of a sweep, which divide the work
        among themselves (see `claimed`); a run that wants the folder for itself is kept out.

    Returns:
      The claim; use it as a context manager, or leave the release to the end of the process.

    Raises:
      InputError: the folder cannot be made or written, is used by another process, holds
        checkpoints without a `config.json`, or its `config.json` cannot be read or disagrees with
        `config`; the settings that differ are named.

    Example:
      >>> import tempfile
      >>> with claim(tempfile.mkdtemp(), {"weights": {"style": 0.6}, "steps": 100}) as run:
      ...     print((run.path / "config.json").read_text())
      {
        "steps": 100,
        "weights.style": 0.6
      }
      <BLANKLINE>
    """
    path = pathlib.Path(os.path.expanduser(workdir))
    settings = json.loads(json.dumps(flatten(config)))  # as it will read back: tuples become lists
    try:
        _make_folder(path)
        taken = Claim(path, _lock(path, shared))
    except OSError as error:
        raise InputError(
            f"workdir {path} cannot be used: {error.strerror or error}; choose another --workdir."
        ) from error
    try:
        _record(path, settings)
    except OSError as error:
        taken.release()
        raise InputError(
            f"{path / CONFIG_FILE} cannot be read or written: {error.strerror or error}; choose "
            "another --workdir."
        ) from error
    except BaseException:
        taken.release()
        raise
    return taken


@contextlib.contextmanager
def claimed(folder: str | os.PathLike[str], *, wait: float = 0.0) -> Iterator[bool]:
    """Hold one of many pieces of work, if no other process holds it.

    Who had it before may have finished it: look after claiming, not before. The holder may delete
    the folder.

    Args:
      folder: of the piece; made when it is missing.
      wait: seconds to try again for while another process holds it. A network file system may take
        a minute or two to notice that a machine is gone.

    Yields:
      True: the folder belongs to this process inside the `with`. False: another one has it.

    Raises:
      InputError: the folder cannot be made or locked.

    Example:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp()
      >>> with claimed(folder) as mine, claimed(folder) as also_mine:
      ...     print(mine, also_mine)
      True False
    """
    path, until = pathlib.Path(os.path.expanduser(folder)), time.monotonic() + wait
    while (held := _try(path)) is None and time.monotonic() < until:
        time.sleep(_SECONDS_BETWEEN_TRIES)
    if held is None:
        yield False
        return
    with held:
        yield True


def _try(path: pathlib.Path) -> Claim | None:
    """Lock a folder that its last holder may be deleting; None when another process has it."""
    for _ in range(_TRIES):
        try:
            _make_folder(path)
            held = Claim(path, _lock(path))
            if held.is_current():
                return held
            held.release()  # of a file that is deleted: the next holder would lock another one
        except _InUse:
            return None
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{path} cannot be used: {error.strerror or error}.") from error
    return None


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dict with dotted keys, sorted; empty groups vanish.

    Example:
      >>> flatten({"weights": {"style": 0.6, "content": 1.0}, "steps": 10})
      {'steps': 10, 'weights.content': 1.0, 'weights.style': 0.6}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return dict(sorted(flat.items()))


def _make_folder(path: pathlib.Path) -> None:
    """Make the folder and its parents; say so when a file is in the way."""
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise InputError(f"workdir {path}: {part} is a file; --workdir takes a folder.")
    path.mkdir(parents=True, exist_ok=True)


def _lock(path: pathlib.Path, shared: bool = False) -> int:
    """Lock the folder and return the file descriptor that holds the lock.

    The kernel drops the lock with the process, however it ends: a killed run leaves none behind.
    """
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        who = f"another process (pid {owner})" if owner else "another process"
        raise _InUse(
            f"workdir {path} is in use by {who}; wait for it to end, or choose another --workdir."
        ) from None
    except OSError as error:
        # Some network file systems have no locks; better an unguarded run there than none.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            os.close(descriptor)
            raise
    os.ftruncate(descriptor, 0)
    if not shared:  # of several holders, none is the one to wait for
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _record(path: pathlib.Path, settings: dict[str, Any]) -> None:
    """Write the settings to a new folder, or compare them with what an old one was made with."""
    file = path / CONFIG_FILE
    if file.exists():
        _compare(path, _read(file), settings)
    elif (path / "checkpoints").exists():
        raise InputError(
            f"workdir {path} holds checkpoints but no {CONFIG_FILE}, so it cannot be told whether "
            "they belong to this run; put the file back, or choose another --workdir."
        )
    else:
        if not _put_in_place(file, json_bytes(settings, indent=2, sort_keys=True)):
            _compare(path, _read(file), settings)


def _read(file: pathlib.Path) -> dict[str, Any]:
    """Return the recorded settings."""
    try:
        recorded = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict):
        raise InputError(
            f"{file} is damaged (not a JSON object), so it cannot be told whether this run is the "
            "same; put the file back, or choose another --workdir."
        )
    return recorded


def _compare(path: pathlib.Path, recorded: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse settings that are not the recorded ones, naming the first few that differ."""
    differing = [
        key
        for key in sorted(recorded.keys() | given.keys())
        if _shown(recorded, key) != _shown(given, key)
    ]
    if not differing:
        return
    told = [
        f"{key:.80} was {_shown(recorded, key):.160} and is now {_shown(given, key):.160}"
        for key in differing
    ]
    if len(told) > _SHOWN:
        told[_SHOWN:] = [f"and {len(told) - _SHOWN} more"]
    raise InputError(
        f"workdir {path} was made with other settings: {', '.join(told)}; choose another "
        "--workdir, or give the old values."
    )


def _shown(settings: dict[str, Any], key: str) -> str:
    """Return a setting as it stands in the file: so NaN equals NaN, and 1 is not 1.0."""
    if key not in settings:
        return "absent"
    return json.dumps(settings[key], sort_keys=True, ensure_ascii=False)


def _put_in_place(file: pathlib.Path, content: bytes) -> bool:
    """Put a file in place whole, unless there is one: a kill leaves either no file or all of it.

    Returns:
      Whether it is this one. Of several processes at a time, one is first.
    """
    draft = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return False
        except OSError:  # some file systems have no links
            os.replace(draft, file)
        return True
    finally:
        draft.unlink(missing_ok=True)
