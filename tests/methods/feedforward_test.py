"""Stylizing: any size in, the same size out, no frame, and the two ways to hold the style back."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import networks, policy
from jaxstyle.methods import StyleModel, stylize
from jaxstyle.types import InputError

# Small programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
paint = jit(stylize, static_argnames=("preserve_color", "parity"))
draw = jit(networks.init, static_argnums=1)


@pytest.fixture(autouse=True)
def plain():
    """The shorter programs; that both formulations agree is for the tests of `ops` to say."""
    with policy.formulation("plain"):
        yield


SMALL = networks.TransformerConfig(widths=(4, 6), blocks=1, outer_kernels=(5, 5))


def _model(config=SMALL, seed=0, contrast=3.0):
    """A random network whose output differs from place to place, however networks start."""
    variables = draw(jax.random.key(seed), config)
    last = variables["params"]["output"]["conv"]
    shape = last["kernel"].shape
    noise = np.random.default_rng(seed).normal(0, contrast / np.prod(shape[:3]) ** 0.5, shape)
    last["kernel"] = jnp.asarray(noise, jnp.float32)
    return StyleModel(variables, config)


@functools.cache
def _shapes(config):
    return jax.eval_shape(lambda: networks.init(jax.random.key(0), config))


def _picture(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((*shape, 3)), jnp.float32)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero", "same", "reflect_start"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 500), (500, 1), (33, 47), (2, 3), (64, 64), (2, 31, 18), (2, 3, 5, 7)]
)
def test_every_size_comes_back(padding, shape):
    config = networks.TransformerConfig(widths=(4, 6, 8), blocks=1, padding=padding)
    variables = _shapes(config)
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    result = jax.eval_shape(stylize, StyleModel(variables, config), image)
    assert (result.shape, result.dtype) == (image.shape, jnp.float32)


@pytest.mark.parametrize(
    ("shape", "padding"), [((1, 1), "reflect"), ((1, 37), "same"), ((33, 47), "reflect")]
)
def test_values_are_finite_and_in_range(shape, padding):
    model = _model(dataclasses.replace(SMALL, padding=padding, output="linear"))
    result = np.asarray(paint(model, _picture(*shape)))
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
    if shape == (33, 47):
        assert result.std() > 0.05


# Columns of a picture that is the same in every column can differ only by what the border does to
# them. A transposed convolution repeats itself every 4 pixels (its checkerboard), no more.
FRAMES = {
    "reflect": {"padding": "reflect"},
    "replicate": {"padding": "replicate"},
    "zero": {"padding": "zero"},
    # As wide a view as that of published networks: what the border does reaches 50 pixels far.
    "same, transposed": {"padding": "same", "upsampling": "transposed", "blocks": 5},
    "reflect_start, transposed": {"padding": "reflect_start", "upsampling": "transposed"},
}


@pytest.mark.parametrize("name", FRAMES)
def test_no_frame(name):
    small = {"widths": (4, 5, 6), "blocks": 1, "outer_kernels": (5, 5)}
    config = networks.TransformerConfig(**(small | FRAMES[name]))
    model = _model(config)
    image = jnp.broadcast_to(_picture(53, 1), (53, 53, 3))
    for columns in (False, True):
        painted = paint(model, image.swapaxes(0, 1) if columns else image)
        painted = np.asarray(painted.swapaxes(0, 1) if columns else painted)
        assert painted.std(axis=0).max() > 0.02
        np.testing.assert_allclose(painted[:, 4:], painted[:, :-4], rtol=0, atol=1e-5)
    if name == "zero":  # the network alone does paint one
        alone = np.asarray(
            jit(networks.apply, static_argnums=2)(model.params, image[:52, :52], config)
        )
        assert np.abs(alone[:, 4:] - alone[:, :-4]).max() > 0.02


def test_strength_blends_between_the_picture_and_the_full_style():
    model, image = _model(), _picture(33, 34)
    photo, half, full = (np.asarray(paint(model, image, strength=s)) for s in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(photo, image)
    assert np.abs(full - photo).max() > 0.2
    np.testing.assert_allclose(half, (photo + full) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", ["zero", "same", "reflect"])
def test_parity_is_the_network_alone_frame_and_all(padding):
    model = _model(dataclasses.replace(SMALL, padding=padding))
    image = _picture(36, 34)

    def both(model, image):
        painted = networks.apply(model.params, image, model.config)
        return stylize(model, image, parity=True), jnp.clip(painted, 0, 1)

    result, painted = jit(both)(model, image)
    np.testing.assert_array_equal(result, painted)
    without = np.abs(paint(model, image) - result).max()
    assert without == 0 if padding == "reflect" else without > 0.02


def test_full_strength_is_the_networks_output_to_the_last_bit():
    model, image = _model(), _picture(32, 34)

    def both(model, image):
        painted = networks.apply(model.params, image, model.config)
        return stylize(model, image), stylize(model, image, strength=1), jnp.clip(painted, 0, 1)

    default, full, painted = jit(both)(model, image)
    np.testing.assert_array_equal(default, painted)
    np.testing.assert_array_equal(full, painted)


def test_strength_may_be_traced():
    """A sweep over strengths: lane k equals run k, from one program."""
    model, image = _model(), _picture(33, 34)
    strengths = jnp.array([0.0, 0.3, 1.0])
    lanes = jit(jax.vmap(lambda s: stylize(model, image, strength=s)))(strengths)
    for lane, strength in zip(lanes, strengths, strict=True):
        expected = paint(model, image, strength=strength)
        np.testing.assert_allclose(lane, expected, rtol=0, atol=1e-5)


def _color_differences(rgb):
    """Blue and red minus luma (ITU-R BT.601), in float64."""
    rgb = np.asarray(rgb, np.float64)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    return luma, np.stack([rgb[..., 2] - luma, rgb[..., 0] - luma], -1)


def test_preserve_color_takes_brightness_from_the_style_and_colors_from_the_picture():
    # Muted colors, so that no sum leaves [0, 1] and is cut.
    model, image = _model(contrast=0.7), 0.5 + 0.1 * (_picture(33, 34) - 0.5)
    kept = paint(model, image, preserve_color=True)
    luma, colors = _color_differences(kept)
    painted_luma, painted_colors = _color_differences(paint(model, image))
    own_luma, own_colors = _color_differences(image)
    np.testing.assert_allclose(luma, painted_luma, atol=1e-6)
    np.testing.assert_allclose(colors, own_colors, atol=1e-6)
    assert luma.min() > 0.1 and luma.max() < 0.9 and np.abs(luma - own_luma).max() > 0.1
    assert np.abs(colors - painted_colors).max() > 0.1


def test_preserve_color_is_luminance_when_it_is_true():
    model, image = _model(), _picture(33, 34)
    kept = paint(model, image, preserve_color=True)
    np.testing.assert_array_equal(kept, paint(model, image, preserve_color="luminance"))
    with pytest.raises(InputError, match="preserve color 'matches'; did you mean 'match'"):
        stylize(StyleModel(_shapes(SMALL), SMALL), image, preserve_color="matches")


def test_preserve_color_can_match_the_pictures_mean_and_covariance():
    # Muted colors, as above.
    model, image = _model(contrast=0.7), 0.5 + 0.1 * (_picture(33, 34) - 0.5)
    kept = paint(model, image, preserve_color="match")
    assert kept.min() > 0 and kept.max() < 1
    pixels, own = (np.asarray(p, np.float64).reshape(-1, 3) for p in (kept, image))
    np.testing.assert_allclose(pixels.mean(0), own.mean(0), atol=1e-5)
    np.testing.assert_allclose(np.cov(pixels.T), np.cov(own.T), atol=2e-5)
    # A linear map of the painted colors: four numbers tell a pixel's red.
    painted = np.asarray(paint(model, image), np.float64).reshape(-1, 3)
    terms = np.concatenate([painted, np.ones((len(painted), 1))], axis=1)
    fit = terms @ np.linalg.lstsq(terms, pixels, rcond=None)[0]
    np.testing.assert_allclose(fit, pixels, atol=1e-5)
    assert np.abs(painted.mean(0) - own.mean(0)).max() > 0.01


def test_preserve_color_can_match_the_pictures_histogram():
    model, image = _model(), _picture(33, 34)
    kept, photo = np.asarray(paint(model, image, preserve_color="histogram")), np.asarray(image)
    for channel in range(3):
        np.testing.assert_array_equal(
            np.sort(kept[..., channel].ravel()), np.sort(photo[..., channel].ravel())
        )
    assert np.abs(kept - photo).max() > 0.2


@pytest.mark.parametrize("way", ["match", "histogram"])
def test_strength_blends_recolored_paintings_of_a_batch(way):
    model, images = _model(), _picture(2, 33, 34)
    full = paint(model, images, preserve_color=way)
    half = paint(model, images, strength=0.5, preserve_color=way)
    np.testing.assert_allclose(half, (images + full) / 2, rtol=0, atol=1e-4)
    np.testing.assert_allclose(full[1], paint(model, images[1], preserve_color=way), atol=1e-4)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_batch_equals_single_pictures(norm):
    model = _model(dataclasses.replace(SMALL, norm=norm))
    images = _picture(2, 1, 33, 34)
    together = paint(model, images)
    for one, image in zip(together[:, 0], images[:, 0], strict=True):
        np.testing.assert_allclose(one, paint(model, image), rtol=0, atol=1e-5)


def test_vmap_over_pictures_and_models():
    models = [_model(seed=seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    assert isinstance(stacked, StyleModel) and stacked.config == SMALL
    images = _picture(2, 33, 34)
    lanes = jit(jax.vmap(stylize))(stacked, images)
    for lane, model, image in zip(lanes, models, images, strict=True):
        np.testing.assert_allclose(lane, paint(model, image), rtol=0, atol=1e-5)


def test_another_model_of_one_architecture_needs_no_new_program():
    traces = []

    @jit
    def counted(model, image):
        traces.append(model.config)
        return stylize(model, image)

    image = _picture(33, 34)
    first, second = counted(_model(), image), counted(_model(seed=1), image)
    assert len(traces) == 1
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("image", "strength", "message"),
    [
        (jnp.ones((8, 3)), 1.0, "an image has the shape [..., height, width, 3], but this one is"),
        (jnp.ones((8, 8, 4)), 1.0, "but this one is (8, 8, 4); convert it to RGB."),
        (jnp.ones((8, 8, 1)), 1.0, "but this one is (8, 8, 1)"),
        (jnp.ones((0, 8, 3)), 1.0, "but this one is (0, 8, 3)"),
        (jnp.ones((8, 8, 3), jnp.uint8), 1.0, "the image holds uint8; convert it to float32"),
        (jnp.ones((8, 8, 3)), 1.5, "strength is 1.5; choose 0 (the photo) to 1 (the full style)."),
        (jnp.ones((8, 8, 3)), -1, "strength is -1;"),
        (jnp.ones((8, 8, 3)), jnp.ones(2), "strength has the shape (2,); give one number"),
        (jnp.ones((8, 8, 3)), float("nan"), "strength is nan;"),
    ],
)
def test_errors(image, strength, message):
    variables = _shapes(SMALL)
    with pytest.raises(InputError) as raised:
        stylize(StyleModel(variables, SMALL), image, strength=strength)
    assert message in str(raised.value)
