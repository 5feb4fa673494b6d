import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.losses import check_weights, layer_weights, weigh
from jaxstyle.types import InputError

TERMS = {"content/relu4_1": jnp.array([1.0, 2.0]), "tv": jnp.array([10.0, 20.0])}


def test_total_is_the_weighted_sum_of_each_image():
    total = weigh(TERMS, {"content/relu4_1": 3.0, "tv": 0.5})
    np.testing.assert_allclose(total, [8, 16])
    assert total.dtype == jnp.float32


def test_weight_of_each_image():
    total = weigh(TERMS, {"content/relu4_1": jnp.array([1.0, 0.0]), "tv": 0})
    np.testing.assert_allclose(total, [1, 0])


def test_scalar_terms_under_weights_of_a_sweep():
    total = weigh({"a": jnp.float32(2), "b": jnp.float32(1)}, {"a": jnp.arange(3.0), "b": 1.0})
    np.testing.assert_allclose(total, [1, 3, 5])


def test_ranks_broadcast_from_the_right():
    total = weigh({"a": jnp.ones((2, 3))}, {"a": jnp.arange(3.0)})
    np.testing.assert_allclose(total, [[0, 1, 2]] * 2)


@pytest.mark.parametrize("weight", [2, 2.0, np.float64(2), np.int32(2), jnp.float32(2)])
def test_the_terms_decide_the_dtype(weight):
    total = weigh({"a": jnp.ones(2, jnp.float32)}, {"a": weight})
    assert total.dtype == jnp.float32
    np.testing.assert_array_equal(total, [2, 2])


def test_weights_are_traced():
    """Other weights, zero included, run the same program; lanes of a vmap are single runs."""
    names = list(TERMS)
    total = jax.jit(lambda values: weigh(TERMS, dict(zip(names, values, strict=True))))
    sweep = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    singles = [total(values) for values in sweep]
    assert total._cache_size() == 1
    np.testing.assert_array_equal(jax.vmap(total)(sweep), singles)


def test_gradient_with_respect_to_a_weight_is_the_term():
    gradient = jax.grad(lambda w: weigh(TERMS, {"content/relu4_1": w, "tv": 1.0}).sum())(1.0)
    assert gradient == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"content/relu4_1": 1.0}, "no weight is given for 'tv'"),
        ({"content/relu4_1": 1.0, "tv": 1.0, "style": 1.0}, "unknown weight 'style'"),
        (
            {"content/relu4_l": 1.0, "tv": 1.0},
            "'content/relu4_l'; did you mean 'content/relu4_1'",
        ),
        ({"content/relu4_1": jnp.ones(3), "tv": 1.0}, "do not broadcast"),
    ],
)
def test_weights_that_do_not_match_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        weigh(TERMS, weights)


def test_nothing_to_weigh_is_refused():
    with pytest.raises(InputError, match="no terms"):
        weigh({}, {})


def test_layers_share_a_weight_equally():
    weights = layer_weights("style", ("relu1_1", "relu2_1", "relu3_1"), 0.6)
    assert list(weights) == ["style/relu1_1", "style/relu2_1", "style/relu3_1"]
    np.testing.assert_allclose(list(weights.values()), 0.2)


@pytest.mark.parametrize("shares", [(1, 3), (0.25, 0.75), (100, 300)])
def test_shares_have_no_scale(shares):
    weights = layer_weights("style", ("relu1_1", "relu2_1"), 8.0, shares)
    np.testing.assert_allclose(list(weights.values()), [2, 6])


def test_traced_weight_is_shared():
    totals = jax.vmap(lambda w: sum(layer_weights("s", ("a", "b"), w, (0, 1)).values()))(
        jnp.arange(3.0)
    )
    np.testing.assert_allclose(totals, [0, 1, 2])


@pytest.mark.parametrize(
    ("layers", "shares", "message"),
    [
        ((), None, "no style layers"),
        (("a", "b"), (1.0,), "1 shares are given for 2 style layers"),
        (("a", "b"), (1.0, -1.0), "at least 0"),
        (("a", "b"), (0.0, 0.0), "not all 0"),
    ],
)
def test_shares_that_do_not_match_are_refused(layers, shares, message):
    with pytest.raises(InputError, match=message):
        layer_weights("style", layers, 1.0, shares)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (-1.0, "the weight of tv is -1.0; weights are 0 or more."),
        (float("nan"), "weights are 0 or more."),
        (1e39, "the weight of tv is 1e+39; weights are at most 1e38."),
        (float("inf"), "weights are at most 1e38."),
    ],
)
def test_weights_that_nobody_can_mean(weight, sentence):
    with pytest.raises(InputError) as caught:
        check_weights({"content/relu1_1": 1.0, "tv": weight})
    assert sentence in str(caught.value)
