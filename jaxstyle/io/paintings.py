"""Style pictures by name."""

import importlib.resources
import os
import pathlib

EMBEDDED = "starry"


def painting_file(image: str | os.PathLike[str]) -> pathlib.Path:
    """Return the file of a style picture.

    Args:
      image: a path, or 'starry' for the painting that ships with jaxstyle. A file of that name in
        the working folder goes first.

    Returns:
      The path, which need not exist.

    Example:
      >>> painting_file('starry').name
      'starry.jpg'
    """
    if os.fspath(image) == EMBEDDED and not pathlib.Path(EMBEDDED).is_file():
        return pathlib.Path(str(importlib.resources.files("jaxstyle") / "assets" / "starry.jpg"))
    return pathlib.Path(image).expanduser()
