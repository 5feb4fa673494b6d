"""Whole runs of the distillation recipe, tiny."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from configs import distill as recipe
from experiments import distill
from jaxstyle import features
from jaxstyle.types import InputError
from jaxstyle.weights import load_weights


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The work folder of a finished `distill.py:smoke`."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    assert distill.run(recipe.get_config("smoke"), folder) == 0
    return folder


def test_the_student_is_a_file_of_float16_that_loads_as_weights(smoke):
    file = smoke / "embedded.safetensors"
    stored = safetensors.numpy.load_file(file)
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float16)}
    assert file.stat().st_size < 4 * 2**20
    weights = load_weights("embedded", file)
    shapes = {name: layer["kernel"].shape for name, layer in weights.params.items()}
    assert shapes == features.network("embedded").shapes()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights.params))
    with safetensors.safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == {"network": "embedded", "steps": "2"}


def test_errors_of_every_layer_are_reported_and_plotted(smoke):
    config = recipe.get_config("smoke")
    layers = [n for part in config.teachers.values() for n in part.layers]
    found = [json.loads(line) for line in (smoke / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in found] == [1, 2]
    for line in found:
        names = {name for layer in layers for name in (layer, f"gram/{layer}")}
        assert set(line) == {"step", "loss", *names}
        grams = sum(line[f"gram/{layer}"] for layer in layers)
        loss = sum(line[layer] for layer in layers) + config.gram_weight * grams
        assert line["loss"] == pytest.approx(loss, rel=1e-5)
        assert all(0 < line[layer] < 100 for layer in layers)
    with Image.open(smoke / "loss.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"student": "embeded"}, "unknown network 'embeded'; did you mean 'embedded'"),
        ({"teachers.deep.layers": ("relu4_1", "relu2_1")}, "relu2_1 is taught twice"),
        ({"teachers.deep.layers": ("pool4",)}, "unknown relu layer of embedded 'pool4'"),
        ({"teachers.deep.name": "vgg11"}, "unknown network 'vgg11'"),
        ({"teachers.deep.weights": "no.h5"}, "there is no weights file 'no.h5'"),
        ({"data.photos": "no"}, "photographs 'no' do not exist"),
        ({"checkpoint.every": 0}, "checkpoint.every is 0; it must be at least 1"),
        ({"optimizer.learning_rate": 0.0}, "choose one above 0"),
        ({"counterexamples": 2}, "counterexamples is 2; a batch of 2 has room for 0 to 1"),
    ],
    ids=str,
)
def test_wrong_settings_are_told_before_a_folder_is_made(change, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "initialize", drawn_once)
    config = recipe.get_config("smoke")
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=sentence):
        distill.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


_initialize, _drawn = features.initialize, {}


def drawn_once(key, network):
    """Random parameters, not drawn anew for every refusal."""
    if network.name not in _drawn:
        _drawn[network.name] = _initialize(key, network)
    return _drawn[network.name]
