"""Small pictures, and a small network that judges them, for whole per-image runs."""

import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image

from experiments import _work
from jaxstyle import features

RNG = np.random.default_rng(12)
NETWORK = features.Network("toy", ((4, 5), (6, 5)), features.PLAIN, padding="reflect")
PARAMS = features.initialize(jax.random.key(1), NETWORK)


@pytest.fixture(scope="session")
def perceive():
    """Return what stands for `_work.perception` here, and compiles in no time."""

    def perceive(config: ml_collections.ConfigDict) -> _work.Perception:
        return PARAMS, features.adjusted(NETWORK, pooling=config.pooling, padding=config.padding)

    return perceive


@pytest.fixture
def toy(perceive, monkeypatch):
    """Judge pictures with a small random network."""
    monkeypatch.setattr(_work, "perception", perceive)


@pytest.fixture(scope="session")
def changed():
    """Return a function that sets keys such as 'objective.tv', to a tuple too."""

    def changed(
        config: ml_collections.ConfigDict, changes: dict[str, Any]
    ) -> ml_collections.ConfigDict:
        with config.ignore_type():
            config.update_from_flattened_dict(changes)
        return config

    return changed


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> pathlib.Path:
    """A folder of small pictures: `content.png` (32x24), `style.png`, `red.png` and so on."""
    folder = tmp_path_factory.mktemp("pictures")

    def save(name: str, values: Any) -> None:
        Image.fromarray(np.uint8(np.round(255 * np.asarray(values)))).save(folder / f"{name}.png")

    rows, columns = np.mgrid[0:24, 0:32] / 32
    ramps = np.stack([0.2 + 0.5 * columns, 0.7 - 0.4 * rows, 0.3 + 0.3 * rows], axis=-1)
    save("content", ramps + RNG.uniform(-0.1, 0.1, (24, 32, 3)))
    gray = 0.2 + 0.5 * columns + RNG.uniform(0, 0.2, (24, 32))
    save("gray", np.stack([gray] * 3, axis=-1))
    style = np.kron(RNG.uniform(0.3, 0.8, (5, 6, 3)), np.ones((4, 4, 1)))
    save("style", style + RNG.uniform(-0.1, 0.1, style.shape))
    for name, color in {"red": (0.9, 0.2, 0.1), "blue": (0.1, 0.2, 0.9)}.items():
        save(name, np.clip(color + RNG.normal(0, 0.1, (20, 20, 3)), 0, 1))
    both = [np.asarray(Image.open(folder / f"{name}.png")) / 255 for name in ("red", "blue")]
    save("red_and_blue", np.concatenate(both, axis=1))
    left = np.zeros((24, 32))
    left[:, :16] = 1
    save("left", left)
    save("left_of_style", np.repeat([[1.0, 0.0]], 20, axis=1).repeat(20, axis=0))
    save("empty", 0 * left)
    return folder
