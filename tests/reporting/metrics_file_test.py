"""The metrics file: cut at any byte it comes back to whole lines, and to the same bytes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle.reporting.metrics_file import MetricsFile, read_metrics


def write(path, steps):
    metrics = MetricsFile(path)
    for step in steps:
        metrics.append(step, {"tv": np.float32(0.1), "loss": 1 / step})


def test_line_has_step_and_loss_first_and_short_numbers(tmp_path):
    path = tmp_path / "metrics.jsonl"
    values = {"tv": np.float32(0.1), "loss": np.asarray(2.5, np.float32), "a/b": np.int32(3)}
    MetricsFile(path).append(7, values)
    assert path.read_text() == '{"step": 7, "loss": 2.5, "a/b": 3, "tv": 0.1}\n'


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_reads_back_to_itself(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    MetricsFile(path).append(1, {"loss": np.float32(value)})
    text = path.read_text()
    read = np.float32(json.loads(text)["loss"])
    assert read.tobytes() == np.float32(value).tobytes()
    assert len(text) < 50


@pytest.mark.parametrize("value", [np.float32("nan"), float("inf")])
def test_value_that_is_no_json_is_refused(tmp_path, value):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        metrics.append(1, {"loss": value})
    assert not metrics.path.exists()


def test_cut_at_every_byte_then_continued_gives_the_same_bytes(tmp_path):
    steps = [5, 10, 12]
    whole = tmp_path / "whole.jsonl"
    write(whole, steps)
    content = whole.read_bytes()
    ends = [0] + [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    path = tmp_path / "cut.jsonl"
    for size in range(len(content) + 1):
        lines = sum(end <= size for end in ends[1:])
        for resumed_from in (0, 4, 5, 11, 12, 100):
            path.write_bytes(content[:size])
            last = MetricsFile(path).cut_back(resumed_from)
            kept = [step for step in steps[:lines] if step <= resumed_from]
            assert last == (kept[-1] if kept else 0)
            assert path.read_bytes() == content[: ends[len(kept)]]
            assert MetricsFile(path).cut_back(resumed_from) == last
        write(path, steps[len(kept) :])
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"step": "6"}\n',
        b'{"step": true}\n',
        b'{"step": 5}\n',
        b"\xff\n",
    ],
)
def test_everything_from_a_damaged_line_on_is_dropped(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    write(path, [5])
    good = path.read_bytes()
    path.write_bytes(good + damage)
    write(path, [10])
    assert MetricsFile(path).cut_back(10) == 5
    assert path.read_bytes() == good


def test_no_file_has_nothing_to_cut(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.cut_back(10) == 0
    assert not metrics.path.exists()


def test_read_leaves_out_a_half_written_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [5, 10])
    with path.open("a") as file:
        file.write('{"step": 15, "loss": 0.')
    assert [record["step"] for record in read_metrics(path)] == [5, 10]
    assert read_metrics(path)[0] == {"step": 5, "loss": 0.2, "tv": 0.1}
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "missing.jsonl")
