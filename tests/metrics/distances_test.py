import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.metrics import content_distance, style_distance
from jaxstyle.types import InputError

RNG = np.random.default_rng(12)
LAYERS = ("relu1_1", "relu2_1")


def _maps(*lead, size=6):
    return {
        layer: RNG.uniform(size=(*lead, size // k, size // k, 2 + k)).astype(np.float32)
        for k, layer in enumerate(LAYERS, 1)
    }


def _gram(features):
    vectors = features.astype(np.float64).reshape(-1, features.shape[-1])
    return vectors.T @ vectors / len(vectors)


@pytest.mark.parametrize("squared", [True, False])
def test_style_distance_is_relative_to_the_style(squared):
    maps, target = _maps(), _maps(size=10)
    result = style_distance(maps, target, LAYERS, squared=squared)
    assert list(result) == list(LAYERS)
    for layer in LAYERS:
        g, a = _gram(maps[layer]), _gram(target[layer])
        expected = np.linalg.norm(g - a) / np.linalg.norm(a)
        np.testing.assert_allclose(result[layer], expected ** (2 if squared else 1), rtol=1e-5)


@pytest.mark.parametrize("squared", [True, False])
def test_content_distance_is_relative_to_the_content(squared):
    maps, target = _maps(), _maps()
    f, p = (m["relu1_1"].astype(np.float64) for m in (maps, target))
    expected = np.mean((f - p) ** 2) / np.mean(p**2)
    result = content_distance(maps, target, "relu1_1", squared=squared)
    np.testing.assert_allclose(result, expected if squared else expected**0.5, rtol=1e-5)


def test_a_picture_is_no_distance_from_itself():
    maps = _maps(3)
    for distance in style_distance(maps, maps, LAYERS).values():
        np.testing.assert_array_equal(distance, np.zeros(3))
    np.testing.assert_array_equal(content_distance(maps, maps, "relu1_1"), np.zeros(3))


def test_blank_features_are_at_distance_one():
    maps = _maps()
    blank = {layer: np.zeros_like(value) for layer, value in maps.items()}
    for squared in (True, False):
        distances = style_distance(blank, maps, LAYERS, squared=squared)
        np.testing.assert_allclose(list(distances.values()), 1, rtol=1e-6)
        np.testing.assert_allclose(
            content_distance(blank, maps, "relu2_1", squared=squared), 1, rtol=1e-6
        )


def test_one_style_serves_a_batch():
    maps, target = _maps(2, 3), _maps(size=4)
    result = jax.jit(lambda f: style_distance(f, target, LAYERS))(maps)
    for layer, value in result.items():
        assert value.shape == (2, 3)
        alone = style_distance({layer: maps[layer][1, 2]}, target, (layer,))[layer]
        np.testing.assert_allclose(value[1, 2], alone, rtol=1e-5)


def test_missing_layers_are_named():
    maps = _maps()
    with pytest.raises(InputError, match="no layer 'relu5_1', only relu1_1, relu2_1"):
        style_distance(maps, maps, ("relu5_1",))
    with pytest.raises(InputError, match="no layer 'relu5_1'"):
        content_distance(maps, maps, "relu5_1")
    with pytest.raises(InputError, match="tuple of layer names"):
        style_distance(maps, maps, "relu1_1")


def test_contents_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="last 3 axes"):
        content_distance({"a": jnp.ones((4, 4, 2))}, {"a": jnp.ones((4, 5, 2))}, "a")
