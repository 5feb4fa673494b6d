"""Patch matching against loops over all pairs of patches in float64."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.losses import best_matches, mrf_style, patch_distance, patches, unfold
from jaxstyle.losses.patches import PATCH_NORMALIZATIONS, chosen
from jaxstyle.types import InputError

RNG = np.random.default_rng(23)

# Programs for one use: compile them fast, not well.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _maps(*shape):
    return np.maximum(RNG.normal(0.2, 1, shape), 0).astype(np.float32)


def _patches(maps, size, stride):
    height, width, _ = maps.shape
    return np.stack(
        [
            maps[y : y + size, x : x + size].reshape(-1).astype(np.float64)
            for y in range(0, height - size + 1, stride)
            for x in range(0, width - size + 1, stride)
        ]
    )


def _matches(image, style):
    """Li and Wand 2016, eq. 3, pair by pair."""
    found = []
    for p in image:
        scores = [p @ s / (np.linalg.norm(p) * np.linalg.norm(s)) for s in style]
        found.append(int(np.argmax(scores)))
    return np.array(found)


def _energy(image, style):
    """Li and Wand 2016, eq. 2."""
    pairs = zip(image, style[_matches(image, style)], strict=True)
    return sum(np.sum((p - s) ** 2) for p, s in pairs)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (2, 3), (1, 1), (5, 1)])
def test_unfold_lists_every_patch(size, stride):
    maps = _maps(2, 7, 9, 4)
    result = jit(functools.partial(unfold, size=size, stride=stride))(maps)
    for one, expected in zip(result, maps, strict=True):
        np.testing.assert_array_equal(one, _patches(expected, size, stride))


def test_gradient_of_unfold_adds_up_where_patches_overlap():
    maps, weights = _maps(5, 6, 2), RNG.normal(size=(12, 18)).astype(np.float32)
    gradient = jit(jax.grad(lambda x: jnp.sum(weights * unfold(x))))(maps)
    expected = np.zeros((5, 6, 2))
    for k, weight in enumerate(weights):
        y, x = divmod(k, 4)
        expected[y : y + 3, x : x + 3] += weight.reshape(3, 3, 2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def test_best_match_has_the_largest_normalized_correlation():
    image, style = _maps(37, 12), _maps(51, 12) * RNG.uniform(0.1, 9, (51, 1)).astype(np.float32)
    np.testing.assert_array_equal(jit(best_matches)(image, style), _matches(image, style))
    products = image.astype(np.float64) @ style.T.astype(np.float64)
    found = jit(functools.partial(best_matches, normalized=False))(image, style)
    np.testing.assert_array_equal(found, products.argmax(1))
    assert (products.argmax(1) != _matches(image, style)).any()


def test_strength_of_a_patch_does_not_matter_for_its_match():
    image, style = _maps(20, 12), _maps(30, 12)
    strength = RNG.uniform(0.1, 9, (30, 1)).astype(np.float32)
    np.testing.assert_array_equal(best_matches(3 * image, strength * style), _matches(image, style))


@pytest.mark.parametrize("most", [1, 100, 51 * 36, 10**9])
def test_blocks_change_nothing(most, monkeypatch):
    """Also where the number of patches is not one of blocks of one size."""
    image, style = _maps(2, 37, 12), _maps(51, 12)
    expected = np.stack([_matches(one, style) for one in image])
    monkeypatch.setattr(patches, "_MOST_SCORES", most)
    np.testing.assert_array_equal(jit(lambda p, s: best_matches(p, s))(image, style), expected)
    each = np.stack([style, style[::-1]])
    found = jit(lambda p, s: best_matches(p, s))(image, each)
    np.testing.assert_array_equal(found, [expected[0], 50 - expected[1]])


def test_no_more_scores_than_allowed_are_held(monkeypatch):
    """Of 400 times 300 pairs, 5000 at once."""
    monkeypatch.setattr(patches, "_MOST_SCORES", 5000)
    image, style = jnp.zeros((400, 4)), jnp.zeros((300, 4))
    program = str(jax.make_jaxpr(jax.grad(lambda x: patch_distance(x, style)))(image))
    shapes = re.findall(r"[fi]32\[([\d,]+)\]", program)
    sizes = [np.prod([int(side) for side in shape.split(",")]) for shape in shapes]
    assert 4000 < max(sizes) <= 5000


@pytest.mark.parametrize("normalize", PATCH_NORMALIZATIONS)
def test_patch_distance_is_the_papers(normalize):
    image, style = _patches(_maps(6, 7, 3), 3, 1), _patches(_maps(8, 6, 3), 3, 1)
    expected = {
        "li_wand": _energy(image, style),
        "scale_free": _energy(image, style) / len(image) / np.mean((style**2).sum(1)),
    }
    arguments = (jnp.asarray(x, jnp.float32) for x in (image, style))
    result = patch_distance(*arguments, normalize=normalize)
    np.testing.assert_allclose(result, expected[normalize], rtol=1e-5)


def _distance(maps, style, **settings):
    return patch_distance(unfold(maps), unfold(style), **settings)


def test_every_part_of_the_style_is_its_style():
    style = jnp.asarray(_maps(8, 9, 3))
    for part in (style, style[1:6, 2:]):
        value, gradient = jit(jax.value_and_grad(_distance))(part, style)
        assert 0 <= value < 1e-10
        assert np.abs(gradient).max() < 1e-5
    assert _distance(style[:, ::-1], style) > 0.01


def test_scale_free_has_no_scale_and_no_size():
    maps, style = jnp.asarray(_maps(6, 7, 3)), jnp.asarray(_maps(8, 6, 3))
    value = _distance(maps, style)
    np.testing.assert_allclose(_distance(100 * maps, 100 * style), value, rtol=1e-5)
    twice = jnp.concatenate([unfold(maps)] * 2)
    np.testing.assert_allclose(patch_distance(twice, unfold(style)), value, rtol=1e-5)


@pytest.mark.parametrize("normalize", PATCH_NORMALIZATIONS)
def test_gradient_against_finite_differences(normalize):
    # Small steps do not change the matches: the two best are this far apart at every patch.
    maps, style = jnp.asarray(_maps(5, 4, 3)), jnp.asarray(_maps(5, 6, 3))
    image, other = _patches(np.asarray(maps), 3, 1), _patches(np.asarray(style), 3, 1)
    cosines = (image / np.linalg.norm(image, axis=1)[:, None]) @ (
        other / np.linalg.norm(other, axis=1)[:, None]
    ).T
    best = np.sort(cosines, axis=1)
    assert (best[:, -1] - best[:, -2]).min() > 2e-3
    function = jax.jit(functools.partial(_distance, style=style, normalize=normalize))
    check_grads(function, (maps,), 1, ["rev"], atol=2e-2, rtol=2e-2, eps=1e-3)


def test_the_style_and_the_choice_are_not_differentiated():
    maps, style = jnp.asarray(_maps(5, 4, 3)), jnp.asarray(_maps(5, 6, 3))
    np.testing.assert_array_equal(jax.grad(_distance, argnums=1)(maps, style), 0)
    p, s = unfold(maps), unfold(style)
    gradient = jax.grad(lambda x: patch_distance(x, s, normalize="li_wand"))(p)
    np.testing.assert_allclose(gradient, 2 * (p - s[_matches(p, s)]), rtol=1e-5)


def test_maps_of_zeros_on_either_side_are_finite():
    zeros, maps = jnp.zeros((4, 4, 2)), jnp.asarray(_maps(4, 4, 2))
    for image, style in ((zeros, zeros), (zeros, maps), (maps, zeros)):
        value, gradient = jax.value_and_grad(_distance)(image, style)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    assert _distance(zeros, zeros) == 0


def test_half_precision_is_summed_in_float32():
    maps, style = (jnp.asarray(_maps(9, 9, 8), jnp.bfloat16) for _ in range(2))
    result = _distance(maps, style)
    assert result.dtype == jnp.float32
    expected = _distance(maps.astype(jnp.float32), style.astype(jnp.float32))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_chosen_candidates_of_one_style_or_of_each_image():
    index = jnp.array([[0, 2], [1, 1]])
    candidates = jnp.arange(6.0).reshape(3, 2)
    expected = np.arange(6.0).reshape(3, 2)[np.asarray(index)]
    np.testing.assert_array_equal(chosen(candidates, index), expected)
    each = jnp.stack([candidates, 10 * candidates])
    found = chosen(each, index)
    np.testing.assert_array_equal(found, [expected[0], 10 * expected[1]])


# --- The objective ---


def _run(goal, maps, references):
    return goal.evaluate(jnp.zeros((8, 8, 3)), maps, goal.prepare(references))


def test_variants_of_the_style_are_pooled():
    """A turned picture finds itself among the variants, which may differ in size."""
    style = jnp.asarray(_maps(7, 9, 3))
    turned = jnp.rot90(style)
    goal = mrf_style(("a",), references=("style", "style turned"))
    references = {"style": {"a": style}, "style turned": {"a": turned}}
    assert goal.prepare(references)["style/a"].shape == (70, 27)
    for maps in (style, turned):
        assert _run(goal, {"a": maps}, references)["style/a"] < 1e-10
    alone = mrf_style(("a",))
    assert _run(alone, {"a": turned}, {"style": {"a": style}})["style/a"] > 0.01


def test_size_and_stride_are_passed_on():
    maps, style = {"a": jnp.asarray(_maps(8, 8, 2))}, {"a": jnp.asarray(_maps(9, 7, 2))}
    goal = mrf_style(("a",), "li_wand", size=2, stride=3)
    pairs = (_patches(np.asarray(x["a"]), 2, 3) for x in (maps, style))
    result = _run(goal, maps, {"style": style})["style/a"]
    np.testing.assert_allclose(result, _energy(*pairs), rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mrf_style(()), "has no layers"),
        (lambda: mrf_style(("a",), "gatys"), "unknown patch normalization 'gatys'.*li_wand"),
        (lambda: mrf_style(("a",), size=0), "patches of size 0 and stride 1"),
        (lambda: mrf_style(("a",), references="style"), "a tuple of kinds"),
        (lambda: mrf_style(("a",), references=()), "a tuple of kinds"),
        (lambda: unfold(jnp.ones((2, 9, 4))), r"\(2, 9, 4\) are smaller than a patch of 3x3"),
        (lambda: unfold(jnp.ones((4, 4, 4)), stride=0), "stride 0"),
        (lambda: best_matches(jnp.ones((3, 4)), jnp.ones((3, 5))), "cannot be compared"),
        (lambda: best_matches(jnp.ones((2, 3, 4)), jnp.ones((3, 3, 4))), "cannot be compared"),
        (lambda: patch_distance(jnp.ones((3, 4)), jnp.ones((3, 4)), normalize="mean"), "unknown"),
        (
            lambda: mrf_style(("a",), references=("style", "b")).prepare({"style": {}}),
            "the references lack 'b'",
        ),
        (
            lambda: mrf_style(("a",)).evaluate(jnp.ones((8, 8, 3)), {}, {}),
            "no target for 'style/a'.*'style'",
        ),
    ],
)
def test_what_cannot_be_matched_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
