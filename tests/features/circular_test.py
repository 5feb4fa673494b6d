"""A picture on a torus: whoever looks at it cannot tell where it was cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features

DEPTHS = ((4, 3), (5, 4), (6,), (5,), (4,))
NETWORK = features.Network("thin", DEPTHS, features.PLAIN)
PARAMS = features.initialize(jax.random.key(3), NETWORK)
STRIDES = {"relu1_1": 1, "relu1_2": 1, "conv2_2": 2, "pool2": 4, "relu3_1": 4, "relu5_1": 16}
IMAGE = jnp.float32(np.random.default_rng(8).random((32, 48, 3)))


@functools.cache
def seeing(pooling, padding):
    see = functools.partial(
        features.features, network=NETWORK, pooling=pooling, padding=padding, layers=tuple(STRIDES)
    )
    return jax.jit(see, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("shift", [(16, 0), (-16, 32)])
def test_features_of_a_rolled_picture_are_the_rolled_features(pooling, shift):
    see = seeing(pooling, "circular")
    maps, rolled = see(PARAMS, IMAGE), see(PARAMS, jnp.roll(IMAGE, shift, (0, 1)))
    for layer, stride in STRIDES.items():
        moved = tuple(pixels // stride for pixels in shift)
        expected = np.roll(maps[layer], moved, (0, 1))
        np.testing.assert_allclose(rolled[layer], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
def test_with_another_padding_they_are_not(padding):
    see = seeing("max", padding)
    maps, rolled = see(PARAMS, IMAGE), see(PARAMS, jnp.roll(IMAGE, 16, 0))
    for layer, stride in STRIDES.items():
        expected = np.roll(maps[layer], 16 // stride, 0)
        assert np.abs(rolled[layer] - expected).max() > 1e-2


def test_a_tile_is_seen_like_the_wall_it_makes():
    """Two by three of it side by side, in whatever way their border is padded."""
    see = seeing("max", "circular")
    wall = see(PARAMS, jnp.tile(IMAGE, (2, 3, 1)))
    for layer, maps in see(PARAMS, IMAGE).items():
        np.testing.assert_allclose(
            wall[layer], np.tile(maps, (2, 3, 1)), rtol=1e-4, atol=1e-5, err_msg=layer
        )
    inner = seeing("max", "reflect")(PARAMS, jnp.tile(IMAGE, (3, 3, 1)))["pool2"]
    tile = see(PARAMS, IMAGE)["pool2"]
    height, width = tile.shape[:2]
    np.testing.assert_allclose(
        inner[height : 2 * height, width : 2 * width], tile, rtol=1e-4, atol=1e-5
    )
