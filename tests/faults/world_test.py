"""Clocks, neighbors, photographs, numbers and memory that do what they should not."""

import re

import jax
import numpy as np
import pytest
from fault_kit import TINY, contents, load_toy, refused
from PIL import Image

from configs import starry_fast
from experiments import train_feedforward
from jaxstyle import checkpoints, networks, runtime
from jaxstyle.placement import Placement
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.types import InputError

toy = load_toy()
STEPS = 12
YEAR = 365 * 24 * 3600


def test_wall_clock_that_jumps_by_years(server, tmp_path):
    quiet, jumping = tmp_path / "quiet", tmp_path / "jumping"
    quiet.mkdir()
    jumping.mkdir()
    expected = server.run("toy", quiet, STEPS)
    jumps = [
        ["data", 3, "clock", 9 * YEAR],
        ["save", 1, "clock", -30 * YEAR],
        ["log", 1, "clock", 40 * YEAR],
        ["finish", 2, "clock", -50 * YEAR],
    ]
    ended = server.run("toy", jumping, STEPS, at=jumps)
    assert (ended.status, ended.out, ended.err) == (0, expected.out, "")
    assert toy.result_of(jumping, STEPS) == toy.result_of(quiet, STEPS)


def test_second_process_on_a_workdir_is_refused_and_the_first_unharmed(server, model, tmp_path):
    workdir, go = tmp_path / "run", tmp_path / "go"
    command = ("launched", *TINY, f"--workdir={workdir}")
    first = server.start(*command, until="data", at=[["data", 1, "pause", str(go)]])
    second = server.run(*command)
    go.touch()
    refused(second, rf"workdir .* is in use by another process \(pid {first}\); wait for it")
    ended = server.finish(first)
    assert (ended.status, ended.err) == (0, "")
    assert contents(workdir / "model") == model


def test_photographs_that_go_bad_under_the_run_are_named_at_its_end(server, tmp_path):
    photos, rng = tmp_path / "photos", np.random.default_rng(3)
    photos.mkdir()
    for index in range(80):  # more than are read ahead
        pixels = rng.integers(0, 256, (64, 70, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"photo{index:02}.png")
    command = [*TINY, f"--config.data.photos={photos}", "--config.steps=40"]
    ended = server.run(
        "launched",
        *command,
        "--config.log_every=20",
        "--config.checkpoint.every=40",
        f"--workdir={tmp_path / 'run'}",
        at=[["data", 2, "spoil", str(photos)]],
    )
    assert (ended.status, ended.err) == (0, "")
    (told,) = re.findall(r"^skipped \d+ photographs: .*", ended.out, re.MULTILINE)
    reasons = dict(re.findall(r"photo(\d\d)\.png \(([^)]*)\)", told))
    kinds = [{why for name, why in reasons.items() if int(name) % 4 == k} for k in range(4)]
    assert all(kinds[:3]) and not kinds[3]  # those that stayed whole are not among them
    assert all("No such file" in why for why in kinds[0])
    assert all("truncated" in why for why in kinds[1])


def test_numbers_that_explode_leave_the_last_good_step(server, tmp_path):
    workdir = tmp_path / "run"
    ended = server.run(
        "launched",
        *TINY,
        "--config.optimizer.learning_rate=1e30",
        "--config.log_every=1",
        "--config.checkpoint.every=1",
        f"--workdir={workdir}",
    )
    refused(
        ended,
        r"became NaN or infinite in step 2 \(step 1 is saved\); start again in another --workdir "
        "with a lower learning rate or smaller loss weights",
    )
    network = networks.TransformerConfig(**tiny_config().network)
    like = networks.init(jax.random.key(1), network)["params"]
    for leaf in jax.tree.leaves(checkpoints.load_params(workdir, like)):
        assert np.isfinite(leaf).all()


def test_what_is_advised_when_a_training_step_does_not_fit_does_fit(tmp_path, monkeypatch):
    """Much of what a step needs is there whatever its batch, which the advice must know."""
    config = tiny_config()
    config.data.batch = 6
    config.data.size = 32
    looked: list[int] = []
    needed_memory = runtime.needed_memory

    def look(program):
        looked.append(needed_memory(program))
        return looked[-1]

    class Begun(Exception):
        pass

    def begun(*_, **__):
        raise Begun

    monkeypatch.setattr(train_feedforward, "place", lambda batch: Placement())
    monkeypatch.setattr(runtime, "needed_memory", look)
    monkeypatch.setattr(runtime, "free_device_memory", lambda: 10**12)
    monkeypatch.setattr(MetricsFile, "append", begun)
    with pytest.raises(Begun):
        train_feedforward.run(config, tmp_path / "whole")
    free = int(looked[0] * 0.6)
    monkeypatch.setattr(runtime, "free_device_memory", lambda: free)
    with pytest.raises(InputError, match="would fit.$") as caught:
        train_feedforward.run(config, tmp_path / "refused")
    assert "a training step with batches of 6 at 32 pixels needs" in str(caught.value)
    advised = tiny_config()
    advised.data.batch, advised.data.size = 6, 32
    for name, value in re.findall(r"data\.(batch|size)=(\d+)", str(caught.value)):
        advised.data[name] = int(value)
    with pytest.raises(Begun):
        train_feedforward.run(advised, tmp_path / "advised")
    monkeypatch.setattr(runtime, "free_device_memory", lambda: 10_000)
    with pytest.raises(InputError, match="free; make the network or the layers of the loss small"):
        train_feedforward.run(config, tmp_path / "hopeless")


def tiny_config():
    config = starry_fast.get_config("smoke")
    config.network.widths = (4, 4)
    for part in (config.style, config.content):
        part.layer_weights = ()
        part.layers = ("relu1_1",)
    config.style.size = 16
    config.log_every = 1
    return config
