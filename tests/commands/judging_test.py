"""`python -m jaxstyle judge`: a table, a CSV, and one line for each mistake."""

import csv
import types

import jax
import numpy as np
import pytest

from jaxstyle import cli, features, metrics, runtime, weights
from jaxstyle.io import images

RNG = np.random.default_rng(4)
SMALL = features.Network("small", ((4, 4), (6,)))


@pytest.fixture(scope="module")
def small():
    return types.SimpleNamespace(
        params=features.initialize(jax.random.key(0), SMALL), network=SMALL
    )


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch, small):
    """Three photographs, two stylized, a painting, and a network that compiles quickly."""
    monkeypatch.setattr(runtime, "setup", lambda: None)
    monkeypatch.setattr(weights, "load_weights", lambda name, file: small)
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/b.png", "photos/c.png", "painted/a_x.png", "wave.png"):
        images.write(name, RNG.random((16, 20, 3)))
    images.write("painted/b.png", images.read("wave.png").pixels)


def judge(*arguments):
    return cli.main(["judge", *arguments, "--size", "0", "--style-size", "0"])


def test_a_table_and_a_csv(tmp_path, capsys, small):
    assert judge("wave.png", "photos", "painted", "--csv", "out/numbers.csv") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[1].endswith("  a_x.png") and lines[2].endswith("  b.png")
    assert "means of 2 pictures, as small, content by relu2_1 sees them:" in out
    assert lines[-1] == "all numbers are in out/numbers.csv"
    with open("out/numbers.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["photograph"], first["stylized"]) == ("photos/a.png", "painted/a_x.png")
    photo, painted, wave = (
        images.read(name).pixels for name in ("photos/a.png", "painted/a_x.png", "wave.png")
    )
    examiner = metrics.prepare_judge(small.params, SMALL, wave)
    expected = metrics.judge(examiner, photo, painted)
    assert {name: float(first[name]) for name in expected} == {
        name: float(value) for name, value in expected.items()
    }
    assert float(second["style"]) == float(second["color"]) == 0  # it is the painting itself
    assert lines[2].split()[:4] == ["0.000", "100.0%", "0.000", "100.0%"]
    table = {line[:24].strip(): line[24:].split() for line in lines[6:-1]}
    mean = (float(first["style/relu1_1"]) + float(second["style/relu1_1"])) / 2
    base = (float(first["style/relu1_1_photo"]) + float(second["style/relu1_1_photo"])) / 2
    assert table["style relu1_1"] == [f"{base:.4f}", f"{mean:.4f}", f"{1 - mean / base:.1%}"]
    assert table["content"][0] == "0.0000" and table["SSIM"][0] == "1.0000"


def test_what_is_above_the_photograph_is_a_multiple(capsys):
    """The photograph is the painting but for a little noise; the picture is something else."""
    wave = images.read("wave.png").pixels
    images.write("near.png", np.clip(wave + 0.01, 0, 1))
    assert judge("wave.png", "near.png", "photos/a.png") == 0
    lines = capsys.readouterr().out.splitlines()
    (color,) = (line for line in lines if line.startswith("color"))
    before, after, ratio, unit = color[24:].split()
    assert unit == "times" and float(ratio) > 2
    assert float(after) / float(before) == pytest.approx(float(ratio), rel=0.1)


def test_single_files_and_chosen_layers(capsys):
    options = ["--style-layers", "relu1_2", "--content-layer", "conv1_1"]
    assert judge("wave.png", "photos/c.png", "painted/b.png", *options) == 0
    out = capsys.readouterr().out
    assert "style relu1_2" in out and "style relu1_1" not in out
    assert "content by conv1_1" in out


def test_pictures_without_a_photograph_are_named(capsys):
    images.write("painted/zebra.png", RNG.random((16, 20, 3)))
    assert judge("wave.png", "photos", "painted") == 0
    assert "note: 'painted/zebra.png' was left out" in capsys.readouterr().out


def test_a_bad_picture_stops_nothing(capsys, tmp_path):
    (tmp_path / "painted" / "c.png").write_bytes(b"no picture")
    images.write("painted/a_x.png", RNG.random((16, 40, 3)))
    assert judge("wave.png", "photos", "painted") == 1
    out, err = capsys.readouterr()
    assert "means of 1 picture," in out
    assert err.count("\n") == 2 and "painted/c.png" in err and "'painted/a_x.png' 40x16" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wave.png", "nowhere", "painted"], "there is no file or folder 'nowhere'"),
        (["wave.png", "photos", "nowhere"], "there is no file or folder 'nowhere'"),
        (["missing.png", "photos", "painted"], "there is no file 'missing.png'"),
        (["wavy", "photos", "painted"], "A path to a picture works too"),
        (["wave.png", "photos/c.png", "painted"], "has the name of one in 'photos/c.png'"),
        (["wave.png", "photos", "painted", "--content-layer", "relu9"], "relu9"),
        (["wave.png", "photos", "painted", "--csv", "wave.png/x.csv"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert judge(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_sizes_below_zero_are_refused(capsys):
    assert cli.main(["judge", "wave.png", "photos", "painted", "--size", "-3"]) == 2
    assert "-3 is below 0" in capsys.readouterr().err
