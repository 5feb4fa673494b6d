"""Save and load trained models as folders: `model.safetensors` and `card.json`.

The format is described in docs/model-folder.md.
"""

import importlib.resources
import os
import pathlib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxstyle import networks
from jaxstyle.io import model_card, model_folders
from jaxstyle.io.model_card import Card
from jaxstyle.methods.feedforward import StyleModel
from jaxstyle.types import InputError, unknown_choice

WEIGHTS, CARD = "model.safetensors", "card.json"


def save_model(
    folder: str | os.PathLike[str],
    model: StyleModel,
    card: Mapping[str, Any],
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a model folder, all or nothing; a model already there is replaced in one instant.

    Args:
      folder: the folder; other files in it stay.
      model: the network to save.
      card: what a person should know about it. `style`, `config`, `training` and `license` are the
        customary keys; the values are anything JSON-like, NumPy numbers and small arrays included,
        and numbers that are not finite become null. `format`, `version`, `architecture` and
        `weights` are filled in here.
      dtype: of the numbers in the file. 'float16' halves the file; pictures change by a level or
        two of 255.

    Raises:
      InputError: an unknown dtype, parameters that are not finite in it or do not fit the model's
        configuration, a card JSON cannot hold, or a folder that cannot be written.

    Example:
      >>> save_model('runs/starry/model', model, {'license': 'CC0'})  # doctest: +SKIP
    """
    if dtype not in ("float32", "float16"):
        raise unknown_choice("dtype of a saved model", str(dtype), ("float32", "float16"))
    tensors = {name: np.asarray(leaf) for name, leaf in _flatten(model.params).items()}
    _check_tensors(tensors, model.config, f"the model for '{folder}'")
    with np.errstate(over="ignore"):  # what overflows float16 is reported by name just below
        tensors = {name: tensor.astype(dtype) for name, tensor in sorted(tensors.items())}
    _check_finite(tensors, f"the model for '{folder}', saved as {dtype},")
    weights = {"dtype": dtype, "parameters": sum(tensor.size for tensor in tensors.values())}
    files = {
        WEIGHTS: safetensors.numpy.save(tensors, metadata={"format": model_card.FORMAT}),
        CARD: model_card.dump(card, model.config, weights),
    }
    try:
        model_folders.replace_folder(pathlib.Path(os.path.expanduser(folder)), files)
    except OSError as error:
        raise InputError(f"'{folder}' cannot be written: {error.strerror or error}.") from error


def load_model(where: str | os.PathLike[str]) -> tuple[StyleModel, Card]:
    """Load a model from a folder, or one that is shipped with jaxstyle by its name.

    Args:
      where: a model folder (or a file in it), or a name from `shipped_models`.

    Returns:
      The model, parameters in float32, and its card.

    Raises:
      InputError: an unknown name, a missing, broken or truncated file, a newer format version, or
        tensors that do not fit the architecture (the first is named).

    Example:
      >>> model, card = load_model('runs/starry/model')  # doctest: +SKIP
    """
    folder = _find(where)
    card = _load_card(folder)
    config = model_card.architecture(card, f"'{folder / CARD}'")
    data = _read(folder, WEIGHTS)
    try:
        stored = safetensors.numpy.load(data)
    except Exception as error:  # SafetensorError, and what NumPy says to unknown dtypes
        raise InputError(
            f"'{folder / WEIGHTS}' is damaged or truncated ({error}); copy the model again."
        ) from error
    _check_tensors(stored, config, f"'{folder / WEIGHTS}'")
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in stored.items()}
    _check_finite(tensors, f"'{folder / WEIGHTS}'")
    return StyleModel(_nest(tensors), config), card


def load_card(where: str | os.PathLike[str]) -> Card:
    """Read only the card of a model; arguments and errors as `load_model`.

    Example:
      >>> load_card('runs/starry/model')['license']  # doctest: +SKIP
      'CC0'
    """
    return _load_card(_find(where))


def shipped_models() -> list[str]:
    """Return the names of the models that come with jaxstyle, sorted.

    Example:
      >>> all(load_card(name)['format'] == 'jaxstyle-model' for name in shipped_models())
      True
    """
    root = _shipped()
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if (entry / CARD).is_file())


def _shipped() -> Traversable:
    return importlib.resources.files("jaxstyle") / "assets" / "models"


def _find(where: str | os.PathLike[str]) -> Traversable:
    """Resolve a path or a name; a folder that holds a model goes before a name."""
    path = pathlib.Path(os.path.expanduser(where))
    if path.name in (WEIGHTS, CARD) and os.path.isfile(path):
        path = path.parent
    path = model_folders.present(path)
    name = os.fspath(where)
    names = shipped_models()
    if name in names and not os.path.isfile(path / CARD):
        return _shipped() / name
    if os.path.isdir(path):
        if not (path / CARD).is_file():
            raise InputError(f"'{where}' holds no {CARD}, so it is no model folder{_hint(path)}.")
        return path
    if os.path.exists(path):
        raise InputError(f"'{where}' is a file; give a model folder, with {WEIGHTS} and {CARD}.")
    if len(path.parts) > 1 or not names:
        known = f"one of the shipped models ({', '.join(names)})" if names else "another path"
        raise InputError(f"there is no model folder '{where}'; check the path, or give {known}.")
    raise InputError(f"{unknown_choice('model', name, names)} A path to a model folder works too.")


def _hint(folder: pathlib.Path) -> str:
    inner = sorted(path.parent for path in folder.glob(f"*/{CARD}"))
    inner = inner or sorted({path.parent.parent for path in folder.glob(f"*/*/{CARD}")})
    return (
        f"; did you mean '{inner[0]}'?" if inner else f"; give a folder with {WEIGHTS} and {CARD}"
    )


def _load_card(folder: Traversable) -> Card:
    return model_card.parse(_read(folder, CARD), f"'{folder / CARD}'")


def _read(folder: Traversable, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"'{folder}' lacks {name}; a model folder holds {WEIGHTS} and {CARD}."
        ) from error
    except OSError as error:
        raise InputError(f"'{folder / name}' cannot be read: {error.strerror or error}.") from error


def _check_tensors(
    tensors: Mapping[str, Any], config: networks.TransformerConfig, where: str
) -> None:
    """Compare names and shapes with those the architecture makes; name the first that differs."""
    expected = _flatten(jax.eval_shape(lambda key: networks.init(key, config), jax.random.key(0)))
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise InputError(f"{where} lacks the tensor '{name}' that its architecture has.")
        if name not in expected:
            raise InputError(f"{where} holds the tensor '{name}' that its architecture lacks.")
        given, wanted = tuple(tensors[name].shape), tuple(expected[name].shape)
        if given != wanted:
            raise InputError(
                f"{where} holds '{name}' of shape {given}, but its architecture has {wanted}."
            )


def _check_finite(tensors: Mapping[str, np.ndarray], where: str) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise InputError(
                f"{where} holds values in '{name}' that are not finite; its training may have "
                "diverged."
            )


def _flatten(params: Any) -> dict[str, Any]:
    """From nested dicts to {'params/encoder_0/conv/kernel': leaf}."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(entry.key) for entry in path): leaf for path, leaf in leaves}


def _nest(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, last = name.split("/")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = jnp.asarray(tensor)
    return nested
