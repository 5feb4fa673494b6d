"""What goes along columns, rows and into panels; and that every cell is somewhere, once."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.reporting.sweep_panels import MOST_COLUMNS, MOST_ROWS, arrange
from jaxstyle.sweeps.results import Result

KEYS = ["a", "o.b", "seed"]
SPARSE = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from("xyz"), st.integers(0, 40)),
    min_size=1,
    max_size=60,
)
GRIDS = st.tuples(st.integers(1, 25), st.integers(1, 5), st.integers(1, 4)).map(
    lambda counts: list(itertools.product(*map(range, counts)))
)


def cells_of(values, keys=KEYS):
    return [Result(i, f"{i}", dict(zip(keys, cell, strict=True))) for i, cell in enumerate(values)]


def cross(**counts):
    return cells_of(itertools.product(*map(range, counts.values())), list(counts))


@settings(deadline=None)
@given(st.one_of(SPARSE, GRIDS))
def test_every_cell_is_in_one_panel_once(values):
    cells = cells_of(values)
    found = arrange(cells, KEYS)
    shown = [cell.index for panel in found.panels for cell in panel.cells.values()]
    assert sorted(shown) == [cell.index for cell in cells]
    for panel in found.panels:
        assert panel.cells
        assert 1 <= len(panel.columns) <= MOST_COLUMNS and 1 <= len(panel.rows) <= MOST_ROWS
        for row, column in panel.cells:
            assert 0 <= row < len(panel.rows) and 0 <= column < len(panel.columns)


@settings(deadline=None)
@given(GRIDS)
def test_labels_and_titles_say_what_a_cell_has(values):
    """Column, row and panel together name all the values of a cell that vary."""
    cells = cells_of(values)
    found = arrange(cells, KEYS)
    varying = [key for key in KEYS if len({cell.values[key] for cell in cells}) > 1]
    names = {"a": "a", "o.b": "b", "seed": "seed"}
    for panel in found.panels:
        for (row, column), cell in panel.cells.items():
            said = set(panel.title.split(", "))
            for name, label in (
                (found.column_name, panel.columns[column]),
                (found.row_name, panel.rows[row]),
            ):
                said |= {f"{name}={label}"} if name else set(label.split("\n"))
            assert {f"{names[key]}={cell.values[key]}" for key in varying} == said - {""}


def test_most_values_are_the_columns_and_the_rest_are_panels():
    found = arrange(cross(a=2, beta=10, layers=5, seed=4), ["a", "beta", "layers", "seed"])
    assert (found.column_name, found.row_name) == ("beta", "layers")
    assert len(found.panels) == 8 and found.panels[1].title == "a=0, seed=1"
    assert {(len(panel.rows), len(panel.columns)) for panel in found.panels} == {(5, 10)}


def test_of_equals_the_first_key_is_the_rows():
    found = arrange(cross(beta=2, layers=2, seed=2), ["beta", "layers", "seed"])
    assert (found.row_name, found.column_name) == ("beta", "layers")
    assert [panel.title for panel in found.panels] == ["seed=0", "seed=1"]


def test_one_key_is_broken_into_rows():
    found = arrange(cross(beta=12), ["beta"])
    assert found.stacked and [len(panel.columns) for panel in found.panels] == [4, 4, 4]
    assert found.panels[1].columns[0] == "beta=4"
    assert len(arrange(cross(beta=1), ["beta"]).panels) == 1


def test_keys_that_vary_together_are_one_axis():
    cells = cells_of([(i, f"o{i}", s) for i in range(4) for s in range(2)])
    found = arrange(cells, KEYS)
    assert (found.column_name, found.row_name) == ("", "seed")
    assert found.panels[0].columns[1] == "a=1\nb=o1"


def test_a_long_axis_is_broken_into_panels():
    found = arrange(cross(a=50, seed=2), ["a", "seed"])
    assert not found.stacked and [len(panel.columns) for panel in found.panels] == [17, 17, 16]
    assert found.panels[2].columns[-1] == "49"


def test_a_random_search_is_listed():
    values = [(0.1 * i, i * 7 % 40, i * 11 % 3) for i in range(40)] + [(0.1, 99, 0)]
    found = arrange(cells_of(values), KEYS)
    assert found.stacked and not found.column_name
    assert found.panels[0].columns[0] == "a=0\nb=0\nseed=0"


def test_missing_combinations_stay_blank():
    cells = [cell for cell in cross(a=3, b=2, seed=2) if cell.index not in (3, 11)]
    found = arrange(cells, ["a", "b", "seed"])
    assert [len(panel.cells) for panel in found.panels] == [6, 4]
    assert [len(panel.columns) * len(panel.rows) for panel in found.panels] == [6, 6]
