"""File names that are no UTF-8, no names at all, or more than a terminal can show."""

import json
import os
import pathlib
import subprocess
import sys

import fuzz_kit
import fuzz_seeds
import ml_collections
import pytest

from experiments import _launches
from jaxstyle import cli, workdir
from jaxstyle.commands import judging
from jaxstyle.data import photos
from jaxstyle.io import foreign_files, images, model_lists, models, paintings, scenes, stylize
from jaxstyle.sweeps import plan, results
from jaxstyle.types import InputError
from jaxstyle.weights import formats, load_weights, pth

ODD = os.fsdecode(b"caf\xe9 \xf0\x9f.png")  # bytes of Latin-1 and a broken emoji


def _is_text(file) -> dict:
    """Return a JSON file that any program can read."""
    return json.loads(file.read_text("utf-8", "strict"))


def test_a_work_folder_keeps_the_name(tmp_path):
    settings = {"style": ODD, "layers": ("ü", ODD), "seed": 1}
    for _ in range(2):  # made, and resumed
        workdir.claim(tmp_path / ODD, settings).release()
    assert _is_text(tmp_path / ODD / workdir.CONFIG_FILE)["style"] == ODD
    with pytest.raises(InputError, match="style was") as error:
        workdir.claim(tmp_path / ODD, settings | {"style": "other"})
    fuzz_kit.assert_sentence(str(error.value))
    # As versions before wrote it.
    old = json.dumps(settings, ensure_ascii=False).encode("utf-8", "surrogatepass")
    (tmp_path / ODD / workdir.CONFIG_FILE).write_bytes(old)
    workdir.claim(tmp_path / ODD, settings).release()


def test_a_sweep_keeps_the_name(tmp_path):
    made = plan.Plan(({"style": ODD},), (plan.Launch(0, 0, "run", (0,), 1, 5),))
    plan.write_plan(tmp_path, made)
    assert plan.read_plan(tmp_path) == made and _is_text(tmp_path / plan.PLAN_FILE)
    result = results.Result(0, "0000", {"style": ODD}, message=f"'{ODD}' is damaged.")
    results.write_result(tmp_path, result)
    assert results.read_result(tmp_path) == result and _is_text(tmp_path / results.RESULT_FILE)
    _launches._record(tmp_path / "cell", ml_collections.ConfigDict({"style": {"image": ODD}}))
    assert _is_text(tmp_path / "cell" / workdir.CONFIG_FILE) == {"style.image": ODD}


def test_a_table_of_judgements(tmp_path):
    judging._write_csv(str(tmp_path / ODD), [{"photograph": ODD, "ssim": 1.0}])
    assert (tmp_path / ODD).read_text("utf-8", "strict").count("\n") == 2


READERS = [
    images.read, images.read_size, models.load_model,
    lambda name: formats.read(pathlib.Path(name)),
    lambda name: foreign_files.read_arrays(pathlib.Path(name)),
    models.load_card, pth.read_pth, photos.open_photos, paintings.painting_file,
    scenes.read_styles, model_lists.find_models,
    lambda name: load_weights("vgg16", name),
    lambda name: workdir.claim(f"{name}/run", {}).release(),
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [ODD, "x" * 5000, "x/" * 3000, "~nobody/x.png", "a\nb.png", "/dev/zero", "."]
)
def test_names_of_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for read in READERS:
        try:
            read(name)
        except InputError as error:
            assert "Traceback" not in str(error)


TALK = r"""
import sys
arguments = sys.argv[1:]
from jaxstyle import cli
from jaxstyle.types import InputError
from jaxstyle.io import stylize
stylize.stylize = lambda model, stack, **_: stack
print("status", cli.main(arguments))
import launch
style = arguments[1] + "/broken\udcff.png"
sys.argv = ["launch.py", "--config=configs/gatys.py:smoke", "--config.style=" + style]
print("status", launch.main(sys.argv))
"""


@pytest.fixture
def pictures(tmp_path) -> pathlib.Path:
    """A folder of pictures with odd names, one of them broken."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"caf\xe9.png", "wärme.png".encode(), b"broken\xff.png"):
        content = fuzz_seeds.pictures()["png"] if b"broken" not in name else b"x"
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(content)
    return folder


def test_a_terminal_that_cannot_show_a_name(tmp_path, pictures, repository):
    out = tmp_path / f"Ü {ODD} out"
    arguments = ["stylize", str(pictures), "--model", "starry", "--out", str(out)]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", TALK, *map(os.fsencode, arguments)],
        cwd=repository,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "JAXSTYLE_COMPILATION_CACHE": "0", "PYTHONPATH": str(repository)}
        | {"PYTHONIOENCODING": "ascii:strict"}
        | ascii_only,
        capture_output=True,
    )
    said = done.stderr.decode("utf-8", "replace")
    assert b"Traceback" not in done.stderr and done.returncode == 0, said
    assert done.stdout.count(b"status") == 2 and b"status 1" in done.stdout, said
    assert b"2 pictures are in" in done.stdout and b"failed: " in done.stderr
    assert len([*out.iterdir()]) == 2


def test_a_terminal_that_shows_what_is_a_name(tmp_path, pictures, monkeypatch, capsys):
    """UTF-8, which has no letter for half of these."""
    monkeypatch.setattr(stylize, "stylize", lambda model, stack, **_: stack)
    out = tmp_path / f"Ü {ODD} out"
    assert cli.main(["stylize", str(pictures), "--model", "starry", "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "2 pictures are in" in said.out and "failed: " in said.err
    assert len([*out.iterdir()]) == 2
