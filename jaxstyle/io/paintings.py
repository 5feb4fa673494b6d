"""Style pictures by name: our own, and famous paintings in the public domain.

The latter are fetched once from Wikimedia Commons into the user's cache
(`$XDG_CACHE_HOME/jaxstyle/paintings`), or from `JAXSTYLE_PAINTINGS_URL`, a mirror that holds them
as `starry-night.jpg` and so on.
"""

import importlib.metadata
import importlib.resources
import logging
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from jaxstyle.io import images
from jaxstyle.io.painting_catalog import EMBEDDED, PAINTINGS
from jaxstyle.types import InputError, unknown_choice

MIRROR = "JAXSTYLE_PAINTINGS_URL"

_TIMEOUT = (20, 60)  # seconds to connect, and between two pieces
_LARGEST = 50_000_000  # bytes of a picture 1280 pixels wide, by far


def painting_file(image: str | os.PathLike[str]) -> pathlib.Path:
    """Return the file of a style picture, fetching a famous one if need be.

    Args:
      image: a path, or a name in `PAINTINGS` ('starry' comes with jaxstyle). A file of that name
        in the working folder goes first.

    Returns:
      The path, which need not exist if `image` looks like one (has a suffix or a folder).

    Raises:
      InputError: a word that is neither a file nor a painting, or a painting that cannot be
        fetched.

    Example:
      >>> painting_file('starry').name
      'starry.jpg'
    """
    path, name = pathlib.Path(os.path.expanduser(image)), _name(os.fspath(image))
    looks_like_a_path = os.path.exists(path) or path.suffix or len(path.parts) != 1
    if os.path.isfile(path) or (name not in PAINTINGS and looks_like_a_path):
        return path
    if name not in PAINTINGS:
        unknown = unknown_choice("painting", os.fspath(image), tuple(PAINTINGS))
        raise InputError(f"{unknown} A path to a picture works too.")
    return _embedded() if name == EMBEDDED else _fetch(name)


def is_here(name: str) -> bool:
    """Tell whether a painting needs no network: it comes with jaxstyle, or was fetched before.

    Args:
      name: in `PAINTINGS`.

    Example:
      >>> is_here('starry')
      True
    """
    return name == EMBEDDED or (_cache() / f"{name}.jpg").is_file()


def _name(text: str) -> str:
    return re.sub(r"[ _]+", "-", text.strip().lower())


def _embedded() -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("jaxstyle") / "assets" / "starry.jpg"))


def _cache() -> pathlib.Path:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        raise InputError(
            "there is no place for fetched paintings; set XDG_CACHE_HOME to a folder."
        ) from None
    return pathlib.Path(base) / "jaxstyle" / "paintings"


def _fetch(name: str) -> pathlib.Path:
    """Return the cached file of a painting, fetched whole or not at all.

    Processes that fetch the same at once each write a file of their own, and rename it.
    """
    import pooch  # here: it imports a network client that offline runs never need

    painting, mirror = PAINTINGS[name], os.environ.get(MIRROR, "")
    url = f"{mirror.rstrip('/')}/{name}.jpg" if mirror else painting.url
    logger = pooch.get_logger()
    logger.addFilter(_no_advice)
    try:
        file = pooch.retrieve(
            url,
            known_hash=painting.known_hash,
            fname=f"{name}.jpg",
            path=_cache(),
            downloader=_download,
        )
    except Exception as error:  # of requests, urllib3, pooch and the file system
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(
            f"the painting '{name}' could not be fetched from {url} ({reason}); give a picture "
            f"file instead, set {MIRROR} to a mirror, or use '{EMBEDDED}', which needs no network."
        ) from error
    finally:
        logger.removeFilter(_no_advice)
    return pathlib.Path(file)


def _no_advice(record: logging.LogRecord) -> bool:
    """Drop pooch's advice for programmers; that it fetches something is for the user to know."""
    return not str(record.msg).startswith("SHA256 hash")


def _download(url: str, output_file: str, pooch: Any) -> None:
    """Fetch into a temporary file; what is no whole picture never reaches the cache."""
    import requests

    headers = {"User-Agent": _agent()}
    with (
        requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response,
        open(output_file, "wb") as file,
    ):
        response.raise_for_status()
        for piece in response.iter_content(2**16):
            file.write(piece)
            if file.tell() > _LARGEST:
                raise InputError(f"the answer has more than {_LARGEST / 1e6:.0f} MB")
    _check(pathlib.Path(output_file))


def _check(file: pathlib.Path) -> None:
    try:
        images.read(file)
    except InputError as error:
        with file.open("rb") as content:
            start = content.read(512).lstrip().lower()
        page = start.startswith((b"<!doctype html", b"<html", b"<?xml"))
        what = "a web page" if page else "no whole picture"
        raise InputError(f"the answer is {what}") from error


def _agent() -> str:
    """Return who asks, as Wikimedia requires of programs."""
    try:
        version = importlib.metadata.version("jaxstyle")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return f"jaxstyle/{version} (neural style transfer; style pictures) python-pooch"


def listing() -> Iterator[str]:
    """Yield a line for each painting: name, whether it is here, year, title and painter.

    Example:
      >>> [line.split()[0] for line in listing()][0]
      'starry'
    """
    for name, painting in PAINTINGS.items():
        state = "comes along" if name == EMBEDDED else "fetched" if is_here(name) else ""
        yield f"{name:20}{painting.year:10}{state:13}{painting.title}; {painting.painter}"
