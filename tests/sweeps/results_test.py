"""The file that marks a cell as finished: all of it comes back, and it is there whole or not."""

import dataclasses
import json
import os
import pathlib
import tempfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxstyle.sweeps.results import (
    DONE,
    FAILED,
    NOT_FINITE,
    RESULT_FILE,
    Result,
    read_result,
    write_result,
)
from jaxstyle.types import InputError

FLOATS = st.floats(allow_nan=False)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63), FLOATS, st.text(st.characters()))
RESULTS = st.builds(
    Result,
    index=st.integers(0, 9999),
    name=st.text(),
    values=st.dictionaries(st.text(), st.one_of(SCALARS, st.lists(SCALARS).map(tuple))),
    status=st.sampled_from([DONE, NOT_FINITE, FAILED]),
    message=st.text(),
    metrics=st.dictionaries(st.text(), FLOATS),
    steps=st.integers(0),
    seconds=st.floats(0, 1e9),
)
PLAIN = Result(3, "0003_seed=1", {"seed": 1}, metrics={"loss": 0.5}, steps=9, seconds=1.5)


@given(RESULTS, st.sampled_from([None, "picture.png", "風.png"]))
@example(Result(0, "0000", {"style": "caf\udce9.jpg", "masks": ((1, "a"),)}), "picture.png")
def test_a_result_is_read_as_it_was_written(result, picture):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        result = dataclasses.replace(result, picture=picture and folder / picture)
        write_result(folder, result)
        found = read_result(str(folder))
        assert [path.name for path in folder.iterdir()] == [RESULT_FILE]
    assert found == result
    assert repr(found) == repr(result)  # types too: 1 is not 1.0, a tuple no list


def test_the_folder_can_be_moved(tmp_path):
    write_result(tmp_path, dataclasses.replace(PLAIN, picture="elsewhere/picture.png"))
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    found = read_result(moved)
    assert found is not None and found.picture == moved / "picture.png"
    assert str(tmp_path) not in (moved / RESULT_FILE).read_text()


def test_what_is_not_finished_has_no_result(tmp_path):
    assert read_result(tmp_path) is None
    assert read_result(tmp_path / "nowhere") is None


@pytest.mark.parametrize("call", ["dumps", "fsync", "replace"])
def test_a_draft_is_no_result(tmp_path, monkeypatch, call):
    """Killed while it is written, at any point: nothing new is there, and nothing old is lost."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    def write(result):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(json if call == "dumps" else os, call, killed)
            write_result(tmp_path, result)

    write(PLAIN)
    assert read_result(tmp_path) is None
    write_result(tmp_path, PLAIN)
    write(dataclasses.replace(PLAIN, steps=10))
    assert read_result(tmp_path) == PLAIN
    write_result(tmp_path, dataclasses.replace(PLAIN, steps=10))
    assert read_result(tmp_path) == dataclasses.replace(PLAIN, steps=10)


def test_what_is_renamed_is_on_the_disk_already(tmp_path, monkeypatch):
    seen = []
    fsync, replace = os.fsync, os.replace

    def flushed(number):
        seen.append(os.fstat(number).st_size)
        fsync(number)

    def renamed(draft, file):
        seen.append(os.stat(draft).st_size)
        replace(draft, file)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    write_result(tmp_path, PLAIN)
    size = (tmp_path / RESULT_FILE).stat().st_size
    assert seen == [size, size] and size > 100


RECORD = dataclasses.asdict(PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        json.dumps(RECORD)[:40],
        "null",
        "[]",
        "3",
        '"text"',
        "{}",
        "\udcff",
        "[" * 100_000,
        json.dumps({**RECORD, "values": [1]}),
        json.dumps({**RECORD, "picture": 3}),
        json.dumps({**RECORD, "color": 3}),
        json.dumps({key: value for key, value in RECORD.items() if key != "name"}),
    ],
    ids=lambda text: text[:60],
)
def test_a_damaged_result_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / RESULT_FILE).write_text(text, errors="surrogateescape")
    with pytest.raises(InputError) as caught:
        read_result(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / RESULT_FILE} cannot be read (")
    assert str(caught.value).endswith("); delete that file to compute the cell again.")


def test_a_result_that_is_a_folder_is_refused_too(tmp_path):
    (tmp_path / RESULT_FILE).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_result(tmp_path)
