"""Trained networks of other projects, turned into models of ours.

`foreign_files` reads them, `foreign_tables` knows their names; what must be there, and in which
shape, follows from the table and the network's configuration.
"""

import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle import networks
from jaxstyle.io.foreign_files import read_arrays
from jaxstyle.io.foreign_tables import ARCHITECTURES, Architecture
from jaxstyle.io.models import save_model
from jaxstyle.methods.feedforward import StyleModel
from jaxstyle.networks import TransformerConfig
from jaxstyle.types import InputError, unknown_choice

NOT_STATED = "not stated; ask whoever trained the network"

Arrays = Mapping[str, np.ndarray]
AUTO = "auto"


def import_model(
    file: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    architecture: str = AUTO,
    *,
    name: str = "",
    license: str = "",
    style: int | None = None,
) -> str:
    """Turn a trained network of another project into a model folder.

    Args:
      file: `.npz`, or what PyTorch's `torch.save` wrote; nothing in it is executed.
      folder: the model folder to write, all or nothing.
      architecture: a key of `ARCHITECTURES`, or 'auto' to tell it from the file.
      name: what the card calls the style; the file's name by default.
      license: of the network, for the card.
      style: which style of a network that has several, from 0.

    Returns:
      The architecture's name.

    Raises:
      InputError: as `read_arrays`, `convert` and `save_model`; nothing is written then.

    Example:
      >>> import_model('candy.pth', 'models/candy')  # doctest: +SKIP
      'fast_neural_style'
    """
    path = pathlib.Path(os.path.expanduser(file))
    arrays = read_arrays(path)
    model, found = convert(arrays, architecture, style=style, where=f"'{path}'")
    title = name or (path.stem if style is None else f"{path.stem}, style {style}")
    card = {
        "style": {"title": title},
        "license": license or NOT_STATED,
        "source": {
            "project": ARCHITECTURES[found].project,
            "architecture": found,
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }
    save_model(folder, model, card)
    return found


def convert(
    arrays: Arrays, architecture: str = AUTO, *, style: int | None = None, where: str = "the file"
) -> tuple[StyleModel, str]:
    """Build a model from the arrays of another project's network.

    Args:
      arrays: by the project's names; any floating dtype.
      architecture: a key of `ARCHITECTURES`, or 'auto' to tell it from the names.
      style: which style of a network that has several, from 0.
      where: what to call the arrays in messages, e.g. the quoted path.

    Returns:
      The model, parameters in float32, and the architecture's name.

    Raises:
      InputError: unknown architecture, arrays of another one, a missing, superfluous or misshapen
        array (the first is named), numbers that are not finite, or a style that is not there.

    Example:
      >>> model, name = convert(dict(np.load('candy.npz')))  # doctest: +SKIP
      >>> name  # doctest: +SKIP
      'fast_neural_style'
    """
    arrays = {_plain(name): array for name, array in arrays.items()}
    if architecture == AUTO:
        architecture = _recognize(arrays, where)
    elif architecture not in ARCHITECTURES:
        raise unknown_choice("architecture", architecture, (*ARCHITECTURES, AUTO))
    about = ARCHITECTURES[architecture]
    names = about.names()
    used = {name: a for name, a in arrays.items() if not re.search(about.ignored, name)}
    _check_names(used, names.values(), where, architecture)
    styles = _count_styles(used, about, names, where)
    row = _choose(style, styles, where)
    values = {}
    for place, shape in _shapes(about.config).items():
        name = names[place]
        array, theirs = used[name], _their_shape(place, shape, about, styles)
        _check_array(array, theirs, f"{where}: '{name}'", architecture)
        if len(shape) == 4 and about.oihw:
            array = array.transpose(2, 3, 1, 0)
        elif theirs != shape:
            array = array[row]
        values[place] = jnp.asarray(array, jnp.float32)
    return StyleModel({"params": _nest(values)}, about.config), architecture


def _plain(name: str) -> str:
    """Leave out what wrappers put before a name, and TensorFlow's number of an output."""
    return re.sub(r"^(?:module|model)\.|:0$", "", name)


def _likely(arrays: Arrays) -> str:
    """Return the architecture that shares the most names with a file, '' where none shares any."""
    shared = {
        name: sum(theirs in arrays for theirs in about.names().values())
        for name, about in ARCHITECTURES.items()
    }
    best = max(shared, key=lambda name: shared[name])
    return best if shared[best] else ""


def _recognize(arrays: Arrays, where: str) -> str:
    found = _likely(arrays)
    if not found:
        raise InputError(
            f"{where} holds no network of {', '.join(ARCHITECTURES)}; its first arrays are "
            f"{', '.join(sorted(arrays)[:3]) or 'none'}."
        )
    return found


def _check_names(arrays: Arrays, wanted: Iterable[str], where: str, architecture: str) -> None:
    likely = _likely(arrays)
    advice = "give an unchanged file of that project"
    if likely not in ("", architecture):
        advice = f"its names are those of {likely}: give --architecture {likely}"
    missing = [name for name in wanted if name not in arrays]
    if missing:
        more = f" and {len(missing) - 1} more arrays" if len(missing) > 1 else ""
        raise InputError(
            f"{where} lacks '{missing[0]}'{more} of the {architecture} network; {advice}."
        )
    surplus = sorted(set(arrays) - set(wanted))
    if surplus:
        raise InputError(
            f"{where} holds '{surplus[0]}', which the {architecture} network does not have; "
            f"{advice}."
        )


def _count_styles(
    arrays: Arrays, about: Architecture, names: Mapping[str, str], where: str
) -> int | None:
    """Return how many styles a network of several has, None where the project knows no several."""
    if not about.many_styles:
        return None
    scale = arrays[names["encoder_0/norm/scale"]]
    if scale.ndim != 2 or not len(scale):
        raise InputError(
            f"{where}: '{names['encoder_0/norm/scale']}' has shape {scale.shape}, but a row for "
            "each style belongs there."
        )
    return len(scale)


def _choose(style: int | None, count: int | None, where: str) -> int:
    if count is None:
        if style is not None:
            raise InputError(f"{where} holds one style only; leave out --style {style}.")
        return 0
    if style is None and count > 1:
        raise InputError(f"{where} holds {count} styles; choose one, 0 to {count - 1} (--style 0).")
    if not 0 <= (style or 0) < count:
        raise InputError(f"{where} has no style {style}; choose 0 to {count - 1}.")
    return style or 0


def _their_shape(
    place: str, shape: tuple[int, ...], about: Architecture, styles: int | None
) -> tuple[int, ...]:
    """Return the shape in which a project stores the array of one of our places."""
    if len(shape) == 4 and about.oihw:
        return tuple(shape[axis] for axis in (3, 2, 0, 1))
    if styles is not None and place.split("/")[-2].startswith("norm"):
        return (styles, *shape)
    return shape


def _check_array(array: np.ndarray, shape: tuple[int, ...], where: str, architecture: str) -> None:
    if array.shape != shape:
        raise InputError(
            f"{where} has shape {array.shape}, but {shape} belongs into the {architecture} "
            "network; give an unchanged file of that project."
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{where} holds {array.dtype}; its numbers must be floating point.")
    if not np.isfinite(array).all():
        raise InputError(f"{where} holds numbers that are not finite; fetch the file again.")


def _shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each of our parameters, by its path."""
    shapes = jax.eval_shape(lambda key: networks.init(key, config), jax.random.key(0))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return {"/".join(str(entry.key) for entry in path): leaf.shape for path, leaf in leaves}


def _nest(values: Mapping[str, jax.Array]) -> dict[str, Any]:
    """From {'encoder_0/conv/kernel': array} to nested dicts."""
    nested: dict[str, Any] = {}
    for place, value in values.items():
        *parents, last = place.split("/")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return nested
