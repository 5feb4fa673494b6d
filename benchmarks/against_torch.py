"""What comparisons with PyTorch share: their variants, options, workers, and parameters as arrays.

A benchmark writes random parameters and pictures into one file that all of its workers read, so
that both sides compute the same numbers.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import interleave
import numpy as np

VARIANTS = (
    "jaxstyle",
    "torch",
    "torch+malloc",
    "torch compile",
    "jaxstyle bf16",
    "torch bf16",
    "torch bf16+malloc",
    "torch bf16 compile",
)


def add_options(
    parser: argparse.ArgumentParser, variants: Sequence[str] = VARIANTS, rounds: int = 7
) -> None:
    """Add what every comparison takes, and what it tells its workers."""
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--variants", nargs="*", default=variants)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", default="", help=argparse.SUPPRESS)


def compare(
    script: str,
    write: Callable[[str], None],
    *options: str,
    variants: Sequence[str],
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Run a benchmark's workers in turn, each compared with PyTorch in its own precision.

    Args:
      script: of the benchmark.
      write: writes the arrays to the file it is given.
      options: what the workers are told besides.
      variants: to run.
      rounds: calls of each.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder) / "arrays.npz")
        write(file)
        command = [sys.executable, script, *options, "--arrays", file, "--worker"]
        return interleave.compare(
            {name: [*command, name] for name in variants},
            rounds,
            baseline=interleave.is_torch,
            kind=interleave.precision_of,
        )


def dtype_of(variant: str) -> str:
    """Return what a variant computes in, by its name."""
    return "bfloat16" if interleave.precision_of(variant) == "bf16" else "float32"


def named(tree: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a pytree by their paths, such as 'net/output/conv/kernel'."""
    import jax

    return {
        jax.tree_util.keystr(where, simple=True, separator="/"): np.asarray(leaf)
        for where, leaf in jax.tree.leaves_with_path(tree)
    }


def nested(arrays: Mapping[str, np.ndarray], root: str) -> dict[str, Any]:
    """Return what `named` took apart, below one key of the tree."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if not name.startswith(f"{root}/"):
            continue
        _, *middle, leaf = name.split("/")
        part = tree
        for key in middle:
            part = part.setdefault(key, {})
        part[leaf] = array
    return tree
