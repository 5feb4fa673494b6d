"""The card of a saved model: what the network is, what it was trained on, who may use it."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxstyle import networks
from jaxstyle.types import InputError
from jaxstyle.whole_files import json_bytes

FORMAT, VERSION = "jaxstyle-model", 1
_NETWORK = "transformer"  # the kind of network in `architecture`; the only one in version 1

Card = dict[str, Any]


def dump(
    card: Mapping[str, Any], config: networks.TransformerConfig, weights: Mapping[str, Any]
) -> bytes:
    """Write a card as JSON.

    Args:
      card: what the person or program that saves the model says about it.
      config: the network; becomes `architecture`.
      weights: facts about the tensors; becomes `weights`.

    Returns:
      UTF-8, with sorted keys.

    Raises:
      InputError: for a value that JSON cannot hold, named by its place in the card.
    """
    full = {
        **_plain(card, "card"),
        "format": FORMAT,
        "version": VERSION,
        "architecture": {"network": _NETWORK, **dataclasses.asdict(config)},
        "weights": dict(weights),
    }
    return json_bytes(full, indent=2, sort_keys=True, allow_nan=False)


def parse(data: bytes, where: str) -> Card:
    """Read a card and check that this version of jaxstyle understands it.

    Args:
      data: contents of the file.
      where: its quoted path, for messages.

    Returns:
      The card as a dict.

    Raises:
      InputError: broken JSON, another format, or a newer version.
    """
    try:
        card = json.loads(data)
    except (ValueError, RecursionError) as error:  # broken JSON or not UTF-8
        raise InputError(f"{where} is not valid JSON ({error}).") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f'{where} is not the card of a model: its "format" must be "{FORMAT}".')
    version = card.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f'{where} has the "version" {version!r}; it must be {VERSION}.')
    if version > VERSION:
        raise InputError(
            f"{where} has version {version} of the model format, and this jaxstyle reads up to "
            f"{VERSION}; update jaxstyle."
        )
    return card


def architecture(card: Card, where: str) -> networks.TransformerConfig:
    """Return the configuration of the network that a card describes.

    Args:
      card: from `parse`.
      where: its quoted path, for messages.

    Raises:
      InputError: no architecture, one of another kind, or impossible values.
    """
    described = card.get("architecture")
    if not isinstance(described, dict):
        raise InputError(f'{where} has no "architecture"; copy or train the model again.')
    network = described.get("network")
    if network != _NETWORK:
        raise InputError(f"{where} has the network {network!r}; this jaxstyle knows '{_NETWORK}'.")
    fields = {name: value for name, value in described.items() if name != "network"}
    try:
        return networks.TransformerConfig.from_dict(fields)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} has an impossible architecture: {error}") from error


def _plain(value: Any, where: str) -> Any:
    """Turn a value into what JSON holds; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, where) for inner in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(np.asarray(value).tolist(), where)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise InputError(f"{where} is a {type(value).__name__}, which a model card cannot hold.")
