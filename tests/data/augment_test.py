import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.data import augment


class Draws:
    """Stands in for a generator: gives out the chosen numbers."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def random(self, count):
        assert count == len(self.numbers)
        return np.array(self.numbers)


def crop(pixels, *draws, size=32, scale=(1.0, 1.5), flip=True):
    picture = Image.fromarray(pixels)
    return augment.random_crop(picture, Draws(*draws), size=size, scale=scale, flip=flip)


UNIT = st.floats(0, 1, exclude_max=True)


@hypothesis.given(st.integers(1, 5000), st.integers(1, 5000), st.floats(1, 10), UNIT, UNIT)
def test_the_square_lies_in_the_picture_and_has_the_right_side(width, height, scale, across, down):
    left, top, side = augment.crop_box(width, height, scale, across, down)
    assert side == pytest.approx(min(width, height) / scale)
    assert left >= 0 and top >= 0
    assert left + side <= width * (1 + 1e-12)
    assert top + side <= height * (1 + 1e-12)


@hypothesis.given(st.integers(1, 300), st.integers(1, 300), st.floats(1, 4), UNIT, UNIT)
def test_any_picture_gives_a_crop(width, height, scale, across, down):
    pixels = np.zeros((height, width, 3), np.uint8)
    result = crop(pixels, 0.0, across, down, 0.9, size=5, scale=(scale, scale))
    assert result.shape == (5, 5, 3)


@pytest.mark.parametrize("size", [20, 64, 100, 150])  # shrinks by 9, by 3, hardly, and enlarges
@pytest.mark.parametrize(
    "draws", [(0.0, 0.3, 0.8), (0.5, 0.0, 0.0), (0.7, 0.99, 0.5), (1.0, 0.6, 0.1)]
)
@pytest.mark.parametrize("shape", [(240, 180), (120, 250), (200, 200)])
def test_every_pixel_comes_from_its_place(coordinates, size, draws, shape):
    width, height = shape
    zoom, across, down = draws
    result = crop(coordinates(width, height, 9), *draws, 0.9, size=size).astype(float)
    # Written anew from the definition: scale the whole picture, then cut.
    scaled = size * (1 + 0.5 * zoom)
    ratio = scaled / min(width, height)
    left, top = across * (width * ratio - size), down * (height * ratio - size)
    places = np.arange(size) + 0.5
    x, y = (left + places) / ratio - 0.5, (top + places) / ratio - 0.5
    # At the picture's edges the filter sees only one side: there, up to half its reach.
    inside_x = (x > 1 / ratio) & (x < width - 1 - 1 / ratio)
    inside_y = (y > 1 / ratio) & (y < height - 1 - 1 / ratio)
    assert inside_x.sum() > size / 2 and inside_y.sum() > size / 2
    # Half a color for each rounding to whole colors: across, down, and blocks if much smaller.
    allowed = 1.0 if ratio > 1 / 4 else 1.5
    assert np.abs(result[:, inside_x, 0] - x[inside_x]).max() <= allowed
    assert np.abs(result[inside_y, :, 1] - y[inside_y, None]).max() <= allowed
    assert (result[..., 2] == 9).all()


def test_mirroring_reverses_the_columns_and_nothing_else(coordinates):
    pixels = coordinates(200, 150)
    straight = crop(pixels, 0.3, 0.2, 0.6, 0.5)
    np.testing.assert_array_equal(crop(pixels, 0.3, 0.2, 0.6, 0.49), straight[:, ::-1])
    np.testing.assert_array_equal(crop(pixels, 0.3, 0.2, 0.6, 0.49, flip=False), straight)


def test_shrinking_does_not_alias():
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the crop can show: gray is the only right answer
    result = crop(stripes, 0.0, 0.4, 0.4, 0.9, size=30).astype(int)
    assert np.abs(result - 127).max() <= 8


def test_options_do_not_move_the_crops(coordinates):
    picture = Image.fromarray(coordinates(200, 150))
    results = {}
    for flip in (True, False):
        rng = np.random.default_rng(3)
        results[flip] = [
            augment.random_crop(picture, rng, size=16, scale=(1, 2), flip=flip) for _ in range(20)
        ]
    mirrored = 0
    for with_flip, without in zip(results[True], results[False], strict=True):
        if np.array_equal(with_flip, without):
            continue
        np.testing.assert_array_equal(with_flip, without[:, ::-1])
        mirrored += 1
    assert 3 <= mirrored <= 17
