"""The contact sheet of a sweep: its size, its pictures, and what stands for missing ones."""

import itertools

import numpy as np
import pytest
from PIL import Image

from jaxstyle.reporting.sweep_layout import LARGEST_SHEET, SMALLEST_CELL, plan_layout
from jaxstyle.reporting.sweep_panels import arrange
from jaxstyle.reporting.sweep_sheet import sweep_sheet
from jaxstyle.sweeps.results import FAILED, Result
from jaxstyle.types import InputError

COLORS = list(itertools.product((0, 90, 180, 250), repeat=3))
ORANGE, GRAY = (214, 96, 10), (224, 224, 224)


def flat_cells(folder, swept, size=(60, 40)):
    """Make cells whose pictures have a color each."""
    cells = []
    for index, values in enumerate(itertools.product(*swept.values())):
        path = folder / f"{index}.png"
        Image.new("RGB", size, COLORS[index]).save(path)
        cells.append(Result(index, f"{index}", dict(zip(swept, values, strict=True)), picture=path))
    return cells


def sheet_of(folder, cells, keys, **options):
    sweep_sheet(cells, keys, folder / "sheet.png", **options)
    with Image.open(folder / "sheet.png") as image:
        return np.asarray(image)


def box(sheet, color):
    found = (sheet == color).all(-1)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_pictures_stand_in_their_rows_and_columns(tmp_path):
    swept = {"layers": ["b", "a"], "beta": [100.0, 1.0, 10.0], "seed": [0, 1]}
    cells = flat_cells(tmp_path, swept)
    sheet = sheet_of(tmp_path, cells, list(swept), cell=60)
    boxes = [box(sheet, COLORS[cell.index]) for cell in cells]
    assert {place[2:] for place in boxes} == {(40, 60)}
    tops, lefts = ({cell.index: boxes[cell.index][i] for cell in cells} for i in (0, 1))
    value = {cell.index: cell.values for cell in cells}
    for a, b in itertools.permutations(range(len(cells)), 2):
        if value[a]["seed"] != value[b]["seed"]:
            continue
        # Columns are sorted numbers; rows are names, in order of appearance.
        assert np.sign(lefts[a] - lefts[b]) == np.sign(value[a]["beta"] - value[b]["beta"])
        order = swept["layers"].index(value[a]["layers"]) - swept["layers"].index(
            value[b]["layers"]
        )
        assert np.sign(tops[a] - tops[b]) == np.sign(order)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_are_the_files(tmp_path, make_cells, suffix):
    cells = make_cells(tmp_path, {"seed": [0, 1]}, size=(300, 200), suffix=suffix)
    sheet = sheet_of(tmp_path, cells, ["seed"], cell=150).astype(float)
    top = np.flatnonzero((sheet < 250).all(-1).sum(1) > 250)[0]  # the first row of both pictures
    for left, cell in zip((16, 16 + 150 + 4), cells, strict=True):
        with Image.open(cell.picture) as image:
            expected = np.asarray(image.convert("RGB").resize((150, 100), 1), float)
        shown = sheet[top : top + 100, left : left + 150]
        np.testing.assert_allclose(shown.mean((0, 1)), expected.mean((0, 1)), atol=0.5)
        assert np.abs(shown - expected).mean() < 4


def test_what_is_missing_is_told(tmp_path):
    cells = flat_cells(tmp_path, {"a": [0, 1, 2], "b": [0, 1]})
    lost = cells[1].picture
    lost.unlink()
    cells[2] = Result(2, "2", cells[2].values, status=FAILED, picture=cells[2].picture)
    cells[3] = Result(3, "3", cells[3].values, status="not_finite", picture=cells[3].picture)
    cells[4].picture.write_bytes(b"no picture")
    del cells[5]
    sheet = sheet_of(tmp_path, cells, ["a", "b"], cell=90)
    assert (sheet == COLORS[0]).all(-1).sum() == 90 * 60
    assert not any((sheet == COLORS[i]).all(-1).any() for i in (1, 2, 4))
    tiles = (sheet == GRAY).all(-1).sum()
    assert 0.8 * 3 * 90 * 60 < tiles < 3 * 90 * 60  # three tiles, less their words
    top, left, height, width = box(sheet, ORANGE)
    assert (height, width) == (60, 90)
    inside = (sheet[top : top + 60, left : left + 90] == COLORS[3]).all(-1)
    assert inside[10:50, 45:85].all() and not inside[:3].any() and not inside[:, -3:].any()


def test_a_not_finite_cell_without_picture_is_a_framed_tile(tmp_path):
    cell = Result(0, "0", {"a": 1}, status="not_finite")
    sheet = sheet_of(tmp_path, [cell], ["a"], cell=90)
    _, _, height, width = box(sheet, ORANGE)
    assert (height, width) == (90, 90) and (sheet == GRAY).all(-1).any()


def test_given_pictures_are_above(tmp_path):
    cells = flat_cells(tmp_path, {"a": [0, 1]})
    style = np.zeros((50, 100, 3), np.float32) + np.float32([1, 0, 0])
    sheet = sheet_of(tmp_path, cells, ["a"], given={"style": style}, cell=100)
    top, left, height, width = box(sheet, (255, 0, 0))
    assert (height, width) == (50, 100) and top + height < box(sheet, COLORS[1])[0]
    with pytest.raises(InputError, match=r"is \[4, 4\, 2\]"):
        sheet_of(tmp_path, cells, ["a"], given={"style": np.zeros((4, 4, 2))})


def layout_of(counts, shape=(1.0, 2 / 3), cell=None, names="abcdef"):
    values = itertools.product(*map(range, counts))
    keys = list(names[: len(counts)])
    cells = [
        Result(i, f"{i}", dict(zip(keys, value, strict=True))) for i, value in enumerate(values)
    ]
    return plan_layout(arrange(cells, keys), shape, "200 cells", {}, cell)


@pytest.mark.parametrize(
    "counts",
    [(12,), (200,), (10, 20), (10, 5, 4), (5, 5, 2, 2, 2), (2, 100), (67, 3), (1000,), (40, 40)],
)
@pytest.mark.parametrize("shape", [(1.0, 2 / 3), (1.0, 1.0), (0.4, 1.0)])
def test_sheets_stay_within_their_size(counts, shape):
    layout = layout_of(counts, shape)
    assert max(layout.size) <= LARGEST_SHEET
    assert 48 <= layout.side <= 256
    if np.prod(counts) <= 200:
        assert layout.side >= 128
        assert 0.3 < layout.size[0] / layout.size[1] < 4
    boxes = []
    for panel, corner in zip(layout._arrangement.panels, layout.corners, strict=True):
        boxes += [layout.place(corner, row, column) for row, column in panel.cells]
    assert len(set(boxes)) == np.prod(counts)
    right, bottom = (max(place[i] for place in boxes) + layout.box[i] for i in (0, 1))
    assert right < layout.size[0] and bottom < layout.size[1]
    boxes = sorted(boxes, key=lambda place: (place[1], place[0]))
    for (left, top), (next_left, next_top) in itertools.pairwise(boxes):
        assert next_top >= top + layout.box[1] or next_left >= left + layout.box[0]


def test_thumbs_are_never_below_the_smallest():
    assert layout_of((100, 200)).side == SMALLEST_CELL
    assert layout_of((3,), cell=300).side == 300
    with pytest.raises(InputError, match="cell is 47"):
        layout_of((3,), cell=47)


def test_two_hundred_cells(tmp_path, make_cells):
    layers = [("relu1_1",), ("relu1_1", "relu2_1"), tuple(f"relu{i}_1" for i in range(1, 6))]
    swept = {"o.beta": [10.0**i for i in range(-4, 6)], "o.layers": layers, "seed": list(range(7))}
    cells = make_cells(tmp_path, swept, failed=(7, 100), not_finite=(8,))
    assert len(cells) == 210
    sheet = sheet_of(tmp_path, cells, list(swept))
    assert max(sheet.shape) <= LARGEST_SHEET
    assert (sheet == ORANGE).all(-1).any() and (sheet == GRAY).all(-1).sum() > 2 * 0.8 * 128 * 85


def test_no_cells(tmp_path):
    with pytest.raises(InputError, match="at least one cell"):
        sheet_of(tmp_path, [], ["a"])
