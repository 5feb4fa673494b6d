"""Fields by counting against fields by looking: which pixels change a neuron."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import features, policy
from jaxstyle.types import InputError

# Two pools and uneven blocks; averages, so that every pixel of a window counts.
SMALL = features.Network("small", ((2, 2), (3,), (2, 2)), features.PLAIN, "average")


SHAPE = (41, 35)


@functools.cache
def _look(padding):
    """A compiled function from weights of all neurons to the gradient of their weighted sum."""
    network = features.adjusted(SMALL, padding=padding)
    # By positive parameters every pixel that is seen counts: nothing cancels, nothing is cut off.
    params = features.initialize(jax.random.key(0), network)
    params = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, params)

    def see(image):
        return features.features(params, image, network.layers, network=network)

    def look(weights):
        _, pull = jax.vjp(see, jnp.full((*SHAPE, 3), 0.5))
        return pull(weights)[0]

    with policy.formulation("plain"):
        shapes = jax.eval_shape(see, jnp.zeros((*SHAPE, 3)))
        options = {"xla_backend_optimization_level": 0}
        return jax.jit(look, compiler_options=options).lower(shapes).compile(), shapes


def _seen(padding, layer, position):
    """Rows and columns of the pixels that have a gradient at one position of a layer."""
    look, shapes = _look(padding)
    weights = {name: np.zeros(leaf.shape, np.float32) for name, leaf in shapes.items()}
    weights[layer][position] = 1
    seen = (np.asarray(look(weights)) > 0).any(-1)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert seen.sum() == rows.size * columns.size  # a full rectangle
    return rows, columns


def _expected(field, count, place):
    first = field.start + field.stride * place
    return np.arange(max(first, 0), min(first + field.size, count))


@pytest.mark.parametrize("layer", SMALL.layers)
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_a_neuron_sees_what_the_field_says(layer, padding):
    field = features.receptive_field(layer, SMALL)
    height, width = (count // field.stride for count in SHAPE)
    for position in ((0, width - 1), (height // 2, width // 2)):
        rows, columns = _seen(padding, layer, position)
        np.testing.assert_array_equal(rows, _expected(field, SHAPE[0], position[0]))
        np.testing.assert_array_equal(columns, _expected(field, SHAPE[1], position[1]))


def test_fields_of_vgg19_as_published():
    """Sizes as in the table of Araujo et al. for VGG-16, whose first blocks VGG-19 shares."""
    vgg16, vgg19 = features.NETWORKS["vgg16"], features.NETWORKS["vgg19"]
    sizes = {"conv1_1": 3, "conv1_2": 5, "pool1": 6, "relu2_1": 10, "conv3_1": 24, "relu3_3": 40}
    sizes |= {"relu4_1": 60, "conv4_3": 92, "conv5_1": 132, "conv5_3": 196, "pool5": 212}
    for layer, size in sizes.items():
        assert features.receptive_field(layer, vgg16).size == size
    assert features.receptive_field("relu4_1", vgg19) == (68, 8, -30)
    assert features.receptive_field("pool5", vgg19).stride == 32


def test_the_number_of_positions_is_that_of_the_maps():
    network = features.NETWORKS["vgg19"]
    params = jax.eval_shape(lambda: features.initialize(jax.random.key(0), network))
    maps = jax.eval_shape(
        lambda p, x: features.features(p, x, network.layers, network=network),
        params,
        jax.ShapeDtypeStruct((71, 97, 3), jnp.float32),
    )
    for layer, leaf in maps.items():
        stride = features.receptive_field(layer, network).stride
        assert leaf.shape[:2] == (71 // stride, 97 // stride)


def test_joined_networks_have_the_field_of_the_one_that_computes():
    deeper = features.Network("deeper", ((2, 2, 2, 2), (3,), (2,)))
    joined = features.Joined(SMALL, deeper, ("relu2_1",))
    assert features.receptive_field("relu2_1", joined).size == 8 + 1 + 1 + 4
    assert features.receptive_field("relu3_1", joined) == features.receptive_field("relu3_1", SMALL)


def test_unknown_layer_is_refused():
    with pytest.raises(InputError, match="unknown layer of vgg19 'relu4_5'; did you mean"):
        features.receptive_field("relu4_5", features.NETWORKS["vgg19"])
