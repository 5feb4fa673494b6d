"""Whole per-image runs, tiny: results, resuming, bad numbers and refusals."""

import dataclasses
import json
import os
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import gatys as recipe
from experiments import _scene, _work, paint_picture
from jaxstyle import painter, runtime
from jaxstyle.io import images
from jaxstyle.types import InputError


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def small_config():
    """Less than `smoke`, but with a chunk that is not the last."""
    config = recipe.get_config("smoke")
    config.size = "32"
    config.objective.content_layers = ("relu1_2",)
    config.objective.style_layers = ("relu1_1", "relu2_1")
    config.solver.memory = 3
    config.steps = 5
    return config


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The work folder of a finished `gatys.py:smoke`."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    assert paint_picture.run(recipe.get_config("smoke"), folder) == 0
    return folder


def test_everything_is_there(smoke):
    with Image.open(smoke / "picture.png") as picture:
        assert max(picture.size) == 48
        noted = json.loads(picture.text["jaxstyle"])
    assert noted["step"] == 4 and noted["style"] == "starry" and noted["solver.memory"] == 20
    assert sorted(p.name for p in (smoke / "iterates").iterdir()) == ["00002.png", "00004.png"]
    lines = [json.loads(line) for line in (smoke / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    config = recipe.get_config("smoke")
    styles = {f"style/{layer}" for layer in config.objective.style_layers}
    assert set(lines[0]) == {"step", "loss", "tv", "content/relu4_2", *styles}
    total = (
        1.0 * lines[-1]["tv"]
        + 0.15 * lines[-1]["content/relu4_2"]
        + sum(lines[-1][name] for name in styles)
    )
    assert lines[-1]["loss"] == pytest.approx(total, rel=1e-5)
    for name in ("strip.png", "loss.png"):
        with Image.open(smoke / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_the_numbers_are_those_of_the_picture(tmp_path):
    """The last line of the metrics, from the file that a run without a margin wrote."""
    config = small_config()
    config.margin = 0
    config.solver.parameters = "pixels"
    assert paint_picture.run(config, tmp_path / "run") == 0
    _, scene = _scene.read(config)
    scene = _scene.sized(config, scene, 32)
    work, _ = _work.build(config, scene, _work.perception(config.features))
    state = work.start()
    pixels = jnp.asarray(images.read(tmp_path / "run" / "picture.png").pixels)
    found = work.measure(dataclasses.replace(state, numbers=pixels))
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert float(found["loss"]) == pytest.approx(last["loss"], rel=0.02)  # 8 bits


def results(folder):
    return {
        name: (folder / name).read_bytes()
        for name in ("picture.png", "metrics.jsonl", "iterates/00002.png", "iterates/00004.png")
    }


def test_stopped_and_started_again_it_gives_the_same_bits(tmp_path, monkeypatch, capsys):
    number = signal.SIGTERM
    assert paint_picture.run(small_config(), tmp_path / "whole") == 0
    measured = painter.MetricsFile.append

    def append(self, step, values):
        measured(self, step, values)
        if step == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(painter.MetricsFile, "append", append)
    assert paint_picture.run(small_config(), tmp_path / "parts") == 128 + number
    assert "stopped at step 2; the same command continues" in capsys.readouterr().out
    assert (tmp_path / "parts" / "picture.png").exists()
    monkeypatch.undo()
    assert paint_picture.run(small_config(), tmp_path / "parts") == 0
    assert "continuing from step 2 of 5" in capsys.readouterr().out
    assert results(tmp_path / "whole") == results(tmp_path / "parts")
    assert paint_picture.run(small_config(), tmp_path / "parts") == 0
    assert "all steps are done" in capsys.readouterr().out


def test_bad_numbers_keep_the_last_good_picture(tmp_path, capsys):
    config = small_config()
    config.solver.optimizer = "adam"
    config.solver.parameters = "pixels"
    config.solver.learning_rate = 3e19  # the squares of features overflow
    assert paint_picture.run(config, tmp_path / "run") == 1
    out = capsys.readouterr().out
    assert "became NaN or infinite in step 1; the picture before it is kept" in out
    first = images.read(tmp_path / "run" / "picture.png").pixels
    expected = images.resize_longer(_scene.read(config)[1].content, 32)
    np.testing.assert_allclose(first, expected, atol=0.6 / 255)


def test_a_picture_of_its_own_size_keeps_its_alpha_and_profile(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    config = small_config()
    config.content = str(tmp_path / "in.png")
    config.size = "original"
    config.steps = 1
    assert paint_picture.run(config, tmp_path / "run") == 0
    with Image.open(tmp_path / "run" / "picture.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture)[..., 3], pixels[..., 3])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"content": "no.jpg"}, "no.jpg"),
        ({"style": "no.jpg"}, "no.jpg"),
        ({"style": "stary"}, "did you mean 'starry'"),
        ({"size": "big"}, "size is 'big'; give a number of pixels, e.g. 512, or 'original'"),
        ({"size": "20"}, "the content is 20x13 pixels; at least 16 each way"),
        ({"margin": -1}, "margin is -1; choose 0 to 1023"),
        ({"style_scale": 0.0}, "style_scale is 0.0; choose one above 0"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"save_every": -5}, "save_every is -5; it must be at least 1"),
        ({"start": "contents"}, "did you mean 'content'"),
        ({"objective.content_layers": ("relu4_9",)}, "unknown layer of embedded 'relu4_9'"),
        ({"objective.style_layers": ("relu5_1",), "size": "20"}, "at least 16"),
        ({"objective.alpha": -1.0}, "the weight of content/relu1_2 is -1.0; weights are 0 or more"),
        ({"objective.alpha": 0.0, "objective.beta": 0.0, "objective.tv": 0.0}, "all weights are 0"),
        ({"objective.style_statistic": "gramm"}, "did you mean 'gram'"),
        ({"solver.optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"solver.learning_rate": float("inf")}, "the learning rate is inf; choose one above 0"),
        ({"features.name": "vgg11"}, "unknown network 'vgg11'"),
        ({"features.pooling": "mean"}, "unknown pooling 'mean'"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence_before_a_folder_is_made(tmp_path, change, sentence):
    config = small_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError) as caught:
        paint_picture.run(config, tmp_path / "run")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_size_beyond_memory_is_refused_with_one_that_fits(tmp_path, monkeypatch):
    needs, needed = [], runtime.needed_memory
    monkeypatch.setattr(
        runtime, "needed_memory", lambda program: needs.append(needed(program)) or needs[-1]
    )
    free = [10**9]
    monkeypatch.setattr(runtime, "free_memory", lambda: free[0])
    config = small_config()
    config.size = "96"
    config.steps = 1
    assert paint_picture.run(config, tmp_path / "first") == 0
    free[0] = int(0.7 * needs[0])
    with pytest.raises(InputError) as raised:
        paint_picture.run(config, tmp_path / "second")
    words = r"100x\d+ pixels \(with the margin\) need .* are free; a size of (\d+) would fit, and"
    config.size = re.match(words, str(raised.value))[1]
    assert 48 <= int(config.size) <= 80
    assert paint_picture.run(config, tmp_path / "third") == 0
    free[0] = 50_000  # less than the network's parameters
    with pytest.raises(InputError, match=r"0\.0 GB are free; free some of it\.$"):
        paint_picture.run(config, tmp_path / "fourth")
