"""Grids of pictures: cells and their weights, one program for all, resuming, bad cells."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from configs import layers_and_ratios, reconstruct
from experiments import _work, paint_grid
from jaxstyle import painter, policy
from jaxstyle.io import images
from jaxstyle.methods import per_image
from jaxstyle.types import InputError

CELLS = ["relu1_2-0.01", "relu1_2-0.1", "relu2_2-0.01", "relu2_2-0.1"]


@pytest.fixture(scope="module", autouse=True)
def quick(perceive):
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch, policy.formulation("plain"):
        patch.setattr(_work, "perception", perceive)
        yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def small(pictures, changed):
    """Return a function that makes a config small."""

    def small(recipe, **changes):
        given = {"content": "content", "style": "style", "size": "32", "solver.memory": 2}
        given |= changes
        for kind in ("content", "style"):
            given[kind] = str(pictures / f"{given[kind]}.png")
        return changed(recipe.get_config("smoke"), given)

    return small


@pytest.fixture(scope="module")
def finished(quick, small, tmp_path_factory):
    """The work folder of a finished grid, how often the loss was traced until each cell ended.

    And what made its programs, to paint with again.
    """
    folder = tmp_path_factory.mktemp("grid") / "run"
    loss, paint, build = per_image.loss, painter.paint, _work.build_many
    traced, counts, kept = [], [], []

    def counted(*arguments, **named):
        traced.append(1)
        return loss(*arguments, **named)

    def painted(*arguments, **named):
        outcome = paint(*arguments, **named)
        counts.append(len(traced))
        return outcome

    def built(*arguments):
        kept.append(build(*arguments))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_image, "loss", counted)
        patch.setattr(painter, "paint", painted)
        patch.setattr(_work, "build_many", built)
        assert paint_grid.run(small(layers_and_ratios), folder) == 0
    (work_of,) = kept
    return folder, counts, work_of


@pytest.fixture
def again(finished, monkeypatch):
    """Paint with the programs of the finished grid: they are functions of state and weights."""
    monkeypatch.setattr(_work, "build_many", lambda *_: finished[2])


def results(folder):
    files = [folder / "grid.png"]
    for name in CELLS:
        files += [folder / "cells" / name / file for file in ("picture.png", "metrics.jsonl")]
    return {file.relative_to(folder): file.read_bytes() for file in files}


def test_everything_is_there(finished):
    folder, _, _ = finished
    assert sorted(path.name for path in (folder / "cells").iterdir()) == CELLS
    seen = []
    for name in CELLS:
        with Image.open(folder / "cells" / name / "picture.png") as picture:
            assert picture.size == (32, 24)
            seen.append(np.asarray(picture).tobytes())
    assert len(set(seen)) == len(seen)
    for name, width in (("grid.png", 2 * 32), ("given.png", 2 * 32)):
        with Image.open(folder / name) as picture:
            assert picture.width >= width
            assert np.asarray(picture.convert("L")).std() > 5
    assert json.loads((folder / "config.json").read_text())


def test_the_loss_of_a_cell_has_the_cells_weights(finished):
    folder, _, _ = finished
    for name in CELLS:
        layer, _, ratio = name.partition("-")
        text = (folder / "cells" / name / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["step"] for line in lines] == [2, 4]
        for line in lines:
            style = (line["style/relu1_1"] + line["style/relu2_1"]) / 2
            content = line[f"content/{layer}"]
            expected = 5.0 * float(ratio) * content + 5.0 * style + 1.0 * line["tv"]
            assert line["loss"] == pytest.approx(expected, rel=1e-5)
            assert {"content/relu1_2", "content/relu2_2"} <= set(line)


def test_all_cells_share_their_programs(finished):
    _, counts, _ = finished
    assert len(counts) == 4 and counts[0] > 0
    assert counts == counts[:1] * 4


def test_the_reconstructions_are_a_grid_too(small, tmp_path):
    config = small(reconstruct, **{"steps": 2, "color.result": "style"})
    assert paint_grid.run(config, tmp_path / "run") == 0
    names = sorted(path.name for path in (tmp_path / "run" / "cells").iterdir())
    assert names == [
        "content-relu1_2",
        "content-relu2_2",
        "style-to-relu1_1",
        "style-to-relu2_1",
    ]
    with Image.open(tmp_path / "run" / "grid.png") as picture:
        assert picture.width >= 3 * 32 and picture.height >= 2 * 24  # what is given goes first
    last = tmp_path / "run" / "cells" / "style-to-relu2_1"
    line = json.loads((last / "metrics.jsonl").read_text().splitlines()[-1])
    expected = (line["style/relu1_1"] + line["style/relu2_1"]) / 2
    assert line["loss"] == pytest.approx(expected, rel=1e-5)
    with Image.open(last / "picture.png") as picture, Image.open(config.style) as style:
        # The style's histogram.
        have, want = (np.quantile(p, [0.1, 0.5, 0.9], axis=(0, 1)) for p in (picture, style))
        np.testing.assert_allclose(have, want, atol=3)


def weights_of(config):
    return {(cell.row, cell.column): cell.weights for cell in paint_grid.cells_of(config)}


GRID = {"grid.layers": ("relu1_2", "relu2_2"), "objective.beta": 6.0, "objective.alpha": 4.0}


def test_cells_of_reconstructions(small):
    assert weights_of(small(reconstruct, **GRID)) == {
        ("content", "relu1_2"): {"content/relu1_2": 4.0},
        ("content", "relu2_2"): {"content/relu2_2": 4.0},
        ("style", "to relu1_1"): {"style/relu1_1": 6.0},
        ("style", "to relu2_1"): {"style/relu1_1": 3.0, "style/relu2_1": 3.0},
    }


def test_cells_of_content_layers(small):
    config = small(layers_and_ratios, **GRID, **{"grid.ratios": (0.5, 0.25)})
    style = {"style/relu1_1": 3.0, "style/relu2_1": 3.0}
    assert weights_of(config) == {
        ("relu1_2", "0.5"): {"content/relu1_2": 3.0, **style},
        ("relu1_2", "0.25"): {"content/relu1_2": 1.5, **style},
        ("relu2_2", "0.5"): {"content/relu2_2": 3.0, **style},
        ("relu2_2", "0.25"): {"content/relu2_2": 1.5, **style},
    }


def test_cells_of_style_sets(small):
    """The content is taken from the last layer of the grid."""
    config = small(layers_and_ratios, **GRID, **{"grid.ratios": (0.5,), "grid.kind": "style_sets"})
    both = {"style/relu1_1": 3.0, "style/relu2_1": 3.0}
    assert weights_of(config) == {
        ("to relu1_1", "0.5"): {"content/relu2_2": 3.0, "style/relu1_1": 6.0},
        ("to relu2_1", "0.5"): {"content/relu2_2": 3.0, **both},
    }


class Killed(BaseException):
    """Ends a run without a word, as SIGKILL does."""


def test_killed_and_stopped_it_continues_to_the_same_bytes(
    finished, again, small, tmp_path, monkeypatch, capsys
):
    """Killed inside the second cell, stopped at the end of the third."""
    folder, _, _ = finished
    config, measured = small(layers_and_ratios), painter.MetricsFile.append

    def kill(self, step, values):
        measured(self, step, values)
        if self.path.parent.name == CELLS[1] and step == 4:
            raise Killed

    monkeypatch.setattr(painter.MetricsFile, "append", kill)
    with pytest.raises(Killed):
        paint_grid.run(config, tmp_path / "run")
    capsys.readouterr()

    def stop(self, step, values):
        measured(self, step, values)
        if self.path.parent.name == CELLS[2] and step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(painter.MetricsFile, "append", stop)
    assert paint_grid.run(config, tmp_path / "run") == 128 + signal.SIGTERM
    out = capsys.readouterr().out
    assert out.count("all steps are done") == 1 and "continuing from step 2 of 4" in out
    assert not (tmp_path / "run" / "grid.png").exists()

    def only_the_last(self, step, values):
        assert self.path.parent.name == CELLS[3]
        measured(self, step, values)

    monkeypatch.setattr(painter.MetricsFile, "append", only_the_last)
    assert paint_grid.run(config, tmp_path / "run") == 0
    assert capsys.readouterr().out.count("all steps are done") == 3
    assert results(tmp_path / "run") == results(folder)

    def never(self, step, values):
        raise AssertionError("painted again")

    monkeypatch.setattr(painter.MetricsFile, "append", never)
    assert paint_grid.run(config, tmp_path / "run") == 0
    assert results(tmp_path / "run") == results(folder)


@pytest.mark.usefixtures("again")
def test_a_cell_of_bad_numbers_stops_no_other_and_is_named(finished, small, tmp_path, capsys):
    # The content is met at first, and pulls with a force whose square is infinite from then on.
    config = small(layers_and_ratios, **{"grid.ratios": (1e30, 0.1), "save_every": 4})
    assert paint_grid.run(config, tmp_path / "run") == 1
    named = "the loss became NaN or infinite in: relu1_2, 1e+30; relu2_2, 1e+30\n"
    assert named in capsys.readouterr().out
    for name in ("relu1_2-0.1", "relu2_2-0.1"):
        one, other = (
            images.read(folder / "cells" / name / "picture.png").pixels
            for folder in (tmp_path / "run", finished[0])
        )
        np.testing.assert_allclose(one, other, atol=1.1 / 255)
    assert (tmp_path / "run" / "grid.png").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"grid.kind": "content_layer"}, "unknown kind of grid 'content_layer'; did you mean"),
        ({"grid.layers": ()}, "grid.layers is empty; name at least one layer"),
        ({"grid.layers": ("relu1_1", "relu1_1")}, "name a layer twice; name each once"),
        ({"grid.layers": ("relu9_1",)}, "unknown layer of toy 'relu9_1'"),
        ({"grid.ratios": ()}, "grid.ratios is empty; give at least one ratio"),
        ({"grid.ratios": (-0.1,)}, "the weight of content/relu1_2 is -0.1"),
        ({"objective.style_statistic": "gramm"}, "did you mean 'gram'"),
        ({"scales.smallest": 16}, "a grid is painted in one scale; set scales.smallest to 0"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"size": "12"}, "at least 16 each way are needed"),
        ({"masks": ("LEFT",)}, "a grid has one style, everywhere; give one, and no masks"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence_before_a_folder_is_made(
    small, pictures, tmp_path, changes, sentence
):
    if "masks" in changes:
        changes = {"masks": (str(pictures / "left.png"),)}
    with pytest.raises(InputError) as caught:
        paint_grid.run(
            small(layers_and_ratios, **{"objective.beta": 1.0} | changes), tmp_path / "run"
        )
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_no_cell_is_bad_before_a_folder_is_made(small, tmp_path):
    """Also when the first one is good."""
    config = small(layers_and_ratios, **{"grid.ratios": (0.1, -0.1)})
    with pytest.raises(InputError, match=r"the weight of content/relu1_2 is -0\.5"):
        paint_grid.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
