"""Guides of layers against loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.features import NETWORKS, Field, receptive_field
from jaxstyle.losses import layer_guide, layer_guides
from jaxstyle.types import InputError

RNG = np.random.default_rng(21)
VGG = NETWORKS["vgg19"]


def _mask(*shape):
    return jnp.asarray(RNG.uniform(size=shape), jnp.float32)


def _blob(height, width):
    """A disc, 1 inside."""
    y, x = np.ogrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (0.4 * height) ** 2
    return jnp.asarray(inside, jnp.float32)


def _windows(mask, field, pick):
    """Every neuron's field, cut off at the picture's borders, looked through."""
    mask = np.asarray(mask, np.float64)
    shape = tuple(size // field.stride for size in mask.shape)
    guide = np.zeros(shape)
    for position in np.ndindex(shape):
        first = [field.start + field.stride * place for place in position]
        rows, columns = (slice(max(f, 0), f + field.size) for f in first)
        guide[position] = pick(mask[rows, columns])
    return guide


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (13, 9), (1, 1)])
def test_simple_is_the_mean_of_the_pixels_of_a_position(size):
    mask = _mask(12, 21)
    fine = np.kron(np.asarray(mask, np.float64), np.ones(size))  # pixels cut so that they fit
    height, width = size
    expected = fine.reshape(height, 12, width, 21).mean((1, 3))
    np.testing.assert_allclose(layer_guide(mask, *size), expected, rtol=1e-5)


def test_simple_guides_of_regions_that_share_the_picture_sum_to_one():
    masks = jax.nn.softmax(3 * _mask(3, 37, 26), axis=0)
    guides = layer_guide(masks, 9, 6)
    np.testing.assert_allclose(guides.sum(0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "size"),
    [("relu1_1", (9, 14)), ("pool1", (37, 26)), ("relu3_1", (37, 26)), ("relu4_1", (24, 40))],
)
def test_inside_and_all_look_at_every_pixel_of_the_field(layer, size):
    field, mask = receptive_field(layer, VGG), 0.1 + 0.9 * _mask(*size)
    shape = tuple(side // field.stride for side in size)
    for mode, pick in (("inside", np.min), ("all", np.max)):
        guide = layer_guide(mask, *shape, mode=mode, field=field)
        np.testing.assert_array_equal(guide, _windows(mask, field, pick).astype(np.float32))


@pytest.mark.parametrize("layer", ["relu1_1", "relu3_1"])
def test_what_is_inside_sees_nothing_of_the_rest(layer):
    region = _blob(80, 70)
    inside, seeing = (
        layer_guides(mask, (layer,), VGG, mode=mode)[layer]
        for mask, mode in ((region, "inside"), (1 - region, "all"))
    )
    np.testing.assert_array_equal(inside, 1 - seeing)
    assert 0 < inside.sum() < seeing.size


@pytest.mark.parametrize("mode", ["simple", "inside", "all"])
def test_the_whole_picture_is_everywhere(mode):
    layers = ("relu1_1", "relu3_1", "relu5_1")
    for layer, guide in layer_guides(jnp.ones((51, 33)), layers, VGG, mode=mode).items():
        stride = receptive_field(layer, VGG).stride
        assert guide.shape == (51 // stride, 33 // stride)
        np.testing.assert_allclose(guide, 1, rtol=1e-6)


@pytest.mark.parametrize("grow", [2, -2])
def test_a_region_grows_by_pixels_and_keeps_to_the_picture(grow):
    region = _blob(24, 30)
    pick = np.max if grow > 0 else np.min
    expected = _windows(region, Field(5, 1, -2), pick)
    np.testing.assert_array_equal(layer_guide(region, 24, 30, grow=grow), expected)
    np.testing.assert_array_equal(layer_guide(jnp.ones((9, 9)), 9, 9, grow=grow), 1)


def test_compiled_and_mapped_over_masks():
    field, masks = receptive_field("relu2_1", VGG), _mask(3, 18, 15)

    def both(mask):
        return [layer_guide(mask, 9, 7, mode=m, field=field, grow=1) for m in ("simple", "all")]

    batched, mapped = both(masks), jax.jit(jax.vmap(both))(masks)
    for k in range(3):
        for one, other, alone in zip(batched, mapped, both(masks[k]), strict=True):
            np.testing.assert_allclose(one[k], alone, rtol=1e-6)
            np.testing.assert_allclose(other[k], alone, rtol=1e-6)


def test_masks_of_yes_and_no():
    region = _blob(16, 20) > 0
    np.testing.assert_array_equal(
        layer_guide(region, 8, 10), layer_guide(region.astype(jnp.float32), 8, 10)
    )


def test_an_empty_mask_is_zero_where_its_values_are_not_known():
    guide = jax.jit(lambda mask: layer_guide(mask, 4, 4))(jnp.zeros((8, 8)))
    np.testing.assert_array_equal(guide, 0)


SMALL = jnp.zeros((40, 40)).at[18:22, 18:22].set(1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: layer_guide(SMALL, 5, 5, mode="insides"), "did you mean 'inside'"),
        (lambda: layer_guide(SMALL, 5, 5, mode="all"), "mode 'all' need the field"),
        (lambda: layer_guide(0 * SMALL, 5, 5), "the mask is empty; mark the region with 1"),
        (lambda: layer_guide(jnp.stack([SMALL, 0 * SMALL]), 5, 5), "the mask is empty"),
        (lambda: layer_guide(255 * SMALL, 5, 5), "from 0 to 255; scale them"),
        (lambda: layer_guide(SMALL.at[0, 0].set(jnp.nan), 5, 5), "from nan to nan"),
        (lambda: layer_guide(SMALL.astype(jnp.uint8), 5, 5), "holds uint8"),
        (lambda: layer_guide(jnp.ones(4), 2, 2), r"\(4,\) is none"),
        (lambda: layer_guide(SMALL, 0, 5), "0x5 positions has no guide"),
        (lambda: layer_guide(SMALL, 5, 5, grow=-2), "nothing of the region is left.*-2 pixels"),
        (
            lambda: layer_guides(SMALL, ("relu3_1",), VGG, mode="inside"),
            "no neuron sees only the region, as each sees 24x24 pixels",
        ),
        (
            lambda: layer_guide(SMALL, 12, 10, mode="all", field=receptive_field("relu3_1", VGG)),
            "40x40 pixels has 10x10 positions at this layer, but its maps are 12x10",
        ),
        (lambda: layer_guides(SMALL, ("relu3_9",), VGG), "unknown layer of vgg19"),
        (lambda: layer_guides(SMALL[:9], ("relu5_1",), VGG), "9x40, but relu5_1 needs.*>= 16"),
    ],
)
def test_what_makes_no_guide_is_refused(build, message):
    with pytest.raises(InputError, match=message) as raised:
        build()
    assert str(raised.value).count("\n") == 0
