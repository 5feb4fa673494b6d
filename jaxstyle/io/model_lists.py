"""What `--model` may name: a model, several with commas between, or a folder of models."""

import os
import pathlib
from collections.abc import Sequence

from jaxstyle.io.images import SUFFIXES
from jaxstyle.io.models import CARD, shipped_models
from jaxstyle.types import InputError

_PLAIN = "model"  # what training calls a model's folder: the run's name says more


def find_models(given: str) -> dict[str, str]:
    """Return the models that a text names.

    Args:
      given: a model folder or a shipped model's name; several, with commas between; a folder that
        holds two model folders or more stands for all of them, sorted. What exists under the
        whole text goes before its parts.

    Returns:
      Where each is, by a name of its own that can be a folder: the model folder's, or its parent's
      where that is called 'model'; numbered where two have one name (`a`, `a-2`). One model named
      twice is there once. What is no model is found out by `load_model`.

    Raises:
      InputError: nothing between two commas.

    Example:
      >>> find_models('starry,runs/mine/model')
      {'starry': 'starry', 'mine': 'runs/mine/model'}
    """
    places: dict[str, str] = {}
    for part in [given] if _exists(given) else given.split(","):
        if not part.strip() and "," in given:
            raise InputError(f"'{given}' names no model between two commas, or at an end.")
        for where in _inside(part.strip() or part):
            places.setdefault(os.path.realpath(_expanded(where)), where)
    names = _distinct([_name(where) for where in places.values()])
    return dict(zip(names, places.values(), strict=True))


def _expanded(where: str) -> pathlib.Path:
    return pathlib.Path(os.path.expanduser(where))


def _exists(where: str) -> bool:
    return where in shipped_models() or os.path.exists(_expanded(where))


def _inside(where: str) -> Sequence[str]:
    """Return the models in a folder of several, or the one that `where` should be."""
    folder = _expanded(where)
    if where in shipped_models() or not os.path.isdir(folder) or (folder / CARD).exists():
        return [where]
    inner = sorted(path.parent for path in folder.glob(f"[!.]*/{CARD}"))
    return [os.fspath(path) for path in inner] if len(inner) > 1 else [where]


def _name(where: str) -> str:
    path = pathlib.Path(os.path.abspath(_expanded(where)))
    if os.path.isfile(path):
        path = path.parent
    name = path.parent.name if path.name == _PLAIN and path.parent.name else path.name
    # `a.png` as a folder of results would be taken for a file.
    return name.replace(".", "_") if pathlib.PurePath(name).suffix.lower() in SUFFIXES else name


def _distinct(names: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in map(str.casefold, taken):
            number += 1
            candidate = f"{name}-{number}"
        taken.append(candidate)
    return taken
