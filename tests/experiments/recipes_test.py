"""Every recipe of one picture runs from its config to its files, tiny."""

import importlib
import json
import math
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import paint_picture
from jaxstyle import policy

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs"
# The terms that make a recipe what it is.
TERMS = {
    "gatys_multiscale": {"content/relu1_2", "style/relu2_1"},
    "improved_gatys": {"chain/relu1_1-relu2_1"},
    "multi_style": {"style/1/relu1_1", "style/2/relu2_1"},
    "mrf": {"style/relu2_1"},
}


def recipes():
    for path in sorted(FOLDER.glob("[!_]*.py")):
        module = importlib.import_module(f"configs.{path.stem}")
        if path.stem != "common" and module.get_config().experiment == "paint_picture":
            yield path.stem


RECIPES = list(recipes())


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with policy.formulation("plain"):
        yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_the_recipes_are_found():
    assert {"gatys", "preserve_color", "texture", *TERMS} <= set(RECIPES)


# The smoke variant of gatys, as it is, is painted in paint_picture_test.py.
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "gatys"])
def test_smoke(name, tmp_path):
    """With the embedded network's first blocks, to compile little."""
    config = importlib.import_module(f"configs.{name}").get_config("smoke")
    scales = 2 if config.scales.smallest else 1
    config.size = "36"
    config.steps = config.save_every = 2
    if scales > 1:
        config.scales.smallest, config.scales.ratio, config.scales.first_steps = 25, 1.4, 2
    if config.objective.content_layers:
        config.objective.content_layers = ("relu1_2",)
    first = () if config.objective.style_statistic == "patches" else ("relu1_1",)
    config.objective.style_layers = (*first, "relu2_1")
    config.solver.memory = 2
    assert paint_picture.run(config, tmp_path / "run") == 0
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2 * n for n in range(1, scales + 1)]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert TERMS.get(name, set()) <= set(lines[-1])
    assert any(term.startswith("content/") for term in lines[-1]) == (config.content != "none")
    with Image.open(tmp_path / "run" / "picture.png") as picture:
        assert max(picture.size) == 36
        assert np.asarray(picture.convert("L")).std() > 5
        assert json.loads(picture.text["jaxstyle"])["step"] == 2 * scales
    for file in ("strip.png", "loss.png", "config.json"):
        assert (tmp_path / "run" / file).exists()
