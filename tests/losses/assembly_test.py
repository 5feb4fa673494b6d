"""Objectives from words and numbers: the terms, their weights, and what they measure."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.losses import (
    ObjectiveConfig,
    assemble,
    best_matches,
    gaussian_transport_distance,
    guided_gram,
    moments_distance,
    sliced_distance,
    sliced_target,
    unfold,
    weigh,
)
from jaxstyle.statistics import mean_and_covariance
from jaxstyle.types import InputError

RNG = np.random.default_rng(31)
KERNELS = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 5))]
CONTENT, STYLES = ("relu1_1",), ("relu1_1", "relu2_1")
IMAGE, PHOTO, PAINTING, OTHER = (
    jnp.asarray(RNG.uniform(size=(8, 6, 3)), jnp.float32) for _ in range(4)
)
LEFT = {"relu1_1": jnp.zeros((8, 6)).at[:, :3].set(1.0), "relu2_1": jnp.ones((4, 3))}
RIGHT = {"relu1_1": jnp.zeros((8, 6)).at[:, 2:].set(0.5), "relu2_1": jnp.ones((4, 3))}

config = functools.partial(ObjectiveConfig, content_layers=CONTENT, style_layers=STYLES)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@jax.jit
def see(image):
    """A network of two layers: 1x1 convolutions, the second after 2x2 mean pooling."""
    first = jax.nn.relu(image @ KERNELS[0] + 0.1)
    height, width, channels = first.shape
    pooled = first.reshape(height // 2, 2, width // 2, 2, channels).mean((-4, -2))
    return {"relu1_1": first, "relu2_1": jax.nn.relu(pooled @ KERNELS[1] + 0.1)}


MAPS, PHOTOS, PAINTINGS, OTHERS = map(see, (IMAGE, PHOTO, PAINTING, OTHER))
REFERENCES = {"content": PHOTOS, "style": PAINTINGS, "style turned": OTHERS}
REFERENCES |= {"style/1": PAINTINGS, "style/2": OTHERS, "guide/1": LEFT, "guide/2": RIGHT}


def values(asked, **how):
    """The weights, and the terms of `IMAGE`."""
    objective, weights = assemble(asked, **how)
    run = jax.jit(lambda maps, given: objective.evaluate(IMAGE, maps, objective.prepare(given)))
    # A dict of a program's outputs is in alphabetical order.
    terms = run(MAPS, REFERENCES)
    assert sorted(weights) == list(terms)
    return weights, terms


def flat(maps):
    return np.float64(maps).reshape(-1, maps.shape[-1])


def gram(maps, shift=0.0):
    return (flat(maps) + shift).T @ (flat(maps) + shift) / len(flat(maps))


def relative(value, target):
    return np.sum((np.float64(value) - target) ** 2) / np.sum(np.float64(target) ** 2)


def mean_variation(image):
    image = np.float64(image)
    return (np.diff(image, axis=0) ** 2).mean() + (np.diff(image, axis=1) ** 2).mean()


def repeated(deep):
    return np.repeat(np.repeat(np.float64(deep), 2, axis=0), 2, axis=1)


def chained(maps, shift=0.0):
    shallow, deep = flat(maps["relu1_1"]) + shift, flat(repeated(maps["relu2_1"])) + shift
    return shallow.T @ deep / len(shallow)


def matched(maps, *references):
    patches = unfold(maps, size=2, stride=1)
    candidates = jnp.concatenate([unfold(maps, size=2, stride=1) for maps in references])
    chosen = np.float64(candidates)[best_matches(patches, candidates)]
    squares = np.sum((np.float64(patches) - chosen) ** 2, axis=-1)
    return squares.mean() / np.sum(np.float64(candidates) ** 2, axis=-1).mean()


def transported(maps, target):
    return gaussian_transport_distance(*mean_and_covariance(maps), *mean_and_covariance(target))


def moved(maps, target):
    return moments_distance(mean_and_covariance(maps), mean_and_covariance(target))


def sliced(maps, target, seed=0):
    return sliced_distance(maps, *sliced_target(target, seed=seed))


STYLE_TERMS = {
    "gram": lambda maps, target: relative(gram(maps), gram(target)),
    "moments": moved,
    "wasserstein": transported,
    "sliced": sliced,
}


# Weights.


def test_the_default_divides_each_weight_alike():
    _, weights = assemble(config(alpha=0.5, beta=8.0, tv=0.25))
    assert weights == {
        "tv": 0.25,
        "content/relu1_1": 0.5,
        "style/relu1_1": 4.0,
        "style/relu2_1": 4.0,
    }


def test_geometric_weights_halve_from_layer_to_layer():
    """The style's towards deep layers, the content's towards shallow ones."""
    layers = ("relu1_1", "relu2_1", "relu3_1")
    asked = ObjectiveConfig(
        alpha=7.0, beta=14.0, content_layers=layers, style_layers=layers, weighting="geometric"
    )
    _, weights = assemble(asked)
    assert [weights[f"content/{layer}"] for layer in layers] == pytest.approx([1, 2, 4])
    assert [weights[f"style/{layer}"] for layer in layers] == pytest.approx([8, 4, 2])


@pytest.mark.parametrize("weighting", ["equal", "geometric"])
def test_given_shares_go_before_the_weighting(weighting):
    asked = config(
        alpha=2.0,
        beta=10.0,
        content_layer_weights=(7.0,),
        style_layer_weights=(1.0, 4.0),
        weighting=weighting,
    )
    _, weights = assemble(asked)
    assert weights["content/relu1_1"] == pytest.approx(2.0)
    assert weights["style/relu1_1"] == pytest.approx(2.0)
    assert weights["style/relu2_1"] == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("shares", "expected"), [((), (6, 6)), ((3, 1), (9, 3)), ((0.5, 0.0), (12, 0))]
)
def test_regions_share_the_style(shares, expected):
    asked = config(beta=12.0, style_layer_weights=(1.0, 2.0))
    _, weights = assemble(asked, regions=("1", "2"), region_shares=shares)
    assert not any(name in weights for name in ("style/relu1_1", "style/relu2_1"))
    for region, beta in zip(("1", "2"), expected, strict=True):
        assert weights[f"style/{region}/relu1_1"] == pytest.approx(beta / 3)
        assert weights[f"style/{region}/relu2_1"] == pytest.approx(2 * beta / 3)


COMBINATIONS = {
    **{statistic: ({"style_statistic": statistic}, {}) for statistic in STYLE_TERMS},
    "patches": ({"style_statistic": "patches", "patch_size": 2}, {}),
    "shift": ({"shift": -0.5}, {}),
    "chain": ({"chain": 3.0, "style_statistic": "moments"}, {}),
    "chain, shifted": ({"chain": 3.0, "shift": -0.5, "chain_blur": 1.0}, {}),
    "geometric": ({"chain": 3.0, "weighting": "geometric"}, {}),
    "regions": ({}, {"regions": ("1", "2"), "region_shares": (1.0, 3.0)}),
    "no content": ({"content_layers": ()}, {}),
    "no style": ({"style_layers": (), "chain": 3.0}, {}),
    "no region has a style": ({"style_layers": ()}, {"regions": ("1",)}),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_weights_add_up_to_what_was_asked_and_fit_the_terms(name):
    changes, how = COMBINATIONS[name]
    asked = config(alpha=0.7, beta=5.0, tv=0.3, **changes)
    weights, terms = values(asked, **how)
    sums = dict.fromkeys(("content", "style", "chain", "tv"), 0.0)
    for term, weight in weights.items():
        sums[term.partition("/")[0]] += weight
    expected = {"content": 0.7 if asked.content_layers else 0.0, "tv": 0.3}
    expected |= {"style": 5.0, "chain": asked.chain} if asked.style_layers else {}
    assert sums == pytest.approx({"style": 0.0, "chain": 0.0} | expected)
    total = sum(weights[term] * float(terms[term]) for term in terms)
    assert float(weigh(terms, weights)) == pytest.approx(total, rel=1e-5)


# What the terms measure, by the formulas written out.


@pytest.mark.parametrize("statistic", STYLE_TERMS)
def test_every_statistic_is_passed_on(statistic):
    _, terms = values(config(style_statistic=statistic))
    expected = {
        "tv": mean_variation(IMAGE),
        "content/relu1_1": relative(flat(MAPS["relu1_1"]), flat(PHOTOS["relu1_1"])),
    }
    for layer in STYLES:
        expected[f"style/{layer}"] = STYLE_TERMS[statistic](MAPS[layer], PAINTINGS[layer])
    assert list(terms) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4)


def test_normalizations_and_the_kind_of_variation_are_passed_on():
    asked = config(
        content_normalize="gatys", style_normalize="gatys", tv_kind="l1", chain=1.0, shift=-0.5
    )
    _, terms = values(asked)
    difference = flat(MAPS["relu1_1"]) - flat(PHOTOS["relu1_1"])
    image = np.float64(IMAGE)
    expected = {
        "tv": np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean(),
        "content/relu1_1": np.sum(difference**2) / 2,
    }
    for layer, channels in zip(STYLES, (4, 5), strict=True):
        apart = gram(MAPS[layer], -0.5) - gram(PAINTINGS[layer], -0.5)
        expected[f"style/{layer}"] = np.sum(apart**2) / (4 * channels**2)
    apart = chained(MAPS, -0.5) - chained(PAINTINGS, -0.5)
    expected["chain/relu1_1-relu2_1"] = np.sum(apart**2) / (4 * 4 * 5)
    assert list(terms) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4)


@pytest.mark.parametrize("shift", [0.0, -0.7])
def test_the_chain_is_shifted_as_the_matrices_are(shift):
    _, terms = values(config(chain=2.0, shift=shift))
    for layer in STYLES:
        expected = relative(gram(MAPS[layer], shift), gram(PAINTINGS[layer], shift))
        np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-4)
    expected = relative(chained(MAPS, shift), chained(PAINTINGS, shift))
    np.testing.assert_allclose(terms["chain/relu1_1-relu2_1"], expected, rtol=1e-4)


def test_the_blur_reaches_the_chain_alone():
    _, sharp = values(config(chain=2.0))
    _, blurred = values(config(chain=2.0, chain_blur=1.5))
    differs = {name for name in sharp if not np.isclose(sharp[name], blurred[name], rtol=1e-4)}
    assert differs == {"chain/relu1_1-relu2_1"}


def test_a_chain_of_a_statistic_that_has_other_normalizations():
    """Only Gram matrices and chains know the names of their papers."""
    _, terms = values(config(style_statistic="wasserstein", style_normalize="crowson", chain=1.0))
    expected = relative(chained(MAPS), chained(PAINTINGS))
    np.testing.assert_allclose(terms["chain/relu1_1-relu2_1"], expected, rtol=1e-4)


@pytest.mark.parametrize("pooled", [("style",), ("style", "style turned")])
def test_patches_are_of_all_the_references_named(pooled):
    asked = config(style_statistic="patches", patch_size=2, patch_stride=1)
    _, terms = values(asked, patches_of=pooled)
    for layer in STYLES:
        expected = matched(MAPS[layer], *(REFERENCES[kind][layer] for kind in pooled))
        np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-4)


def test_size_and_stride_of_patches_are_passed_on():
    asked = config(style_statistic="patches", patch_size=3, patch_stride=2)
    objective, _ = assemble(dataclasses.replace(asked, style_layers=("relu1_1",)))
    target = objective.prepare(REFERENCES)["style/relu1_1"]
    assert target.shape == (3 * 2, 3 * 3 * 4)  # of 8x6 positions


def test_each_region_has_its_style_and_its_guide():
    _, terms = values(config(), regions=("1", "2"))
    for region, guides, styles in (("1", LEFT, PAINTINGS), ("2", RIGHT, OTHERS)):
        for layer in STYLES:
            inside = guided_gram(MAPS[layer], guides[layer])
            expected = relative(inside, gram(styles[layer]))
            np.testing.assert_allclose(terms[f"style/{region}/{layer}"], expected, rtol=1e-4)


def test_directions_are_those_of_the_seed_which_may_be_traced():
    asked = config(style_statistic="sliced")
    first = assemble(asked)[0]
    prepare = jax.jit(lambda seed: assemble(asked, seed=seed)[0].prepare(REFERENCES))
    for seed in (0, 5):
        terms = jax.jit(first.evaluate)(IMAGE, MAPS, prepare(seed))
        for layer in STYLES:
            expected = sliced(MAPS[layer], PAINTINGS[layer], seed)
            np.testing.assert_allclose(terms[f"style/{layer}"], expected, rtol=1e-4)
    assert prepare._cache_size() == 1


def test_a_weight_of_zero_keeps_its_terms():
    """They are reported, and a sweep may raise them."""
    weights, terms = values(config(alpha=0.0, tv=0.0))
    assert weights["content/relu1_1"] == weights["tv"] == 0 < float(terms["content/relu1_1"])


@pytest.mark.parametrize(
    ("changes", "how", "sentence"),
    [
        ({"weighting": "geometrical"}, {}, "unknown weighting of layers 'geometrical'; did you"),
        ({"style_statistic": "gramm"}, {}, "did you mean 'gram'"),
        ({"style_normalize": "jonson"}, {}, "did you mean 'johnson'"),
        ({"content_normalize": "gram"}, {}, "unknown content normalization 'gram'"),
        ({"tv_kind": "l2"}, {}, "did you mean 'l1'"),
        ({"style_statistic": "patches", "style_normalize": "gatys"}, {}, "unknown patch norm"),
        ({"style_statistic": "patches", "patch_stride": 0}, {}, "size 3 and stride 0; give 1"),
        ({"chain": 1.0}, {"regions": ("1", "2")}, "a chain of layers has one style; give no"),
        ({"chain": 1.0, "style_layers": ("relu1_1",)}, {}, "the chain has one layer, 'relu1_1'"),
        ({"chain": 1.0, "chain_blur": -1.0}, {}, "the blur is -1.0; give a standard deviation"),
        ({"chain": -1.0}, {}, "the weight of chain/relu1_1-relu2_1 is -1.0; weights are 0 or"),
        ({"shift": -1.0, "style_statistic": "moments"}, {}, "the shift -1.0 is for Gram matrices"),
        ({"shift": -1.0}, {"regions": ("1",)}, "of one style; set shift to 0, or style_stat"),
        ({"style_statistic": "sliced"}, {"regions": ("1",)}, "guided style statistic 'sliced'"),
        ({"style_statistic": "patches"}, {"regions": ("1",)}, "guided style statistic 'patches'"),
        ({}, {"regions": ("1", "1")}, "the regions ('1', '1') name one twice"),
        ({}, {"regions": ("1", "2"), "region_shares": (1.0,)}, "1 shares are given for 2 region"),
        ({}, {"regions": ("1", "2"), "region_shares": (2.0, -1.0)}, "must be at least 0"),
        ({"alpha": -0.5}, {}, "the weight of content/relu1_1 is -0.5; weights are 0 or more"),
        ({"beta": float("inf")}, {}, "the weight of style/relu1_1 is inf"),
        ({"tv": float("nan")}, {}, "the weight of tv is nan"),
        ({"alpha": 0.0, "beta": 0.0, "tv": 0.0}, {}, "all weights are 0"),
        ({"content_layers": (), "style_layers": ()}, {}, "all weights are 0; give content or"),
        ({"content_layer_weights": (1.0, 2.0)}, {}, "2 shares are given for 1 content layers"),
        ({"style_layer_weights": (0.0, 0.0)}, {}, "must be at least 0 and not all 0"),
        ({"style_layers": ("relu1_1", "relu1_1")}, {}, "name a layer twice; name each once"),
        ({"style_layers": "relu1_1"}, {}, "give a tuple, ('relu1_1',)"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_one_sentence(changes, how, sentence):
    with pytest.raises(InputError) as caught:
        assemble(config(**changes), **how)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
