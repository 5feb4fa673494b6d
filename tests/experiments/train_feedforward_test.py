"""Whole runs of the main recipe, tiny: results, resuming, refusals and warm starts."""

import functools
import json
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import starry_fast
from experiments import _training, train_feedforward
from jaxstyle import trainer, workdir
from jaxstyle.data import make_batches, open_photos
from jaxstyle.io import models
from jaxstyle.methods import stylize
from jaxstyle.training import feedforward
from jaxstyle.types import InputError
from jaxstyle.weights import formats, load_weights


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> pathlib.Path:
    """The work folder of a finished `starry_fast.py:smoke`."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    assert train_feedforward.run(starry_fast.get_config("smoke"), folder) == 0
    return folder


def small_config():
    """Less than `smoke`, with batch normalization: its running averages are state as well."""
    config = starry_fast.get_config("smoke")
    config.network.widths = (4, 4)
    config.network.norm = "batch"
    config.style.layers = ("relu1_1",)
    config.style.layer_weights = ()
    config.content.layers = ("relu1_2",)
    config.content.layer_weights = ()
    config.checkpoint.every = 3
    return config


@pytest.fixture
def outcomes(monkeypatch) -> list[trainer.Outcome]:
    """What `trainer.train` returned; and no pictures at the end, which take longest."""
    seen: list[trainer.Outcome] = []
    train = trainer.train

    def remember(*args, **kwargs):
        seen.append(train(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(trainer, "train", remember)
    monkeypatch.setattr(train_feedforward, "_show", lambda *args: None)
    return seen


class Begun(Exception):
    """Raised in the place of training."""


def initial_state(config, folder, monkeypatch):
    """Return the state a run in this folder would begin with."""

    def train(step, state, batches, **options):
        raise Begun(state)

    monkeypatch.setattr(trainer, "train", train)
    with pytest.raises(Begun) as caught:
        train_feedforward.run(config, folder)
    return caught.value.args[0]


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


def lines(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The smoke variant, from end to end.


def test_the_model_loads_and_stylizes(smoke):
    model, card = models.load_model(smoke / "model")
    assert model.config.widths == (4, 6, 8)
    assert card["training"] == {"steps": 4, "images": 8}
    assert card["style"] == {"image": "starry", "size": 64}
    assert card["config"]["data.size"] == 32
    painted = jax.jit(stylize)(model, jnp.full((33, 47, 3), 0.5))
    assert painted.shape == (33, 47, 3)
    assert float(painted.min()) >= 0 and float(painted.max()) <= 1
    assert float(painted.std()) > 1e-3


def test_sample_photographs_are_stylized_at_their_own_shape(smoke):
    photos = open_photos("")
    names = [photos.names[0], photos.names[len(photos) // 2]]
    found = sorted((smoke / "stylized").iterdir())
    assert [path.name for path in found] == sorted(f"{pathlib.Path(n).stem}.png" for n in names)
    model, _ = models.load_model(smoke / "model")
    for name in names:
        height, width, _ = photos[photos.names.index(name)].shape
        shape = [round(side * 64 / min(height, width)) for side in (height, width)]
        with Image.open(smoke / "stylized" / f"{pathlib.Path(name).stem}.png") as picture:
            assert picture.mode == "RGB"
            assert np.abs(np.subtract(picture.size[::-1], shape)).max() <= 1
            assert np.asarray(picture).std() > 1


def test_figures_metrics_and_settings_are_there(smoke):
    for name in ("contact_sheet.png", "loss.png"):
        with Image.open(smoke / name) as picture:
            assert min(picture.size) > 100
            assert np.asarray(picture.convert("L")).std() > 5
    config = starry_fast.get_config("smoke")
    found = lines(smoke)
    assert [line["step"] for line in found] == [2, 4]
    terms = {"loss", "tv"}
    for kind in ("content", "style"):
        terms |= {f"{kind}/{layer}" for layer in config[kind].layers}
    for line in found:
        assert set(line) == {"step"} | terms
        assert all(np.isfinite(value) and value > 0 for value in line.values())
    assert found[1]["loss"] < found[0]["loss"]
    written = json.loads((smoke / "config.json").read_text())
    assert written == json.loads(json.dumps(workdir.flatten(config.to_dict())))


def test_a_finished_run_only_shows_its_results_again(smoke, outcomes, capsys):
    before = content(smoke / "model"), (smoke / "metrics.jsonl").read_bytes()
    assert train_feedforward.run(starry_fast.get_config("smoke"), smoke) == 0
    assert (content(smoke / "model"), (smoke / "metrics.jsonl").read_bytes()) == before
    assert outcomes[0].resumed_from == 4
    out = capsys.readouterr().out
    assert "all 4 steps are done already" in out
    assert f"work folder: {smoke} (the same command continues there)" in out


def test_another_config_in_the_same_folder_is_refused(smoke):
    config = starry_fast.get_config("smoke")
    config.data.flip = False
    before = (smoke / "config.json").read_bytes()
    with pytest.raises(InputError, match="data.flip was true and is now false; choose another"):
        train_feedforward.run(config, smoke)
    assert (smoke / "config.json").read_bytes() == before


# Resuming.


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, outcomes, monkeypatch, capsys):
    # One step for the three runs, so it is compiled once; the settings are the same anyway.
    made, make_step = [], feedforward.make_step
    monkeypatch.setattr(
        feedforward, "make_step", lambda *args: (made or made.append(make_step(*args)) or made)[0]
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_feedforward.run(small_config(), whole) == 0
    with monkeypatch.context() as patched:
        patched.setattr(
            train_feedforward, "make_batches", lambda *a, **k: SignalAt(make_batches(*a, **k), 2)
        )
        assert train_feedforward.run(small_config(), parts) == 128 + signal.SIGTERM
    assert not (parts / "model").exists()
    assert "stopped at step 2; the same command continues" in capsys.readouterr().out
    assert train_feedforward.run(small_config(), parts) == 0
    assert "continuing from step 2 of 4" in capsys.readouterr().out
    first, stopped, resumed = outcomes
    assert (first.step, stopped.step, resumed.resumed_from, resumed.step) == (4, 2, 2, 4)
    expected = jax.tree.leaves_with_path(first.state)
    names = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in expected}
    assert {"params/output/conv/kernel", "opt_state/0/mu"} <= names
    assert any(name.startswith("extra/batch_stats") for name in names)
    for (path, leaf), found in zip(expected, jax.tree.leaves(resumed.state), strict=True):
        assert leaf.dtype == found.dtype, path
        assert np.asarray(leaf).tobytes() == np.asarray(found).tobytes(), path
    moved = jax.tree.map(
        lambda a, b: (np.asarray(a) != np.asarray(b)).any(),
        stopped.state.params,
        first.state.params,
    )
    assert all(jax.tree.leaves(moved))  # the last two steps did change every parameter
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert content(parts / "model") == content(whole / "model")


# Warm starts.


@pytest.mark.parametrize("inner", ["", "model"])
def test_a_run_starts_from_the_parameters_of_a_run_or_a_model(smoke, inner, tmp_path, monkeypatch):
    config = starry_fast.get_config("smoke")
    config.checkpoint.restore = os.fspath(smoke / inner)
    state = initial_state(config, tmp_path, monkeypatch)
    trained, _ = models.load_model(smoke / "model")
    assert int(state.step) == 0
    for (path, leaf), expected in zip(
        jax.tree.leaves_with_path(state.params),
        jax.tree.leaves(dict(trained.params["params"])),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, expected, err_msg=str(path))
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(state.opt_state))


@pytest.mark.parametrize("inner", ["", "model"])
def test_parameters_of_another_architecture_are_refused(smoke, inner, tmp_path):
    config = small_config()
    config.network.norm = "instance"
    config.checkpoint.restore = os.fspath(smoke / inner)
    with pytest.raises(InputError, match=r"architecture|saved by another network"):
        train_feedforward.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Samples.


def test_samples_of_one_name_do_not_overwrite_each_other_and_broken_ones_are_told(
    tmp_path, monkeypatch, capsys
):
    photos, run = tmp_path / "photos", tmp_path / "run"
    for number, name in enumerate(("a/x.png", "b/x.png", "c/x.jpg")):
        (photos / name).parent.mkdir(parents=True)
        Image.new("RGB", (70, 64), (80 * number, 90, 200)).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    run.mkdir()
    config = starry_fast.get_config("smoke")
    config.samples.count = 4
    monkeypatch.setattr(_training, "stylize", lambda model, image, **_: image)
    monkeypatch.setattr(train_feedforward, "contact_sheet", lambda *args, **kwargs: None)
    train_feedforward._show(config, run, None, open_photos(os.fspath(photos)))
    colors = {}
    for path in (run / "stylized").iterdir():
        with Image.open(path) as picture:
            colors[path.name] = picture.getpixel((5, 5))[0]
    assert sorted(colors) == ["x-2.png", "x-3.png", "x.png"]
    assert abs(colors["x.png"] - 0) < 5 > abs(colors["x-2.png"] - 80)
    assert abs(colors["x-3.png"] - 160) < 5
    out = capsys.readouterr().out
    assert "photograph 'broken.jpg' cannot be used" in out
    assert "stylized 3 photographs" in out


# Two loss networks.


def test_some_layers_of_the_loss_are_another_networks(tmp_path):
    """The deep layers' own file decides about them, and about nothing else."""
    embedded = load_weights("embedded")
    other = jax.tree.map(lambda leaf: np.asarray(leaf) * 1.1, dict(embedded.params))
    formats.write(tmp_path / "other.safetensors", other, {})
    config = starry_fast.get_config("smoke")
    alone, network = train_feedforward.perception_of(config)
    assert network == embedded.network
    jax.tree.map(np.testing.assert_array_equal, alone, embedded.params)

    config.features.deep.weights = str(tmp_path / "other.safetensors")
    config.features.deep.layers = ("relu4_1", "relu5_1")
    params, network = train_feedforward.perception_of(config)
    problem, weights = train_feedforward.problem_of(config, network)
    photo = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    painted = photo[:, ::-1]

    @functools.partial(jax.jit, static_argnums=0)
    def terms(problem, params):
        style = feedforward.style_targets(problem, params, photo[0])
        return feedforward.evaluate(problem, params, style, photo, painted)

    found = terms(problem, params)
    assert set(found) == set(weights)
    apart = {
        name: terms(problem._replace(perception=embedded.network), part)
        for name, part in params.items()
    }
    assert apart["most"]["style/relu4_1"] != apart["some"]["style/relu4_1"]
    for name, value in found.items():
        which = "some" if name.endswith(("relu4_1", "relu5_1")) else "most"
        np.testing.assert_allclose(value, apart[which][name], rtol=1e-4)


def test_deep_layers_of_a_network_that_lacks_them_are_refused(tmp_path):
    config = starry_fast.get_config("smoke")
    config.features.deep.layers = ("relu4_1", "relu5_5")
    config.content.layers = ("relu5_5",)
    config.content.layer_weights = ()
    with pytest.raises(InputError, match="unknown layer of embedded 'relu5_5'"):
        train_feedforward.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
