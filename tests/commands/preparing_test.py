"""`python -m jaxstyle prepare`: what a user types and sees."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from jaxstyle import cli, runtime
from jaxstyle.data import open_photos, prepare_photos


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "setup", lambda: None)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(5):
        Image.new("RGB", (150, 100), (40 * k, 100, 200)).save(folder / f"{k}.png")
    return folder


def run(capsys, *arguments):
    status = cli.main(["prepare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_prepare(capsys, photos):
    status, out, err = run(capsys, "photos", "--out", "pack", "--size", 64)
    assert (status, err) == (0, "")
    first, last = out.splitlines()
    assert first.startswith("5 of 5 photographs are in pack, 5 of them reduced (")
    assert last == "  --config.data.photos=pack"
    assert open_photos("pack")[0].shape == (64, 96, 3)
    status, out, err = run(capsys, "photos", "--out", "pack", "--size", 64)
    assert (status, err) == (0, "")
    assert "was made before, of the same photographs and settings:" in out.splitlines()[0]


def test_photographs_that_cannot_be_read_are_named(capsys, photos):
    (photos / "bad\n.jpg").write_bytes(b"x")
    for _ in range(2):
        status, out, err = run(capsys, "photos", "--out", "p.array_record", "--quality", "raw")
        assert status == 1
        assert err == r"left out: 'bad\n.jpg': not a picture, or one broken at its start" + "\n"
        assert "5 of 6 photographs are in p.array_record, 0 of them reduced" in out


def test_refusals(capsys, photos):
    def refused(*arguments):
        status, out, err = run(capsys, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith("error: ")
        return err

    assert "do not exist" in refused("nowhere", "--out", "pack")
    assert "size 10 must be" in refused("photos", "--out", "pack", "--size", "10")
    assert "quality 101 must be" in refused("photos", "--out", "pack", "--quality", "101")
    assert "holds other files" in refused("photos", "--out", "photos")
    assert run(capsys, "photos", "--out", "pack", "--size", "64")[0] == 0
    assert "--overwrite replaces it" in refused("photos", "--out", "pack", "--size", "80")
    assert run(capsys, "photos", "--out", "pack", "--size", "80", "--overwrite")[0] == 0
    status, _, err = run(capsys, "photos", "--out", "pack", "--quality", "good")
    assert status == 2 and "'good' is neither a number nor 'raw'" in err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_command_goes_on(tmp_path, how, repository):
    (tmp_path / "photos").mkdir()
    # A first shard that is done at once, and a second that takes long enough to be hit.
    for count, size in ((512, (70, 70)), (40, (1600, 1200))):
        file = io.BytesIO()
        Image.new("RGB", size, "teal").save(file, "PNG")
        for k in range(count):
            (tmp_path / "photos" / f"{size[0]:04}-{k:03}.png").write_bytes(file.getvalue())

    def command():
        options = ["prepare", "photos", "--out", "pack", "--size", "64", "--workers", "1"]
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        return subprocess.Popen(
            [sys.executable, "-m", "jaxstyle", *options],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    process = command()
    work = tmp_path / "pack.unfinished" / "pack"
    while not list(work.glob("*-00000-*.array_record")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(how)
    _, errors = process.communicate()
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 130
        assert errors.startswith("interrupted: ")
        assert errors.endswith(" of 552 photographs; the same command goes on\n")
    assert not (tmp_path / "pack").exists()
    out, errors = command().communicate()
    assert errors == "" and out.startswith("512 photographs were done before\n")
    prepare_photos(tmp_path / "photos", tmp_path / "whole", size=64)
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert sorted(file.name for file in (tmp_path / "pack").iterdir()) == names
    for name in names:
        assert (tmp_path / "pack" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
