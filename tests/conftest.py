"""A stricter world than the user's: eight CPU devices, and rank promotion raises."""

import os
import pathlib
import signal

# Set-up that must precede the first use of JAX. The tests run on the CPU, whatever the machine
# holds.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

from jaxstyle import runtime

runtime.setup(compilation_cache=False)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# A shell starts what runs in the background with Ctrl-C ignored; tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real weights, photographs and golden outputs, kept outside the repository."""
    folder = pathlib.Path(
        os.environ.get("JAXSTYLE_TEST_DATA", REPOSITORY.parent / "shared" / "data")
    )
    if not (folder / "MANIFEST.json").exists():
        pytest.skip(f"real weights and photographs are not at {folder} (set JAXSTYLE_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A folder of eleven small photographs: squares of random colors."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for index in range(11):
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder
