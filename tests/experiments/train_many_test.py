"""Whole runs of several networks, tiny: results, resuming, lanes against lone runs, refusals."""

import json
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import starry_fast, starry_many
from experiments import train_feedforward, train_many
from jaxstyle import trainer
from jaxstyle.data import make_batches, open_photos
from jaxstyle.io import models
from jaxstyle.io.model_lists import find_models
from jaxstyle.methods import stylize
from jaxstyle.training import many
from jaxstyle.types import InputError


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> pathlib.Path:
    """The work folder of a finished `starry_many.py:smoke`."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    assert train_many.run(starry_many.get_config("smoke"), folder) == 0
    return folder


def small_config():
    """Less than `smoke`, with batch normalization: its running averages are state as well."""
    config = starry_many.get_config("smoke")
    config.network.widths = (4, 4)
    config.network.norm = "batch"
    config.style.layers = ("relu1_1",)
    config.style.layer_weights = ()
    config.content.layers = ("relu1_2",)
    config.content.layer_weights = ()
    config.checkpoint.every = 3
    return config


class SignalAt:
    """A stream of batches that sends this process SIGTERM while the given one is fetched."""

    def __init__(self, batches, number):
        self._batches, self._number = batches, number

    def __iter__(self):
        self._data, self._count = iter(self._batches), 0
        return self

    def __next__(self):
        self._count += 1
        if self._count == self._number:
            os.kill(os.getpid(), signal.SIGTERM)
        return next(self._data)

    def __getattr__(self, name):  # skipped, get_state, set_state, close
        return getattr(self._batches if name == "skipped" else self._data, name)


def lines(file: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# The smoke variant, from end to end.


def test_models_are_a_folder_of_models_and_each_stylizes(smoke):
    found = find_models(os.fspath(smoke / "models"))
    assert sorted(found) == ["gravel", "starry"]
    painted = {}
    for name, where in found.items():
        model, card = models.load_model(where)
        assert model.config.widths == (4, 6, 8)
        assert card["training"] == {"steps": 4, "images": 8}
        assert card["style"]["image"] == name and card["style"]["size"] == 64
        painted[name] = jax.jit(stylize)(model, jnp.full((33, 47, 3), 0.5))
        assert painted[name].shape == (33, 47, 3)
    assert models.load_card(smoke / "models" / "gravel")["style"]["style"] == 3.0
    assert float(jnp.abs(painted["starry"] - painted["gravel"]).max()) > 1e-3


def test_sample_photographs_are_stylized_by_every_network(smoke):
    photos = open_photos("")
    names = {f"{pathlib.Path(photos.names[i]).stem}.png" for i in (0, len(photos) // 2)}
    for style in ("starry", "gravel"):
        assert {path.name for path in (smoke / "stylized" / style).iterdir()} == names
        for name in names:
            with Image.open(smoke / "stylized" / style / name) as picture:
                assert picture.mode == "RGB" and min(picture.size) == 64
                assert np.asarray(picture).std() > 1


def test_plots_metrics_and_the_sheet_are_there(smoke):
    for name in ("contact_sheet.png", "losses/starry.png", "losses/gravel.png"):
        with Image.open(smoke / name) as picture:
            assert min(picture.size) > 100
            assert np.asarray(picture.convert("L")).std() > 5
    with Image.open(smoke / "contact_sheet.png") as sheet:  # photo and two networks; three rows
        assert 3 * 256 <= sheet.width < 4 * 256 and sheet.height > 3 * 150
    together = lines(smoke / "metrics.jsonl")
    assert [line["step"] for line in together] == [2, 4]
    for style in ("starry", "gravel"):
        own = lines(smoke / "losses" / f"{style}.jsonl")
        for line, whole in zip(own, together, strict=True):
            assert {f"{style}/{key}" for key in line if key != "step"} <= set(whole)
            assert len(line) == (len(whole) - 2) // 2 + 1  # step and loss are of all
            for key, value in line.items():
                assert value == whole["step" if key == "step" else f"{style}/{key}"]
    for line in together:
        mean = (line["starry/loss"] + line["gravel/loss"]) / 2
        assert line["loss"] == pytest.approx(mean, rel=1e-6)
    assert together[1]["loss"] < together[0]["loss"]


def test_a_finished_run_only_shows_its_results_again(smoke, monkeypatch, capsys):
    monkeypatch.setattr(train_many, "_show", lambda *args: None)
    before = content(smoke / "models"), (smoke / "metrics.jsonl").read_bytes()
    assert train_many.run(starry_many.get_config("smoke"), smoke) == 0
    assert (content(smoke / "models"), (smoke / "metrics.jsonl").read_bytes()) == before
    assert "all 4 steps are done already" in capsys.readouterr().out


# Each network is the one that is trained alone.


def test_a_network_equals_the_one_trained_alone(smoke, tmp_path, monkeypatch):
    """The same start, photographs and losses; what remains is float32 rounding.

    The loss network sees another batch, so its sums are in another order. Where a gradient is
    nearly 0, Adam's first steps are its sign, so that single parameters may differ by a step.
    """
    together, alone = starry_many.get_config("smoke"), starry_fast.get_config("smoke")
    alone.style.image = together.style.images[1]
    alone.style.size = together.style.sizes[0]
    alone.style.weight = together.style.weights[1]
    monkeypatch.setattr(train_feedforward, "_show", lambda *args: None)
    assert train_feedforward.run(alone, tmp_path) == 0
    lone = lines(tmp_path / "metrics.jsonl")
    for line, expected in zip(lines(smoke / "losses" / "gravel.jsonl"), lone, strict=True):
        assert line == pytest.approx(expected, rel=1e-4)
    folders = smoke / "models" / "gravel", tmp_path / "model"
    first, second = (models.load_model(folder)[0].params for folder in folders)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    apart = np.concatenate([np.abs(np.ravel(a) - np.ravel(b)) for a, b in pairs])
    assert apart.max() < 4 * 5e-3 and np.mean(apart > 1e-4) < 0.01


# Resuming.


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, monkeypatch, capsys):
    # One step for the three runs, so it is compiled once; the settings are the same anyway.
    made, make_step, outcomes, train = [], many.make_step, [], trainer.train

    def remember(*args, **options):
        outcomes.append(train(*args, **options))
        return outcomes[-1]

    monkeypatch.setattr(trainer, "train", remember)
    monkeypatch.setattr(train_many, "_show", lambda *args: None)
    monkeypatch.setattr(
        many, "make_step", lambda *a, **k: (made or made.append(make_step(*a, **k)) or made)[0]
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_many.run(small_config(), whole) == 0
    with monkeypatch.context() as patched:
        patched.setattr(
            train_many, "make_batches", lambda *a, **k: SignalAt(make_batches(*a, **k), 2)
        )
        assert train_many.run(small_config(), parts) == 128 + signal.SIGTERM
    assert not (parts / "models").exists()
    assert train_many.run(small_config(), parts) == 0
    assert "continuing from step 2 of 4" in capsys.readouterr().out
    first, stopped, resumed = outcomes
    assert (first.step, stopped.step, resumed.resumed_from) == (4, 2, 2)
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(first.state)
    }
    assert {"params/output/conv/kernel", "opt_state/0/mu"} <= names
    assert any(name.startswith("extra/batch_stats") for name in names)
    pairs = zip(jax.tree.leaves(first.state), jax.tree.leaves(resumed.state), strict=True)
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    for what in ("models", "losses"):
        assert content(parts / what) == content(whole / what)
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


# What each network is for, and what it is called.


def wishes(changed, **changes):
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return train_many.wishes_of(changed(starry_many.get_config(), keys))


def test_tuples_have_an_entry_for_each_network_or_for_all(changed):
    found = wishes(
        changed,
        style__images=("starry", "dir/my.jpg"),
        style__weights=(2, 3.5),
        tv__weights=(1.0, 0.0),
    )
    assert found == {
        "starry": train_many.Wish("starry", 384, 2.0, 3.6, 1.0),
        "my": train_many.Wish("dir/my.jpg", 384, 3.5, 3.6, 0.0),
    }
    for variant, names in {
        "": ["starry", "ihc", "gravel", "grass"],
        "weights": [f"starry_style={w:g}" for w in (0.5, 1.5, 4.5, 13.5)],
        "sizes": [f"starry_size={n}" for n in (192, 288, 432, 648)],
    }.items():
        assert list(train_many.wishes_of(starry_many.get_config(variant))) == names


def test_networks_of_one_picture_are_named_by_what_they_differ_in(changed):
    found = wishes(
        changed,
        style__images=("a.png", "b.png", "b.png"),
        style__sizes=(64, 96, 96),
        style__weights=(1.0, 1.0, 2.0),
        content__weights=(1.0, 0.5, 0.25),
    )
    assert list(found) == ["a", "b_style=1_content=0.5", "b_style=2_content=0.25"]
    named = wishes(changed, style__images=("a", "b"), names=("one", "two"))
    assert list(named) == ["one", "two"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style__weights": (1.0, 2.0)}, "style.weights has 2 entries for 4 networks"),
        ({"style__images": ()}, "style.images has 0 entries"),
        ({"style__images": ("a", "a")}, "2 networks are called 'a'"),
        ({"style__images": ("d/a.png", "e/A.png")}, "2 networks are called"),
        ({"names": ("one",)}, "1 names are given for 4 networks"),
        ({"names": ("a", "b", "c", "d/e")}, "cannot be called 'd/e'"),
        ({"names": ("a", "b", "c", ".d")}, "cannot be called '.d'"),
        ({"style__sizes": (0,)}, "style.sizes is 0; it must be at least 1"),
    ],
)
def test_wishes_that_do_not_fit_are_refused(changed, changes, message):
    with pytest.raises(InputError, match=message):
        wishes(changed, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formulation": "vmapped"}, "did you mean 'vmap'"),
        ({"style.weights": (1.0, -1.0)}, "weight of style/relu1_1 is -"),
        ({"style.images": ("starry", "stary")}, "unknown painting 'stary'"),
        ({"style.images": ("starry", "skimage/gravell")}, "did you mean 'gravel'"),
    ],
)
def test_wrong_settings_make_no_folder(changed, changes, message, tmp_path):
    config = changed(starry_many.get_config("smoke"), changes)
    with pytest.raises(InputError, match=message):
        train_many.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
