"""Find pictures: files, folders and patterns, in any mix, each file once and in a fixed order."""

import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator, Sequence

from jaxstyle.io.images import SUFFIXES


@dataclasses.dataclass(frozen=True)
class Found:
    """A picture file, and the place its result takes below an output folder.

    Attributes:
      path: the file.
      relative: its name, with the sub-folders below the folder or pattern it was found by.
    """

    path: pathlib.Path
    relative: pathlib.PurePath


@dataclasses.dataclass(frozen=True)
class Missed:
    """Something a user typed that leads to no picture, and one sentence why."""

    given: str
    error: str


def find_pictures(
    inputs: Sequence[str | os.PathLike[str]], *, besides: pathlib.Path | None = None
) -> tuple[list[Found], list[Missed]]:
    """Expand what a user typed into picture files.

    Args:
      inputs: files (taken whatever their suffix), folders (searched through and through for
        picture suffixes; names starting with a dot and links to folders are passed over) and
        patterns with `*`, `?`, `[...]` and `**` (files with picture suffixes and folders). An
        existing file goes before a pattern of the same text.
      besides: an output folder; what an earlier run left there is not found again, if it lies
        inside a folder or pattern that is searched.

    Returns:
      The files in the order of `inputs` and sorted within each, none twice, whatever path leads to
      it; and what is missed, for each input that leads to nothing or cannot be searched.

    Example:
      >>> found, missed = find_pictures(['photos', 'more/**/*.png'])  # doctest: +SKIP
    """
    found: dict[str, Found] = {}
    missed: list[Missed] = []
    for text in inputs:
        for item in _expand(os.path.expanduser(text), besides, missed):
            found.setdefault(os.path.realpath(item.path), item)
    return list(found.values()), missed


def _expand(text: str, besides: pathlib.Path | None, missed: list[Missed]) -> Iterator[Found]:
    if os.path.isdir(text):
        items = list(_walk(text, text, missed))
    elif os.path.lexists(text):
        yield Found(pathlib.Path(text), pathlib.PurePath(os.path.basename(text)))
        return
    elif glob.has_magic(text):
        items = list(_match(text, missed))
    else:
        missed.append(Missed(text, f"there is no file or folder '{text}'; check the path."))
        return
    if not items:
        kind = "folder" if os.path.isdir(text) else "pattern"
        error = f"the {kind} '{text}' leads to no pictures ({', '.join(SUFFIXES)})."
        missed.append(Missed(text, error))
    yield from _without(besides, _root(text), items)


def _walk(folder: str, root: str, missed: list[Missed]) -> Iterator[Found]:
    def unreadable(error: OSError) -> None:
        name = os.fspath(error.filename)
        missed.append(Missed(name, f"'{name}' cannot be searched: {error.strerror}."))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and _is_picture(name):
                path = os.path.join(parent, name)
                yield Found(pathlib.Path(path), _below(path, root))


def _match(pattern: str, missed: list[Missed]) -> Iterator[Found]:
    root = _root(pattern)
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isdir(path):
            yield from _walk(path, root, missed)
        elif _is_picture(path):
            yield Found(pathlib.Path(path), _below(path, root))


def _root(text: str) -> str:
    """Return the folder that a folder or pattern is searched from: the part before any wildcard."""
    if os.path.isdir(text):
        return text
    parts = pathlib.PurePath(text).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return os.path.join(*parts[:fixed]) if fixed else "."


def _without(folder: pathlib.Path | None, root: str, items: list[Found]) -> list[Found]:
    """Leave out what lies in `folder`, if that is inside `root` and not `root` itself."""
    if folder is None:
        return items
    inner, outer = os.path.realpath(folder), os.path.realpath(root)
    if inner == outer or not _is_below(inner, outer):
        return items
    return [item for item in items if not _is_below(os.path.realpath(item.path), inner)]


def _is_below(path: str, folder: str) -> bool:
    return pathlib.PurePath(path).is_relative_to(folder)


def _below(path: str, root: str) -> pathlib.PurePath:
    return pathlib.PurePath(os.path.relpath(path, root))


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES
