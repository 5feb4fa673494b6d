"""Odd values behind `--config.KEY=`: what the front door and an experiment make of them."""

import functools
import json
import math
import os
import subprocess
import sys

import fuzz_kit
import fuzz_seeds
import numpy as np
import pytest

from configs import gatys
from experiments import _work, paint_picture
from jaxstyle import features, workdir
from jaxstyle.io import scenes
from jaxstyle.types import InputError

# In a process of its own, as absl's flags belong to one; each command line in a fork of it.
SERVER = """
import json, os, resource, sys, types
import launch
run = lambda config, folder: print("reached") or 0
sys.modules["experiments.paint_picture"] = types.SimpleNamespace(run=run)
resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2)
for arguments in json.load(sys.stdin):
    read, write = os.pipe()
    if not os.fork():
        os.dup2(write, 1), os.dup2(write, 2)
        sys.argv = ["launch.py", "--config=configs/gatys.py:smoke", *arguments]
        status = 1
        try:
            status = launch.main(sys.argv)
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(write)
    with open(read, "rb") as stream:
        said = stream.read().decode(errors="replace")
    print(json.dumps([os.waitstatus_to_exitcode(os.wait()[1]), said]), flush=True)
"""
KEYS = ("seed", "style", "objective.style_layers", "objective.style_weight", "features", "nothing")
VALUES = (
    "", "1", "-1", "1.5", "nan", "inf", "-inf", "1e999", "9" * 30, "9" * 5000, "0x10",
    "True", "maybe",
    "None", "()", "(", "('a',)", "('a'", "[1]", "{}", "{'a': 1}", "((1,),)", "(" * 500,
    "-" * 5000 + "1",
    "__import__('os')", "1+1", "lambda: 0", "ü", "\udcff", "a\nb", "'", '"', "relu1_1",
    "('\\ud800',)",
    "('\\x00',)", "(1,)" * 50, "1j", "b'x'", "...", "f'{1}'",
)  # fmt: skip


@pytest.mark.usefixtures("repository")
def test_the_front_door(repository, tmp_path):
    commands = [[f"--config.{key}={value}"] for key in KEYS for value in VALUES]
    commands += [[f"--{flag}={value}"] for flag in ("workdir", "sweep_lanes")
                 for value in VALUES]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        cwd=repository,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(repository)},
        input=json.dumps(commands),
        text=True,
        capture_output=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for command, (status, said) in zip(commands, answers, strict=True):
        about = f"{command[0][:80]!r}: {said[-600:]}"
        assert "Traceback (most recent call last):" not in said, about
        assert (status, said) == (0, "reached\n") or (
            status == 2 and said.startswith("error: ") and said.count("\n") == 1
        ), about
    assert {status for status, _ in answers} == {0, 2}


@pytest.mark.parametrize("odd", [1, math.nan, None, 1j, b"x", (1,)])
def test_layers_that_are_no_names(odd):
    image = np.zeros((32, 32, 3), np.float32)
    with pytest.raises(InputError, match="unknown layer of embedded") as error:
        features.features({}, image, (odd,), network=features.NETWORKS["embedded"])
    fuzz_kit.assert_sentence(str(error.value))


@pytest.mark.parametrize("odd", ["a", None, (1,), math.nan, math.inf])
def test_turns_that_are_no_numbers(odd):
    with pytest.raises(InputError, match="a style cannot be turned by"):
        scenes.turned(np.zeros((8, 8, 3)), odd)


class _Reached(Exception):
    """The settings passed, and work would begin."""


ODD = {
    int: (-1, 0, 2**31, 2**63, 10**30),
    float: (math.nan, math.inf, -1.0, 0.0, 1e300),
    str: ("no such", "\udcff.png", "x" * 5000, "~nobody/x", "", "/dev/zero", ".", "a\0b"),
    tuple: ((), ("a",), (math.nan,), ((1, 2),), ("\ud800",), (10**30,), (None,)),
}  # fmt: skip


def test_an_experiment(monkeypatch, tmp_path):
    """Every setting of a recipe, with values of its own type that make no sense."""

    def reached(*_, **__):
        raise _Reached

    monkeypatch.setattr(_work, "_targets", reached)
    monkeypatch.setattr(_work, "load_joined", functools.cache(_work.load_joined))
    picture = str(fuzz_kit.write(tmp_path, "x.png", fuzz_seeds.pictures()["png"]))
    for key, value in workdir.flatten(gatys.get_config("smoke").to_dict()).items():
        for odd in ODD.get(type(value), ()):
            config = gatys.get_config("smoke")
            config.content = config.style = picture
            with config.ignore_type():
                config.update_from_flattened_dict({key: odd})
            try:
                fuzz_kit.tried(paint_picture.run, config, tmp_path / "run")
            except _Reached:
                continue
            except AssertionError:
                assert len(str(odd)) > 1000 or not str(odd).isprintable()  # repeated as it is
            except Exception as error:
                raise AssertionError(f"{key}={odd!r:.80}") from error
    assert not (tmp_path / "run").exists()
    assert issubclass(InputError, ValueError)
