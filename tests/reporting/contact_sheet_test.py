"""Contact sheets: where the pictures are, and that they are the pictures."""

import numpy as np
import pytest
from PIL import Image

from jaxstyle.reporting.contact_sheet import contact_sheet
from jaxstyle.types import InputError

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def flat(height, width, color):
    return np.full((height, width, 3), color, np.uint8)


def sheet_of(tmp_path, rows, **options):
    contact_sheet(rows, tmp_path / "sheet.png", **options)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def box(sheet, color) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the box of a color."""
    found = np.all(sheet == color, axis=-1)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return rows[0], columns[0], len(rows), len(columns)


def test_pictures_keep_their_aspect_and_are_centered(tmp_path):
    rows = [[flat(60, 30, RED), flat(10, 40, GREEN)], [flat(20, 20, BLUE)]]
    sheet = sheet_of(tmp_path, rows, cell=64)
    gap, margin = 4, 8
    assert sheet.shape == (margin + 64 + gap + 64 + margin, margin + 64 + gap + 64 + margin, 3)
    assert box(sheet, RED) == (margin, margin + 16, 64, 32)
    assert box(sheet, GREEN) == (margin + 24, margin + 64 + gap, 16, 64)
    assert box(sheet, BLUE) == (margin + 64 + gap, margin, 64, 64)
    assert (sheet[[0, -1]] == 255).all() and (sheet[:, [0, -1]] == 255).all()


def test_row_is_as_high_and_a_column_as_wide_as_needed(tmp_path):
    sheet = sheet_of(tmp_path, [[flat(16, 64, RED)], [flat(16, 64, BLUE)]], cell=64)
    assert sheet.shape == (8 + 16 + 4 + 16 + 8, 8 + 64 + 8, 3)
    sheet = sheet_of(tmp_path, [[flat(64, 16, RED), flat(64, 16, BLUE)]], cell=64)
    assert sheet.shape == (8 + 64 + 8, 8 + 16 + 4 + 16 + 8, 3)


def test_labels_lie_outside_the_pictures(tmp_path):
    rows = [[flat(30, 30, RED), flat(30, 30, GREEN)]]
    sheet = sheet_of(
        tmp_path,
        rows,
        cell=96,
        row_labels=["photo"],
        column_labels=["before", "after"],
        title="Starry",
    )
    top, left, height, width = box(sheet, RED)
    assert (height, width) == (96, 96)
    assert box(sheet, GREEN)[:2] == (top, left + 96 + 4)
    ink = (sheet < 128).all(-1)
    assert ink[:top, left : left + 96].any()  # above: the column's label
    assert ink[top : top + 96, :left].any()  # to the left: the row's label
    assert ink[: top // 2, : left + 96].any()  # at the top: the title
    assert not ink[top:, left:].any()
    header_top = np.flatnonzero(ink[:top].any(1))
    assert header_top[0] >= 4 and header_top[-1] < top


def test_long_labels_are_cut_and_long_titles_make_room(tmp_path):
    rows = [[flat(64, 64, RED), flat(64, 64, GREEN)]]
    plain = sheet_of(tmp_path, rows, cell=64, column_labels=["a", "b"])
    long = sheet_of(tmp_path, rows, cell=64, column_labels=["W" * 80, "b"], row_labels=["W" * 99])
    assert box(long, RED)[1] - box(plain, RED)[1] <= 64 + 8
    ink = (long < 128).all(-1)
    top, left, _, _ = box(long, GREEN)
    assert not ink[:top, left - 4 : left].any()  # the first label stays over its column
    titled = sheet_of(tmp_path, rows, cell=64, title="W" * 40)
    assert titled.shape[1] > plain.shape[1]
    assert (titled[:, -4:] == 255).all()


def test_floats_bytes_and_gray_mean_the_same(tmp_path):
    gray = np.linspace(0, 255, 16 * 16).astype(np.uint8).reshape(16, 16)
    color = np.stack([gray] * 3, axis=-1)
    as_float = color.astype(np.float32) / 255
    rows = [[gray, color, as_float, as_float.astype(np.float64)]]
    sheet = sheet_of(tmp_path, rows, cell=16)
    for i in range(4):
        left = 8 + i * 20
        np.testing.assert_array_equal(sheet[8:24, left : left + 16], color)


def test_floats_outside_are_clipped(tmp_path):
    pixels = np.full((16, 16, 3), [-0.5, 1.5, np.nan], np.float32)
    sheet = sheet_of(tmp_path, [[pixels]], cell=16)
    assert (sheet[8:24, 8:24] == (0, 255, 0)).all()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "at least one picture"),
        ([[], []], {}, "at least one picture"),
        ([[flat(4, 4, RED)]], {"cell": 15}, "cell is 15"),
        ([[flat(4, 4, RED)]], {"row_labels": ["a", "b"]}, "2 row labels were given for 1 row"),
        ([[flat(4, 4, RED)]], {"column_labels": []}, "0 column labels were given for 1 column"),
        ([[np.zeros((4, 4, 4))]], {}, r"is \[4, 4, 4\]; it must be \[h, w, 3\]"),
        ([[np.zeros((0, 4, 3))]], {}, r"is \[0, 4, 3\]"),
    ],
)
def test_what_cannot_be_laid_out(tmp_path, rows, options, message):
    with pytest.raises(InputError, match=message):
        sheet_of(tmp_path, rows, **options)


def test_real_photographs(tmp_path, shared_data):
    paths = sorted((shared_data / "photos" / "val").rglob("*.jpg"))[:2]
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    sheet = sheet_of(tmp_path, [photos], cell=120, column_labels=[path.stem for path in paths])
    top = sheet.shape[0] - 8 - max(min(120, round(120 * p.shape[0] / max(p.shape))) for p in photos)
    expected = photos[0].astype(np.float64).mean((0, 1))
    height, width = (round(120 * side / max(photos[0].shape)) for side in photos[0].shape[:2])
    row_height = sheet.shape[0] - 8 - top
    shown = sheet[top + (row_height - height) // 2 :, 8:][:height, :width]
    np.testing.assert_allclose(shown.mean((0, 1)), expected, atol=2)
