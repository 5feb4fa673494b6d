"""Axes: what varies, what varies together, and in which order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle.reporting.sweep_axes import (
    axes_of,
    constants,
    distinct_values,
    identity,
    joint_axis,
    labels_of,
    short_names,
    value_text,
)
from jaxstyle.sweeps.results import Result

VALUES = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=True),
    st.sampled_from(["vgg19", "embedded", ""]),
    st.lists(st.sampled_from(["relu1_1", "relu2_1"]), max_size=3).map(tuple),
)
SWEEPS = st.lists(
    st.fixed_dictionaries({}, optional={"a": VALUES, "b.a": VALUES, "seed": st.integers(0, 2)}),
    min_size=1,
    max_size=12,
).map(lambda values: [Result(i, f"{i}", cell) for i, cell in enumerate(values)])
KEYS = ["a", "b.a", "seed"]


def cells_of(*values):
    return [Result(i, f"{i}", cell) for i, cell in enumerate(values)]


@given(SWEEPS)
def test_no_two_cells_have_the_same_places(cells):
    axes = axes_of(cells, KEYS)
    places = {tuple(axis.places[cell.index] for axis in axes) for cell in cells}
    assert len(places) == len(cells)
    for axis in axes:
        assert set(axis.places.values()) == set(range(len(axis)))
        assert len(set(axis.texts)) == len(axis) > 1
    used = [key for axis in axes for key in axis.keys if key != "copy"]
    assert len(used) == len(set(used))


@given(SWEEPS)
def test_labels_tell_the_values(cells):
    for axis in axes_of(cells, KEYS):
        for i, key in enumerate(axis.keys):
            if key == "copy":
                continue
            by_label = {}
            for cell in cells:
                value = identity(cell.values[key]) if key in cell.values else None
                label = axis.texts[axis.places[cell.index]][i]
                assert by_label.setdefault((label, type(cell.values.get(key))), value) == value


@given(st.floats(allow_nan=False))
def test_numbers_read_back(number):
    assert float(value_text(number)) == number
    assert value_text(np.float64(number)) == value_text(number)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (("relu1_1", "relu2_1"), "relu1_1+relu2_1"),
        ((), "()"),
        ((0.5, 1.0), "0.5+1"),
        (True, "true"),
        (10.0, "10"),
        (2**60 + 1, "1152921504606846977"),
        ("a b", "a b"),
    ],
)
def test_texts_of_values(value, text):
    assert value_text(value) == text


def test_numbers_are_sorted_and_names_stay_in_order():
    cells = cells_of({"a": 10.0, "n": "z"}, {"a": -1, "n": "b"}, {"a": math.nan, "n": "z"})
    assert distinct_values(cells, "a")[:2] == [-1, 10.0]
    assert math.isnan(distinct_values(cells, "a")[2])
    assert distinct_values(cells[::-1], "n") == ["z", "b"]  # whatever the order of the list
    assert distinct_values(cells_of({"a": 1}, {"a": 1.0}, {"a": True}), "a") == [1, True]


def test_labels_have_as_few_digits_as_tell_them_apart():
    assert labels_of([0.01, 0.1 / 3, 1e6]) == ["0.01", "0.0333", "1e+06"]
    assert labels_of([1 / 3, 1 / 3 + 1e-6]) == ["0.333333", "0.333334"]
    assert labels_of([100000.0, 100001.0]) == ["100000", "100001"]
    assert labels_of([(1 / 3, 2.0)]) == ["0.333+2"]


def test_keys_that_vary_together_share_an_axis():
    cells = cells_of(
        *({"alpha": a, "beta": 10 * a, "seed": s, "tv": 0.0} for a in (2, 1) for s in (0, 1))
    )
    first, second = axes_of(cells, ["beta", "seed", "alpha", "tv"])
    assert first.keys == ("beta", "alpha") and second.keys == ("seed",)
    assert first.texts == (("10", "1"), ("20", "2"))
    assert first.assignment(0, {"beta": "beta", "alpha": "a"}) == "beta=10, a=1"
    assert constants(cells, ["alpha", "beta", "seed", "tv"]) == {"tv": "0"}


def test_several_to_one_is_not_together():
    cells = cells_of({"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 5})
    assert [axis.keys for axis in axes_of(cells, ["a", "b"])] == [("a",), ("b",)]


def test_equal_cells_are_numbered():
    cells = cells_of({"seed": 1}, {"seed": 1}, {"seed": 2})
    seed, copy = axes_of(cells, ["seed"])
    assert copy.keys == ("copy",) and copy.texts == (("1",), ("2",))
    assert [copy.places[i] for i in range(3)] == [0, 1, 0]
    joined = joint_axis(cells, [seed, copy])
    assert joined.texts == (("1", "1"), ("1", "2"), ("2", "1"))


def test_names_are_as_short_as_can_be():
    assert short_names(["objective.beta", "solver.beta", "x.seed"]) == {
        "objective.beta": "objective.beta",
        "solver.beta": "solver.beta",
        "x.seed": "seed",
    }
    assert short_names(["x.a.b", "y.a.b", "b"]) == {"x.a.b": "x.a.b", "y.a.b": "y.a.b", "b": "b"}
