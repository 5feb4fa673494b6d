import io
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxstyle import cli, networks, runtime
from jaxstyle.commands import styles
from jaxstyle.io import images, models
from jaxstyle.io import stylize as stylize_room
from jaxstyle.methods.feedforward import StyleModel

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """The folder of a tiny model."""
    config = networks.TransformerConfig(widths=(4, 6), blocks=1, outer_kernels=(3, 3))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    models.save_model(folder, StyleModel(networks.init(jax.random.key(0), config), config), {})
    return os.fspath(folder)


@pytest.fixture(autouse=True)
def setups(monkeypatch) -> list[int]:
    """This process is set up already; count how often the command line asks for it."""
    calls: list[int] = []
    monkeypatch.setattr(runtime, "setup", lambda: calls.append(1))
    return calls


@pytest.fixture
def quick(monkeypatch):
    """A negative in place of the network, which takes seconds to compile."""

    def negative(model, image, *, strength, preserve_color, parity, precision):
        return image + strength * (1 - 2 * image)

    monkeypatch.setattr(stylize_room, "stylize", negative)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with three photos, one of them broken, in two folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/trip/ä.png", "b.jpg"):
        images.write(name, RNG.integers(0, 256, (16, 20, 3)) / 255)
    return tmp_path


def stylized(source, target) -> bool:
    with Image.open(source) as first, Image.open(target) as second:
        difference = 255 - np.asarray(first).astype(int) - np.asarray(second)
    return bool(np.abs(difference).max() <= (40 if str(source).endswith("jpg") else 0))


@pytest.mark.usefixtures("quick")
def test_files_folders_and_patterns_go_to_a_folder(folder, model, capsys, setups):
    status = cli.main(["stylize", "photos", "*.jpg", "--model", model, "--out", "painted"])
    out, err = capsys.readouterr()
    assert (status, err, setups) == (0, "", [1])
    for source, target in (("photos/a.png", "a.png"), ("photos/trip/ä.png", "trip/ä.png")):
        assert stylized(source, folder / "painted" / target)
        assert f"{source} -> painted/{target}\n" in out
    assert stylized("b.jpg", folder / "painted" / "b.jpg")
    assert out.splitlines()[-1].startswith("3 pictures are in painted (")


@pytest.mark.usefixtures("quick")
def test_one_picture_can_go_to_a_file(folder, model, capsys):
    assert cli.main(["stylize", "photos/a.png", "--model", model, "--out", "x/new.tif"]) == 0
    assert stylized("photos/a.png", "x/new.tif")
    assert "1 picture is in x/new.tif (" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_what_is_broken_is_named_and_the_rest_is_done(folder, model, capsys):
    (folder / "photos" / "broken.jpg").write_bytes(b"no picture")
    arguments = ["stylize", "photos", "nowhere.png", "b.jpg", "--model", model, "--out", "painted"]
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("3 pictures are in painted (")
    lines = err.splitlines()
    assert lines[0].startswith("failed: there is no file or folder 'nowhere.png'")
    assert lines[1].startswith("failed: 'photos/broken.jpg' is not a picture")
    assert lines[2:] == ["2 of 5 failed:", "  nowhere.png", "  photos/broken.jpg"]
    assert sorted(os.listdir("painted")) == ["a.png", "b.jpg", "trip"]


def test_the_options_reach_the_work(folder, model, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        stylize_room,
        "stylize_files",
        lambda model, jobs, **options: seen.update(options, jobs=jobs),
    )
    options = [
        "--strength",
        "0.3",
        "--preserve-color",
        "--parity",
        "--batch",
        "2",
        "--suffix",
        "_s",
        "--format",
        "webp",
    ]
    arguments = ["stylize", "b.jpg", "--model", model, "--out", "o", "--max-megapixels", "1.5"]
    assert cli.main([*arguments, *options]) == 0
    assert (seen["strength"], seen["preserve_color"], seen["batch"]) == (0.3, "luminance", 2)
    assert seen["parity"] is True
    assert seen["max_pixels"] == 1_500_000
    assert [job.target.as_posix() for job in seen["jobs"]] == ["o/b_s.webp"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], False),
        (["--preserve-color"], "luminance"),
        (["--preserve-color=luminance"], "luminance"),
        (["--preserve-color=match"], "match"),
        (["--preserve-color=histogram"], "histogram"),
    ],
)
def test_colors_are_preserved_as_told_and_the_flag_takes_no_input(
    folder, model, monkeypatch, options, expected
):
    seen = {}
    monkeypatch.setattr(
        stylize_room,
        "stylize_files",
        lambda model, jobs, **options: seen.update(options, jobs=jobs),
    )
    assert cli.main(["stylize", *options, "b.jpg", "--model", model, "--out", "o"]) == 0
    assert seen["preserve_color"] == expected
    assert [job.source.name for job in seen["jobs"]] == ["b.jpg"]


@pytest.mark.usefixtures("quick")
def test_after_two_dashes_all_are_names(folder, model):
    images.write("x.png", np.zeros((8, 8, 3)))
    os.rename("x.png", "--preserve-color")
    arguments = ["stylize", "--model", model, "--out", "o", "--format", "png", "--"]
    assert cli.main([*arguments, "--preserve-color"]) == 0
    assert os.listdir("o") == ["--preserve-color.png"]


@pytest.mark.usefixtures("quick")
def test_results_are_replaced_unless_they_shall_be_kept(folder, model, capsys):
    arguments = ["stylize", "photos", "--model", model, "--out", "painted"]
    assert cli.main(arguments) == 0
    images.write("painted/a.png", np.zeros((1, 1, 3)))
    (folder / "painted" / "trip" / "ä.png").unlink()
    assert cli.main([*arguments, "--skip-existing"]) == 0
    assert "1 picture is in painted (" in capsys.readouterr().out
    assert images.read_size("painted/a.png") == (1, 1)
    assert stylized("photos/trip/ä.png", "painted/trip/ä.png")
    assert cli.main(arguments) == 0
    assert stylized("photos/a.png", "painted/a.png")


@pytest.mark.usefixtures("quick")
def test_running_again_does_not_paint_the_results(folder, model, capsys):
    arguments = ["stylize", "photos", "--model", model, "--out", "photos/painted"]
    for _ in range(2):
        assert cli.main(arguments) == 0
        assert "2 pictures are in" in capsys.readouterr().out
    assert sorted(os.listdir("photos/painted")) == ["a.png", "trip"]


@pytest.mark.usefixtures("quick")
def test_notes_tell_what_a_user_would_not_expect(folder, model, capsys):
    Image.new("RGBA", (8, 8)).save("photos/trip/a.png")
    images.write("photos/a.jpg", np.zeros((8, 8, 3)))
    arguments = ["stylize", "photos/a.*", "photos/trip/a.png", "--model", model, "--out", "o"]
    assert cli.main([*arguments, "--format", "jpg"]) == 0
    out = capsys.readouterr().out
    assert "note: 'o/a-2.jpg' is numbered, as another result has the name" in out
    assert "note: 'o/a-3.jpg' cannot hold transparency; it was put on white" in out


# Several models.


@pytest.fixture
def several(model, tmp_path_factory) -> str:
    """A folder of two models."""
    folder = tmp_path_factory.mktemp("several")
    loaded, _ = models.load_model(model)
    for name in ("x", "y"):
        models.save_model(folder / name, loaded, {})
    return os.fspath(folder)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("written", ["DIR", "DIR/x,DIR/y", "DIR/x, DIR/y,DIR/x"])
def test_several_models_each_have_a_folder_and_all_a_sheet(folder, several, capsys, written):
    written = written.replace("DIR", several)
    assert cli.main(["stylize", "photos", "b.jpg", "--model", written, "--out", "o"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and sorted(os.listdir("o")) == ["contact_sheet.png", "x", "y"]
    for name in ("x", "y"):
        for source, target in (("photos/a.png", "a.png"), ("photos/trip/ä.png", "trip/ä.png")):
            assert stylized(source, folder / "o" / name / target)
            assert f"{source} -> o/{name}/{target}\n" in out
    assert "3 in 2 styles side by side: o/contact_sheet.png\n" in out
    assert out.splitlines()[-1].startswith("6 pictures are in o (")
    with Image.open("o/contact_sheet.png") as sheet:  # four in a row would be wider
        assert 3 * 256 < sheet.width < 4 * 256 and sheet.height > 3 * 200


@pytest.mark.usefixtures("quick")
def test_a_broken_picture_is_named_once_in_several_styles(folder, several, capsys):
    (folder / "photos" / "broken.jpg").write_bytes(b"no picture")
    assert cli.main(["stylize", "photos", "nix.png", "--model", several, "--out", "o"]) == 1
    out, err = capsys.readouterr()
    assert "2 of 3 in 2 styles side by side" in out and "4 pictures are in o (" in out
    lines = err.splitlines()
    assert lines[1].startswith("failed: 'photos/broken.jpg' is not a picture")
    assert lines[2:] == ["3 of 7 failed:", "  nix.png", "  photos/broken.jpg"]


@pytest.mark.usefixtures("quick")
def test_results_in_some_styles_are_kept_and_stand_on_the_sheet(folder, several, capsys):
    arguments = ["stylize", "photos", "--model", several, "--out", "photos/o"]
    assert cli.main(arguments) == 0
    (folder / "photos" / "o" / "y" / "a.png").unlink()
    images.write("photos/o/x/a.png", np.zeros((1, 1, 3)))
    capsys.readouterr()
    assert cli.main([*arguments, "--skip-existing"]) == 0
    out = capsys.readouterr().out
    assert "1 picture is in photos/o (" in out and "3 were there already" in out
    assert "2 in 2 styles side by side" in out
    assert images.read_size("photos/o/x/a.png") == (1, 1)
    assert stylized("photos/a.png", "photos/o/y/a.png")


@pytest.mark.usefixtures("quick")
def test_a_sheet_has_forty_photographs_at_most(folder, several, capsys, monkeypatch):
    monkeypatch.setattr(styles, "MOST_ON_SHEET", 1)
    assert cli.main(["stylize", "photos", "--model", several, "--out", "o"]) == 0
    assert "1 of 2 in 2 styles side by side" in capsys.readouterr().out
    with Image.open("o/contact_sheet.png") as sheet:
        assert sheet.height < 2 * 200


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["b.jpg", "--model", "DIR,nix", "--out", "o"], "unknown model 'nix'"),
        (["b.jpg", "--model", "DIR,", "--out", "o"], "names no model between two commas"),
        (["b.jpg", "--model", "DIR", "--out", "o.png"], "is one file for 2 models; give a folder"),
        (["contact_sheet.png", "--model", "DIR", "--out", "."], "overwrite the input"),
        (["nix.jpg", "--model", "DIR", "--out", "o"], "no file or folder 'nix.jpg'"),
        (["b.jpg", "--model", "DIR", "--out", "b.jpg"], "exists and is no folder"),
    ],
)
def test_wrong_usage_of_several_models(folder, several, capsys, arguments, message):
    images.write("contact_sheet.png", np.zeros((8, 8, 3)))
    before = sorted(folder.rglob("*"))
    arguments = [text.replace("DIR", several) for text in arguments]
    assert cli.main(["stylize", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and len(err.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


BAD_USAGE = [
    ([], "the following arguments are required: COMMAND"),
    (["paint"], "invalid choice: 'paint'"),
    (["stylize"], "the following arguments are required: IN"),
    (["stylize", "b.jpg", "--out", "o"], "required: --model"),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--strength", "much"], "--strength"),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--strength", "2"], "strength is 2.0"),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--batch", "0"], "the batch is 0"),
    (
        ["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--preserve-color=mach"],
        "way to preserve color 'mach'; did you mean 'match'? Choices: luminance, match, histogram.",
    ),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--preserve-color="], "color ''"),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--max-megapixels", "inf"], "inf is"),
    (["stylize", "b.jpg", "--model", "nix/nix", "--out", "o"], "no model folder 'nix/nix'"),
    (["stylize", "nix.jpg", "--model", "MODEL", "--out", "o"], "no file or folder 'nix.jpg'"),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "."], "would overwrite the input"),
    (["stylize", "photos", "--model", "MODEL", "--out", "c.jpg"], "one file for 2 pictures"),
    (["stylize", "b.jpg", "--model", "MODEL", "--out", "o", "--format", "x"], "format 'x'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USAGE)
def test_wrong_usage_is_status_2_and_one_error_line(folder, model, capsys, arguments, message):
    before = sorted(folder.rglob("*"))
    assert cli.main([model if text == "MODEL" else text for text in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err.splitlines()[-1]
    assert sum("error: " in line for line in err.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


def test_control_characters_in_names_stay_on_their_line(folder, model, capsys):
    assert cli.main(["stylize", "a\nb\x1b[31m.jpg", "--model", model, "--out", "o"]) == 2
    assert "'a\\nb\\x1b[31m.jpg'" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_names_that_are_not_unicode_are_painted_and_shown(folder, model, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    images.write(name, np.zeros((8, 8, 3)))
    assert cli.main(["stylize", name, "--model", model, "--out", "o"]) == 0
    assert "caf\\udce9.png -> o/caf\\udce9.png" in capsys.readouterr().out
    assert os.listdir("o") == [name]


def test_an_interruption_is_one_line(folder, model, capsys, monkeypatch):
    def interrupted(model, jobs, *, report, **options):
        report(stylize_room.Outcome(jobs[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(stylize_room, "stylize_files", interrupted)
    assert cli.main(["stylize", "photos", "--model", model, "--out", "o"]) == 130
    assert capsys.readouterr().err == "interrupted: 1 of 2 pictures are done\n"


def test_an_interruption_that_got_lost_in_a_callback_counts(folder, model, capsys, monkeypatch):
    class Collected:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def interrupted(model, jobs, *, report, **options):
        report(stylize_room.Outcome(jobs[0]))
        Collected()  # Python cannot raise out of __del__
        report(stylize_room.Outcome(jobs[1]))

    monkeypatch.setattr(stylize_room, "stylize_files", interrupted)
    handler, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    assert cli.main(["stylize", "photos", "--model", model, "--out", "o"]) == 130
    assert capsys.readouterr().err == "interrupted: 1 of 2 pictures are done\n"
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == (handler, hook)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("quick")
def test_on_a_terminal_a_bar_and_only_what_matters(folder, model, monkeypatch):
    (folder / "photos" / "[red]broken.jpg").write_bytes(b"no picture")
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    assert cli.main(["stylize", "photos", "--model", model, "--out", "o"]) == 1
    assert out.getvalue().startswith("2 pictures are in o (")
    assert "stylizing" in err.getvalue() and "3/3" in err.getvalue()
    assert "failed: 'photos/[red]broken.jpg' is not a picture" in err.getvalue()
    assert "->" not in out.getvalue() + err.getvalue()


def test_the_shipped_models_are_listed(model, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(models, "_shipped", lambda: tmp_path)
    assert cli.main(["models"]) == 0
    assert "no models come with this version" in capsys.readouterr().out
    loaded, _ = models.load_model(model)
    models.save_model(tmp_path / "starry", loaded, {"license": "CC0-1.0"})
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.split() == ["starry", "0.00", "M", "parameters", "CC0-1.0"]


def run(*arguments: str, cwd, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.fspath(cwd), "JAXSTYLE_COMPILATION_CACHE": "0"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", **options
    )


@pytest.mark.parametrize("arguments", [["--help"], ["stylize", "--help"], ["--version"], ["nix"]])
def test_help_does_not_start_jax(repository, arguments):
    program = (
        "import sys; from jaxstyle.cli import main; status = main(sys.argv[1:]); "
        "loaded = {'jax', 'numpy', 'PIL', 'rich'} & sys.modules.keys(); "
        "assert not loaded, loaded; sys.exit(status)"
    )
    result = run("-c", program, *arguments, cwd=repository)
    assert result.returncode == (2 if arguments == ["nix"] else 0), result.stderr
    assert "usage: jaxstyle" in result.stdout + result.stderr or arguments == ["--version"]


def test_the_whole_command_in_its_own_process(repository, folder, model):
    """From the command line to files, with the network itself and no stand-in."""
    os.mkdir("in")
    for name, mode in (("gray.png", "L"), ("ink.tif", "CMYK"), ("clear.webp", "RGBA")):
        array = RNG.integers(0, 256, (12, 14, 4), dtype=np.uint8)
        Image.fromarray(array).convert(mode).save(folder / "in" / name)
    (folder / "in" / "broken.png").write_bytes(b"")
    arguments = ["-m", "jaxstyle", "stylize", str(folder / "in"), "--model", model]
    result = run(*arguments, "--out", str(folder / "o"), cwd=repository)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "1 of 4 failed:" in result.stderr and "3 pictures are in" in result.stdout
    for name, mode in (("gray.png", "RGB"), ("ink.tif", "RGB"), ("clear.webp", "RGBA")):
        with Image.open(folder / "o" / name) as image:
            assert (image.mode, image.size) == (mode, (14, 12))


def test_a_reader_that_stops_listening_is_no_error(repository):
    program = "import sys; from jaxstyle.cli import main; sys.exit(main(['models']))"
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "JAXSTYLE_COMPILATION_CACHE": "0"}
    result = subprocess.run(
        [sys.executable, "-u", "-c", program],
        cwd=repository,
        env=environment,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert "Traceback" not in result.stderr and result.returncode in (1, -signal.SIGPIPE)


def test_cards_stay_readable_for_other_programs(model):
    with open(os.path.join(model, "card.json"), encoding="utf-8") as file:
        assert json.load(file)["format"] == "jaxstyle-model"
