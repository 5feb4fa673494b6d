"""What a per-image run is given: names, styles, masks, sizes, and pictures turned."""

import importlib.util
import math

import numpy as np
import pytest
import skimage
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.io import scenes
from jaxstyle.types import InputError

RNG = np.random.default_rng(5)


def picture(height, width):
    return RNG.random((height, width, 3)).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    """Return a function that writes a picture of bytes and gives its file."""

    def save(name, values):
        Image.fromarray(np.asarray(values, np.uint8)).save(tmp_path / name)
        return str(tmp_path / name)

    return save


# Names.


def test_a_picture_of_scikit_image():
    file = scenes.picture_file("skimage/chelsea")
    with Image.open(file) as found:
        np.testing.assert_array_equal(np.asarray(found), skimage.data.chelsea())
    assert scenes.picture_file("skimage/rocket").suffix == ".jpg"


def test_an_unknown_one_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown picture of scikit-image 'chelsee'; did you mean"):
        scenes.picture_file("skimage/chelsee")


def test_without_scikit_image_nothing_else_is_taken_for_it(tmp_path, monkeypatch, save):
    save("photo.png", np.zeros((4, 4, 3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="picture of scikit-image 'photo'"):
        scenes.picture_file("skimage/photo")


def test_a_path_goes_first(tmp_path, monkeypatch):
    (tmp_path / "skimage").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "skimage" / "chelsea", "PNG")
    monkeypatch.chdir(tmp_path)
    with Image.open(scenes.picture_file("skimage/chelsea")) as found:
        assert found.size == (3, 2)


def test_other_names_are_paintings_and_paths(tmp_path):
    assert scenes.picture_file("starry").name == "starry.jpg"
    assert scenes.picture_file(str(tmp_path / "no.png")) == tmp_path / "no.png"
    with pytest.raises(InputError, match="did you mean 'starry'"):
        scenes.picture_file("stary")


def test_styles_are_read_one_or_several(save):
    dark, light = save("dark.png", np.full((3, 5, 3), 51)), save("light.png", np.full((2, 2), 204))
    (only,) = scenes.read_styles(dark)
    assert only.shape == (3, 5, 3) and only.dtype == np.float32
    first, second = scenes.read_styles((light, dark))
    np.testing.assert_allclose(first, np.full((2, 2, 3), 0.8), atol=1e-6)  # gray is read as RGB
    np.testing.assert_array_equal(second, only)


@pytest.mark.parametrize("names", ["", (), [], ("",), ("starry", "")])
def test_no_style_is_refused(names):
    with pytest.raises(InputError, match="no style is given; name a picture, e.g."):
        scenes.read_styles(names)


# Masks.


def stripes(*widths_and_values, height=4):
    return np.concatenate([np.full((height, w), v) for w, v in widths_and_values], axis=1)


def test_masks_are_read_in_their_order(save):
    left = save("left.png", stripes((2, 255), (3, 0)))
    soft = save("soft.png", stripes((2, 51), (3, 204)))
    content = picture(4, 5)
    first, second, third = scenes.read_masks((soft, "", left), [content] * 3, "content")
    np.testing.assert_allclose(first, stripes((2, 0.2), (3, 0.8)), atol=1e-6)
    assert second is None
    np.testing.assert_array_equal(third, stripes((2, 1.0), (3, 0.0)))
    assert first.dtype == third.dtype == np.float32


def test_without_masks_everything_is_everywhere():
    assert scenes.read_masks((), [picture(2, 2)] * 3, "content") == (None, None, None)


def test_the_rest_is_what_the_others_leave(save):
    left = save("left.png", stripes((2, 255), (3, 0)))
    soft = save("soft.png", stripes((1, 255), (1, 0), (2, 204), (1, 0)))
    masks = scenes.read_masks(("rest", left, soft), [picture(4, 5)] * 3, "content")
    expected = stripes((2, 0.0), (2, 0.2), (1, 1.0))  # where two overlap, nothing below 0
    np.testing.assert_allclose(masks[0], expected, atol=1e-6)
    assert masks[0].dtype == np.float32


@pytest.mark.parametrize("files", ["mask.png", ("mask.png",), ("", "", "")])
def test_another_number_of_masks_is_refused(files):
    count = 1 if isinstance(files, str) else len(files)
    with pytest.raises(InputError, match=f"there are {count} style masks for 2 styles; give one"):
        scenes.read_masks(files, [picture(4, 4)] * 2, "style")


def test_a_mask_of_another_size_is_refused(save):
    file = save("turned.png", stripes((3, 255), height=5))
    with pytest.raises(InputError) as caught:
        scenes.read_masks((file,), [picture(3, 5)], "content")
    assert "is 3x5 pixels, but the content is 5x3; give masks of" in str(caught.value)
    assert file in str(caught.value)


@pytest.mark.parametrize("value", [0, 120])
def test_an_empty_mask_is_refused(save, value):
    file = save("dark.png", np.full((4, 4), value))
    with pytest.raises(InputError, match="dark.png' is empty; paint the region white"):
        scenes.read_masks((file,), [picture(4, 4)], "content")


def test_a_mask_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"no\.png"):
        scenes.read_masks(("no.png",), [picture(4, 4)], "content")


def test_a_rest_of_nothing_is_refused(save):
    whole, one = save("whole.png", np.full((4, 4), 255)), save("one.png", np.full((4, 5), 255))
    with pytest.raises(InputError, match="the masks leave nothing for 'rest'"):
        scenes.read_masks((whole, "rest"), [picture(4, 4)] * 2, "content")
    with pytest.raises(InputError, match="'rest' needs others, all of one size"):
        scenes.read_masks(("", "rest"), [picture(4, 4)] * 2, "content")
    with pytest.raises(InputError, match="'rest' needs others, all of one size"):
        pictures = [picture(4, 4), picture(4, 5), picture(4, 4)]
        scenes.read_masks((whole, one, "rest"), pictures, "style")


@pytest.mark.parametrize(
    ("count", "masks", "style_masks", "regions"),
    [
        (1, (), (), ()),
        (1, (None,), (None,), ()),
        (1, (np.ones((2, 2)),), (None,), ("1",)),
        (1, (), (np.ones((2, 2)),), ("1",)),
        (2, (None, None), (None, None), ("1", "2")),
        (3, (), (), ("1", "2", "3")),
    ],
)
def test_regions_have_the_numbers_of_the_styles(count, masks, style_masks, regions):
    scene = scenes.Scene(picture(2, 2), (picture(2, 2),) * count, masks, style_masks)
    assert scene.regions == regions


# Sizes.


def test_pictures_and_masks_shrink_together():
    left = np.zeros((60, 80), np.float32)
    left[:, :40] = 1
    bottom = np.zeros((100, 50), np.float32)
    bottom[50:] = 1
    scene = scenes.Scene(
        picture(60, 80), (picture(100, 50), picture(40, 40)), (left, None), (None, bottom[:40, :40])
    )
    small = scenes.resized(scene, 20, (1.5, 2.0))
    assert small.content.shape == (15, 20, 3)
    assert [style.shape for style in small.styles] == [(30, 15, 3), (40, 40, 3)]
    assert [m.shape if m is not None else None for m in small.masks] == [(15, 20), None]
    assert [m.shape if m is not None else None for m in small.style_masks] == [None, (40, 40)]
    expected = np.zeros((15, 20))
    expected[:, :10] = 1
    np.testing.assert_allclose(small.masks[0], expected, atol=0.12)  # Lanczos rings
    np.testing.assert_array_equal(np.round(small.masks[0]), expected)
    assert small.masks[0].min() >= 0 and small.masks[0].max() <= 1
    np.testing.assert_allclose(small.content.mean((0, 1)), scene.content.mean((0, 1)), atol=0.02)


def test_one_scale_serves_all_styles_and_none_becomes_tiny():
    scene = scenes.Scene(picture(30, 40), (picture(64, 64), picture(32, 16)), (None,) * 2)
    assert [s.shape[0] for s in scenes.resized(scene, 40, (0.5,)).styles] == [20, 20]
    assert [s.shape[0] for s in scenes.resized(scene, 40, (0.1,)).styles] == [16, 16]
    same = scenes.resized(scene, 40, (1.6, 0.8))
    for before, after in zip(
        (scene.content, *scene.styles), (same.content, *same.styles), strict=True
    ):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("scales", "sentence"),
    [
        ((0.0,), "style_scale is 0.0; choose one above 0, up to 8"),
        ((1.0, -1.0), "style_scale is -1.0"),
        ((9.0,), "style_scale is 9.0"),
        ((math.nan,), "style_scale is nan"),
        ((), "0 scales are given for 2 styles; give one for each"),
        ((1.0, 1.0, 1.0), "3 scales are given for 2 styles"),
    ],
)
def test_scales_that_make_no_sense_are_refused(scales, sentence):
    scene = scenes.Scene(picture(8, 8), (picture(8, 8), picture(8, 8)))
    with pytest.raises(InputError) as caught:
        scenes.resized(scene, 8, scales)
    assert sentence in str(caught.value)


# Turning.


@pytest.mark.parametrize("degrees", [-45, -30, -7.5, 0, 7.5, 20, 45])
@pytest.mark.parametrize("shape", [(40, 40), (30, 51)])
def test_a_ramp_is_turned_into_the_ramp_of_the_turned_coordinates(degrees, shape):
    """Counterclockwise: what rises to the right then rises to the top right."""
    right, up = np.array([0.6, -0.3, 0.1]) / 100, np.array([0.2, 0.5, -0.4]) / 100
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in shape)
    plane = 0.5 + columns[None, :, None] * right - rows[:, None, None] * up
    result = scenes.turned(plane, degrees)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned_right, turned_up = right * cos - up * sin, right * sin + up * cos
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in result.shape[:2])
    expected = 0.5 + columns[None, :, None] * turned_right - rows[:, None, None] * turned_up
    # Pixels lie between those of the whole, and Pillow's cubic is a tenth of one off a plane.
    steep, before = (np.abs(a) + np.abs(b) for a, b in ((turned_right, turned_up), (right, up)))
    assert (np.abs(result - expected)[1:-1, 1:-1] <= 0.5 * steep + 0.1 * before + 1e-6).all()
    slopes = [np.polyfit(columns, result[..., c].mean(0), 1)[0] for c in range(3)]
    np.testing.assert_allclose(slopes, turned_right, atol=2e-4)
    slopes = [np.polyfit(-rows, result[..., c].mean(1), 1)[0] for c in range(3)]
    np.testing.assert_allclose(slopes, turned_up, atol=2e-4)
    assert result.dtype == np.float32


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(-45, 45))
def test_no_corner_comes_from_outside(height, width, degrees):
    result = scenes.turned(np.ones((height, width, 3)), degrees)
    np.testing.assert_allclose(result, 1.0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 200), st.integers(8, 200), st.floats(-45, 45))
def test_the_part_has_the_shape_of_the_picture_and_no_more_fits(height, width, degrees):
    part = scenes.turned(np.zeros((height, width, 3), np.float32), degrees).shape[:2]
    assume(min(part) > 2)
    assert abs(part[1] * height / width - part[0]) <= 1 + height / width
    turn = abs(math.radians(degrees))

    def fits(rows, columns):
        """Its upper right and lower right corner, in the axes of the turned picture."""
        across = (columns * math.cos(turn) + rows * math.sin(turn)) / 2
        along = (columns * math.sin(turn) + rows * math.cos(turn)) / 2
        return across <= width / 2 + 1e-6 and along <= height / 2 + 1e-6

    assert fits(*part)
    grown = max((part[0] + 2) / height, (part[1] + 2) / width)
    assert not fits(grown * height, grown * width) or degrees == 0


def test_turned_by_nothing_it_is_the_same():
    same = picture(7, 10)
    np.testing.assert_allclose(scenes.turned(same, 0.0), same, atol=1e-6)


@pytest.mark.parametrize("degrees", [90, -45.5, math.nan])
def test_a_large_turn_is_refused(degrees):
    with pytest.raises(InputError, match=f"turned by {degrees} degrees; choose -45 to 45"):
        scenes.turned(picture(4, 4), degrees)
