"""Decide where results go, before any work: no input overwritten, no two files of one name."""

import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Sequence

from jaxstyle.io.images import SUFFIXES, WRITABLE_SUFFIXES
from jaxstyle.io.inputs import Found
from jaxstyle.types import InputError, unknown_choice

_OTHERWISE = ".png"  # for pictures whose own format cannot be written or would spoil them (GIF)


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture to make: `source` is read, `target` is written.

    `numbered` tells that the target's name got a number, as another result has the name itself.
    """

    source: pathlib.Path
    target: pathlib.Path
    numbered: bool = False


def plan_outputs(
    pictures: Sequence[Found],
    out: str | os.PathLike[str],
    *,
    suffix: str = "",
    format: str | None = None,
) -> list[Job]:
    """Name the result of each picture.

    A result keeps its picture's name and its sub-folders below `out`. Where two pictures would get
    one name (also one that differs only by case, which some file systems do not tell apart), the
    later are numbered: `a.png`, `a-2.png`.

    Args:
      pictures: from `find_pictures`.
      out: a folder; or a file for a single picture, recognized by its suffix. Results that are
        already there are replaced when they are written.
      suffix: put behind each name, before the extension: '_starry' makes `a_starry.jpg`.
      format: extension to write, e.g. 'png'; by default each picture keeps its own where it can be
        written, and becomes PNG otherwise (GIF, AVIF, JPEG 2000, unknown extensions).

    Returns:
      One job per picture, in order.

    Raises:
      InputError: an `out` that does not fit, an unknown format, or a result that would overwrite
        one of the pictures.

    Example:
      >>> found = [Found(pathlib.Path('in/x/a.gif'), pathlib.PurePath('x/a.gif'))]
      >>> plan_outputs(found, 'out', suffix='_new')[0].target.as_posix()
      'out/x/a_new.png'
    """
    extension = None if format is None else _extension(format)
    folder = pathlib.Path(os.path.expanduser(out))
    if _names_a_file(folder):
        target = _single_file(pictures, folder, suffix, extension)
        jobs = [Job(pictures[0].path, target)]
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"the output '{out}' exists and is no folder; choose another.")
    else:
        names = [_name(item.relative, suffix, extension) for item in pictures]
        jobs = [
            Job(item.path, folder / distinct, distinct != name)
            for item, name, distinct in zip(pictures, names, _distinct(names), strict=True)
        ]
    _keep_inputs(jobs)
    return jobs


def _extension(format: str) -> str:
    extension = "." + format.lower().removeprefix(".")
    if extension not in WRITABLE_SUFFIXES:
        choices = [known.removeprefix(".") for known in WRITABLE_SUFFIXES]
        raise unknown_choice("output format", format, choices)
    return extension


def _names_a_file(out: pathlib.Path) -> bool:
    return out.suffix.lower() in SUFFIXES and not out.is_dir()


def _single_file(
    pictures: Sequence[Found], out: pathlib.Path, suffix: str, extension: str | None
) -> pathlib.Path:
    if len(pictures) != 1:
        raise InputError(
            f"the output '{out}' is one file for {len(pictures)} pictures; give a folder instead."
        )
    if suffix or (extension is not None and out.suffix.lower() != extension):
        raise InputError(
            f"the output '{out}' names the file; leave out the suffix and the format, or give a "
            "folder."
        )
    _extension(out.suffix)
    return out


def _name(relative: pathlib.PurePath, suffix: str, extension: str | None) -> pathlib.PurePath:
    own = relative.suffix.lower()
    kept = relative.suffix if own in WRITABLE_SUFFIXES else _OTHERWISE
    stem = relative.stem if own in SUFFIXES else relative.name
    return relative.with_name(f"{stem}{suffix}{extension or kept}")


def _distinct(names: Sequence[pathlib.PurePath]) -> list[pathlib.PurePath]:
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while _folded(candidate) in taken:
            number += 1
            candidate = name.with_name(f"{name.stem}-{number}{name.suffix}")
        taken.add(_folded(candidate))
        result.append(candidate)
    return result


def _folded(name: pathlib.PurePath) -> str:
    """Return what a file system that ignores case and Unicode normalization sees."""
    return unicodedata.normalize("NFC", name.as_posix()).casefold()


def _keep_inputs(jobs: Sequence[Job]) -> None:
    sources = {_identity(job.source): job.source for job in jobs}
    for job in jobs:
        source = sources.get(_identity(job.target))
        if source is not None:
            raise InputError(
                f"the result of '{job.source}' would overwrite the input '{source}'; choose "
                "another output folder or add a suffix to the names (--suffix _styled)."
            )


def _identity(path: pathlib.Path) -> tuple[int, int] | str:
    """Return the same value for all paths that lead to one file, links included."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
