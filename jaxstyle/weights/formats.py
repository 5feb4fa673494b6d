"""Read parameter files of every kind into the same thing, and write safetensors.

That thing is `{'conv1_1': {'kernel': HWIO, 'bias': [c]}, ...}` in float32, whatever names and
layouts the file uses.
"""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from jaxstyle.types import InputError
from jaxstyle.weights import arrays, containers, naming
from jaxstyle.weights.arrays import Stored
from jaxstyle.weights.naming import INPUT as INPUT

Arrays = dict[str, dict[str, np.ndarray]]


class Contents(NamedTuple):
    """What a parameter file holds.

    Attributes:
      convolutions: kernels `[k, k, c_in, c_out]` and biases `[c_out]` by name, float32; under a
        relu layer's name its readout.
      convention: what the network expects at its input, 'caffe', 'torchvision' or 'plain', where
        the file tells (by torchvision's names, or in its header); '' otherwise.
      network: the network that the file says it is; '' where it does not.
      kind: 'h5', 'safetensors', 'npz', 'pth' or 'mat'.
      others: names of arrays that belong to no convolution.
    """

    convolutions: Arrays
    convention: str
    network: str
    kind: str
    others: tuple[str, ...]


def read(path: pathlib.Path) -> Contents:
    """Read the convolutions of a parameter file.

    Nothing in the file is executed, and only the convolutions are brought into memory.

    Args:
      path: Keras HDF5, safetensors, a NumPy archive, PyTorch's `.pth` (both formats) or
        MatConvNet's `.mat`. What the file is, is read from how it begins.

    Returns:
      The convolutions, and what else the file tells of them.

    Raises:
      InputError: missing, unreadable or truncated file, unknown format, no convolutions in it, two
        arrays for one place, or one that asks for code to run.
    """
    if not os.path.isfile(path):  # which is False for a name too long, too
        raise InputError(f"there is no weights file '{path}'; check the path.")
    kind = ""
    try:
        with contextlib.ExitStack() as stack:
            kind = containers.kind_of(path)
            stored = containers.OPENERS[kind](path, stack)
            names = naming.recognize(stored)
            places = _places(stored, names.convolutions)
            wanted = {name: stored[name] for name in places}
            loaded = arrays.load(wanted, path.stat().st_size)
        metadata = containers.metadata_of(path) if kind == "safetensors" else {}
    except InputError as error:
        raise InputError(f"'{path}' {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"'{path}' cannot be read as {kind or path.suffix.strip('.')} weights ({reason}); it "
            "may be truncated or another kind of file: fetch it again."
        ) from error
    if not places:
        raise InputError(f"'{path}' {_nothing(stored)}")
    convolutions: Arrays = {}
    for name, (convolution, part) in places.items():
        value = loaded[name]
        if part == "kernel" and naming.is_oihw(name):
            value = np.ascontiguousarray(value.transpose(2, 3, 1, 0))
        convolutions.setdefault(convolution, {})[part] = value
    others = tuple(name for name in stored if name not in names.convolutions)
    convention = names.convention or metadata.get("convention", "")
    return Contents(convolutions, convention, metadata.get("network", ""), kind, others)


def is_readout(name: str) -> bool:
    """Return whether a convolution of `read` is the readout of a layer.

    Args:
      name: as in `Contents.convolutions`.

    Example:
      >>> is_readout('relu4_1'), is_readout('conv4_1')
      (True, False)
    """
    return name.startswith("relu")


def _places(
    stored: Mapping[str, Stored], convolutions: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Say of which convolution an array is the kernel or the bias."""
    result: dict[str, tuple[str, str]] = {}
    for name, convolution in convolutions.items():
        part = {4: "kernel", 1: "bias"}.get(len(stored[name].shape))
        if part is None:
            continue
        if (convolution, part) in result.values():  # e.g. an optimizer's copy: not ours to choose
            raise InputError(
                f"has more than one {part} for {convolution}, the second named '{name}'; "
                "give a file with the weights of one network and nothing else."
            )
        result[name] = (convolution, part)
    return result


def _nothing(stored: Mapping[str, Stored]) -> str:
    if naming.has_batch_normalization(stored):
        return "has batch normalization (vgg16_bn, vgg19_bn); give the network without."
    if stored and all("classifier" in n or "predictions" in n or "fc" in n for n in stored):
        what = "holds the classifier alone; give a file with the convolutions"
    else:
        what = "holds no VGG convolutions (names like block1_conv1, conv1_1 or features.0)"
    return f"{what}; its first arrays are {', '.join(n[:60] for n in list(stored)[:3]) or 'none'}."


def write(
    path: pathlib.Path,
    params: Mapping,
    metadata: Mapping[str, str],
    *,
    dtype: np.typing.DTypeLike = np.float16,
) -> None:
    """Write parameters as safetensors with names like `conv1_1/kernel`, all or nothing.

    Args:
      path: the file to write; one of the same name is replaced.
      params: `{'conv1_1': {'kernel': ..., 'bias': ...}, ...}`.
      metadata: short strings kept in the file's header (source, license, ...). When the file is
        read, `convention` ('caffe', 'torchvision', 'plain') and `network` are respected.
      dtype: float16 or float32.

    Raises:
      InputError: for numbers too large for `dtype`, and where nothing can be written.
    """
    flat = {}
    for name, parts in params.items():
        for part, value in parts.items():
            with np.errstate(over="ignore"):
                flat[f"{name}/{part}"] = np.asarray(value, dtype)
            if np.isfinite(value).all() and not np.isfinite(flat[f"{name}/{part}"]).all():
                raise InputError(
                    f"the {part} of {name} has numbers too large for {np.dtype(dtype)}; "
                    "write float32."
                )
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        # The file's bytes must not depend on the order of a dictionary.
        content = safetensors.numpy.save(dict(sorted(flat.items())), metadata=dict(metadata))
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror}); give another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
