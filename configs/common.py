"""What several configs share: parsing of the variant after the colon."""

from collections.abc import Sequence

from ml_collections import ConfigDict


def choose_variant(arg: str | None, variants: Sequence[str]) -> str:
    """Return the variant named by `config.py:variant`, '' for none.

    Args:
      arg: what stands after the colon.
      variants: that the config has.

    Raises:
      ValueError: for an unknown variant.
    """
    name = arg or ""
    if name and name not in variants:
        raise ValueError(f"unknown variant '{name}'; this config has {', '.join(variants)}")
    return name


def locked(config: ConfigDict) -> ConfigDict:
    """Return the config, refusing keys it does not have."""
    return config.lock()
