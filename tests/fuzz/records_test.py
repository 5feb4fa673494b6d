"""What lies in a work folder, damaged by hand: it is read, or refused in a sentence."""

import json

import fuzz_kit
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle import workdir
from jaxstyle.io import models
from jaxstyle.reporting import metrics_file
from jaxstyle.sweeps import plan, results
from jaxstyle.types import InputError

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf"), -0.5]),
    st.text(max_size=8),
    st.sampled_from(["../../x.png", "/etc/passwd", "\udcff", "a\0b", "x" * 3000]),
)
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def changed(draw, record):
    """Return a record in which something has become something else, or is gone, or is new."""
    record = json.loads(json.dumps(record))
    for _ in range(draw(st.integers(1, 2))):
        place = record
        while isinstance(place, (dict, list)) and place:
            key = draw(
                st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
            )
            if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
                what = draw(st.sampled_from(["replace", "delete", "add"]))
                if what == "delete":
                    del place[key]
                elif what == "add" and isinstance(place, dict):
                    place[draw(st.text(max_size=5))] = draw(ANYTHING)
                else:
                    place[key] = draw(ANYTHING)
                break
            place = place[key]
    return record


def _written(file, content):
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


PLAN = {
    "cells": [{"beta": 1.0, "layers": ["relu1_1"]}, {"beta": 2.0, "layers": []}],
    "launches": [
        {"number": 0, "group": 0, "form": "vmap", "cells": [0, 1], "lanes": 2, "steps": 5},
    ],
}  # fmt: skip
RESULT = {
    "index": 1, "name": "0001_beta=2", "values": {"beta": 2.0}, "status": "done", "message": "",
    "metrics": {"loss": 0.5}, "steps": 5, "seconds": 1.5, "picture": "picture.png",
}  # fmt: skip
# Not JSON at all, or JSON that breaks readers.
TEXTS = [b"", b"{", b"null", b"[]", b"{}", b"1e999", b"[" * 100_000, b'{"a":' * 100_000,
         b"\xff\xfe",
         b"9" * 5000, b'{"cells": [], "launches": []}', b"\x00", b'"\\ud800"']  # fmt: skip


def test_the_seeds_are_records(tmp_path):
    _written(tmp_path / plan.PLAN_FILE, PLAN)
    _written(tmp_path / results.RESULT_FILE, RESULT)
    assert plan.read_plan(tmp_path).launches[0].cells == (0, 1)
    assert results.read_result(tmp_path).picture == tmp_path / "picture.png"


def _uses_plan(made):
    """Do with a plan what a sweep does."""
    for launch in made.launches:
        assert launch.folder.startswith("launches/")
        assert launch.lanes >= len(launch.cells) > 0 and launch.steps * len(launch.cells) >= 0
        for index in launch.cells:
            name = plan.cell_name(index, made.cells[index])
            assert "/" not in name and name.isascii()
    assert all(cell.keys() == set(made.keys) for cell in made.cells)


@fuzz_kit.fuzzed(100)
@given(record=changed(PLAN))
def test_plans(tmp_path_factory, record):
    folder = tmp_path_factory.getbasetemp()
    _written(folder / plan.PLAN_FILE, record)
    made = fuzz_kit.tried(plan.read_plan, folder)
    if isinstance(made, plan.Plan):
        _uses_plan(made)


@fuzz_kit.fuzzed(100)
@given(record=changed(RESULT))
def test_results(tmp_path_factory, record):
    folder = tmp_path_factory.getbasetemp()
    _written(folder / results.RESULT_FILE, record)
    result = fuzz_kit.tried(results.read_result, folder)
    if isinstance(result, results.Result):
        assert result.picture is None or result.picture.parent == folder
        assert all(isinstance(number + 0.0, float) for number in result.metrics.values())
        results.write_result(folder, result)
        assert repr(results.read_result(folder)) == repr(result)


@fuzz_kit.fuzzed(50)
@given(record=changed({"beta": 1.0, "layers": ["a"], "seed": 3}))
def test_settings(tmp_path_factory, record):
    folder = tmp_path_factory.getbasetemp() / "run"
    folder.mkdir(exist_ok=True)
    _written(folder / workdir.CONFIG_FILE, record)
    held = fuzz_kit.tried(workdir.claim, folder, {"beta": 1.0, "layers": ("a",), "seed": 3})
    if isinstance(held, workdir.Claim):
        held.release()
        assert repr(record) == repr({"beta": 1.0, "layers": ["a"], "seed": 3})


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12].decode("latin-1"))
def test_what_is_no_record(tmp_path, text):
    for name in (plan.PLAN_FILE, results.RESULT_FILE, workdir.CONFIG_FILE, models.CARD):
        _written(tmp_path / name, text)
    for read in (plan.read_plan, results.read_result, models.load_model):
        assert isinstance(fuzz_kit.tried(read, tmp_path), InputError)
    assert isinstance(fuzz_kit.tried(workdir.claim, tmp_path, {"a": 1}), InputError)
    _written(tmp_path / "m.jsonl", b'{"step": 1}\n' + text + b"\n")
    assert metrics_file.read_metrics(tmp_path / "m.jsonl") == [{"step": 1}]
    assert metrics_file.MetricsFile(tmp_path / "m.jsonl").cut_back(5) == 1


@fuzz_kit.fuzzed(60)
@given(changes=fuzz_kit.edits())
def test_metrics(tmp_path_factory, changes):
    lines = b"".join(b'{"step": %d, "loss": 0.5}\n' % step for step in range(1, 9))
    file = fuzz_kit.write(
        tmp_path_factory.getbasetemp(), "m.jsonl", fuzz_kit.damaged(lines, changes)
    )
    before = metrics_file.read_metrics(file)
    last = metrics_file.MetricsFile(file).cut_back(5)
    after = metrics_file.read_metrics(file)
    assert last <= 5 and after == before[: len(after)]


def _checkpointer(folder):
    from jaxstyle import checkpoints

    return checkpoints.Checkpointer(folder, say=lambda sentence: None)


def test_checkpoints(tmp_path):
    import jax.numpy as jnp

    state = {"w": jnp.arange(4.0)}
    _checkpointer(tmp_path).save(1, state, {"position": 4})
    folder = next((tmp_path / "checkpoints").glob("0*1"))
    whole = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    @fuzz_kit.fuzzed(25)
    @given(
        file=st.sampled_from(sorted(whole)),
        changes=fuzz_kit.edits(),
        text=st.sampled_from([*TEXTS, None]),
    )
    def look(file, changes, text):
        if not folder.exists():
            next((tmp_path / "checkpoints").glob("0*")).rename(folder)
        for name, content in whole.items():
            name.write_bytes(content)
        damaged = fuzz_kit.damaged(whole[file], changes) if text is None else text
        file.write_bytes(damaged)
        found = fuzz_kit.tried(_checkpointer(tmp_path).restore_latest, state)
        if not isinstance(found, InputError):
            assert (found.state["w"] == state["w"]).all() and found.notes == {"position": 4}

    look()
