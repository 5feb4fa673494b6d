"""`python -m jaxstyle import`: what a user types and sees."""

import json

import numpy as np
import pytest

from jaxstyle import cli, runtime
from jaxstyle.io import foreign
from jaxstyle.io.foreign_tables import ARCHITECTURES


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "setup", lambda: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def net(tmp_path):
    """A network of three styles, as Magenta names it."""
    about, arrays = ARCHITECTURES["magenta"], {}
    for place, shape in foreign._shapes(about.config).items():
        shape = (3, *shape) if len(shape) == 1 else shape
        arrays[about.names()[place]] = np.full(shape, 0.25, np.float32)
    np.savez(tmp_path / "net.npz", **arrays)
    return "net.npz"


def test_import(net, tmp_path, capsys):
    arguments = ["import", net, "--out", "models/x", "--style", "2", "--name", "Rain"]
    assert cli.main([*arguments, "--license", "CC0", "--architecture", "magenta"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "a magenta network is in models/x; paint with it:",
        "  jaxstyle stylize photo.jpg --model models/x --out painted.jpg",
    ]
    card = json.loads((tmp_path / "models/x/card.json").read_text())
    assert (card["style"]["title"], card["license"]) == ("Rain", "CC0")


def test_a_license_that_nobody_stated_is_mentioned(net, capsys):
    assert cli.main(["import", net, "--out", "x", "--style", "0"]) == 0
    assert "not stated; ask whoever trained the network (--license TEXT)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.npz"], "there is no file 'missing.npz'"),
        (["net.npz"], "holds 3 styles; choose one, 0 to 2 (--style 0)"),
        (["net.npz", "--architecture", "fast_neural_style"], "give --architecture magenta"),
        (["net.npz", "--architecture", "magneta"], "magenta"),
    ],
)
def test_mistakes_are_one_line(net, tmp_path, capsys, arguments, message):
    assert cli.main(["import", *arguments, "--out", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_the_list_of_paintings(capsys):
    assert cli.main(["paintings"]) == 0
    out = capsys.readouterr().out
    assert "starry-night" in out and "Wikimedia Commons" in out
