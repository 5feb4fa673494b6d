"""What a per-image run paints: colors, canvases and starts; and what it refuses."""

import jax
import numpy as np
import pytest

from configs import gatys
from experiments import _scene, paint_picture
from jaxstyle.io import images
from jaxstyle.types import InputError

# Rows: Y, U, V of ITU-R BT.601.
YUV = np.array([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def config(pictures):
    config = gatys.get_config("smoke")
    config.content, config.style = str(pictures / "content.png"), str(pictures / "style.png")
    config.size = "32"
    config.objective.content_layers = ("relu1_2",)
    config.objective.style_layers = ("relu1_1",)
    config.solver.memory = 2
    return config


def moments(picture):
    flat = np.float64(picture).reshape(-1, 3)
    return flat.mean(0), np.cov(flat.T, bias=True)


def chroma(picture):
    return np.float64(picture) @ YUV[1:].T


def brightness(picture):
    return np.float64(picture) @ YUV[0]


def saturation(picture):
    return np.ptp(picture, axis=-1).max()


# Colors of the style.


def test_nothing_is_recolored_unless_asked(config, pictures):
    original, scene = _scene.read(config)
    np.testing.assert_array_equal(scene.styles[0], images.read(pictures / "style.png").pixels)
    np.testing.assert_array_equal(scene.content, original.pixels)
    np.testing.assert_array_equal(_scene.painted(config, scene.content), scene.content)
    other = np.random.default_rng(0).random((24, 32, 3))
    np.testing.assert_array_equal(_scene.finished(config, scene, other), other)


def test_linear_maps_give_the_style_the_contents_mean_and_covariance(config):
    recolored = {}
    for way in ("cholesky", "pca", "symmetric"):
        config.color.style = way
        scene = _scene.read(config)[1]
        recolored[way] = scene.styles[0]
        assert scene.styles[0].min() >= 0 and scene.styles[0].max() <= 1
        for have, want in zip(moments(scene.styles[0]), moments(scene.content), strict=True):
            np.testing.assert_allclose(have, want, atol=2e-3)
    first, *others = recolored.values()
    assert all(np.abs(other - first).max() > 0.01 for other in others)


def test_histograms_give_the_style_the_contents_values(config):
    config.color.style = "histogram"
    _, scene = _scene.read(config)
    ranks = (np.arange(20 * 24) + 0.5) / (20 * 24)
    for channel in range(3):
        values = np.sort(scene.content[..., channel], axis=None)
        places = (np.arange(values.size) + 0.5) / values.size
        expected = np.interp(ranks, places, values)
        np.testing.assert_allclose(
            np.sort(scene.styles[0][..., channel], axis=None), expected, atol=1e-3
        )


def test_with_brightness_alone_everything_is_gray_until_it_is_finished(config):
    config.color.style = "luminance"
    _, scene = _scene.read(config)
    style, content = scene.styles[0], _scene.painted(config, scene.content)
    assert saturation(style) < 1e-6 and saturation(content) < 1e-6 < saturation(scene.content)
    assert style.mean() == pytest.approx(brightness(scene.content).mean(), abs=1e-3)
    assert style.std() == pytest.approx(brightness(scene.content).std(), abs=3e-3)
    np.testing.assert_allclose(content[..., 0], brightness(scene.content), atol=1e-5)
    assert saturation(np.asarray(_scene.first(config, scene))) < 1e-6
    finished = _scene.finished(config, scene, content)
    np.testing.assert_allclose(finished, scene.content, atol=5e-3)


@pytest.mark.parametrize("way", [way for way in _scene.STYLE_COLORS if way])
def test_a_gray_content_makes_a_gray_style(config, pictures, way):
    config.content, config.color.style = str(pictures / "gray.png"), way
    assert saturation(_scene.read(config)[1].styles[0]) < 0.03  # variance of 1e-5 is added


# Colors of the result.


def painting(scale=0.15):
    """Around the middle, so that new colors are not clipped."""
    values = np.random.default_rng(3).normal(0.5, scale, (24, 32, 3))
    return np.clip(values @ np.array([[1, 0.2, 0], [0, 1, 0], [0.3, 0, 1]]) - 0.2, 0, 1)


def test_the_result_gets_the_contents_mean_and_covariance(config):
    config.color.result = "match"
    _, scene = _scene.read(config)
    finished = _scene.finished(config, scene, np.float32(painting()))
    for have, want in zip(moments(finished), moments(scene.content), strict=True):
        np.testing.assert_allclose(have, want, atol=3e-3)


@pytest.mark.parametrize(("way", "whose"), [("histogram", "content"), ("style", "style")])
def test_the_result_gets_the_histogram_of_the_content_or_the_style(config, pictures, way, whose):
    config.color.result = way
    _, scene = _scene.read(config)
    finished = _scene.finished(config, scene, np.float32(painting()))
    values = images.read(pictures / f"{whose}.png").pixels
    places, ranks = ((np.arange(n) + 0.5) / n for n in (values[..., 0].size, 24 * 32))
    for channel in range(3):
        wanted = np.interp(ranks, places, np.sort(values[..., channel], axis=None))
        have = np.sort(finished[..., channel], axis=None)
        np.testing.assert_allclose(have, wanted, atol=1e-3)


def test_the_result_gets_the_contents_colors_under_its_own_brightness(config):
    config.color.result = "luminance"
    _, scene = _scene.read(config)
    given = np.float32(np.clip(painting(0.05), 0.4, 0.6))
    finished = _scene.finished(config, scene, given)
    inside = ((finished > 0.001) & (finished < 0.999)).all(-1)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(brightness(finished)[inside], brightness(given)[inside], atol=5e-3)
    np.testing.assert_allclose(chroma(finished)[inside], chroma(scene.content)[inside], atol=5e-3)


@pytest.mark.parametrize("way", ["luminance", "match", "histogram"])
def test_a_result_with_the_colors_of_a_gray_content_is_gray(config, pictures, way):
    config.content, config.color.result = str(pictures / "gray.png"), way
    _, scene = _scene.read(config)
    finished = _scene.finished(config, scene, np.float32(painting()))
    assert saturation(finished) < 0.03 < saturation(painting())


# Canvases and starts.


@pytest.mark.parametrize(
    ("size", "shape"), [("48x32", (32, 48)), ("20x50", (50, 20)), ("40", (40, 40))]
)
def test_a_canvas_has_the_width_and_height_given(config, size, shape):
    config.content, config.size = "none", size
    original, scene = _scene.read(config)
    small = _scene.sized(config, scene, _scene.longest(config, scene))
    assert original is None and small.content.shape == (*shape, 3)
    np.testing.assert_array_equal(small.content, 0.5)


def test_the_original_size_is_the_contents(config):
    config.size = "original"
    _, scene = _scene.read(config)
    small = _scene.sized(config, scene, _scene.longest(config, scene))
    np.testing.assert_array_equal(small.content, scene.content)


def test_a_file_to_begin_with_is_scaled_to_the_content(config, pictures, tmp_path):
    _, scene = _scene.read(config)
    config.start = str(pictures / "gray.png")
    start = images.read(pictures / "gray.png").pixels
    np.testing.assert_allclose(_scene.first(config, scene), start, atol=1e-6)
    images.write(tmp_path / "small.png", np.full((5, 9, 3), 0.2))
    config.start = str(tmp_path / "small.png")
    first = _scene.first(config, scene)
    assert first.shape == (24, 32, 3)
    np.testing.assert_allclose(first, 0.2, atol=1e-5)


def test_a_word_is_no_file(config, tmp_path, monkeypatch):
    images.write(tmp_path / "noise.png", np.zeros((4, 4, 3)))
    (tmp_path / "noise.png").rename(tmp_path / "noise")
    monkeypatch.chdir(tmp_path)
    config.start = "noise"
    assert np.std(_scene.first(config, _scene.read(config)[1])) > 0.1


# Refusals. Words in capitals are files of the fixture.

REFUSED = [
    ({"content": ""}, "no content is given; name a picture, e.g. --config.content=photo.jpg"),
    ({"style": ""}, "no style is given; name a picture, e.g. --config.style=starry"),
    ({"style": ()}, "no style is given"),
    ({"style": ("LEFT", "")}, "no style is given"),
    ({"content": "skimage/chelsee"}, "did you mean 'chelsea'"),
    ({"color.style": "cholesky "}, "unknown way to recolor the style 'cholesky '; did you mean"),
    ({"color.result": "cholesky"}, "unknown way to color the result 'cholesky'"),
    ({"masks": ("LEFT", "rest")}, "there are 2 content masks for 1 styles; give one for each"),
    ({"masks": "LEFT"}, "there are 1 content masks for 1 styles"),
    ({"style_masks": ("", "")}, "there are 2 style masks for 1 styles"),
    ({"masks": ("STYLE",)}, "style.png' is 24x20 pixels, but the content is 32x24; give masks"),
    ({"style_masks": ("LEFT",)}, "left.png' is 32x24 pixels, but the style is 24x20"),
    ({"masks": ("EMPTY",)}, "empty.png' is empty; paint the region white"),
    ({"masks": ("rest",)}, "the mask 'rest' needs others"),
    ({"masks": ("no.png",)}, "no.png"),
    ({"masks": ("LEFT",), "mask_mode": "al"}, "unknown mode of guides 'al'; did you mean 'all'"),
    ({"masks": ("LEFT",), "mask_grow": -30}, "nothing of the region is left when it grows by -30"),
    ({"masks": ("LEFT",), "objective.shift": -1.0}, "the shift -1.0 is for Gram matrices of one"),
    ({"masks": ("LEFT",), "objective.chain": 1.0}, "a chain of layers has one style"),
    (
        {"masks": ("LEFT",), "objective.style_statistic": "patches"},
        "unknown guided style statistic 'patches'",
    ),
    ({"style_scale": (1.0, 1.0)}, "2 scales are given for 1 styles; give one for each"),
    ({"style_scale": (1.0, -1.0), "style": ("STYLE", "RED")}, "style_scale is -1.0; choose"),
    ({"style_weights": (1.0,), "style": ("STYLE", "RED")}, "1 shares are given for 2"),
    ({"style_weights": (1.0, -1.0), "style": ("STYLE", "RED")}, "must be at least 0"),
    ({"content": "none"}, "the content is 'none', but objective.content_layers asks for one"),
    ({"content": "none", "size": "48x"}, "size is '48x'; give a number of pixels"),
    ({"content": "none", "size": "x48"}, "size is 'x48'; give"),
    ({"content": "none", "size": "32x0"}, "size is '32x0'; give"),
    ({"content": "none", "size": "32x32x32"}, "size is '32x32x32'; give"),
    ({"content": "none", "size": "original"}, "size is 'original'; give"),
    ({"content": "none", "size": "64x8"}, "the content is 64x8 pixels; at least 16 each way"),
    ({"size": "48x32"}, "size is '48x32'; give a number of pixels, e.g. 512, or 'original'"),
    ({"size": "0"}, "size is '0'; give"),
    ({"size": "-64"}, "size is '-64'; give"),
    ({"size": "4²"}, "size is '4²'; give"),
    ({"seamless": True}, "no margin and sides that are multiples of 16, not a margin of 2 and"),
    ({"seamless": True, "margin": 0}, "not a margin of 0 and 32x24 pixels"),
    ({"margin": 1024}, "margin is 1024; choose 0 to 1023 pixels"),
    ({"solver.learning_rate": float("inf")}, "the learning rate is inf; choose one above 0"),
    ({"start": "no.png"}, "unknown start 'no.png'"),
    (
        {"patch_turns": (90.0,), "objective.style_statistic": "patches"},
        "a style cannot be turned by 90.0 degrees; choose -45 to 45",
    ),
]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=lambda x: str(x)[:50])
def test_bad_input_is_one_sentence_before_a_folder_is_made(
    config, changed, pictures, tmp_path, change, sentence
):
    def file(word):
        named = isinstance(word, str) and word.isupper()
        return str(pictures / f"{word.lower()}.png") if named else word

    change = {
        key: tuple(map(file, value)) if isinstance(value, tuple) else file(value)
        for key, value in change.items()
    }
    with pytest.raises(InputError) as caught:
        paint_picture.run(changed(config, change), tmp_path / "run")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
