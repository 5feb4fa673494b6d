"""Whole sweeps of tiny pictures: every cell is the run it would be alone, killed or not."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import gatys
from experiments import _launches, _planning, paint_picture, sweep
from jaxstyle.io import images
from jaxstyle.sweeps import results
from jaxstyle.sweeps.plan import read_plan
from jaxstyle.types import InputError

TEXTS = ("objective.beta=1,20", "objective.style_layers=relu1_1,relu1_1+relu2_1")


@pytest.fixture
def base(changed, pictures):
    """A recipe of ten steps of Adam on tiny pictures."""
    return changed(
        gatys.get_config("smoke"),
        {
            "content": str(pictures / "content.png"),
            "style": str(pictures / "style.png"),
            "size": "32",
            "steps": 10,
            "save_every": 5,
            "objective.content_layers": ("relu2_1",),
            "objective.style_layers": ("relu1_1", "relu2_1"),
            "solver.optimizer": "adam",
            "solver.learning_rate": 0.02,
        },
    )


def _run(base, folder, *texts, **request):
    return sweep.run(base, str(folder), _planning.Request(texts or TEXTS, **request))


def _cells(folder):
    return {path.name: path for path in sorted((folder / "cells").iterdir())}


def _picture(folder):
    return images.read(folder / "picture.png").pixels


def _same(one, other):
    """Two sweeps, cell by cell and byte by byte, but for the time it took."""
    first, second = _cells(one), _cells(other)
    assert first.keys() == second.keys() and first
    for name in first:
        for file in ("picture.png", "metrics.jsonl", "config.json"):
            assert (first[name] / file).read_bytes() == (second[name] / file).read_bytes(), name


CASES = [("adam", "vmap"), ("adam", "map"), ("lbfgs", "vmap"), ("lbfgs", "loop")]


@pytest.mark.parametrize(("optimizer", "form"), CASES)
def test_a_cell_is_the_run_it_would_be_alone(toy, base, changed, tmp_path, form, optimizer):
    rate = {"adam": 0.02, "lbfgs": 1.0}[optimizer]
    base = changed(base, {"solver.optimizer": optimizer, "solver.learning_rate": rate})
    texts = ("objective.beta=1,20", "start=content,noise", "objective.style_layers=relu1_1,relu2_1")
    assert _run(base, tmp_path / "sweep", *texts, form=form) == 0
    made = read_plan(tmp_path / "sweep")
    assert {launch.form for launch in made.launches} == {form}
    assert len({launch.group for launch in made.launches}) == 1
    # `vmap` adds in another order. Adam does not mind; L-BFGS, whose steps are differences of
    # gradients over differences of pictures, has lost three digits of its loss after ten steps.
    drifts = (optimizer, form) == ("lbfgs", "vmap")
    for number in (0, 7):
        folder = list(_cells(tmp_path / "sweep").values())[number]
        own = _launches.configured(base.to_dict(), made.cells[number])
        assert paint_picture.run(own, tmp_path / str(number)) == 0
        lane, alone = (
            [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
            for where in (folder, tmp_path / str(number))
        )
        assert [record["step"] for record in lane] == [record["step"] for record in alone]
        for one, other in zip(lane, alone, strict=True):
            for name in other:  # the lane also tells of layers that only others ask for
                tolerance = 0.02 if drifts else {"adam": 1e-5, "lbfgs": 1e-3}[optimizer]
                assert one[name] == pytest.approx(other[name], rel=tolerance), (name, one["step"])
        difference = np.abs(_picture(folder) - _picture(tmp_path / str(number)))
        # One level of the file, should a number lie on the edge between two.
        assert difference.max() <= (20.5 if drifts else 1.5) / 255
        record = json.loads((folder / "config.json").read_text())
        assert record == json.loads((tmp_path / str(number) / "config.json").read_text())


def test_everything_is_there(toy, base, tmp_path, capsys):
    assert _run(base, tmp_path) == 0
    for name in ("results.csv", "contact_sheet.png", "parameters.png", "report.html"):
        assert (tmp_path / name).stat().st_size > 100, name
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["objective.beta"] for row in rows] == ["1", "1", "20", "20"]
    assert [row["objective.style_layers"] for row in rows] == ["relu1_1", "relu1_1+relu2_1"] * 2
    for row in rows:
        last = (tmp_path / row["picture"]).parent / "metrics.jsonl"
        record = json.loads(last.read_text().splitlines()[-1])
        assert float(row["loss"]) == record["loss"] and row["steps"] == "10"
    assert "4 of 4 cells are done" in capsys.readouterr().out
    assert not list((tmp_path / "launches").iterdir())  # checkpoints of what is finished


def test_seeds_and_learning_rates_are_each_cells_own(toy, base, changed, tmp_path):
    base = changed(base, {"start": "noise"})
    assert _run(base, tmp_path, "seed=0..1", "solver.learning_rate=0.01,0.05") == 0
    pictures = [_picture(folder) for folder in _cells(tmp_path).values()]
    for i in range(4):
        for j in range(i):
            assert np.abs(pictures[i] - pictures[j]).max() > 0.02, (i, j)


def test_pictures_of_one_size_share_a_program_and_others_do_not(toy, base, pictures, tmp_path):
    style = f"style={pictures / 'style.png'},{pictures / 'red.png'}"
    assert _run(base, tmp_path, style, "size=32,48") == 0
    groups = {}
    made = read_plan(tmp_path)
    for launch in made.launches:
        groups.setdefault(launch.group, []).extend(made.cells[i]["size"] for i in launch.cells)
    assert sorted(map(sorted, groups.values())) == [["32", "32"], ["48", "48"]]


def test_scales_are_painted_lane_by_lane(toy, base, changed, tmp_path):
    base = changed(base, {"scales.smallest": 20, "scales.first_steps": 5, "steps": 5})
    assert _run(base, tmp_path / "sweep", form="vmap") == 0
    made = read_plan(tmp_path / "sweep")
    own = _launches.configured(base.to_dict(), made.cells[3])
    assert paint_picture.run(own, tmp_path / "alone") == 0
    folder = list(_cells(tmp_path / "sweep").values())[3]
    assert np.abs(_picture(folder) - _picture(tmp_path / "alone")).max() <= 1.5 / 255


def test_a_bad_cell_is_told_and_the_others_go_on(toy, base, tmp_path, capsys):
    assert _run(base, tmp_path, "objective.beta=1,1e38", form="vmap") == 1
    first, second = (results.read_result(folder) for folder in _cells(tmp_path).values())
    assert first.status == results.DONE
    assert second.status == results.NOT_FINITE and "NaN or infinite in step 1" in second.message
    assert second.name in capsys.readouterr().err
    assert np.isfinite(_picture(_cells(tmp_path)[second.name])).all()
    before = {f: (f / "result.json").stat().st_mtime_ns for f in _cells(tmp_path).values()}
    assert _run(base, tmp_path, "objective.beta=1,1e38", form="vmap") == 1  # again: nothing to do
    assert before == {f: (f / "result.json").stat().st_mtime_ns for f in before}


def test_a_launch_that_fails_is_tried_again(toy, base, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise InputError("the disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(_launches, "_through", full)
        assert _run(base, tmp_path, form="loop") == 1
    told = capsys.readouterr()
    assert told.err.count("the disk is full.") == 4 and "0 of 4 cells" in told.out
    assert _run(base, tmp_path, form="loop") == 0


def test_shards_do_everything_once(toy, base, tmp_path, capsys):
    for number in range(2):
        assert _run(base, tmp_path / "shards", form="loop", shard=f"{number}/2") == 0
        count = 2 * (number + 1)
        assert f"{count} of 4 cells" in capsys.readouterr().out
        assert len(list((tmp_path / "shards").glob("cells/*/result.json"))) == count
    assert _run(base, tmp_path / "whole", form="loop") == 0
    _same(tmp_path / "shards", tmp_path / "whole")


def test_a_url_gets_all_that_a_folder_gets(toy, base, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_SCRATCH", str(tmp_path / "scratch"))
    url = f"file://{tmp_path / 'remote'}"
    assert sweep.run(base, url, _planning.Request(TEXTS, form="loop")) == 0
    assert _run(base, tmp_path / "whole", form="loop") == 0
    _same(tmp_path / "remote", tmp_path / "whole")
    for name in ("report.html", "results.csv", "plan.json", "contact_sheet.png"):
        assert (tmp_path / "remote" / name).exists(), name
    # Killed between computing and sending: the next start sends, and computes nothing.
    lost = next(iter(_cells(tmp_path / "remote").values())) / "result.json"
    content = lost.read_bytes()
    lost.unlink()
    assert sweep.run(base, url, _planning.Request(TEXTS, form="loop")) == 0
    assert lost.read_bytes() == content


def test_other_recipes_are_runs_of_their_own(toy, changed, pictures, tmp_path, monkeypatch):
    from configs import reconstruct

    base = changed(
        reconstruct.get_config("smoke"),
        {
            "content": str(pictures / "content.png"),
            "style": str(pictures / "style.png"),
            "size": "32",
            "steps": 2,
            "save_every": 2,
            "grid.layers": ("relu1_1",),
            "objective.style_layers": ("relu1_1",),
        },
    )
    assert _run(base, tmp_path, "objective.tv=0,1") == 0
    made = read_plan(tmp_path)
    assert [launch.form for launch in made.launches] == ["run", "run"]
    for folder in _cells(tmp_path).values():
        assert results.read_result(folder).picture.name == "grid.png"


SCRIPT = """
import json, sys
import jax
from jaxstyle import runtime
runtime.setup(compilation_cache=False)
from experiments import _launches, _planning, _work, sweep
from jaxstyle import features
NETWORK = features.Network("toy", ((4, 5), (6, 5)), features.PLAIN, padding="reflect")
PARAMS = features.initialize(jax.random.key(1), NETWORK)
_work.perception = lambda config: (PARAMS, features.adjusted(NETWORK, pooling=config.pooling, padding=config.padding))
base = _launches.configured(json.loads(sys.argv[1]), {})
sys.exit(sweep.run(base, sys.argv[2], _planning.Request(tuple(sys.argv[4:]), form=sys.argv[3])))
"""  # noqa: E501


def _start(repository, base, folder, form):
    text = json.dumps(base.to_dict())
    command = [sys.executable, "-c", SCRIPT, text, str(folder), form, *TEXTS]
    environment = os.environ | {"PYTHONPATH": str(repository), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, env=environment, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.parametrize(("form", "how"), [("vmap", signal.SIGKILL), ("loop", signal.SIGTERM)])
def test_killed_and_started_again_it_loses_nothing(repository, base, changed, tmp_path, form, how):
    base = changed(base, {"steps": 60})

    def progress(folder):
        return sum(file.stat().st_size for file in folder.glob("cells/*/metrics.jsonl"))

    whole = _start(repository, base, tmp_path / "whole", form)
    killed = _start(repository, base, tmp_path / "killed", form)
    seen = 0
    for _ in range(2):  # in the middle of something, twice
        until = time.monotonic() + 120
        while progress(tmp_path / "killed") <= seen and killed.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
        seen = progress(tmp_path / "killed")
        killed.send_signal(how)
        out, _ = killed.communicate(timeout=120)
        assert killed.returncode in (-how, 128 + how, 0), out
        done = {f: f.read_bytes() for f in (tmp_path / "killed").glob("cells/*/result.json")}
        killed = _start(repository, base, tmp_path / "killed", form)
    out, _ = killed.communicate(timeout=240)
    assert killed.returncode == 0, out
    assert all(file.read_bytes() == content for file, content in done.items())
    out, _ = whole.communicate(timeout=240)
    assert whole.returncode == 0, out
    _same(tmp_path / "killed", tmp_path / "whole")


def test_the_folder_is_of_one_sweep(toy, base, tmp_path):
    assert _run(base, tmp_path, "seed=0,1") == 0
    with pytest.raises(InputError, match="other settings: sweep was"):
        _run(base, tmp_path, "seed=0,2")


def test_nothing_is_made_for_a_bad_request(toy, base, tmp_path):
    for texts, message in (
        (("objective.beta=1,-1",), "cell 0001_beta=-1: the weight"),
        (("objective.betta=1",), "did you mean objective.beta"),
        (("seed=a",), "not a whole number"),
        (("experiment=dream",), "cannot be swept"),
        (("style=nothing.jpg,starry",), "nothing.jpg"),
    ):
        with pytest.raises(InputError, match=message):
            _run(base, tmp_path / "new", *texts)
    for request in ({"executor": "slurm"}, {"form": "pmap"}, {"lanes": -1}, {"shard": "4/4"}):
        with pytest.raises(InputError):
            _run(base, tmp_path / "new", **request)
    assert not (tmp_path / "new").exists()
