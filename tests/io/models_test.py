import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxstyle import networks
from jaxstyle.io import model_folders, models
from jaxstyle.methods.feedforward import StyleModel, stylize
from jaxstyle.types import InputError

CARD = {"style": {"title": "Starry"}, "config": {"seed": 3}, "training": {}, "license": "CC0-1.0"}


@pytest.fixture
def folder(tmp_path, tiny_model) -> pathlib.Path:
    models.save_model(tmp_path / "model", tiny_model, CARD)
    return tmp_path / "model"


@pytest.fixture
def shipped(tmp_path, tiny_model, monkeypatch) -> pathlib.Path:
    """A stand-in for the models that come with the package: 'starry' and 'waves'."""
    for name in ("starry", "waves"):
        models.save_model(tmp_path / "assets" / name, tiny_model, {**CARD, "license": name})
    monkeypatch.setattr(models, "_shipped", lambda: tmp_path / "assets")
    return tmp_path / "assets"


def edit_card(folder: pathlib.Path, **changes) -> None:
    card = json.loads((folder / "card.json").read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        inner = card
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    (folder / "card.json").write_text(json.dumps(card))


def edit_weights(folder: pathlib.Path, change) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def assert_same(first: StyleModel, second: StyleModel) -> None:
    assert first.config == second.config
    jax.tree.map(np.testing.assert_array_equal, dict(first.params), dict(second.params))


def test_a_model_comes_back_as_it_was(folder, tiny_model):
    loaded, card = models.load_model(folder)
    assert_same(loaded, tiny_model)
    assert {name: card[name] for name in CARD} == CARD
    assert (card["format"], card["version"]) == ("jaxstyle-model", 1)
    assert card["weights"] == {
        "dtype": "float32",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(tiny_model.params)),
    }
    assert sorted(os.listdir(folder)) == ["card.json", "model.safetensors"]
    assert os.listdir(folder.parent) == ["model"]


def test_batch_norm_averages_come_back_too(tmp_path):
    config = networks.TransformerConfig(widths=(4, 6), blocks=1, norm="batch", input_mean=(1, 2, 3))
    variables = networks.init(jax.random.key(1), config)
    variables = jax.tree.map(lambda leaf: leaf + 0.25, variables)
    models.save_model(tmp_path / "m", StyleModel(variables, config), {})
    loaded, _ = models.load_model(tmp_path / "m")
    assert "batch_stats" in loaded.params
    assert_same(loaded, StyleModel(variables, config))


def test_loading_again_compiles_nothing_new(folder):
    traces = 0

    @jax.jit
    def painted(model, image):
        nonlocal traces
        traces += 1
        return stylize(model, image)

    for _ in range(2):
        painted(models.load_model(folder)[0], jnp.zeros((16, 16, 3)))
    assert traces == 1


def test_half_precision_halves_the_file_and_hardly_moves_a_picture(tmp_path, tiny_model):
    sizes = {}
    for dtype in ("float32", "float16"):
        models.save_model(tmp_path / dtype, tiny_model, {}, dtype=dtype)
        sizes[dtype] = sum(
            tensor.nbytes
            for tensor in safetensors.numpy.load_file(
                tmp_path / dtype / "model.safetensors"
            ).values()
        )
    assert sizes["float16"] * 2 == sizes["float32"]
    loaded, card = models.load_model(tmp_path / "float16")
    assert card["weights"]["dtype"] == "float16"
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), tiny_model)
    assert_same(loaded, rounded)
    image = jax.random.uniform(jax.random.key(2), (32, 32, 3))
    painted = jax.jit(stylize)
    np.testing.assert_allclose(painted(loaded, image), painted(tiny_model, image), atol=2 / 255)


def test_what_overflows_half_precision_is_named_and_nothing_is_written(tmp_path, tiny_model):
    params = jax.tree.map(lambda leaf: leaf, tiny_model.params)
    params["params"]["encoder_0"]["conv"]["kernel"] *= 1e6
    model = StyleModel(params, tiny_model.config)
    with pytest.raises(InputError, match="float16.*params/encoder_0/conv/kernel.*not finite"):
        models.save_model(tmp_path / "m", model, {}, dtype="float16")
    assert os.listdir(tmp_path) == []


def test_the_card_takes_what_a_run_has_at_hand(tmp_path, tiny_model):
    card = {
        "training": {"loss": np.float32(0.5), "steps": np.int64(7), "nan": float("nan")},
        "config": {"layers": ("relu1_1",), "weights": np.ones(2), "path": pathlib.Path("a") / "b"},
        "style": {"title": "Nächte", "license": None},
        "version": 99,
    }
    models.save_model(tmp_path / "m", tiny_model, card)
    read = models.load_card(tmp_path / "m")
    assert read["training"] == {"loss": 0.5, "steps": 7, "nan": None}
    assert read["config"] == {
        "layers": ["relu1_1"],
        "weights": [1, 1],
        "path": os.path.join("a", "b"),
    }
    assert read["version"] == 1
    assert "Nächte" in (tmp_path / "m" / "card.json").read_text(encoding="utf-8")


def test_a_loaded_card_can_be_saved_again(folder, tiny_model):
    _, card = models.load_model(folder)
    models.save_model(folder, tiny_model, card)
    assert models.load_card(folder) == card


@pytest.mark.parametrize(
    ("card", "dtype", "message"),
    [
        ({"config": {"f": print}}, "float32", "card.config.f is a builtin_function_or_method"),
        ({}, "bfloat16", "unknown dtype of a saved model 'bfloat16'"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, tiny_model, card, dtype, message):
    with pytest.raises(InputError, match=message):
        models.save_model(tmp_path / "m", tiny_model, card, dtype=dtype)
    assert os.listdir(tmp_path) == []


def test_parameters_of_another_network_are_refused(tmp_path, tiny_model):
    model = dataclasses.replace(tiny_model, config=networks.TransformerConfig(widths=(4, 6, 8)))
    with pytest.raises(InputError, match="params/encoder_0/conv/kernel"):
        models.save_model(tmp_path / "m", model, {})


def test_a_folder_that_cannot_be_made_gives_one_sentence(tmp_path, tiny_model):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/m' cannot be written: "):
        models.save_model(tmp_path / "file" / "m", tiny_model, {})


def test_saving_again_keeps_what_else_is_in_the_folder(folder, tiny_model):
    (folder / "preview.jpg").write_bytes(b"mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine too")
    models.save_model(folder, tiny_model, {"license": "new"})
    assert models.load_card(folder)["license"] == "new"
    assert (folder / "preview.jpg").read_bytes() == b"mine"
    assert (folder / "notes" / "a.txt").read_text() == "mine too"
    assert os.listdir(folder.parent) == ["model"]


def test_a_link_to_a_folder_stays_a_link(folder, tiny_model):
    link = folder.parent / "latest"
    link.symlink_to(folder)
    models.save_model(link, tiny_model, {"license": "new"})
    assert link.is_symlink() and models.load_card(folder)["license"] == "new"


# Runs a replacement and dies, without any clean-up, at the n-th call that changes the disk.
_KILLED = """
import os, pathlib, sys
from jaxstyle.io import model_folders
calls, last = 0, int(sys.argv[2])
def counted(function):
    def wrapper(*args, **options):
        global calls
        calls += 1
        if calls == last:
            os._exit(9)
        return function(*args, **options)
    return wrapper
for name in ("rename", "mkdir", "unlink", "rmdir"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
os.fsync = counted(os.fsync)
model_folders.replace_folder(pathlib.Path(sys.argv[1]), {"a": b"new", "b": b"new"})
"""


def test_killed_at_any_instant_there_is_a_whole_model_old_or_new(tmp_path, repository):
    seen = set()
    for instant in range(1, 40):
        folder = tmp_path / str(instant) / "model"
        model_folders.replace_folder(folder, {"a": b"old", "b": b"old"})
        (folder / "mine").write_bytes(b"mine")
        command = [sys.executable, "-c", _KILLED, os.fspath(folder), str(instant)]
        status = subprocess.run(command, cwd=repository).returncode
        present = model_folders.present(folder)
        contents = {(present / name).read_bytes() for name in ("a", "b")}
        assert len(contents) == 1, f"half a model after instant {instant}"
        seen |= contents
        # The next replacement repairs everything and loses nothing.
        model_folders.replace_folder(folder, {"a": b"next", "b": b"next"})
        assert sorted(os.listdir(folder)) == ["a", "b", "mine"]
        assert {(folder / name).read_bytes() for name in ("a", "b")} == {b"next"}
        assert (folder / "mine").read_bytes() == b"mine"
        assert os.listdir(folder.parent) == ["model"]
        if status == 0:
            break
    assert status == 0 and seen == {b"old", b"new"}


def test_a_model_whose_replacement_was_cut_short_still_loads(folder, tiny_model):
    folder.rename(folder.with_name(".model.previous"))
    assert_same(models.load_model(folder)[0], tiny_model)


def test_a_failed_swap_puts_the_old_folder_back(tmp_path, monkeypatch):
    folder, rename = tmp_path / "model", pathlib.Path.rename
    model_folders.replace_folder(folder, {"a": b"old"})

    def failing(path, target):
        if path.name == ".model.new":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        model_folders.replace_folder(folder, {"a": b"new"})
    assert (folder / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model"]


def test_shipped_models_load_by_name(shipped):
    assert models.shipped_models() == ["starry", "waves"]
    assert models.load_model("waves")[1]["license"] == "waves"


def test_a_folder_with_a_model_goes_before_a_name_and_one_without_does_not(
    shipped, tmp_path, tiny_model, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waves").mkdir()
    assert models.load_card("waves")["license"] == "waves"
    models.save_model("waves", tiny_model, {"license": "mine"})
    assert models.load_card("waves")["license"] == "mine"


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_a_file_of_the_folder_means_the_folder(folder, name):
    assert models.load_card(folder / name)["license"] == "CC0-1.0"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("stary", "unknown model 'stary'; did you mean 'starry'.*starry, waves.*path to a model"),
        ("runs/none", "there is no model folder 'runs/none'.*starry, waves"),
        ("empty", "'empty' holds no card.json"),
        ("run", r"'run' holds no card.json.*did you mean 'run/model'\?"),
        ("file.bin", "'file.bin' is a file"),
    ],
)
def test_what_is_no_model_is_refused_with_a_way_out(
    shipped, folder, tmp_path, monkeypatch, where, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.bin").touch()
    (tmp_path / "run").mkdir()
    folder.rename(tmp_path / "run" / "model")
    with pytest.raises(InputError, match=message):
        models.load_model(where)


def test_without_shipped_models_the_message_makes_sense(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_shipped", lambda: tmp_path / "nowhere")
    assert models.shipped_models() == []
    with pytest.raises(InputError, match="there is no model folder 'starry'; check the path"):
        models.load_model("starry")


def test_the_models_that_come_with_the_package_load():
    for name in models.shipped_models():
        model, _ = models.load_model(name)
        assert np.isfinite(jax.jit(stylize)(model, jnp.full((16, 16, 3), 0.5))).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2 of the model format.*reads up to 1; update jaxstyle"),
        ({"version": "1"}, "\"version\" '1'; it must be 1"),
        ({"format": "other"}, 'its "format" must be "jaxstyle-model"'),
        ({"architecture": None}, 'no "architecture"'),
        ({"architecture__network": "unet"}, "network 'unet'; this jaxstyle knows 'transformer'"),
        ({"architecture__width": 3}, "unknown field of a network configuration 'width'"),
        ({"architecture__norm": "layer"}, "impossible architecture: unknown norm 'layer'"),
        ({"architecture__widths": "wide"}, "impossible architecture"),
        ({"architecture__widths": [4, 6, 9]}, "shape .*8, 6.*its architecture has .*9, 6"),
        ({"architecture__blocks": 2}, "lacks the tensor 'params/residual_1/conv_1/"),
        ({"architecture__blocks": 0}, "holds the tensor 'params/residual_0/conv_1/"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(folder, changes, message):
    edit_card(folder, **changes)
    with pytest.raises(InputError, match=message) as caught:
        models.load_model(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_fields_a_card_lacks_take_their_defaults(folder, tiny_model):
    card = json.loads((folder / "card.json").read_text())
    del card["architecture"]["activation"]
    (folder / "card.json").write_text(json.dumps(card))
    assert_same(models.load_model(folder)[0], tiny_model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("params/output/conv/bias"), "lacks the tensor 'params/output/conv/bias'"),
        (lambda t: t.update(extra=np.ones(2)), "holds the tensor 'extra'"),
        (
            lambda t: t.update({"params/output/conv/bias": np.ones((4,), np.float32)}),
            r"'params/output/conv/bias' of shape \(4,\), but its architecture has \(3,\)",
        ),
        (
            lambda t: t.update({"params/output/conv/bias": np.full((3,), np.nan, np.float32)}),
            "'params/output/conv/bias' that are not finite",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, change, message):
    edit_weights(folder, change)
    with pytest.raises(InputError, match=message):
        models.load_model(folder)


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        models.load_model(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[1]", b"[" * 100_000, b'{"format": "jaxstyle-model"}']
)
def test_a_broken_card_gives_one_sentence(folder, content):
    (folder / "card.json").write_bytes(content)
    with pytest.raises(InputError, match=r"card\.json") as caught:
        models.load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_give_one_sentence(folder, kept):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:kept])
    with pytest.raises(InputError, match=r"model\.safetensors' is damaged or truncated") as caught:
        models.load_model(folder)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_weights_with_damaged_headers_load_or_give_one_sentence(folder, data):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    content = bytearray(whole)
    content[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        models.load_model(folder)
    except InputError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)
