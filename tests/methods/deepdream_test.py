"""DeepDream: a step in NumPy, jitter, octaves, what is carried between them, lanes, refusals."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features, images, policy
from jaxstyle.losses.dreams import energy
from jaxstyle.methods import deepdream as dream_function
from jaxstyle.methods.deepdream import (
    Dream,
    Recipe,
    deepdream,
    dream_octave,
    octave_sizes,
    prepare_dream,
    with_colors_of,
    zoom,
)
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)
NETWORK = features.Network("toy", ((4, 5), (6,)), features.PLAIN, padding="reflect")
PARAMS = features.initialize(jax.random.key(1), NETWORK)
IMAGE = jnp.float32(RNG.uniform(0.2, 0.8, size=(24, 34, 3)))
dream = functools.partial(
    deepdream, perception=(PARAMS, NETWORK), layers=("relu2_1",), octaves=1, jitter=3, bands=0
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile little and fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with policy.formulation("plain"):
        yield
    jax.config.update("jax_disable_most_optimizations", before)


def seen(image, layer="relu2_1"):
    return features.features(PARAMS, image, (layer,), network=NETWORK)[layer]


# One step.

COLOR = np.float64(RNG.normal(size=(3, 4)))  # a network of one layer that looks at single pixels
FLAT = features.Network("flat", ((4,),), features.PLAIN)
KERNEL = np.zeros((3, 3, 3, 4))
KERNEL[1, 1] = COLOR
FLAT_PARAMS = {"conv1_1": {"kernel": jnp.float32(KERNEL), "bias": jnp.zeros(4)}}


@pytest.mark.parametrize("normalize", ["scale_free", "google"])
@pytest.mark.parametrize("jitter", [0, 7])
def test_a_step_is_the_activations_gradient_divided_by_its_mean(normalize, jitter):
    """d/dx of the mean square of relu(x C), in float64; of pixels, so jitter changes nothing."""
    result = deepdream(
        IMAGE,
        (FLAT_PARAMS, FLAT),
        layers=("relu1_1",),
        octaves=1,
        steps=1,
        step_size=0.01,
        jitter=jitter,
        bands=0,
        normalize=normalize,
        seed=3,
    )
    pixels = np.float64(IMAGE)
    gradient = np.maximum(pixels @ COLOR, 0) @ COLOR.T
    expected = np.clip(pixels + 0.01 * gradient / np.abs(gradient).mean(), 0, 1)
    np.testing.assert_allclose(result.image, expected, atol=2e-6)
    assert np.abs(expected - pixels).mean() == pytest.approx(0.01, rel=0.02)


def test_layers_are_weighed_by_their_shares():
    """Relative to what they were: so the gradients of the two terms add in NumPy."""
    both = dream(IMAGE, layers=("relu1_1", "relu1_2"), layer_weights=(3.0, 1.0), steps=1, jitter=0)
    gradient = np.zeros(IMAGE.shape)
    for layer, share in (("relu1_1", 0.75), ("relu1_2", 0.25)):
        value, slope = jax.value_and_grad(lambda x, at=layer: energy(seen(x, at)))(IMAGE)
        gradient += share * np.float64(slope) / float(value)
    expected = np.float64(IMAGE) + 1.5 / 255 * gradient / np.abs(gradient).mean()
    np.testing.assert_allclose(both.image, np.clip(expected, 0, 1), atol=2e-6)
    assert float(both.history[0, 0]) == pytest.approx(-1.0, rel=1e-5)


def test_bands_are_equally_strong():
    """With one band: what a blur takes away and what it leaves, each with a mean square of 1."""
    slope = jax.grad(lambda x: energy(seen(x)))(IMAGE)
    coarse = np.float64(images.gaussian_blur(slope, 1.0))
    fine = np.float64(slope) - coarse
    uphill = fine / np.sqrt(np.mean(fine**2)) + coarse / np.sqrt(np.mean(coarse**2))
    expected = np.float64(IMAGE) + 0.01 * uphill / np.abs(uphill).mean()
    found = dream(IMAGE, steps=1, step_size=0.01, jitter=0, bands=1).image
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5)


def test_a_picture_without_a_gradient_stays():
    dead = {"conv1_1": {"kernel": jnp.zeros((3, 3, 3, 4)), "bias": jnp.zeros(4)}}
    for bands in (0, 2):
        result = deepdream(
            IMAGE, (dead, FLAT), layers=("relu1_1",), octaves=1, steps=2, bands=bands
        )
        np.testing.assert_array_equal(result.image, IMAGE)


def test_jitter_is_undone_exactly():
    still = dream(IMAGE, steps=3, step_size=0.0, jitter=9, seed=5)
    np.testing.assert_array_equal(still.image, IMAGE)


def test_jitter_is_the_seeds():
    one, again, other = (dream(IMAGE, steps=4, seed=seed).image for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3
    for seed in (1, 2):
        np.testing.assert_array_equal(
            dream(IMAGE, steps=1, seed=seed, jitter=0).image, dream(IMAGE, steps=1, jitter=0).image
        )


# Octaves.


def test_octave_sizes():
    assert octave_sizes(240, 321, 4, 1.4) == ((87, 117), (122, 164), (171, 229), (240, 321))
    assert octave_sizes(17, 90, 1, 1.4) == ((17, 90),)
    found = dream(IMAGE, octaves=3, octave_scale=1.2, steps=1, jitter=0)
    assert isinstance(found, Dream)
    assert [p.shape for p in found.octaves] == [(17, 24, 3), (20, 28, 3), (24, 34, 3)]
    assert found.image is found.octaves[-1] and found.history.shape == (3, 1)


def test_detail_is_carried_and_the_picture_is_not():
    """With steps of size 0 only what the octave before has added can change anything."""
    recipe = Recipe(NETWORK, ("relu2_1",), octaves=2, steps=2, bands=0)
    context = prepare_dream(PARAMS, recipe, step_size=0.0)
    small = (17, 24)
    base = images.resize(IMAGE, small)
    detail = jnp.float32(RNG.uniform(-0.1, 0.1, size=(*small, 3)))
    found, _ = dream_octave(IMAGE, base + detail, context, 0, recipe=recipe, octave=1)
    expected = np.asarray(IMAGE) + np.asarray(images.resize(detail, (24, 34)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    unchanged, _ = dream_octave(IMAGE, base, context, 0, recipe=recipe, octave=1)
    np.testing.assert_allclose(unchanged, IMAGE, atol=1e-5)


def test_octaves_one_after_the_other_are_the_dream():
    settings = {"octaves": 2, "octave_scale": 1.3, "steps": 2}
    whole = dream(IMAGE, **settings, seed=4)
    recipe = Recipe(NETWORK, ("relu2_1",), jitter=3, bands=0, **settings)
    context = prepare_dream(PARAMS, recipe)
    picture, _ = dream_octave(IMAGE, None, context, 4, recipe=recipe, octave=0)
    picture, history = dream_octave(IMAGE, picture, context, 4, recipe=recipe, octave=1)
    np.testing.assert_array_equal(whole.image, picture)
    np.testing.assert_array_equal(whole.history[1], history)


# What becomes stronger.


def test_what_the_layer_sees_becomes_stronger():
    result = dream(IMAGE, octaves=2, octave_scale=1.3, steps=15, bands=2)
    assert float(energy(seen(result.image))) > 1.5 * float(energy(seen(IMAGE)))
    assert (np.diff(result.history) < 0).mean() > 0.8
    assert float(result.image.min()) >= 0 and float(result.image.max()) <= 1


def test_the_channel_chosen_becomes_stronger_than_the_others():
    strengths = np.array([float(energy(seen(IMAGE), channel=c)) for c in range(6)])
    chosen = int(np.argsort(strengths)[2])  # neither dead nor the strongest
    result = dream(IMAGE, channel=chosen, steps=15)
    now = np.array([float(energy(seen(result.image), channel=c)) for c in range(6)])
    growth = now / np.maximum(strengths, 1e-6)
    assert growth[chosen] > 2.0 and growth[chosen] > 1.3 * np.mean(now) / np.mean(strengths)


def test_a_guided_step_is_toward_the_best_matches():
    """d/dx of the products with the guide's features, found in NumPy."""
    guide = jnp.float32(RNG.uniform(size=(9, 11, 3)))
    settings = {"layers": ("relu1_1",), "octaves": 1, "steps": 1, "step_size": 0.01, "bands": 0}
    result = deepdream(IMAGE, (FLAT_PARAMS, FLAT), guide=guide, **settings)
    ours, theirs = (np.maximum(np.float64(x).reshape(-1, 3) @ COLOR, 0) for x in (IMAGE, guide))
    best = theirs[(ours @ theirs.T).argmax(axis=1)]
    gradient = (((ours > 0) * best) @ COLOR.T).reshape(IMAGE.shape)
    expected = np.clip(np.float64(IMAGE) + 0.01 * gradient / np.abs(gradient).mean(), 0, 1)
    np.testing.assert_allclose(result.image, expected, atol=2e-6)


def test_a_guided_dream_is_drawn_to_its_guide():
    def likeness(image, guide):
        ours, theirs = (np.float64(seen(x)).reshape(-1, 6) for x in (image, guide))
        return (ours @ theirs.T).max(axis=1).mean()

    guide = jnp.float32(RNG.uniform(size=(20, 20, 3)))
    result = dream(IMAGE, guide=guide, steps=12)
    assert likeness(result.image, guide) > 1.1 * likeness(IMAGE, guide)
    assert (np.diff(result.history) < 0).mean() > 0.8
    colors = {
        "conv1_1": {
            "kernel": jnp.zeros((3, 3, 3, 3)).at[1, 1].set(jnp.eye(3)),
            "bias": jnp.zeros(3),
        }
    }  # a network that sees pixels
    for channel in range(3):
        plain = jnp.full((5, 5, 3), 0.1).at[..., channel].set(0.9)
        found = deepdream(IMAGE, (colors, FLAT), layers=("relu1_1",), guide=plain, octaves=1)
        others = [c for c in range(3) if c != channel]
        gain = np.asarray(found.image - IMAGE).mean(axis=(0, 1))
        assert gain[channel] > 4 * max(gain[others])


def test_total_variation_smooths():
    rough, smooth = (dream(IMAGE, steps=10, tv_weight=weight).image for weight in (0.0, 50.0))
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.8 * np.abs(np.diff(rough, axis=1)).mean()


def test_colors_are_kept_by_shares():
    """At 1 the mean and the covariance of all pixels are those of the picture."""
    garish = jnp.clip(IMAGE * jnp.array([[[1.4, 0.7, 0.6]]]), 0, 1)
    np.testing.assert_array_equal(with_colors_of(IMAGE, garish, 0.0), garish)
    back = with_colors_of(IMAGE, garish, 1.0)
    ours, theirs = (np.float64(x).reshape(-1, 3) for x in (back, IMAGE))
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(np.cov(ours.T), np.cov(theirs.T), atol=0.003)
    half = with_colors_of(IMAGE, garish, 0.5)
    np.testing.assert_allclose(half, (garish + back) / 2, atol=1e-6)
    kept, free = (dream(IMAGE, steps=8, keep_colors=share) for share in (1.0, 0.0))
    expected = with_colors_of(IMAGE, free.image, 1.0)
    np.testing.assert_allclose(kept.image, expected, atol=1e-5)


# Transformations.


def test_lanes_equal_single_dreams():
    pictures, seeds = jnp.stack([IMAGE, 1 - IMAGE]), jnp.array([1, 2])
    sizes = jnp.array([0.01, 0.02])

    def one(picture, seed, size):
        return dream(picture, seed=seed, step_size=size, octaves=2, octave_scale=1.3, steps=2)

    both = jax.vmap(one)(pictures, seeds, sizes)
    for lane in range(2):
        single = one(pictures[lane], seeds[lane], sizes[lane])
        np.testing.assert_allclose(both.image[lane], single.image, atol=1e-4)
        np.testing.assert_allclose(both.history[lane], single.history, rtol=1e-4)


def test_jit_gives_the_same():
    jitted = jax.jit(functools.partial(dream, steps=2))
    np.testing.assert_allclose(jitted(IMAGE).image, dream(IMAGE, steps=2).image, atol=1e-5)


def test_what_a_sweep_varies_compiles_nothing_anew():
    def go(seed, size, weights):
        return dream(
            IMAGE,
            layers=("relu1_1", "relu2_1"),
            layer_weights=weights,
            seed=seed,
            step_size=size,
            steps=2,
        )

    go(0, 0.01, (1.0, 1.0))
    before = dream_octave._cache_size()
    go(7, 0.03, (1.0, 3.0))
    assert dream_octave._cache_size() == before


# The zoom.


def test_zoom_keeps_the_middle_and_enlarges_about_it():
    np.testing.assert_array_equal(zoom(IMAGE, 1.0), IMAGE)
    rows, columns = np.mgrid[:25, :31] + 0.5
    ramp = np.stack([rows / 25, columns / 31, np.full_like(rows, 0.5)], axis=-1)
    larger = np.asarray(zoom(jnp.float32(ramp), 1.25))
    expected = np.stack(
        [0.5 + (rows / 25 - 0.5) / 1.25, 0.5 + (columns / 31 - 0.5) / 1.25, ramp[..., 2]], axis=-1
    )
    np.testing.assert_allclose(larger, expected, atol=1e-5)
    constant = zoom(jnp.full((9, 12, 3), 0.3), 1.05)
    np.testing.assert_allclose(constant, 0.3, atol=1e-6)  # no dark border


def test_zoom_in_lanes_and_compiled():
    both = jax.jit(jax.vmap(lambda x: zoom(x, 1.1)))(jnp.stack([IMAGE, 1 - IMAGE]))
    np.testing.assert_allclose(both[1], zoom(1 - IMAGE, 1.1), atol=1e-5)


# Refusals.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": ("relu2_2",)}, "unknown layer of toy 'relu2_2'"),
        ({"layers": ()}, "no layers"),
        ({"layers": ("relu1_1", "relu1_1")}, "relu1_1"),
        ({"channel": 6}, "there is no channel 6; the layer has 6, 0 to 5"),
        ({"octaves": 0}, "octaves is 0; at least 1"),
        ({"octaves": 3}, "the smallest of 3 octaves would be 17x12 pixels"),
        ({"octaves": 3}, "choose at most 2 octaves or a larger picture"),
        ({"image": IMAGE[:15]}, "the picture is 34x15 pixels; 16 each way are needed"),
        ({"octave_scale": 1.0}, "octave_scale is 1.0; choose one above 1"),
        ({"steps": 0}, "steps is 0; at least 1"),
        ({"jitter": -1}, "jitter is -1; at least 0"),
        ({"bands": -1}, "bands is -1; at least 0"),
        ({"normalize": "googel"}, "did you mean 'google'"),
        ({"guide": IMAGE, "channel": 0}, "a guide and a channel were given"),
        ({"layer_weights": (1.0, 2.0)}, "layer_weights have the shape (2,) for 1 layers"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(change, sentence):
    given = {"image": IMAGE, "steps": 1, "octave_scale": 1.4} | change
    with pytest.raises(InputError) as caught:
        dream(**given)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("guided", [True, False])
def test_a_guided_recipe_has_a_guide(guided):
    recipe = Recipe(NETWORK, ("relu1_1",), guided=guided)
    with pytest.raises(InputError, match="give both or neither"):
        prepare_dream(PARAMS, recipe, guide=None if guided else IMAGE)


@pytest.mark.parametrize("scale", [0.9, float("nan"), float("inf")])
def test_a_zoom_outward_is_refused(scale):
    with pytest.raises(InputError, match="the zoom is .*; choose 1 or a little more"):
        zoom(IMAGE, scale)


def test_the_name_of_the_room_is_the_function():
    assert inspect.isfunction(dream_function)
