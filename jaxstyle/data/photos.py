"""Photographs to train on: scikit-image's own, a folder, zip or pack, by index, as upright RGB.

The default source is a handful of photographs that are part of the installed scikit-image package,
read straight from its folder; nothing is ever downloaded:

| file | picture | rights, as scikit-image states them |
|---|---|---|
| astronaut.png | Eileen Collins, by NASA | public domain |
| camera.png | a photographer on a lawn (grayscale), by Lav Varshney | CC0 |
| chelsea.png | a cat, by Stefan van der Walt | CC0 |
| coffee.png | a cup of coffee, by Rachel Michetti | CC0 |
| motorcycle_left.png | a garage, Middlebury stereo data 2014 | none stated; asks to cite [1] |
| rocket.jpg | a Falcon 9 at dusk, by SpaceX | public domain |

[1] Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth, 2014.

Left out: what is not a photograph of a scene (microscopy, star fields, drawings, text), close-ups
of one texture, and the second picture of the stereo pair.
"""

import importlib.util
import operator
import os
import pathlib
import threading
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxstyle.data import decode, files, packs
from jaxstyle.types import InputError

BUNDLED = "skimage"
MINIMUM = 64  # pixels of the shorter side
BUNDLED_NAMES = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
)


class UnreadablePhoto(InputError):
    """One photograph of a source cannot be used; the others can.

    Attributes:
      name: its name in the source.
      reason: why, in a few words.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"photograph '{self.name}' cannot be used: {self.reason}."


class Photo(NamedTuple):
    """A decoded photograph: an RGB picture, and what it was converted from (`''`: nothing)."""

    picture: Image.Image
    converted_from: str


class Photos:
    """Photographs by index.

    Decoded photographs are kept in memory until `cache_bytes` are full and then stay: an epoch
    visits each once, so replacing the oldest would throw each away just before its next use.
    A pickled source starts with an empty cache.

    Args:
      source: the encoded files.
      where: what to call the source in messages.
      minimum: shorter sides below this many pixels are refused.
      cache_bytes: memory for decoded photographs, per process.

    Example:
      >>> photos = open_photos('skimage')
      >>> photos.names[0], photos[0].shape
      ('astronaut.png', (512, 512, 3))
    """

    def __init__(
        self,
        source: files.PhotoFiles,
        *,
        where: str,
        minimum: int = MINIMUM,
        cache_bytes: int = 128 << 20,
    ):
        self.where = where
        self._files = source
        self._minimum = minimum
        self._cache_bytes = cache_bytes
        self._start_cache()

    @property
    def names(self) -> tuple[str, ...]:
        """The photographs' names, in the order of their indices."""
        return self._files.names

    @property
    def fingerprint(self) -> str:
        """A short hash of the names: tells whether a source is the one an earlier run used.

        That of a pack also hashes its pictures, which are not the ones it was made from.
        """
        return self._files.fingerprint

    @property
    def reduced_to(self) -> int | None:
        """The shorter side that a pack's larger photographs were reduced to; None elsewhere."""
        return self._files.reduced_to

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return photograph `index` in full size, uint8 `[h, w, 3]`, sRGB, upright.

        Raises:
          IndexError: there is no such photograph.
          UnreadablePhoto: it is broken or too small.
        """
        return np.asarray(self.load(index).picture)

    def load(self, index: int, shorter_side: int | None = None) -> Photo:
        """Return photograph `index` as a Pillow picture, which the caller must not change.

        Args:
          index: its index.
          shorter_side: the shorter side that is needed; a much larger JPEG is decoded at a
            fraction of its size, which is never below this. None: full size.

        Returns:
          The photograph.

        Raises:
          IndexError: there is no such photograph.
          UnreadablePhoto: it is broken or too small.
        """
        index = range(len(self))[operator.index(index)]
        cached = self._cache.get((index, shorter_side))
        if cached is not None:
            return cached
        try:
            data = self._files.read(index)
            photo = Photo(*decode.decode(data, shorter_side=shorter_side, minimum=self._minimum))
        except Exception as error:  # a broken file makes decoders raise nearly anything
            raise UnreadablePhoto(self.names[index], decode.reason(error)) from error
        self._keep((index, shorter_side), photo)
        return photo

    def _keep(self, key: tuple[int, int | None], photo: Photo) -> None:
        size = decode.bytes_in_memory(photo.picture)
        with self._lock:
            if key not in self._cache and self._cached_bytes + size <= self._cache_bytes:
                self._cache[key] = photo
                self._cached_bytes += size

    def _start_cache(self) -> None:
        self._lock = threading.Lock()
        self._cache: dict[tuple[int, int | None], Photo] = {}
        self._cached_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_lock", "_cache", "_cached_bytes"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()


def open_photos(
    where: str | os.PathLike[str] = "", *, minimum: int = MINIMUM, cache_bytes: int = 128 << 20
) -> Photos:
    """Open a source of photographs.

    Args:
      where: `''` or `'skimage'` for the photographs that come with scikit-image (see the top of
        this file), else a folder (searched with its subfolders), a `.zip`, or a pack that
        `prepare_photos` made. A folder of your own called `skimage` is `./skimage`.
      minimum: shorter sides below this many pixels are refused, one photograph at a time.
      cache_bytes: memory for decoded photographs, per process; 0 keeps none.

    Returns:
      The source. At least one of its photographs is known to be readable.

    Raises:
      InputError: `where` is missing, is no folder, zip or pack, is damaged as a whole, or has no
        readable photograph.

    Example:
      >>> len(open_photos())
      6
    """
    source = find_files(where)
    name = os.fspath(where) or BUNDLED
    photos = Photos(source, where=name, minimum=minimum, cache_bytes=cache_bytes)
    _require_one(photos)
    return photos


def find_files(where: str | os.PathLike[str]) -> files.PhotoFiles:
    """Return the encoded files of a source, none of them read yet; see `open_photos`.

    Raises:
      InputError: as `open_photos`, but for what only reading tells.
    """
    if os.fspath(where) in ("", BUNDLED):
        return _bundled_files()
    path = pathlib.Path(os.path.expanduser(where))
    if not os.path.exists(path):
        if os.path.isdir(f"{path}{packs.UNFINISHED}"):
            raise InputError(
                f"the pack '{path}' is not finished; give the same `jaxstyle prepare` again, which "
                "goes on where it stopped."
            )
        raise InputError(
            f"photographs '{path}' do not exist; give a folder, a .zip, or '{BUNDLED}' for the "
            "photographs that come with scikit-image."
        )
    if not os.access(path, os.R_OK):
        raise InputError(f"photographs '{path}' cannot be read: permission denied.")
    if packs.is_pack(path):
        return packs.pack_files(path)
    if path.is_dir():
        return files.folder_files(path)
    if path.suffix.lower() == ".zip":
        return files.zip_files(path)
    hint = f"; give its folder, '{path.parent}'" if files.is_picture(path.name) else ""
    raise InputError(f"photographs '{path}' are neither a folder nor a .zip{hint}.")


def _bundled_files() -> files.PhotoFiles:
    """Find the photographs in scikit-image's installed folder, without importing it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise InputError(
            "scikit-image is not installed; install it, or name a folder of photographs."
        )
    folder = pathlib.Path(spec.origin).parent / "data"
    names = [name for name in BUNDLED_NAMES if (folder / name).is_file()]
    if not names:
        raise InputError(
            f"scikit-image's photographs are missing from '{folder}'; reinstall scikit-image, or "
            "name a folder of photographs."
        )
    return files.FolderFiles(folder, names)


def _require_one(photos: Photos) -> None:
    """Raise unless some photograph is readable; usually the first is, and that is all it costs."""
    first: UnreadablePhoto | None = None
    for index in range(len(photos)):
        try:
            photos.load(index)
            return
        except UnreadablePhoto as error:
            first = first or error
    assert first is not None  # a source is never empty
    raise InputError(
        f"none of the {len(photos)} photographs of '{photos.where}' can be used; "
        f"'{first.name}': {first.reason}."
    )
