"""Where full networks are published, with hashes, licenses and the input they expect."""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxstyle.types import InputError, unknown_choice
from jaxstyle.weights import fetching


class Entry(NamedTuple):
    """One published file.

    Attributes:
      url: where it is.
      known_hash: as `pooch` takes it.
      size: in bytes.
      network: the row of the table it belongs to.
      convention: the input its training expects, a key of `features.CONVENTIONS`.
      license: of the weights.
      attribution: who made them.
    """

    url: str
    known_hash: str
    size: int
    network: str
    convention: str
    license: str
    attribution: str

    @property
    def file_name(self) -> str:
        """The name under which it is published and cached."""
        return self.url.rsplit("/", 1)[1]


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_PYTORCH = "https://download.pytorch.org/models"
_OXFORD = (
    "CC BY 4.0",
    "Karen Simonyan and Andrew Zisserman, Visual Geometry Group, Oxford; converted by Keras",
)
_TORCHVISION = ("BSD-3-Clause", "torchvision, trained by the PyTorch team")
CATALOG: Mapping[str, Entry] = {
    "vgg16": Entry(
        f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:6d6bbae143d832006294945121d1f1fc",
        58_889_256,
        "vgg16",
        "caffe",
        *_OXFORD,
    ),
    "vgg19": Entry(
        f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:253f8cb515780f3b799900260a226db6",
        80_134_624,
        "vgg19",
        "caffe",
        *_OXFORD,
    ),
    "vgg16-torchvision": Entry(
        f"{_PYTORCH}/vgg16-397923af.pth",
        "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        "vgg16",
        "torchvision",
        *_TORCHVISION,
    ),
    "vgg19-torchvision": Entry(
        f"{_PYTORCH}/vgg19-dcbb9e9d.pth",
        "sha256:dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        574_673_361,
        "vgg19",
        "torchvision",
        *_TORCHVISION,
    ),
}


def entry(name: str) -> Entry:
    """Return the entry of a name.

    Args:
      name: a key of `CATALOG`.

    Raises:
      InputError: for an unknown name.

    Example:
      >>> entry('vgg19').file_name
      'vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    if name not in CATALOG:
        raise unknown_choice("published network", name, tuple(CATALOG))
    return CATALOG[name]


def folder() -> pathlib.Path:
    """Return the user's cache folder of weights, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "jaxstyle" / "weights"


def cached(name: str) -> pathlib.Path | None:
    """Return the local file of a catalog entry if it has been fetched, by name and length.

    Args:
      name: a key of `CATALOG`.

    Raises:
      InputError: for an unknown name.
    """
    file = folder() / entry(name).file_name
    return file if file.is_file() and file.stat().st_size == entry(name).size else None


def published_as(file: pathlib.Path) -> str:
    """Return the name of the catalog's entry that a file is a copy of, '' if of none.

    Args:
      file: any file.
    """
    size = file.stat().st_size
    for name, known in CATALOG.items():
        if known.size == size and fetching.matches(file, known.known_hash):
            return name
    return ""


def url_of(name: str) -> str:
    """Return where a catalog entry is fetched: its publisher, or `JAXSTYLE_WEIGHTS_URL`/its name.

    Args:
      name: a key of `CATALOG`.

    Raises:
      InputError: for an unknown name, or a variable that is no web address.
    """
    mirror = os.environ.get("JAXSTYLE_WEIGHTS_URL", "").strip()
    if not mirror:
        return entry(name).url
    if not mirror.startswith(("http://", "https://")):
        raise InputError(
            f"JAXSTYLE_WEIGHTS_URL is '{mirror}', but must begin with http:// or https://; a file "
            "on this machine goes to --config.features.weights=FILE."
        )
    return f"{mirror.rstrip('/')}/{entry(name).file_name}"


def fetch(name: str, report: fetching.Report | None = None) -> pathlib.Path:
    """Return the local file of a catalog entry, downloading it once into the user's cache.

    What is in the cache is complete and has the right hash, always: a download that breaks off is
    continued by the next call, and processes that want the same file wait for the one that
    downloads it.

    Args:
      name: a key of `CATALOG`.
      report: called with bytes there and bytes in all while downloading.

    Returns:
      The path of the file.

    Raises:
      InputError: for an unknown name; when it cannot be downloaded or stored, or its hash is wrong.
    """
    known = entry(name)
    url = url_of(name)
    target = folder() / known.file_name
    try:
        return fetching.fetch(url, target, known.known_hash, known.size, report)
    except fetching.Failure as failure:
        shown = re.sub("//[^/@]*@", "//", url)  # a mirror's password is nobody's business
        raise InputError(
            f"the weights of {name} could not be fetched from {shown}: {failure}; {failure.remedy}"
            "name a mirror with JAXSTYLE_WEIGHTS_URL, give a local file with "
            "--config.features.weights=FILE, or use --config.features.name=embedded."
        ) from failure
