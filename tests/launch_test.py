"""The front door `launch.py`: what it refuses, how it says so, and where a run goes."""

import json
import os
import subprocess
import sys

import pytest

# Absl's flags belong to a process, and a process costs seconds of imports: one imports everything
# and forks for each command line, before JAX starts.
SERVER = """
import contextlib, json, os, pathlib, sys, traceback
import launch, experiments.train_feedforward
from jaxstyle.types import InputError

class Stub:  # in the place of experiments/paint_starry.py
    def run(config, folder):
        if config.height == 13: raise InputError("thirteen rows\\nbring bad luck")
        if config.height == 14: raise ValueError("a defect of ours")
        print(folder)
        return 130 if config.height == 12 else 0

sys.modules["experiments.paint_starry"] = Stub
for number, arguments in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        sys.argv = ["launch.py", *arguments]
        with open(f"out{number}", "w") as out, open(f"err{number}", "w") as err:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status = launch.main(sys.argv)
                except BaseException:
                    traceback.print_exc()
                    status = 1
        os._exit(status)
    pathlib.Path(f"status{number}").write_text(str(os.waitstatus_to_exitcode(os.wait()[1])))
"""

FAST, PAINT = "configs/starry_fast.py:smoke", "configs/paint_starry.py:smoke"
# Command line -> what the one line of the refusal holds.
REFUSED = {
    (): "no config was given; try --config configs/starry_fast.py.",
    ("--config=configs/nothing.py",): "there is no config file 'configs/nothing.py'",
    ("--config=README.md",): "invalid syntax (README.md, line 1)",
    ("--config=configs/starry_fast.py:smoek",): (
        "unknown variant 'smoek'; this config has smoke, full, paper, reference"
    ),
    (f"--config={FAST}", "--ray_gpus=1"): "--ray_gpus is for sweeps; add e.g. --sweep seed=0..3.",
    (f"--config={FAST}", "--shard=0/2"): "--shard is for sweeps",
    (
        f"--config={FAST}",
        "--sweep=warm",
    ): "'warm' is not KEY=VALUES, and configs/",
    (f"--config={FAST}", "--sweep=sed=1"): "no key sed to sweep; did you mean seed?",
    ("--config=other.py",): "unknown experiment 'train_feedforwards'; did you mean",
    (
        "--conifg=configs/starry_fast.py",
    ): "Unknown command line flag 'conifg'. Did you mean: config",
    (f"--config={FAST}", "--config.style.wieght=3"): (
        "the config has no key 'wieght'; Did you mean \"weight\""
    ),
    (f"--config={FAST}", "--config.zzz=3"): "the config has no key 'zzz'",
    (f"--config={FAST}", "--config.steps=many"): "--config.steps=many: invalid literal for int()",
    (f"--config={FAST}", "stray"): "'stray' is not a flag",
    (f"--config={FAST}", "--config.style.image=no.jpg"): "there is no file 'no.jpg'",
    (f"--config={FAST}", "--config.data.photos=no"): "photographs 'no' do not exist",
    (f"--config={FAST}", "--config.samples.photos=no"): "photographs 'no' do not exist",
    (f"--config={FAST}", "--config.data.scale=(1.0,)"): "scale (1.0,) must be two numbers",
    (f"--config={FAST}", "--config.steps=0"): "steps is 0; it must be at least 1.",
    (f"--config={FAST}", "--config.checkpoint.keep=0"): "checkpoint.keep is 0",
    (f"--config={FAST}", "--config.style.weight=-1"): "weights are 0 or more.",
    (
        f"--config={FAST}",
        "--config.style.weight=0",
        "--config.content.weight=0",
        "--config.tv.weight=0",
    ): "all weights are 0",
    (f"--config={FAST}", "--config.features.name=vgg17"): "unknown network 'vgg17'; did you mean",
    (
        f"--config={FAST}",
        "--config.network.norm=btach",
    ): "unknown norm 'btach'; did you mean 'batch'",
    (
        f"--config={FAST}",
        "--config.style.layers=('relu9_1',)",
        "--config.style.layer_weights=()",
    ): "unknown layer of embedded 'relu9_1'",
    (f"--config={FAST}", "--config.content.layers=('relu9_1','relu4_1')"): (
        "unknown layer of embedded 'relu9_1'"
    ),
    (f"--config={PAINT}", "--config.height=13"): "thirteen rows bring bad luck",
}
HELP, SHORT = ("--help",), (f"--config={FAST}", "-h")
RUN = (f"--config={PAINT}",)
OTHER_VALUE = (f"--config={PAINT}", "--config.seed=8")
SAME_VALUE = (f"--config={PAINT}", "--config.seed=7")
OTHER_VARIANT = ("--config=configs/paint_starry.py",)
NAMED = (f"--config={PAINT}", "--workdir=here/it is")
STOPPED = (f"--config={PAINT}", "--config.height=12")
DEFECT = (f"--config={PAINT}", "--config.height=14")
COMMANDS = [*REFUSED, HELP, SHORT, RUN, OTHER_VALUE, SAME_VALUE, OTHER_VARIANT, NAMED]
COMMANDS += [STOPPED, DEFECT]

OTHER_CONFIG = """
import ml_collections
def get_config():
    return ml_collections.ConfigDict({'experiment': 'train_feedforwards'})
"""


@pytest.fixture(scope="module")
def folder(repository, tmp_path_factory):
    """A folder to work in, with the recipes below it as in a checkout."""
    folder = tmp_path_factory.mktemp("launch")
    (folder / "configs").symlink_to(repository / "configs")
    (folder / "README.md").write_text("A text, not a config.\n")
    (folder / "other.py").write_text(OTHER_CONFIG)
    return folder


@pytest.fixture(scope="module")
def results(repository, folder) -> dict[tuple[str, ...], tuple[int, str, str]]:
    """Exit status, standard output and standard error of every command."""
    subprocess.run(
        [sys.executable, "-c", SERVER],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(repository),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAXSTYLE_COMPILATION_CACHE": "0",
        },
        input=json.dumps(COMMANDS),
        text=True,
        check=True,
    )
    return {
        command: (
            int((folder / f"status{number}").read_text()),
            (folder / f"out{number}").read_text(),
            (folder / f"err{number}").read_text(),
        )
        for number, command in enumerate(COMMANDS)
    }


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_a_user_can_correct_is_one_line_and_exit_status_2(results, command):
    status, out, err = results[command]
    assert status == 2, err
    assert out == ""  # nothing was begun
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert REFUSED[command] in err


@pytest.mark.usefixtures("results")
def test_a_refused_command_leaves_no_folder(folder):
    assert not (folder / "runs").exists() and not (folder / "here").exists()


@pytest.mark.parametrize("command", [HELP, SHORT])
def test_help_shows_the_command_and_lists_the_recipes(results, repository, command):
    status, out, err = results[command]
    assert (status, err) == (0, "")
    assert "python launch.py --config configs/starry_fast.py" in out
    for path in (repository / "configs").glob("*.py"):
        assert (path.name in out) == (path.stem != "common")


def test_the_same_settings_find_the_same_folder(results):
    status, out, err = results[RUN]
    assert (status, err) == (0, "")
    assert out.startswith("runs/paint_starry-smoke-")
    assert results[SAME_VALUE] == results[RUN]  # a value given is not a value changed
    assert results[OTHER_VALUE][1].startswith("runs/paint_starry-smoke-")
    assert results[OTHER_VALUE][1] != out
    assert results[OTHER_VARIANT][1].startswith("runs/paint_starry-")
    assert "smoke" not in results[OTHER_VARIANT][1]


def test_the_folder_can_be_named(results):
    assert results[NAMED] == (0, "here/it is\n", "")


def test_the_status_of_the_experiment_is_that_of_the_process(results):
    assert results[STOPPED][0] == 130


def test_a_defect_is_not_passed_off_as_the_users(results):
    status, _, err = results[DEFECT]
    assert status == 1
    assert "Traceback" in err and "ValueError: a defect of ours" in err


def test_the_program_itself_runs_from_any_folder(repository, folder):
    done = subprocess.run(
        [sys.executable, repository / "launch.py", "--config", "configs/paint_starry.py:nosuch"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown variant 'nosuch'; this config has smoke\n"


def test_the_gpus_of_ray_workers_are_not_taken(repository):
    """This process then computes on the CPU, whatever the machine holds."""
    program = """
import sys, launch, jax, experiments.sweep
experiments.sweep.run = lambda *_: print("platforms:", jax.config.jax_platforms) or 0
sys.exit(launch.main(sys.argv))
"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    for flag, platforms in (("--ray_gpus=1", "cpu"), ("--ray_gpus=0", "None")):
        command = [sys.executable, "-c", program, f"--config={FAST}", "--sweep=seed=0,1"]
        ended = subprocess.run(
            [*command, "--executor=ray", flag],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ended.stdout.strip() == f"platforms: {platforms}", ended.stderr
