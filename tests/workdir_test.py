"""The workdir: one configuration, one process, and refusals that say what to do."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from jaxstyle.types import InputError
from jaxstyle.workdir import claim, claimed, flatten

CONFIG = {
    "steps": 1300,
    "style": {"image": "écran.jpg", "layers": ("relu1_1", "relu2_1")},
    "weights": {"content": 1.0, "style": 0.6, "tv": None},
    "flip": True,
}


def test_flatten_makes_dotted_keys_and_takes_them():
    flat = flatten(CONFIG)
    assert list(flat) == sorted(flat)
    assert flat["weights.style"] == 0.6 and flat["style.layers"] == ("relu1_1", "relu2_1")
    assert flatten(flat) == flat


def test_new_folder_gets_the_settings(tmp_path):
    with claim(tmp_path / "a" / "b", CONFIG) as run:
        assert run.path == tmp_path / "a" / "b"
        text = (run.path / "config.json").read_text(encoding="utf-8")
    recorded = json.loads(text)
    assert recorded == json.loads(json.dumps(flatten(CONFIG)))
    assert list(recorded) == sorted(recorded)
    assert "écran.jpg" in text and text.endswith("}\n")
    assert not list(run.path.glob("*.tmp"))


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with claim("~/run", {}) as run:
        assert run.path == tmp_path / "run"


def test_same_settings_are_accepted_again(tmp_path):
    claim(tmp_path, CONFIG).release()
    before = (tmp_path / "config.json").read_bytes()
    claim(tmp_path, flatten(CONFIG)).release()
    assert (tmp_path / "config.json").read_bytes() == before


def refusal(folder, config) -> str:
    with pytest.raises(InputError) as caught:
        claim(folder, config)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def test_other_settings_are_named_with_both_values(tmp_path):
    claim(tmp_path, CONFIG).release()
    weights = {"content": 1.0, "style": 2.0}
    sentence = refusal(tmp_path, CONFIG | {"weights": weights, "seed": 0, "flip": 1})
    assert sentence == (
        f"workdir {tmp_path} was made with other settings: flip was true and is now 1, seed was "
        "absent and is now 0, weights.style was 0.6 and is now 2.0, weights.tv was null and is now "
        "absent; choose another --workdir, or give the old values."
    )
    claim(tmp_path, CONFIG).release()  # a refusal leaves neither a lock nor another record


def test_many_other_settings_are_counted(tmp_path):
    claim(tmp_path, {f"key{i}": i for i in range(9)}).release()
    sentence = refusal(tmp_path, {f"key{i}": -1 for i in range(9)})
    assert "key5 was 5 and is now -1, and 3 more; choose" in sentence
    assert "key6" not in sentence


def test_not_a_number_equals_itself(tmp_path):
    for _ in range(2):
        claim(tmp_path, {"a": float("nan"), "b": float("inf")}).release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    assert "config.json is damaged (not a JSON object)" in refusal(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == content


def test_checkpoints_without_a_record_are_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert "holds checkpoints but no config.json" in refusal(tmp_path, CONFIG)
    assert not (tmp_path / "config.json").exists()


def test_folder_with_other_things_is_accepted(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    claim(tmp_path, CONFIG).release()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        sentence = refusal(path, CONFIG)
        assert f"{tmp_path / 'file'} is a file; --workdir takes a folder" in sentence


def test_folder_that_cannot_be_made_or_written(tmp_path, monkeypatch):
    sentence = refusal(tmp_path / ("x" * 300), CONFIG)
    assert "cannot be used: File name too long; choose another --workdir" in sentence
    if os.geteuid() == 0:  # root may write anywhere, so let the system refuse in its name

        def refuse(path, *_):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "open", refuse)
    else:
        tmp_path.chmod(0o500)
    assert "cannot be used: Permission denied" in refusal(tmp_path, CONFIG)


def test_record_that_cannot_be_read(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert "config.json cannot be read or written: Is a directory" in refusal(tmp_path, CONFIG)


def test_second_claim_is_refused_until_the_first_is_released(tmp_path):
    first = claim(tmp_path, CONFIG)
    sentence = refusal(tmp_path, CONFIG)
    assert f"is in use by another process (pid {os.getpid()}); wait for it to end" in sentence
    first.release()
    first.release()
    claim(tmp_path, CONFIG).release()


def test_lock_ends_with_the_process_that_is_killed(tmp_path):
    program = (
        "import sys, time; from jaxstyle.workdir import claim; "
        f"claim({str(tmp_path)!r}, {{}}); print('claimed', flush=True); time.sleep(600)"
    )
    root = pathlib.Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout.readline() == "claimed\n"
            assert f"in use by another process (pid {child.pid})" in refusal(tmp_path, {})
        finally:
            child.send_signal(signal.SIGKILL)
        child.wait()
    claim(tmp_path, {}).release()


def test_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    import errno
    import fcntl

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with claim(tmp_path, CONFIG) as run:
        assert (run.path / "config.json").exists()


# --- Folders that several processes share ---


def test_those_who_share_get_in_and_nobody_else(tmp_path):
    first, second = claim(tmp_path, CONFIG, shared=True), claim(tmp_path, CONFIG, shared=True)
    assert "is in use by another process; wait for it to end" in refusal(tmp_path, CONFIG)
    first.release()
    assert "is in use by another process; wait" in refusal(tmp_path, CONFIG)
    second.release()
    with claim(tmp_path, CONFIG), pytest.raises(InputError, match=rf"pid {os.getpid()}\); wait"):
        claim(tmp_path, CONFIG, shared=True)


def test_those_who_share_have_the_same_settings(tmp_path):
    with (
        claim(tmp_path, CONFIG, shared=True),
        pytest.raises(InputError, match="steps was 1300 and is now 1;"),
    ):
        claim(tmp_path, CONFIG | {"steps": 1}, shared=True)


def test_of_two_that_come_at_a_time_one_records_its_settings(tmp_path, monkeypatch):
    """Another process writes the record after this one has found none."""
    link = os.link

    def late(draft, file):
        monkeypatch.setattr(os, "link", link)
        claim(tmp_path, CONFIG, shared=True).release()
        link(draft, file)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(InputError, match="steps was 1300 and is now 1;"):
        claim(tmp_path, CONFIG | {"steps": 1}, shared=True)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["config.json"]
    claim(tmp_path, CONFIG).release()


def test_file_system_without_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    claim(tmp_path, CONFIG).release()
    claim(tmp_path, CONFIG).release()
    assert not list(tmp_path.glob("*.tmp"))


# --- Pieces of work ---


def test_a_piece_is_held_by_one(tmp_path):
    piece = tmp_path / "launches" / "0001"
    with claimed(piece) as mine, claimed(piece) as also_mine, claimed(tmp_path / "other") as other:
        assert (mine, also_mine, other) == (True, False, True)
    with claimed(piece) as mine:
        assert mine


def test_a_piece_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), claimed(tmp_path) as mine:
        assert mine
        _ = 1 / 0
    with claimed(tmp_path) as mine:
        assert mine


def test_a_holder_may_delete_the_piece(tmp_path):
    with claimed(tmp_path / "piece") as mine:
        assert mine
        shutil.rmtree(tmp_path / "piece")
    assert not (tmp_path / "piece").exists()


def test_the_lock_of_a_deleted_piece_is_none(tmp_path, monkeypatch):
    """Between opening the file and locking it, its holder deletes the folder."""
    import fcntl

    flock = fcntl.flock

    def late(*args):
        monkeypatch.setattr(fcntl, "flock", flock)
        shutil.rmtree(tmp_path / "piece")
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(tmp_path / "piece") as mine, claimed(tmp_path / "piece") as also_mine:
        assert (mine, also_mine) == (True, False)


def test_waiting_for_a_piece(tmp_path):
    held, waiting = threading.Event(), threading.Event()

    def hold():
        with claimed(tmp_path) as mine:
            assert mine
            held.set()
            waiting.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    with claimed(tmp_path, wait=0.3) as mine:
        assert not mine
    waiting.set()
    with claimed(tmp_path, wait=60) as mine:
        assert mine
    thread.join()


def test_a_piece_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="is a file; --workdir takes a folder"),
        claimed(tmp_path / "file" / "piece"),
    ):
        pass
    with pytest.raises(InputError, match="cannot be used: File name too long"), claimed("x" * 300):
        pass
