"""The folder of one run: the record of its configuration, and the lock that keeps others out.

A run is resumed by giving the same command again. That is only safe when the settings are the same,
so the first start writes them to `config.json` and every later one must agree with it.
"""

import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from jaxstyle.types import InputError

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"

_SHOWN = 6  # differing settings named in a refusal


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def claim(workdir: str | os.PathLike[str], config: Mapping[str, Any]) -> Claim:
    """Take a folder for a run with these settings, new or resumed.

    The folder is made when it is missing. A new one gets `config.json`: the settings, flat and
    sorted. In one that has it, the settings must be the same.

    Args:
      workdir: the folder; a leading `~` is the user's home.
      config: settings that decide the result, nested or with dotted keys; values that JSON can hold
        (a tuple counts as a list).

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
    path = pathlib.Path(workdir).expanduser()
    settings = json.loads(json.dumps(flatten(config)))  # as it will read back: tuples become lists
    try:
        _make_folder(path)
        claimed = Claim(path, _lock(path))
    except OSError as error:
        raise InputError(
            f"workdir {path} cannot be used: {error.strerror or error}; choose another --workdir."
        ) from error
    try:
        _record(path, settings)
    except OSError as error:
        claimed.release()
        raise InputError(
            f"{path / CONFIG_FILE} cannot be read or written: {error.strerror or error}; choose "
            "another --workdir."
        ) from error
    except BaseException:
        claimed.release()
        raise
    return claimed


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


def _lock(path: pathlib.Path) -> int:
    """Lock the folder and return the file descriptor that holds the lock.

    The kernel drops the lock with the process, however it ends: a killed run leaves none behind.
    """
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        who = f"another process (pid {owner})" if owner else "another process"
        raise InputError(
            f"workdir {path} is in use by {who}; wait for it to end, or choose another --workdir."
        ) from None
    except OSError as error:
        # Some network file systems have no locks; better an unguarded run there than none.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            os.close(descriptor)
            raise
    os.ftruncate(descriptor, 0)
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
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        _write_atomically(file, text + "\n")


def _read(file: pathlib.Path) -> dict[str, Any]:
    """Return the recorded settings."""
    try:
        recorded = json.loads(file.read_bytes())
    except ValueError:
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
        f"{key} was {_shown(recorded, key)} and is now {_shown(given, key)}" for key in differing
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


def _write_atomically(file: pathlib.Path, text: str) -> None:
    """Put a file in place whole: a kill leaves either no file or all of it."""
    draft = file.with_name(file.name + ".tmp")
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, file)
