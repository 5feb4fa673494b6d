"""Where full networks are published, with hashes and licenses."""

import os
import pathlib
from typing import NamedTuple

from jaxstyle.types import InputError


class Entry(NamedTuple):
    """One published file.

    Attributes:
      url: where it is.
      known_hash: as `pooch` takes it.
      license: of the weights.
    """

    url: str
    known_hash: str
    license: str


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_OXFORD = "CC BY 4.0, Karen Simonyan and Andrew Zisserman, Visual Geometry Group, Oxford"
CATALOG = {
    "vgg16": Entry(
        f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:6d6bbae143d832006294945121d1f1fc",
        _OXFORD,
    ),
    "vgg19": Entry(
        f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:253f8cb515780f3b799900260a226db6",
        _OXFORD,
    ),
}


def fetch(name: str) -> pathlib.Path:
    """Return the local file of a catalog entry, downloading it once into the user's cache.

    Raises:
      InputError: when it cannot be downloaded or its hash is wrong.
    """
    import pooch  # here: it imports a network client that offline runs never need

    entry = CATALOG[name]
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    try:
        file = pooch.retrieve(
            entry.url,
            known_hash=entry.known_hash,
            fname=entry.url.rsplit("/", 1)[1],
            path=pathlib.Path(base) / "jaxstyle" / "weights",
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"the weights of {name} could not be fetched from {entry.url} ({reason}); give a local "
            "file with --config.features.weights=FILE, or use --config.features.name=embedded."
        ) from error
    return pathlib.Path(file)
