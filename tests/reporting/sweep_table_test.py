"""The table of a sweep reads back as what was written."""

import csv
import dataclasses
import math
import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.reporting import sweep_cells
from jaxstyle.reporting.sweep_table import write_table
from jaxstyle.sweeps import results
from jaxstyle.sweeps.results import Result

NUMBERS = st.floats(width=64)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
CELLS = st.lists(
    st.builds(
        dict,
        name=TEXTS,
        message=TEXTS,
        status=st.sampled_from(["done", "not_finite", "failed"]),
        values=st.fixed_dictionaries(
            {}, optional={"beta": NUMBERS, "layers": st.lists(TEXTS).map(tuple), "on": TEXTS}
        ),
        metrics=st.dictionaries(st.sampled_from(["loss", "style/relu1_1", "tv"]), NUMBERS),
        steps=st.integers(0, 10**6),
        seconds=NUMBERS,
    ),
    max_size=5,
)


def read_back(cells, keys):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "results.csv"
        write_table(cells, keys, file)
        assert [path.name for path in file.parent.iterdir()] == ["results.csv"]
        with file.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream, strict=True))


def same(text, number):
    return math.isnan(float(text)) if math.isnan(number) else float(text) == number


@settings(deadline=None)
@given(CELLS)
def test_everything_reads_back(records):
    cells = [Result(index, **record) for index, record in enumerate(records)]
    rows = read_back(cells[::-1], ["beta", "layers", "on"])
    assert [int(row["index"]) for row in rows] == [cell.index for cell in cells]
    for row, cell in zip(rows, cells, strict=True):
        assert None not in row  # no row has more fields than the header
        assert (row["name"], row["message"], row["status"]) == (
            cell.name,
            cell.message,
            cell.status,
        )
        assert int(row["steps"]) == cell.steps and same(row["seconds"], cell.seconds)
        for name in {name for other in cells for name in other.metrics} | {"loss"}:
            absent = name not in cell.metrics
            assert row[name] == "" if absent else same(row[name], cell.metrics[name])
        if "beta" in cell.values:
            assert same(row["beta"], cell.values["beta"])
        if cell.values.get("layers"):
            assert row["layers"] == "+".join(cell.values["layers"])
        assert row["on"] == cell.values.get("on", "")


def test_states_are_called_as_the_sweep_calls_them():
    assert (sweep_cells.DONE, sweep_cells.NOT_FINITE, sweep_cells.FAILED) == (
        results.DONE,
        results.NOT_FINITE,
        results.FAILED,
    )
    fields = {field.name for field in dataclasses.fields(Result)}
    assert fields == {name for name in vars(sweep_cells.Cell) if not name.startswith("_")}


def test_columns_and_the_way_to_the_picture(tmp_path):
    picture = tmp_path / "cells" / "0000_a=1" / "picture.png"
    cells = [
        Result(0, "0000_a=1", {"steps": 3, "a": True}, metrics={"tv": 1.0}, picture=picture),
        Result(1, "b", {"steps": 4, "a": False}, metrics={"loss": 2.0, "style/x": 0.1}),
    ]
    write_table(cells, ["steps", "a"], tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_bytes().split(b"\r\n")
    assert lines[0].decode() == (
        "index,name,status,steps (swept),a,steps,seconds,loss,tv,style/x,picture,message"
    )
    assert lines[1].decode() == ("0,0000_a=1,done,3,true,0,0.0,,1.0,,cells/0000_a=1/picture.png,")
    assert lines[2].decode() == "1,b,done,4,false,0,0.0,2.0,,0.1,,"
    assert lines[3:] == [b""]


def test_what_cannot_be_encoded_is_still_readable(tmp_path):
    write_table([Result(0, "a", {}, message="bad \udcff name")], [], tmp_path / "t.csv")
    assert "bad \\udcff name" in (tmp_path / "t.csv").read_text("utf-8")


def test_the_old_table_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    file = tmp_path / "results.csv"
    write_table([Result(0, "old", {})], [], file)
    before = file.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table([Result(0, "new", {})], [], file)
    assert file.read_bytes() == before
