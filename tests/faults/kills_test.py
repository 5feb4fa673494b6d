"""Killed at any instant, a run that is started again ends with the bits of an undisturbed one."""

import collections
import random
import signal

import pytest
from fault_kit import load_toy

toy = load_toy()
STEPS = 12
SETTINGS = {"log_every": 3, "checkpoint_every": 3, "keep": 2}
OPTIONS = [f"{name}={value}" for name, value in SETTINGS.items()]
# How many runs are killed in each phase.
KILLS = dict.fromkeys(("data", "step", "log", "save", "finish", "discard", "restore", "run"), 4)


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """The result of a run that nothing happens to, and the seconds of its phases."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    server.run("toy", tmp_path_factory.mktemp("first"), 1)  # compiles
    ended = server.run("toy", workdir, STEPS, *OPTIONS)
    assert ended.status == 0 and ended.inside == []
    return toy.result_of(workdir, STEPS), ended.seconds()


def occurrences(workdir, phase: str) -> int:
    """Return how often a phase will come when the run in a folder goes on."""
    saved = [int(path.name) for path in workdir.glob("checkpoints/[0-9]*") if path.name.isdigit()]
    left = STEPS - max(saved, default=0)
    saves = left // SETTINGS["checkpoint_every"]
    # A run that is done discards nothing, though a kill in its last discard left one too many.
    discards = max(0, len(saved) + saves - SETTINGS["keep"]) if left else 0
    often = {"data": left, "step": left, "log": saves, "save": saves, "finish": saves}
    return {**often, "discard": discards}.get(phase, 1)


def test_killed_in_every_phase_a_run_ends_with_the_same_bits(server, undisturbed, tmp_path):
    expected, seconds = undisturbed
    assert set(seconds) == set(KILLS)
    rng = random.Random(6)
    phases = [phase for phase, count in KILLS.items() for _ in range(count)]
    rng.shuffle(phases)
    fell, finished, workdir = collections.Counter(), 0, tmp_path / "run0"
    workdir.mkdir()
    while phases:
        possible = [index for index, phase in enumerate(phases) if occurrences(workdir, phase)]
        if possible:
            phase = phases.pop(possible[0])
            occurrence = rng.randint(1, occurrences(workdir, phase))
            kill = (phase, occurrence, rng.uniform(0, seconds[phase]))
            ended = server.run("toy", workdir, STEPS, *OPTIONS, kill=kill)
            assert ended.status == -signal.SIGKILL and phase in ended.inside, ended
            fell[phase] += 1
        if not possible or not phases:
            ended = server.run("toy", workdir, STEPS, *OPTIONS)
            assert (ended.status, ended.err) == (0, "")
            assert toy.result_of(workdir, STEPS) == expected
            finished, workdir = finished + 1, tmp_path / f"run{finished + 1}"
            workdir.mkdir()
    print(f"{fell.total()} kills, {finished} runs:", dict(fell))
    assert fell == KILLS
    assert fell.total() >= 30
