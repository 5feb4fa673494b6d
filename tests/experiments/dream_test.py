"""Whole dreams, tiny: results, zooms that are stopped and killed, bad numbers and refusals."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import deepdream as recipe
from experiments import dream
from jaxstyle import runtime
from jaxstyle.io import images
from jaxstyle.methods.deepdream import with_colors_of, zoom
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.types import InputError


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def small_config():
    """Less than `smoke`, but of three frames."""
    config = recipe.get_config("smoke")
    config.size = "32"
    config.frames = 3
    config.dream.layers = ("relu1_2",)
    config.dream.octave_scale = 1.2
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The work folder of three frames that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert dream.run(small_config(), folder) == 0
    return folder


def results(folder):
    names = ["picture.png", "metrics.jsonl", "strip.png", "octaves/1.png", "octaves/2.png"]
    frames = [f"frames/{frame:05d}.png" for frame in range(3)]
    return {name: (folder / name).read_bytes() for name in names + frames}


def test_the_smoke_variant_leaves_everything(tmp_path, capsys):
    assert dream.run(recipe.get_config("smoke"), tmp_path / "run") == 0
    folder = tmp_path / "run"
    with Image.open(folder / "picture.png") as picture:
        assert picture.size == (48, 32)
        noted = json.loads(picture.text["jaxstyle"])
    assert noted["frame"] == 1 and noted["dream.octaves"] == 2 and noted["dream.channel"] == -1
    assert sorted(p.name for p in (folder / "frames").iterdir()) == ["00000.png", "00001.png"]
    assert sorted(p.name for p in (folder / "octaves").iterdir()) == ["1.png", "2.png"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["loss"] < line["first_loss"] < 0 for line in lines)
    with Image.open(folder / "strip.png") as strip:
        assert np.asarray(strip.convert("L")).std() > 5
    assert not (folder / "octave.npz").exists()
    assert "picture.png" in capsys.readouterr().out


def test_one_picture_has_no_frames_and_its_octaves_without_the_margin(tmp_path):
    config = small_config()
    config.frames = 1
    config.margin = 8
    assert dream.run(config, tmp_path / "run") == 0
    assert not (tmp_path / "run" / "frames").exists()
    sizes = [images.read(tmp_path / "run" / "octaves" / f"{i}.png").pixels.shape for i in (1, 2)]
    assert sizes[1] == (21, 32, 3) and sizes[0] == (17, 26, 3)
    last = images.read(tmp_path / "run" / "octaves" / "2.png").pixels
    np.testing.assert_array_equal(images.read(tmp_path / "run" / "picture.png").pixels, last)
    first = dream.picture_of(config)[1]
    assert 0.001 < np.abs(last - first).mean() < 0.1


def test_a_frame_is_dreamt_of_the_middle_of_the_one_before(tmp_path, whole):
    """From its file: a run that has only that makes the same next one."""
    config = small_config()
    program = dream.prepare(config, dream.picture_of(config)[1])
    before = images.read(whole / "frames" / "00001.png").pixels
    base = jnp.pad(zoom(jnp.asarray(before), 1.05), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    picture, _ = program(0, base, None, config.seed + 2)
    picture, _ = program(1, base, picture, config.seed + 2)
    first = dream.picture_of(config)[1]
    picture = with_colors_of(first, picture[2:-2, 2:-2], config.keep_colors)
    third = images.read(whole / "frames" / "00002.png").pixels
    np.testing.assert_allclose(picture, third, atol=0.51 / 255)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("octave", [2, 3])
def test_stopped_and_started_again_it_gives_the_same_bytes(
    tmp_path, monkeypatch, capsys, number, octave, whole
):
    measured = MetricsFile.append

    def append(self, step, values):
        measured(self, step, values)
        if step == octave:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(MetricsFile, "append", append)
    assert dream.run(small_config(), tmp_path / "run") == 128 + number
    told = f"stopped after octave {octave} of 6; the same command continues"
    assert told in capsys.readouterr().out
    monkeypatch.undo()
    assert dream.run(small_config(), tmp_path / "run") == 0
    assert f"continuing at octave {octave} of 6" in capsys.readouterr().out
    assert results(tmp_path / "run") == results(whole)


class Killed(BaseException):
    """What no program can answer."""


@pytest.mark.parametrize("writes", [3, 4, 5, 6])
def test_killed_between_two_files_it_gives_the_same_bytes(tmp_path, monkeypatch, whole, writes):
    """Wherever in the second frame: the metrics may be ahead of the pictures."""
    written, count = images.write, []

    def write(path, *arguments, **options):
        count.append(path)
        if len(count) > writes:
            raise Killed
        written(path, *arguments, **options)

    monkeypatch.setattr(images, "write", write)
    with pytest.raises(Killed):
        dream.run(small_config(), tmp_path / "run")
    monkeypatch.undo()
    assert dream.run(small_config(), tmp_path / "run") == 0
    assert results(tmp_path / "run") == results(whole)


def test_a_finished_run_computes_nothing(tmp_path, monkeypatch, capsys, whole):
    before = results(whole)
    assert dream.run(small_config(), whole) == 0
    assert "all is done" in capsys.readouterr().out
    assert results(whole) == before


def test_bad_numbers_end_the_run(tmp_path, monkeypatch, capsys):
    prepared = dream.prepare

    def prepare(config, first):
        program = prepared(config, first)

        def bad(octave, image, before, seed):
            picture, history = program(octave, image, before, seed)
            return (picture * jnp.nan if octave else picture), history

        return bad

    monkeypatch.setattr(dream, "prepare", prepare)
    assert dream.run(small_config(), tmp_path / "run") == 1
    assert "became NaN or infinite in octave 2" in capsys.readouterr().out
    assert not (tmp_path / "run" / "frames").exists()
    assert (tmp_path / "run" / "octaves" / "1.png").exists()


def test_a_guide_changes_the_dream(tmp_path):
    pictures = []
    for guide in ("", "starry"):
        config = small_config()
        config.frames, config.guide, config.guide_size = 1, guide, 32
        assert dream.run(config, tmp_path / f"run{guide}") == 0
        pictures.append(images.read(tmp_path / f"run{guide}" / "picture.png").pixels)
    assert np.abs(pictures[0] - pictures[1]).mean() > 1e-3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"content": "no.jpg"}, "no.jpg"),
        ({"content": "skimage/chelse"}, "did you mean 'chelsea'"),
        ({"guide": "no.jpg"}, "no.jpg"),
        ({"size": "big"}, "size is 'big'; give a number of pixels, e.g. 512, or 'original'"),
        ({"size": "20", "margin": 0, "dream.octaves": 1}, "the picture is 20x13 pixels; 16 each"),
        ({"dream.octaves": 9}, "the smallest of 9 octaves would be"),
        ({"dream.octaves": 0}, "octaves is 0; at least 1"),
        ({"margin": -1}, "margin is -1; choose 0 to 1023"),
        ({"keep_colors": 1.5}, "keep_colors is 1.5; choose 0 to 1"),
        ({"zoom": 0.9}, "the zoom is 0.9; choose 1 or a little more"),
        ({"frames": 0}, "frames is 0; it must be at least 1"),
        ({"dream.steps": 0}, "steps is 0; at least 1"),
        ({"dream.step_size": float("inf")}, "step_size is inf; give 0 or more"),
        ({"dream.tv": -1.0}, "tv is -1.0; give 0 or more"),
        ({"dream.layers": ("relu4_9",)}, "unknown layer of embedded 'relu4_9'"),
        ({"dream.channel": 16}, "there is no channel 16; the layer has 16, 0 to 15"),
        ({"dream.channel": 3, "guide": "starry"}, "a guided dream takes all channels"),
        ({"dream.layer_weights": (-1.0,)}, "the weight of relu1_2 is -1.0; weights are 0 or more"),
        ({"dream.layer_weights": (1.0, 2.0)}, "layer_weights have the shape (2,) for 1 layers"),
        ({"dream.normalize": "googel"}, "did you mean 'google'"),
        ({"features.name": "vgg11"}, "unknown network 'vgg11'"),
        ({"features.pooling": "mean"}, "unknown pooling 'mean'"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence_before_a_folder_is_made(tmp_path, change, sentence):
    config = small_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError) as caught:
        dream.run(config, tmp_path / "run")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_size_beyond_memory_is_refused_with_one_that_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "needed_memory", lambda program: 10_000_000_000)
    monkeypatch.setattr(runtime, "free_memory", lambda: 9_000_000_000)
    with pytest.raises(InputError, match="need 10.0 GB, but 9.0 GB are free; a size of 16 would"):
        dream.run(small_config(), tmp_path / "run")
