"""Photographs and their stylized versions find each other."""

import pathlib

import numpy as np
import pytest

from jaxstyle.io import images
from jaxstyle.io.inputs import Found
from jaxstyle.io.pairs import pair_pictures, read_pair
from jaxstyle.types import InputError

RNG = np.random.default_rng(3)


def found(*names):
    return [Found(pathlib.Path("x") / name, pathlib.PurePath(name)) for name in names]


def pairs(photos, stylized):
    both, alone = pair_pictures(found(*photos), found(*stylized))
    named = [(str(photo.relative), str(picture.relative)) for photo, picture in both]
    return named, [str(picture.relative) for picture in alone]


@pytest.mark.parametrize(
    ("photos", "stylized", "expected", "alone"),
    [
        (["a.jpg"], ["other.png"], [("a.jpg", "other.png")], []),
        (["a.jpg", "b.jpg"], ["b.png", "a.png"], [("b.jpg", "b.png"), ("a.jpg", "a.png")], []),
        (["li.jpg", "lion.jpg"], ["lion_starry.png"], [("lion.jpg", "lion_starry.png")], []),
        (["li.jpg", "x.jpg"], ["lion.png"], [], ["lion.png"]),
        (["lion.jpg", "lion-2.jpg"], ["lion-2_s.png"], [("lion-2.jpg", "lion-2_s.png")], []),
        (["u/a.jpg", "v/a.jpg"], ["v/a.png"], [("v/a.jpg", "v/a.png")], []),
        (["u/a.jpg", "v/a.jpg"], ["a.png"], [], ["a.png"]),
        (["u/a.jpg", "b.jpg"], ["a.png", "c.png"], [("u/a.jpg", "a.png")], ["c.png"]),
    ],
)
def test_by_name(photos, stylized, expected, alone):
    assert pairs(photos, stylized) == (expected, alone)


@pytest.fixture
def write(tmp_path):
    def write(name, *size):
        pixels = RNG.integers(0, 256, (*size, 3)) / 255
        images.write(tmp_path / name, pixels)
        return tmp_path / name, pixels.astype(np.float32)

    return write


def test_pictures_as_they_are(write):
    (a, pixels), (b, painted) = write("a.png", 12, 17), write("b.png", 12, 17)
    first, second = read_pair(a, b)
    np.testing.assert_allclose(first, pixels, atol=1e-6)
    np.testing.assert_allclose(second, painted, atol=1e-6)


def test_what_a_network_added_at_the_right_and_below_is_cut_off(write):
    (a, _), (b, painted) = write("a.png", 13, 17), write("b.png", 16, 20)
    first, second = read_pair(a, b)
    assert first.shape == second.shape == (13, 17, 3)
    np.testing.assert_allclose(second, painted[:13, :17], atol=1e-6)


@pytest.mark.parametrize("size", [(60, 85), (30, 42), (120, 169)])
def test_both_are_brought_to_one_size(write, size):
    (a, _), (b, _) = write("a.png", 60, 85), write("b.png", *size)
    first, second = read_pair(a, b, side=24)
    assert first.shape == second.shape and first.shape[:2] in ((24, 33), (24, 34))


@pytest.mark.parametrize(
    ("size", "side", "message"),
    [
        ((85, 60), 24, "a.png' is 85x60 and .*b.png' 60x85; give pictures of the same prop"),
        ((30, 42), 0, "resize both with --size"),
    ],
)
def test_pictures_that_do_not_match(write, size, side, message):
    (a, _), (b, _) = write("a.png", 60, 85), write("b.png", *size)
    with pytest.raises(InputError, match=message):
        read_pair(a, b, side=side)
