"""Names of cells, launches that cover them, and the plan as a file."""

import json
import os
import pathlib
import re
import tempfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxstyle.sweeps import plan
from jaxstyle.sweeps.plan import Launch, Plan, cell_name, grouped, lane_count, launches_of
from jaxstyle.types import InputError

KEYS = st.sampled_from(["seed", "objective.beta", "style", "a.b.c", "masks"])
NUMBERS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(NUMBERS, st.text(), st.text(max_size=400))
VALUES = st.dictionaries(KEYS, st.one_of(SCALARS, st.lists(SCALARS).map(tuple)), min_size=1)


# Names.


@given(st.integers(0, 9999), VALUES)
@example(0, {"style": "../../etc/passwd"})
@example(1, {"style": "..", "masks": "."})
@example(2, {"style": "a" * 1000, "seed": 1})
@example(3, {"style": '\u202e\u0000\n\r\t \\/:*?"<>|\ud800é風.jpg'})
def test_a_name_is_safe_in_any_file_system(index, values):
    name = cell_name(index, values)
    assert re.fullmatch(r"[A-Za-z0-9_.,=+-]{4,80}", name)
    assert name.startswith(f"{index:04d}") and name[-1] not in "._-"
    assert name[4:5] in ("", "_")
    assert cell_name(index, values) == name


@given(VALUES, st.lists(st.integers(0, 9999), min_size=2, unique=True))
def test_names_differ_whatever_the_values_are(values, indices):
    names = [cell_name(index, values) for index in indices]
    assert len({name.lower() for name in names}) == len(names)
    assert sorted(names) == [cell_name(index, values) for index in sorted(indices)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"objective.beta": 1e-5, "seed": 3}, "0007_beta=1e-05_seed=3"),
        ({"solver.learning_rate": 1e20}, "0007_learning_rate=1e20"),
        ({"objective.style_layers": ("relu1_1", "relu2_1")}, "0007_style_layers=relu1_1+relu2_1"),
        ({"objective.style_layers": ()}, "0007_style_layers"),
        ({"style": "/art/old/the wave.jpg"}, "0007_style=the-wave.jpg"),
        ({"style": "/"}, "0007_style"),
        ({"style": "風", "seamless": True}, "0007_style=-_seamless=true"),
        ({"style": "x" * 100, "seed": 1}, "0007_style=" + 69 * "x"),
    ],
    ids=str,
)
def test_a_name_says_what_the_cell_sets(values, name):
    assert cell_name(7, values) == name


# Groups and lanes.


@given(st.lists(st.sampled_from("abcde")))
def test_groups_are_those_of_equal_keys_in_order(keys):
    groups = grouped(keys)
    assert sorted(index for group in groups for index in group) == list(range(len(keys)))
    assert [keys[group[0]] for group in groups] == list(dict.fromkeys(keys))
    for group in groups:
        assert group == sorted(group) and len({keys[index] for index in group}) == 1


def wasted(cells, lanes):
    return -cells % lanes


@given(st.integers(1, 300), st.integers(1, 100))
def test_lanes_are_many_and_few_are_for_nothing(cells, most):
    lanes = lane_count(cells, most)
    most = min(cells, most)
    assert max(1, most // 2) <= lanes <= most
    for other in range(max(1, most // 2), most + 1):
        assert wasted(cells, lanes) <= wasted(cells, other)
        assert other <= lanes or wasted(cells, lanes) < wasted(cells, other)


@pytest.mark.parametrize(
    ("cells", "most", "lanes"),
    [(1, 8, 1), (8, 8, 8), (16, 8, 8), (7, 64, 7), (12, 8, 6), (17, 8, 6), (13, 8, 7), (5, 0, 1)],
)
def test_lanes_of_some_groups(cells, most, lanes):
    assert lane_count(cells, most) == lanes


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.integers(1, 9))
def test_launches_cover_every_cell_once(keys, most):
    groups = grouped(keys)
    asked = []

    def choose(number, cells):
        asked.append((number, list(cells)))
        return ("vmap", "map")[number % 2], lane_count(len(cells), most)

    launches = launches_of(groups, choose, lambda index: 100 + index)
    assert asked == list(enumerate(groups))
    assert [launch.number for launch in launches] == list(range(len(launches)))
    assert [index for launch in launches for index in launch.cells] == sum(groups, [])
    for launch in launches:
        own = groups[launch.group]
        assert set(launch.cells) <= set(own) and 1 <= len(launch.cells) <= launch.lanes
        assert (launch.form, launch.lanes) == choose(launch.group, own)
        assert launch.steps == 100 + launch.cells[0]
        assert len(launch.cells) == launch.lanes or launch.cells[-1] == own[-1]


def test_folders_of_launches():
    folders = [Launch(number, 0, "run", (0,), 1, 5).folder for number in (0, 12, 12345)]
    assert folders == ["launches/0000", "launches/0012", "launches/12345"]


# The file.

JSON_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters()),  # surrogates too: what a file's name can be
)


@st.composite
def plans(draw):
    keys = draw(st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True))
    value = st.one_of(JSON_SCALARS, st.lists(JSON_SCALARS, max_size=3).map(tuple))
    cells = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(keys, value)), min_size=1))
    groups = grouped([str(number % 3) for number in range(len(cells))])
    return Plan(tuple(cells), launches_of(groups, lambda *_: ("map", 2), lambda _: 9))


@given(plans())
@example(Plan(({"style": "caf\udce9.jpg"},), (Launch(0, 0, "run", (0,), 1, 5),)))
def test_a_plan_is_read_as_it_was_written(made):
    with tempfile.TemporaryDirectory() as folder:
        plan.write_plan(folder, made)
        found = plan.read_plan(folder)
        assert [path.name for path in pathlib.Path(folder).iterdir()] == ["plan.json"]
    assert found == made and found.keys == made.keys
    assert repr(found) == repr(made)  # types too: 1 is not 1.0, a tuple no list
    assert [launch.folder for launch in found.launches] == [x.folder for x in made.launches]


def test_a_new_sweep_has_no_plan(tmp_path):
    assert plan.read_plan(tmp_path) is None
    (tmp_path / "plan.json.tmp").write_text("{}")  # of a process that was killed
    assert plan.read_plan(tmp_path) is None


LAUNCH = Launch(0, 0, "vmap", (0, 1), 2, 5)._asdict()
CELLS = [{"seed": 1}, {"seed": 2}]


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"cells": [{"se',
        "null",
        "3",
        "[]",
        "{}",
        "\udcff",
        "[" * 100_000,
        json.dumps({"cells": CELLS}),
        json.dumps({"cells": CELLS, "launches": None}),
        json.dumps({"cells": CELLS, "launches": [3]}),
        json.dumps({"cells": CELLS, "launches": [{**LAUNCH, "lane": 3}]}),
        json.dumps({"cells": CELLS, "launches": [{"cells": [0, 1]}]}),
        json.dumps({"cells": CELLS, "launches": [{**LAUNCH, "cells": 3}]}),
        json.dumps({"cells": CELLS, "launches": [{**LAUNCH, "cells": [0]}]}),
        json.dumps({"cells": CELLS, "launches": [{**LAUNCH, "cells": [0, 1, 1]}]}),
        json.dumps({"cells": CELLS, "launches": [{**LAUNCH, "cells": [0, 2]}]}),
        json.dumps({"cells": [1, 2], "launches": [LAUNCH]}),
        json.dumps({"cells": [{}, {}], "launches": [LAUNCH]}),
        json.dumps({"cells": [], "launches": []}),
    ],
    ids=lambda text: text[:60],
)
def test_a_damaged_plan_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "plan.json").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError) as caught:
        plan.read_plan(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'plan.json'} cannot be read (")
    assert str(caught.value).endswith("); put it back, or choose another --workdir.")


def test_a_plan_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    old = Plan(({"seed": 1},), (Launch(0, 0, "run", (0,), 1, 5),))
    new = old._replace(cells=({"seed": 2},))

    def killed(*_, **__):
        raise KeyboardInterrupt

    def write(made):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", killed)
            plan.write_plan(tmp_path, made)

    write(old)
    assert plan.read_plan(tmp_path) is None
    plan.write_plan(tmp_path, old)
    write(new)
    assert plan.read_plan(tmp_path) == old
    plan.write_plan(tmp_path, new)
    assert plan.read_plan(tmp_path) == new
