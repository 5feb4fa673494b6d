"""What a file of weights is, in words, and the same network as `.safetensors`."""

import pathlib
from typing import NamedTuple

import numpy as np

from jaxstyle import features
from jaxstyle.types import InputError
from jaxstyle.weights import catalog, formats, loading

_KINDS = {
    "h5": "Keras HDF5",
    "safetensors": "safetensors",
    "npz": "NumPy archive",
    "pth": "PyTorch",
    "mat": "MatConvNet",
}


class Found(NamedTuple):
    """A file that holds a network, or its beginning.

    Attributes:
      file: its path.
      contents: what was read.
      network: the row of the table, with the widths and the convention found.
    """

    file: pathlib.Path
    contents: formats.Contents
    network: features.Network

    def lines(self) -> list[str]:
        """Return what there is to say, a fact a line."""
        held = [n for n in self.network.convolutions if n in self.contents.convolutions]
        sizes = [a.size for parts in self.contents.convolutions.values() for a in parts.values()]
        whole = "all" if len(held) == len(self.network.convolutions) else "the first"
        table = features.NETWORKS[self.network.name]
        thin = "" if self.network.channels == table.channels else ", thinner than the original"
        return [
            f"file: {self.file} ({_KINDS[self.contents.kind]})",
            f"network: {self.network.name}{thin}",
            f"layers: {whole} {len(held)} convolutions, {held[0]} to {held[-1]}, "
            f"{sum(sizes) / 1e6:.2f} M parameters",
            *self._told(),
            f"input: {self.convention() or 'its own, by a first 1x1 convolution'}",
        ]

    def _told(self) -> list[str]:
        readouts = [f"{layer} ({channels})" for layer, channels in self.network.readouts]
        return [f"told by a readout (channels): {', '.join(readouts)}"] if readouts else []

    def convention(self) -> str:
        """Return the name of the input it expects; '' if it has a convolution of its own for it."""
        if formats.INPUT in self.contents.convolutions:
            return ""
        known = features.CONVENTIONS.items()
        return next(name for name, convention in known if convention == self.network.convention)


def examine(file: pathlib.Path, name: str, convention: str = "") -> Found:
    """Read a file and check all that can be checked.

    Args:
      file: in any of the formats of `formats.read`.
      name: of a network or of an entry of the catalog.
      convention: overrides what the file tells.

    Returns:
      What it is.

    Raises:
      InputError: as `load_weights`.
    """
    row, entry = loading.resolve(name, convention)
    contents = formats.read(file)
    network = loading.interpret(contents, file, row, convention, entry)
    for convolution, parts in contents.convolutions.items():
        if not parts["kernel"].any():
            raise InputError(f"'{file}': {convolution} has nothing but zeros; get another file.")
    return Found(file, contents, network)


def convert(
    file: pathlib.Path, out: pathlib.Path, name: str, convention: str = "", half: bool = False
) -> Found:
    """Write the network in a file as safetensors; it loads as the file does.

    Args:
      file: in any of the formats of `formats.read`.
      out: the file to write, `.safetensors`; its folder is made.
      name: of a network or of an entry of the catalog.
      convention: overrides what the file tells; is written into the header.
      half: float16 instead of float32.

    Returns:
      What was converted.

    Raises:
      InputError: as `load_weights`; for another suffix; where `out` is `file` or cannot be written.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"--out is '{out}'; give a name that ends in .safetensors.")
    found = examine(file, name, convention)
    if out.exists() and out.samefile(file):
        raise InputError(f"--out is the file itself, '{file}'; give another name.")
    entry = catalog.CATALOG.get(catalog.published_as(file))
    metadata = {"network": found.network.name, "source": file.name}
    if found.convention():
        metadata["convention"] = found.convention()
    if entry is not None:
        metadata |= {"license": entry.license, "attribution": entry.attribution}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder of '{out}' cannot be made ({error.strerror}); give another place."
        ) from error
    dtype = np.float16 if half else np.float32
    formats.write(out, found.contents.convolutions, metadata, dtype=dtype)
    return found
