"""`python -m jaxstyle paintings`: the style pictures that have a name."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the sub-parser.

    Args:
      commands: what `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "paintings", help="list the paintings that can be named instead of a style picture"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, interruption: Any) -> int:
    from jaxstyle.io import paintings

    print("\n".join(paintings.listing()))
    print(
        "the famous ones are in the public domain, and fetched from Wikimedia Commons when first "
        "used, e.g. by --config.style.image=starry-night."
    )
    return 0
