"""A picture painted from coarse to fine: one run, whatever interrupts it."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from configs import gatys_multiscale
from experiments import _work, paint_picture
from jaxstyle import optimize, painter, policy
from jaxstyle.io import images
from jaxstyle.types import InputError


@pytest.fixture(scope="module", autouse=True)
def quick(perceive):
    """Compile fast, not well; and each program once, since what it computes is a function."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    kept, build = {}, _work.build

    def build_once(config, scene, loaded, *, steps):
        size = scene.content.shape
        if size not in kept:
            kept[size] = build(config, scene, loaded, steps=steps)
        return kept[size]

    with pytest.MonkeyPatch.context() as patch, policy.formulation("plain"):
        patch.setattr(_work, "perception", perceive)
        patch.setattr(_work, "build", build_once)
        yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def config(pictures, changed):
    return small_config(pictures, changed)


def small_config(pictures, changed):
    """Two scales, 23 and 32 pixels wide; new directions in every chunk of either."""
    changes = {
        "content": str(pictures / "content.png"),
        "style": str(pictures / "style.png"),
        "size": "32",
        "start": "noise",
        "scales.smallest": 20,
        "objective.content_layers": ("relu1_2",),
        "objective.style_layers": ("relu1_1",),
        "objective.style_statistic": "sliced",
        "solver.average": 0.9,
    }
    return changed(gatys_multiscale.get_config("smoke"), changes)


def results(folder):
    files = sorted(p.name for p in (folder / "iterates").iterdir())
    content = {name: (folder / "iterates" / name).read_bytes() for name in files}
    return content | {n: (folder / n).read_bytes() for n in ("picture.png", "metrics.jsonl")}


@pytest.fixture(scope="module")
def whole(quick, pictures, changed, tmp_path_factory):
    """The work folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert paint_picture.run(small_config(pictures, changed), folder) == 0
    return folder


def test_its_steps_are_those_of_the_run(whole):
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    sizes = {}
    for file in sorted((whole / "iterates").iterdir()):
        with Image.open(file) as picture:
            sizes[file.stem] = picture.size
    small, large = (23, 17), (32, 24)
    assert sizes == {"00002": small, "00004": small, "00006": large, "00008": large}
    with Image.open(whole / "picture.png") as picture:
        assert picture.size == large and json.loads(picture.text["jaxstyle"])["step"] == 8
    assert (whole / "strip.png").exists() and (whole / "loss.png").exists()


def test_each_scale_begins_with_the_picture_of_the_last(whole):
    """Two steps on, what is shown is the average of that and of one step, 0.02 at most."""
    first = images.read(whole / "iterates" / "00004.png").pixels
    with Image.open(whole / "iterates" / "00004.png") as picture:
        enlarged = np.asarray(picture.resize((32, 24), Image.Resampling.BICUBIC)) / 255
    second = images.read(whole / "iterates" / "00006.png").pixels
    assert np.abs(second - enlarged).max() < 0.025
    assert first.std() > 0.1  # noise, of which other pixels would have been drawn


@pytest.mark.parametrize("step", [2, 4, 6])
def test_stopped_in_any_scale_it_continues_to_the_same_bytes(
    whole, config, tmp_path, monkeypatch, capsys, step
):
    measured = painter.MetricsFile.append

    def append(self, at, values):
        measured(self, at, values)
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(paint_picture, "_show", lambda *_: None)
    monkeypatch.setattr(painter.MetricsFile, "append", append)
    assert paint_picture.run(config, tmp_path / "run") == 128 + signal.SIGTERM
    assert f"stopped at step {step}; the same command continues" in capsys.readouterr().out
    monkeypatch.setattr(painter.MetricsFile, "append", measured)
    assert paint_picture.run(config, tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert f"continuing from step {step} of 8" in out
    assert ("scale 1 of 2" in out) == (step <= 4) and "scale 2 of 2" in out
    assert results(tmp_path / "run") == results(whole)
    assert paint_picture.run(config, tmp_path / "run") == 0
    assert "all steps are done" in capsys.readouterr().out
    assert results(tmp_path / "run") == results(whole)


@pytest.mark.parametrize("leftover", ["00000002.draft", "00000002.unreadable"])
def test_killed_while_the_first_checkpoint_of_a_scale_was_saved(
    whole, config, tmp_path, monkeypatch, leftover
):
    """What is left of it is no beginning of that scale, which would be that of the whole run."""
    monkeypatch.setattr(paint_picture, "_show", lambda *_: None)
    saved = painter.Checkpointer.save

    class Killed(BaseException):
        pass

    def save(self, step, state, notes):
        if self.folder.parent.name == "00032":
            (self.folder / leftover).mkdir()
            raise Killed
        saved(self, step, state, notes)

    monkeypatch.setattr(painter.Checkpointer, "save", save)
    with pytest.raises(Killed):
        paint_picture.run(config, tmp_path / "run")
    monkeypatch.setattr(painter.Checkpointer, "save", saved)
    assert paint_picture.run(config, tmp_path / "run") == 0
    assert results(tmp_path / "run") == results(whole)


def test_bad_numbers_in_one_scale_end_the_run_there(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paint_picture, "_show", lambda *_: None)

    def broken(state, size, solver, *, margin):
        moved = optimize.rescaled(state, size, solver, margin=margin)
        bad = jax.tree.map(lambda x: x * np.nan if x.ndim else x, moved.solver)
        return dataclasses.replace(moved, solver=bad)

    class Optimize:
        """As `optimize`, but what Adam knows breaks between the scales."""

        rescaled = staticmethod(broken)
        NOT_FINITE = optimize.NOT_FINITE
        scales = staticmethod(optimize.scales)

    monkeypatch.setattr(paint_picture, "optimize", Optimize)
    assert paint_picture.run(config, tmp_path / "run") == 1
    assert "became NaN or infinite in step 5; " in capsys.readouterr().out
    with Image.open(tmp_path / "run" / "picture.png") as picture:
        assert picture.size == (32, 24) and json.loads(picture.text["jaxstyle"])["step"] == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scales.ratio": 1.0}, "the ratio of scales is 1.0; give one above 1"),
        ({"scales.smallest": -3}, "sizes from -3 to 32; give at least 1"),
        ({"scales.smallest": 8}, "pixels; at least 16 each way"),
        ({"scales.first_steps": -2}, "first_steps is -2; it must be at least 1"),
    ],
    ids=str,
)
def test_scales_that_cannot_be_are_refused_before_a_folder_is_made(
    config, changed, tmp_path, change, sentence
):
    with pytest.raises(InputError) as caught:
        paint_picture.run(changed(config, change), tmp_path / "run")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
