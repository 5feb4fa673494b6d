"""The painting script and the painting it made."""

import importlib.util
import types

import ml_collections
import numpy as np
import pytest
from PIL import Image

from jaxstyle.types import InputError

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def starry(repository) -> types.ModuleType:
    """The script, loaded by its path: experiments/ need not be importable."""
    path = repository / "experiments" / "paint_starry.py"
    spec = importlib.util.spec_from_file_location("paint_starry_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(starry) -> np.ndarray:
    return starry.paint(100, 128, seed=7)


@pytest.fixture(scope="module")
def other_seed(starry) -> np.ndarray:
    return starry.paint(100, 128, seed=8)


@pytest.fixture(scope="module")
def asset_path(repository):
    return repository / "jaxstyle" / "assets" / "starry.jpg"


@pytest.fixture(scope="module")
def asset(asset_path) -> np.ndarray:
    with Image.open(asset_path) as picture:
        return np.asarray(picture)


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def block_deviation(pixels: np.ndarray, size: int) -> np.ndarray:
    """Standard deviation of the luminance (0 to 1) in each size x size block."""
    y = pixels @ LUMA / 255
    rows, columns = y.shape[0] // size, y.shape[1] // size
    blocks = y[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return blocks.std(axis=(1, 3))


# The painting, small.


def test_paint_gives_bytes_of_the_asked_size(small):
    assert small.shape == (100, 128, 3)
    assert small.dtype == np.uint8


def test_painting_is_deterministic(starry, small):
    np.testing.assert_array_equal(starry.paint(100, 128, seed=7), small)


def test_the_seed_changes_the_strokes_but_not_the_subject(small, other_seed):
    difference = np.abs(small.astype(float) - other_seed).mean()
    assert difference > 15
    assert 0.4 < correlation(small, other_seed) < 0.9


def test_every_size_shows_the_same_painting_and_it_is_the_shipped_one(small, other_seed, asset):
    shipped = resized(asset, 128, 100)
    assert correlation(small, shipped) > 0.95
    assert correlation(other_seed, shipped) < 0.85
    np.testing.assert_allclose(small.mean((0, 1)), shipped.mean((0, 1)), atol=5)


# The shipped painting.


def test_asset_is_a_small_enough_srgb_jpeg_in_the_public_domain(asset_path):
    assert asset_path.stat().st_size < 400_000
    with Image.open(asset_path) as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert min(picture.size) >= 768
        assert "icc_profile" not in picture.info  # an untagged JPEG is sRGB; EXIF says so too
        exif = picture.getexif()
    assert exif.get_ifd(0x8769)[0xA001] == 1  # ColorSpace: sRGB
    assert exif[0x8298].startswith("CC0 1.0")


def test_palette_is_blue_with_yellow_lights_and_darks(asset):
    red, green, blue = (asset[..., i] / 255 for i in range(3))
    luminance = asset @ LUMA / 255
    yellow = (red > 0.6) & (green > 0.5) & (blue < 0.45)
    strong_blue = (blue > 0.45) & (blue - red > 0.2)
    assert blue.mean() - red.mean() > 0.1
    assert 0.02 < yellow.mean() < 0.2
    assert strong_blue.mean() > 0.3
    assert 0.1 < (luminance < 0.2).mean() < 0.4
    chroma = asset.max(-1).astype(float) - asset.min(-1)
    assert chroma.mean() / 255 > 0.22  # no gray haze


def test_paint_reaches_the_borders(asset):
    deviation = block_deviation(asset, 16)
    inside = np.median(deviation[1:-1, 1:-1])
    for edge in (deviation[0], deviation[-1], deviation[:, 0], deviation[:, -1]):
        assert 0.4 < np.median(edge) / inside < 2.5


def test_strokes_survive_at_training_size_with_no_flat_area(asset):
    training = resized(asset, 328, 256)
    across, down = np.gradient(training @ LUMA / 255)
    assert np.hypot(across, down).mean() > 0.04
    assert (block_deviation(training, 16) > 0.02).all()


# The pieces, against closed forms.


def test_mix_runs_from_the_first_color_to_the_last(starry):
    colors = starry.mix("000000 ff0000 ffff00", np.array([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0]))
    expected = [[0, 0, 0], [0, 0, 0], [0.5, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    np.testing.assert_allclose(colors, expected, atol=1e-12)


def test_line_coordinates_of_a_straight_line(starry):
    line = np.linspace(2, 8, starry.POINTS) + 3j
    pixels = np.array([[2 + 3j, 5 + 3j, 8 + 3j], [5 + 5j, 3.5 + 1j, 8 + 7j]])
    along, aside = starry.line_coordinates(line, pixels)
    np.testing.assert_allclose(along, [[0, 0.5, 1], [0.5, 0.25, 1]], atol=1e-6)
    np.testing.assert_allclose(np.abs(aside), [[0, 0, 0], [2, 2, 4]], atol=1e-6)
    assert aside[1, 0] * aside[1, 1] < 0  # opposite sides of the stroke


def test_rings_keep_their_distance_from_the_center(starry):
    ring = starry.ring(np.random.default_rng(0), 0.5 + 0.4j, 0.1, 0.01, starry.HALO, 0.5)
    radius = np.abs(ring.points - (0.5 + 0.4j))
    np.testing.assert_allclose(radius, 0.1, rtol=0.15)
    np.testing.assert_allclose(radius, radius[:, :1] * np.ones(starry.POINTS))
    assert (ring.color >= 0).all() and (ring.color <= 1).all()


def test_pack_drops_a_stroke_that_lies_on_another(starry):
    line = 0.3 + 0.5j + np.linspace(0, 0.1, starry.POINTS)
    points = np.stack([line, line + 0.001j, line + 0.1j])
    strokes = starry.Strokes(points, np.full(3, 0.02), np.eye(3))
    kept = starry.pack(strokes, crowding=0.35)
    np.testing.assert_array_equal(kept.color, np.eye(3)[[0, 2]])


def test_trace_follows_the_direction_and_stays_in_its_material(starry):
    material = np.zeros(starry.SHAPE, int)
    material[:, starry.SHAPE[1] // 2 :] = 1  # a border at x = 0.64
    cartoon = starry.Cartoon(material, np.zeros(starry.SHAPE), np.ones(starry.SHAPE, complex))
    free, stopped = starry.trace(cartoon, np.array([0.3 + 0.5j, 0.62 + 0.5j]), np.full(2, 0.12))
    np.testing.assert_allclose(free, np.linspace(0.24, 0.36, starry.POINTS) + 0.5j, atol=1e-9)
    assert (np.diff(stopped.real) > 0).all()
    assert stopped.real.max() < 0.64


def settings(height: int, width: int) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict({"seed": 7, "height": height, "width": width})


def test_run_writes_the_painting(starry, tmp_path, small):
    assert starry.run(settings(100, 128), tmp_path / "run") == 0
    with Image.open(tmp_path / "run" / "starry.jpg") as picture:
        written = np.asarray(picture).astype(float)
    assert np.corrcoef(written.ravel(), small.ravel())[0, 1] > 0.97  # JPEG loses a little


@pytest.mark.parametrize("size", [(1, 800), (800, 0)])
def test_a_bad_size_is_one_clear_sentence(starry, tmp_path, size):
    with pytest.raises(InputError, match="give height and width of 2 or more"):
        starry.run(settings(*size), tmp_path / "run")
    assert not (tmp_path / "run").exists()
