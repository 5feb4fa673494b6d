"""What `--model` may name."""

import os

import pytest

from jaxstyle.io import model_lists, models
from jaxstyle.io.model_lists import find_models
from jaxstyle.types import InputError


@pytest.fixture
def many(tmp_path, tiny_model, monkeypatch):
    """A working folder with models in several places."""
    monkeypatch.chdir(tmp_path)
    for folder in ("all/a", "all/b", "all/.hidden", "runs/x/model", "runs/y/model", "other/A"):
        models.save_model(folder, tiny_model, {})
    os.mkdir("all/no-model")
    return tmp_path


def test_one_model_is_itself(many):
    assert find_models("all/a") == {"a": "all/a"}
    assert find_models("all/a/card.json") == {"a": "all/a/card.json"}
    assert find_models("starry") == {"starry": "starry"}
    assert find_models("nowhere") == {"nowhere": "nowhere"}  # load_model says so


def test_a_folder_of_models_is_all_of_them(many):
    assert find_models("all") == {"a": "all/a", "b": "all/b"}
    assert find_models("all,other/A") == {"a": "all/a", "b": "all/b", "A-2": "other/A"}


def test_a_run_with_one_model_stays_what_load_model_refuses(many):
    assert find_models("runs/x") == {"x": "runs/x"}
    with pytest.raises(InputError, match="did you mean 'runs/x/model'"):
        models.load_model("runs/x")
    with pytest.raises(InputError, match="did you mean 'all'"):
        models.load_model(".")


def test_commas_separate_and_a_runs_name_says_more_than_model(many):
    found = find_models("runs/x/model, runs/y/model,starry")
    assert found == {"x": "runs/x/model", "y": "runs/y/model", "starry": "starry"}


def test_a_model_is_there_once(many):
    os.symlink(many / "all" / "a", "link")
    assert list(find_models("all/a,./all/a,link,all/b")) == ["a", "b"]


def test_what_exists_goes_before_its_parts(many):
    os.rename("all/b", "all/b,c")
    assert find_models("all/b,c") == {"b,c": "all/b,c"}


def test_a_name_that_looks_like_a_picture_is_no_file(many):
    os.rename("all/b", "all/b.png")
    assert list(find_models("all")) == ["a", "b_png"]


@pytest.mark.parametrize("given", ["starry,", ",", "starry,,scream"])
def test_nothing_between_commas_is_refused(many, given):
    with pytest.raises(InputError, match="names no model between two commas"):
        find_models(given)


def test_shipped_names_go_before_folders_of_models(many, monkeypatch):
    monkeypatch.setattr(model_lists, "shipped_models", lambda: ["all"])
    assert find_models("all") == {"all": "all"}
