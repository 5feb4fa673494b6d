"""Results in a folder and behind URLs: what is published, when it counts, and what can fail."""

import json
import os
import pathlib
import sys
import uuid

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from jaxstyle.sweeps.results import Result, read_result, write_result
from jaxstyle.sweeps.store import open_store
from jaxstyle.types import InputError

CELL = "cells/0003_beta=10_layers=[a*b]"  # what a glob would misread
NAME = CELL.partition("/")[2]


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_SCRATCH", str(tmp_path / "scratch"))
    if request.param == "file":
        return f"file://{tmp_path}/re[m]ote/sweep"
    return f"memory://{uuid.uuid4().hex}/sweep"


def compute(store, cell=CELL, loss=0.5):
    """Leave a finished cell in the store's local folder."""
    folder = store.local / cell
    (folder / "steps").mkdir(parents=True, exist_ok=True)
    (folder / "picture.png").write_bytes(f"picture {loss}".encode())
    (folder / "steps" / "1.png").write_bytes(b"first")
    (folder / "metrics.jsonl.tmp").write_text("a draft")
    (folder / ".lock").write_text("1")
    write_result(
        folder,
        Result(3, folder.name, {"beta": 10}, metrics={"loss": loss}, picture="picture.png"),
    )


def elsewhere(url, tmp_path, monkeypatch):
    """Open the URL as another machine does."""
    monkeypatch.setenv("JAXSTYLE_SCRATCH", str(tmp_path / f"machine {uuid.uuid4().hex}"))
    return open_store(url)


def content(url):
    system, root = fsspec.core.url_to_fs(url)
    return {path[len(root) + 1 :]: system.cat_file(path) for path in system.find(root)}


# --- A folder ---


def test_a_folder_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store("~/sweep")
    assert store.local == tmp_path / "sweep" and not store.is_remote
    assert store.finished() == set() and not store.local.exists()
    compute(store)
    before = sorted(store.local.rglob("*"))
    assert store.finished() == {NAME}
    store.publish(CELL)
    store.fetch([CELL])
    store.put_file("results.csv")
    assert sorted(store.local.rglob("*")) == before
    assert store.exists(f"{CELL}/picture.png") and not store.exists("results.csv")
    assert store.fetch_file(f"{CELL}/picture.png") and not store.fetch_file("results.csv")


# --- A URL ---


def test_a_cell_goes_there_and_comes_back_elsewhere(url, tmp_path, monkeypatch):
    here = open_store(url)
    assert here.is_remote and here.finished() == set()
    compute(here)
    assert here.finished() == set()
    here.publish(CELL)
    assert here.finished() == {NAME}
    assert {name for name in content(url) if name.startswith("cells/")} == {
        f"{CELL}/picture.png",
        f"{CELL}/steps/1.png",
        f"{CELL}/result.json",
    }
    there = elsewhere(url, tmp_path, monkeypatch)
    assert there.local != here.local and there.finished() == {NAME}
    assert list(there.local.iterdir()) == []
    there.fetch([CELL])
    assert (there.local / CELL / "steps" / "1.png").read_bytes() == b"first"
    result = read_result(there.local / CELL)
    assert result.metrics == {"loss": 0.5} and result.picture.read_bytes() == b"picture 0.5"
    assert result.picture == there.local / CELL / "picture.png"


def test_the_same_machine_finds_its_scratch_folder_again(url):
    first, second = open_store(url), open_store(url + "/")
    assert first.local == second.local and first.where == second.where
    assert first.local.name.startswith("sweep-")


def test_a_place_that_was_emptied_has_another_scratch_folder(url):
    """What an earlier sweep left on this machine is not taken for this one's."""
    first = open_store(url)
    compute(first)
    system, root = fsspec.core.url_to_fs(url)
    system.rm(root, recursive=True)
    second = open_store(url)
    assert second.local != first.local and list(second.local.iterdir()) == []


def test_files_beside_the_cells(url, tmp_path, monkeypatch):
    here = open_store(url)
    for text in ("a,b\n", "a,b\n1,2\n"):
        (here.local / "results.csv").write_text(text)
        here.put_file("results.csv")
    there = elsewhere(url, tmp_path, monkeypatch)
    assert there.exists("results.csv") and not there.exists("plan.json")
    (there.local / "results.csv").write_text("old")
    assert there.fetch_file("results.csv") and not there.fetch_file("plan.json")
    assert (there.local / "results.csv").read_text() == "a,b\n1,2\n"
    assert not (there.local / "plan.json").exists()
    assert there.finished() == set()


def test_only_what_differs_is_fetched(url, tmp_path, monkeypatch):
    here, there = open_store(url), elsewhere(url, tmp_path, monkeypatch)
    compute(here)
    here.publish(CELL)
    there.fetch([CELL])
    (there.local / CELL / "picture.png").write_bytes(b"marked")
    there.fetch([CELL])
    assert (there.local / CELL / "picture.png").read_bytes() == b"marked"
    compute(here, loss=0.25)
    here.publish(CELL)
    there.fetch([CELL])
    assert read_result(there.local / CELL).metrics == {"loss": 0.25}
    assert (there.local / CELL / "picture.png").read_bytes() == b"picture 0.25"


def test_nothing_is_fetched_of_no_cells(url):
    open_store(url).fetch([])


# --- Killed and failing on the way ---


class Killed(BaseException):
    """Like a kill: nothing may catch it."""


def stops_at(monkeypatch, system, method, when, error):
    """Let a method of a file system fail for certain paths."""
    original = getattr(type(system), method)

    def failing(self, *args, **kwargs):
        if any(when in str(arg) for arg in args):
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(system), method, failing)


@pytest.mark.parametrize("method", ["pipe_file", "mv"])
def test_killed_between_the_pictures_and_the_result(url, monkeypatch, method):
    if method == "mv" and url.startswith("memory"):
        pytest.skip("an object is there whole or not at all, without a draft")
    store = open_store(url)
    compute(store)
    system, _ = fsspec.core.url_to_fs(url)
    with monkeypatch.context() as patch:
        stops_at(patch, system, method, "result.json", Killed())
        with pytest.raises(Killed):
            store.publish(CELL)
    assert f"{CELL}/picture.png" in content(url)
    assert store.finished() == set()
    store.publish(CELL)
    assert store.finished() == {NAME}


def test_killed_while_a_cell_is_replaced(url, monkeypatch):
    """A picture of one computation beside the numbers of another must not count."""
    store = open_store(url)
    compute(store)
    store.publish(CELL)
    compute(store, loss=0.25)
    system, _ = fsspec.core.url_to_fs(url)
    with monkeypatch.context() as patch:
        stops_at(patch, system, "pipe_file", "result.json", Killed())
        with pytest.raises(Killed):
            store.publish(CELL)
    assert content(url)[f"{CELL}/picture.png"] == b"picture 0.25"
    assert store.finished() == set()


def test_killed_while_fetching(url, tmp_path, monkeypatch):
    here, there = open_store(url), elsewhere(url, tmp_path, monkeypatch)
    compute(here)
    here.publish(CELL)
    system, _ = fsspec.core.url_to_fs(url)
    with monkeypatch.context() as patch:
        stops_at(patch, system, "get_file", "steps/1.png", Killed())
        with pytest.raises(Killed):
            there.fetch([CELL])
    assert read_result(there.local / CELL) is None
    there.fetch([CELL])
    assert read_result(there.local / CELL).metrics == {"loss": 0.5}


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("put_file", lambda store: store.publish(CELL)),
        ("put_file", lambda store: store.put_file("results.csv")),
        ("find", lambda store: store.finished()),
        ("find", lambda store: store.fetch(["cells/0004"])),
        ("exists", lambda store: store.exists("results.csv")),
        ("exists", lambda store: store.fetch_file("results.csv")),
    ],
)
def test_a_file_system_that_fails_gives_one_sentence(url, monkeypatch, method, use):
    store = open_store(url)
    compute(store)
    (store.local / "results.csv").write_text("a\n")
    system, _ = fsspec.core.url_to_fs(url)
    stops_at(monkeypatch, system, method, "", PermissionError("Access Denied.\nRequestId: 12"))
    with pytest.raises(InputError) as caught:
        use(store)
    sentence = str(caught.value)
    assert sentence.startswith(store.where) and "\n" not in sentence
    assert "(PermissionError: Access Denied); check the address, the network and your" in sentence


def test_a_cell_that_is_not_finished_cannot_be_published(url):
    store = open_store(url)
    (store.local / CELL).mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written .FileNotFoundError"):
        store.publish(CELL)


# --- Places that cannot be ---


def test_no_credentials(monkeypatch, tmp_path):
    class NoCredentialsError(Exception):
        """As botocore has it."""

    monkeypatch.setenv("JAXSTYLE_SCRATCH", str(tmp_path))
    url = f"file://{tmp_path}/remote"
    stops_at(
        monkeypatch,
        LocalFileSystem(),
        "exists",
        "sweep-id",
        NoCredentialsError("Unable to locate credentials"),
    )
    with pytest.raises(InputError) as caught:
        open_store(url)
    assert str(caught.value) == (
        f"{url} cannot be used (NoCredentialsError: Unable to locate credentials); check the "
        "address, the network and your credentials."
    )
    assert list(tmp_path.iterdir()) == []


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown protocol 's4'; did you mean 's3'\?"):
        open_store("s4://bucket/sweep")


def test_missing_backend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"^s3://bucket/x cannot be used: .*[Ii]nstall s3fs.*\.$"):
        open_store("s3://bucket/x")


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"pip install 'jaxstyle\[sweep\]'; or give a folder\.$"):
        open_store("s3://bucket/x")


def test_damaged_id(url):
    open_store(url)
    system, root = fsspec.core.url_to_fs(url)
    system.pipe_file(f"{root}/sweep-id.txt", b"../../etc")
    with pytest.raises(InputError, match=r"sweep-id.txt is damaged; delete it\.$"):
        open_store(url)


def test_a_password_is_not_repeated(monkeypatch):
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(InputError) as caught:
        open_store("sftp://user:secret@host/x")
    assert "sftp://host/x" in str(caught.value) and "secret" not in str(caught.value)


def test_scratch_that_cannot_be_made(url, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXSTYLE_SCRATCH", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be made: Not a directory; set JAXSTYLE_SCRATCH"):
        open_store(url)


def test_scratch_is_in_the_cache_of_the_user(url, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXSTYLE_SCRATCH")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = open_store(url).local
    assert local.parent == tmp_path / "cache" / "jaxstyle" / "sweeps"
    assert os.stat(local).st_mode & 0o077 == 0
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pathlib.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    assert open_store(url).local.is_relative_to(tmp_path / "temporary")


def test_result_is_sent_as_it_is(url):
    store = open_store(url)
    compute(store)
    store.publish(CELL)
    sent = content(url)[f"{CELL}/result.json"]
    assert sent == (store.local / CELL / "result.json").read_bytes()
    assert json.loads(sent)["picture"] == "picture.png"
