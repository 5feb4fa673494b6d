"""Download a file once: resumed where it broke off, checked by its hash, complete or not there."""

import contextlib
import errno
import hashlib
import logging
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

Report = Callable[[int, int], None]

_ATTEMPTS = 4  # that bring nothing
_PAUSE = 0.5  # seconds, doubled by every attempt in vain
_TIMEOUT = (20, 60)  # seconds to connect, and between two pieces
_PIECE = 1 << 14  # what is lost of a download that breaks off


class Failure(Exception):
    """Why a file could not be fetched, as the middle of a sentence.

    Attributes:
      remedy: what helps besides fetching from elsewhere, ending in ', '; or ''.
    """

    def __init__(self, reason: str, remedy: str = ""):
        super().__init__(reason)
        self.remedy = remedy


class _BrokenOff(Exception):
    """Worth another attempt; at once only if there has been a connection."""

    def __init__(self, reason: str, connected: bool = True):
        super().__init__(reason)
        self.connected = connected


def fetch(
    url: str, target: pathlib.Path, known_hash: str, size: int, report: Report | None = None
) -> pathlib.Path:
    """Return `target`, downloaded first unless it is there with the right hash.

    Args:
      url: of the file; redirections are followed.
      target: where it goes. `NAME.part` beside it holds an unfinished download.
      known_hash: 'md5:...' or 'sha256:...', lowercase.
      size: in bytes.
      report: called with bytes there and bytes in all.

    Returns:
      `target`.

    Raises:
      Failure: in words, for everything that a network, a server or a disk does.
    """
    if matches(target, known_hash):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target) as part:
            if not matches(target, known_hash):  # another process may have fetched it meanwhile
                print(
                    f"fetching {target.name} ({size / 1e6:.0f} MB) into {target.parent}",
                    file=sys.stderr,
                )
                _retrieve(url, target, part, known_hash, size, report)
    except OSError as error:
        raise _disk_failure(error, target.parent) from error
    return target


def matches(file: pathlib.Path, known_hash: str) -> bool:
    """Return whether a file is there and has a hash.

    Args:
      file: its path.
      known_hash: 'md5:...' or 'sha256:...', lowercase.
    """
    return file.is_file() and _hash(file, known_hash.split(":")[0]) == known_hash


def _hash(file: pathlib.Path, algorithm: str) -> str:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


@contextlib.contextmanager
def _alone(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give the name of the unfinished file, having waited until no other process fetches it."""
    with target.with_name(f".{target.name}.lock").open("a") as lock:
        if _lock(lock, target.name):  # released when the file is closed or the process dies
            yield target.with_name(f"{target.name}.part")
            return
    own = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield own
    finally:
        own.unlink(missing_ok=True)


def _lock(file: IO[str], name: str) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process to fetch {name}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # some network file systems have no locks
        return False
    return True


def _retrieve(
    url: str,
    target: pathlib.Path,
    part: pathlib.Path,
    known_hash: str,
    size: int,
    report: Report | None,
) -> None:
    import pooch  # here: it imports a network client that offline runs never need

    def hand_over(url: str, output: str, _: Any) -> None:
        os.replace(part, output)

    logger = pooch.get_logger()
    level, resumed = logger.level, part.exists()
    logger.setLevel(logging.ERROR)
    try:
        for again in (resumed, False):
            _download(url, part, size, report)
            try:
                # It checks the hash under a name of its own, and only then renames.
                pooch.retrieve(url, known_hash, target.name, target.parent, downloader=hand_over)
                return
            except ValueError as error:  # pooch's word for a wrong hash
                if not again:  # else the beginning was of another file: once more, all of it
                    kind = known_hash.split(":")[0]
                    raise Failure(
                        f"what came is not the published file (its {kind} hash is wrong)"
                    ) from error
    finally:
        logger.setLevel(level)


def _download(url: str, part: pathlib.Path, size: int, report: Report | None) -> None:
    """Bring all of the file to `part`, in as many attempts as make sense."""
    vain = there = 0  # attempts that brought next to nothing, one after the other
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _attempt(url, part, size, report)
        except _BrokenOff as error:
            there = part.stat().st_size if part.exists() else 0
            vain = 0 if there - before > size // 100 else vain + 1
            if vain == _ATTEMPTS or not (error.connected or there):
                kept = f" after {there} of {size} bytes, which are kept" if there else ""
                raise Failure(f"{error}{kept}", "try again later, ") from error
            if vain:
                time.sleep(_PAUSE * 2**vain)


def _attempt(url: str, part: pathlib.Path, size: int, report: Report | None) -> None:
    import requests

    with part.open("ab") as file:
        start = file.seek(0, os.SEEK_END)
        if start > size:
            start = file.truncate(0)
        if start == size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                _check(response, size)
                if start and not _continues(response, start):
                    start = file.truncate(0)
                free = shutil.disk_usage(part.parent).free
                if free < size - start:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                _store(response, file, start, size, report)
        except requests.RequestException as error:
            raise _network_failure(error) from error
        if file.seek(0, os.SEEK_END) < size:
            raise _BrokenOff("the download broke off")


def _check(response: Any, size: int) -> None:
    """Raise for an answer that is not the file, before any of it is stored."""
    status = response.status_code
    if status in (408, 429) or status >= 500:
        raise _BrokenOff(f"the server answers with an error (HTTP {status})")
    if status >= 400 and status != 416:
        reason = {404: "not there", 403: "forbidden", 401: "forbidden"}.get(status, "refused")
        raise Failure(f"it is {reason} (HTTP {status})")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Failure("the server answers with a web page and not the file")
    length = response.headers.get("Content-Length", "")
    if status == 200 and length.isdigit() and int(length) != size:
        raise Failure(f"the server has {length} bytes, but the published file has {size}")


def _continues(response: Any, start: int) -> bool:
    sent = response.headers.get("Content-Range", "")
    return response.status_code == 206 and sent.startswith(f"bytes {start}-")


def _store(response: Any, file: IO[bytes], start: int, size: int, report: Report | None) -> None:
    if response.status_code == 416:  # nothing is left to send: what we have is of another file
        file.truncate(0)
        raise _BrokenOff("the server has less than was already there")
    there = start
    for piece in response.iter_content(_PIECE):
        if not there and piece.lstrip().startswith(b"<"):
            raise Failure("the server answers with a web page and not the file")
        if there + len(piece) > size:
            raise Failure(f"the server sends more than the {size} bytes of the published file")
        file.write(piece)
        there += len(piece)
        if report is not None:
            report(there, size)


def _network_failure(error: Exception) -> Exception:
    from requests import exceptions

    if isinstance(error, exceptions.SSLError):
        return Failure("the server's certificate is not trusted")
    if isinstance(error, exceptions.TooManyRedirects):
        return Failure("the server redirects in a circle")
    if isinstance(error, ValueError):  # requests' word for addresses
        return Failure("this is no address")
    if isinstance(error, exceptions.ChunkedEncodingError):
        return _BrokenOff("the download broke off")
    if isinstance(error, exceptions.ConnectTimeout | exceptions.ReadTimeout):
        return _BrokenOff("the server does not answer")
    return _BrokenOff("there is no connection to the server", connected=False)


def _disk_failure(error: OSError, folder: pathlib.Path) -> Failure:
    reason = error.strerror or " ".join(str(error).split())[:100]
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Failure(f"there is no room for it in {folder} ({reason})", _ROOM_REMEDY)
    return Failure(f"the folder {folder} cannot be written ({reason})", _FOLDER_REMEDY)


_ROOM_REMEDY = "free some space or set XDG_CACHE_HOME to a larger disk, "
_FOLDER_REMEDY = "set XDG_CACHE_HOME to a folder that can be written, "
