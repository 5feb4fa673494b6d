"""Where the bytes of photographs come from: a folder or a zip, behind `names` and `read(index)`.

The third kind is in `packs`.
"""

import functools
import hashlib
import os
import pathlib
import stat
import threading
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from jaxstyle.types import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

LARGEST = 2**29  # bytes of a photograph, encoded


class PhotoFiles(Protocol):
    """Encoded pictures in a fixed order, readable from many threads, picklable.

    Attributes:
      names: of the pictures.
      fingerprint: a short hash that tells whether a source is the one an earlier run used.
      reduced_to: the shorter side, in pixels, that larger pictures were reduced to when they were
        packed; None where all have the size they were taken in.
    """

    names: tuple[str, ...]
    reduced_to: int | None

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of picture `index`."""


def fingerprint(names: Iterable[str]) -> str:
    """Return a short hash of names, in their order.

    Example:
      >>> fingerprint(['a.jpg', 'b.jpg'])
      'c5fcd6f89f789abd'
    """
    joined = "\0".join(names).encode(errors="surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]


def is_picture(name: str) -> bool:
    """Tell whether a relative path is one of a picture, by its suffix in any case.

    Hidden files and folders do not count: beside photographs they are thumbnails, trash and the
    `._name.jpg` and `__MACOSX/` doubles that macOS writes, none of which is a picture.

    Args:
      name: a relative path with forward slashes.

    Returns:
      True for the name of a picture.

    Example:
      >>> is_picture('beach/IMG_1.JPG'), is_picture('._IMG_1.JPG'), is_picture('notes.txt')
      (True, False, False)
    """
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and name.lower().endswith(SUFFIXES)


class FolderFiles:
    """Pictures that are files under one folder.

    Args:
      folder: the folder.
      names: paths relative to it, with forward slashes, in the order of the indices.
    """

    reduced_to: int | None = None

    def __init__(self, folder: str | os.PathLike[str], names: Iterable[str]):
        self.folder = pathlib.Path(folder)
        self.names = tuple(names)

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of picture `index`; an `OSError` where the file is gone."""
        file = self.folder / self.names[index]
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise ValueError("not a regular file")
        _check_size(status.st_size)
        return file.read_bytes()

    @functools.cached_property
    def fingerprint(self) -> str:
        """A short hash of the names."""
        return fingerprint(self.names)

    def sizes(self) -> tuple[int, ...]:
        """Return the bytes of each file, -1 for one that is gone."""
        return tuple(_file_size(self.folder / name) for name in self.names)


class ZipFiles:
    """Pictures inside a zip, read without unpacking it.

    The file is opened at the first read and once per process: its table of contents may be long
    (COCO has 118 000 entries), so threads share it. Reading one entry is a small part of decoding
    it, so the lock around the read costs little.

    Args:
      path: the zip.
      names: names of entries, in the order of the indices.
    """

    reduced_to: int | None = None

    _lock: threading.Lock
    _zip: zipfile.ZipFile | None
    _process: int

    def __init__(self, path: str | os.PathLike[str], names: Iterable[str]):
        self.path = pathlib.Path(path)
        self.names = tuple(names)
        self._forget()

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of picture `index`; raises what `zipfile` raises."""
        with self._lock:
            if self._zip is None or self._process != os.getpid():
                # A forked child must not share the file position with its parent.
                self._zip, self._process = zipfile.ZipFile(self.path), os.getpid()
            _check_size(self._zip.getinfo(self.names[index]).file_size)
            return self._zip.read(self.names[index])

    @functools.cached_property
    def fingerprint(self) -> str:
        """A short hash of the names."""
        return fingerprint(self.names)

    def sizes(self) -> tuple[int, ...]:
        """Return the bytes of each picture when unpacked."""
        with zipfile.ZipFile(self.path) as archive:
            return tuple(archive.getinfo(name).file_size for name in self.names)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._zip = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def folder_files(folder: str | os.PathLike[str]) -> FolderFiles:
    """List the pictures under a folder.

    Args:
      folder: searched with its subfolders, symbolic links included; order is that of the relative
        paths as strings, the same on every file system.

    Returns:
      The pictures.

    Raises:
      InputError: no file has the suffix of a picture.
    """
    root = pathlib.Path(folder)
    names = sorted(name for name in _walk(root) if is_picture(name))
    if not names:
        raise InputError(
            f"'{root}' holds no photographs; their names must end in {_suffixes()}, "
            "in any case, in the folder or below it."
        )
    return FolderFiles(root, names)


def zip_files(path: str | os.PathLike[str]) -> ZipFiles:
    """List the pictures inside a zip.

    Args:
      path: the zip; folders inside it are searched too, in the order of the entries' names.

    Returns:
      The pictures.

    Raises:
      InputError: it is not a whole zip, is encrypted, or holds no picture.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if is_picture(entry.filename)]
    except Exception as error:  # zipfile raises nearly anything on a damaged file
        raise InputError(f"'{path}' cannot be read as a zip ({error}); copy it again.") from error
    if not entries:
        raise InputError(f"'{path}' holds no photographs; their names must end in {_suffixes()}.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError(f"'{path}' is encrypted; unpack it and give the folder instead.")
    return ZipFiles(path, sorted({entry.filename for entry in entries}))


def _walk(root: pathlib.Path) -> Iterator[str]:
    """Yield the relative paths of the files under `root`, each real folder once."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above would never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()  # decides which of two links to one folder counts
        for file in files:
            yield pathlib.Path(folder, file).relative_to(root).as_posix()


def _file_size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _check_size(size: int) -> None:
    """Refuse what no photograph is, before it fills the memory."""
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} MB; a photograph may have {LARGEST / 1e6:.0f} MB")


def _suffixes() -> str:
    return ", ".join(SUFFIXES[:-1]) + f" or {SUFFIXES[-1]}"
