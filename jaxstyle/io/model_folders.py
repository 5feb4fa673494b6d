"""Replace a whole folder at once, so that nobody ever finds half a model.

A folder cannot be renamed onto one that holds files. So the old one steps aside under a fixed
hidden name, the new one takes its place, and the old one is removed. A process that dies between
the two renames leaves the old folder under the hidden name, where `present` finds it.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Mapping


def replace_folder(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Write files as the contents of a folder, all or nothing.

    Args:
      folder: the folder; its parents are made. Files and folders in it that are not in `files`
        stay in it.
      files: content by file name.

    Raises:
      OSError: what the file system says; the folder is then as it was.
    """
    folder = pathlib.Path(os.path.realpath(folder))
    new, old = _hidden(folder, "new"), _hidden(folder, "previous")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not folder.exists():  # a process died between the two renames
        old.rename(folder)
    try:
        _write_new(new, files)
        if folder.exists():
            _move_over(old, folder, files)  # what an interrupted clean-up left behind
            _swap(new, folder, old)
            _move_over(old, folder, files)
        else:
            new.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def present(folder: pathlib.Path) -> pathlib.Path:
    """Return the folder to read: itself, or its previous state if a replacement was cut short."""
    if not os.path.exists(folder):
        old = _hidden(pathlib.Path(os.path.realpath(folder)), "previous")
        if os.path.isdir(old):
            return old
    return folder


def _hidden(folder: pathlib.Path, state: str) -> pathlib.Path:
    return folder.with_name(f".{folder.name}.{state}")


def _write_new(new: pathlib.Path, files: Mapping[str, bytes]) -> None:
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name, content in files.items():
        with (new / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _flush(new)


def _swap(new: pathlib.Path, folder: pathlib.Path, old: pathlib.Path) -> None:
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise


def _move_over(old: pathlib.Path, folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Remove the previous state; what the user had put into the folder moves to the new one."""
    if not old.is_dir():
        return
    for entry in old.iterdir():
        target = folder / entry.name
        if entry.name in files:
            entry.unlink()
        elif target.exists():  # put there anew since a clean-up was interrupted: keep both
            entry.rename(target.with_name(f"{entry.name}.previous"))
        else:
            entry.rename(target)
    old.rmdir()


def _flush(folder: pathlib.Path) -> None:
    """Make renames survive a power failure, on systems where a folder can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
