"""The verdict: each number is what its own metric says, beside that of the photograph."""

import jax
import numpy as np
import pytest

from jaxstyle import features, metrics
from jaxstyle.types import InputError

RNG = np.random.default_rng(21)
SMALL = features.Network("small", ((4, 4), (6,)))
LAYERS = ("relu1_1", "relu2_1")


@pytest.fixture(scope="module")
def params():
    return features.initialize(jax.random.key(0), SMALL)


def picture(*shape):
    return RNG.random((*shape, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def painting():
    return picture(20, 24) * np.float32([0.2, 0.5, 1])


@pytest.fixture(scope="module")
def examiner(params, painting):
    return metrics.prepare_judge(params, SMALL, painting)


def gram(maps):
    vectors = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    return vectors.T @ vectors / len(vectors)


def test_numbers_from_the_definitions(params, painting, examiner):
    photo, painted = picture(16, 18), picture(16, 18)
    row = metrics.judge(examiner, photo, painted)
    see = {
        name: features.features(params, image, (*LAYERS, "relu1_2"), network=SMALL)
        for name, image in (("photo", photo), ("painted", painted), ("painting", painting))
    }
    for name, suffix in (("painted", ""), ("photo", "_photo")):
        distances = []
        for layer in LAYERS:
            g, a = gram(see[name][layer]), gram(see["painting"][layer])
            distances.append(np.sum((g - a) ** 2) / np.sum(a**2))
            np.testing.assert_allclose(row[f"style/{layer}{suffix}"], distances[-1], rtol=1e-4)
        np.testing.assert_allclose(row[f"style{suffix}"], np.mean(distances), rtol=1e-4)
    color = metrics.sliced_wasserstein(painted, painting)
    assert row["color"] == color != row["color_photo"]
    f, p = (np.asarray(see[name]["relu2_1"], float) for name in ("painted", "photo"))
    np.testing.assert_allclose(row["content"], np.mean((f - p) ** 2) / np.mean(p**2), rtol=1e-4)
    np.testing.assert_allclose(row["ssim"], metrics.ssim(painted, photo), atol=1e-6)


def test_the_photograph_itself_and_the_painting_itself(painting, examiner):
    photo = picture(20, 24)
    row = metrics.judge(examiner, photo, photo)
    assert row["content"] == 0 and row["ssim"] == pytest.approx(1, abs=1e-6)
    assert row["style"] == row["style_photo"] > 0 and row["color"] == row["color_photo"] > 0
    row = metrics.judge(examiner, photo, painting)
    assert row["style"] == row["color"] == 0
    assert row["content"] > 0.01 and row["ssim"] < 0.5


def test_one_value_per_picture(examiner):
    photos, painted = picture(2, 3, 12, 12), picture(2, 3, 12, 12)
    rows = metrics.judge(examiner, photos, painted)
    assert {value.shape for value in rows.values()} == {(2, 3)}
    alone = metrics.judge(examiner, photos[1, 2], painted[1, 2])
    for name, value in rows.items():
        np.testing.assert_allclose(value[1, 2], alone[name], rtol=1e-4, atol=1e-6)


def test_layers_can_be_chosen(params, painting):
    examiner = metrics.prepare_judge(params, SMALL, painting, ("relu1_2",), "conv1_1")
    row = metrics.judge(examiner, picture(12, 12), picture(12, 12))
    assert {name for name in row if "/" in name} == {"style/relu1_2", "style/relu1_2_photo"}
    assert row["style"] == row["style/relu1_2"]


def test_default_layers_go_as_deep_as_the_parameters():
    network = features.NETWORKS["vgg19"]
    every = dict.fromkeys(network.convolutions)
    style, content = metrics.default_layers(every, network)
    assert (style, content) == (tuple(f"relu{b}_1" for b in range(1, 6)), "relu3_3")
    three = dict.fromkeys(network.convolutions[:8])
    assert metrics.default_layers(three, network)[0] == ("relu1_1", "relu2_1", "relu3_1")
    with pytest.raises(InputError, match="no parameters of vgg19"):
        metrics.default_layers({}, network)


def test_summary():
    rows = [
        {"style": 1.0, "style_photo": 2.0, "content": 0.25, "color": 0.0, "color_photo": 0.0},
        {"style": 0.0, "style_photo": 2.0, "content": 0.81, "color": 0.0, "color_photo": 0.0},
    ]
    means = metrics.summarize(rows)
    assert means["style"] == 0.5 and means["style_below"] == 0.75
    assert means["content_root"] == pytest.approx((0.5 + 0.9) / 2)
    assert means["color_below"] == 0  # nothing is nothing less than nothing
    with pytest.raises(InputError, match="no pictures"):
        metrics.summarize([])


def test_what_cannot_be_judged(params, painting, examiner):
    with pytest.raises(InputError, match="give both the same size"):
        metrics.judge(examiner, picture(12, 12), picture(12, 13))
    with pytest.raises(InputError, match="relu9_1"):
        metrics.prepare_judge(params, SMALL, painting, ("relu9_1",))
    joined = features.Joined(SMALL, SMALL, ("relu2_1",))
    with pytest.raises(InputError, match="name the style and content layers"):
        metrics.prepare_judge({"most": params, "some": params}, joined, painting)
    both = {"most": params, "some": params}
    named = metrics.prepare_judge(both, joined, painting, LAYERS, "relu1_2")
    same = metrics.prepare_judge(params, SMALL, painting, LAYERS, "relu1_2")
    photo, painted = picture(12, 12), picture(12, 12)
    first, second = (metrics.judge(j, photo, painted) for j in (named, same))
    assert list(first) == list(second)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-5)
