import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxstyle.losses import norm_penalty, pixel_norm, range_penalty, variation
from jaxstyle.losses.regularization import VARIATIONS
from jaxstyle.types import InputError

RNG = np.random.default_rng(9)
KINDS = pytest.mark.parametrize("kind", VARIATIONS)


@functools.partial(jax.jit, static_argnames="kind")
def _run(image, kind):
    """Value, and the gradient of the sum over images."""
    value, pull = jax.vjp(lambda x: variation(x, kind=kind), image)
    return value, pull(jnp.ones_like(value))[0]


def _image(*shape):
    return RNG.uniform(size=shape).astype(np.float32)


def _oracle(image, kind):
    """Pixel by pixel, from the definitions."""
    height, width, channels = image.shape
    down, right, both = [], [], []
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                here = float(image[y, x, c])
                below = float(image[y + 1, x, c]) - here if y + 1 < height else None
                beside = float(image[y, x + 1, c]) - here if x + 1 < width else None
                if below is not None:
                    down.append(below)
                if beside is not None:
                    right.append(beside)
                if below is not None and beside is not None:
                    both.append(below**2 + beside**2)
    d, r = np.array(down or [0.0]), np.array(right or [0.0])
    return {
        "mean": np.mean(d**2) + np.mean(r**2),
        "l1": np.mean(np.abs(d)) + np.mean(np.abs(r)),
        "johnson": np.sum(d**2) + np.sum(r**2),
        "johnson_code": 0.5 * np.sum(both),
    }[kind]


@KINDS
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 6, 3), (6, 1, 3), (1, 1, 3), (2, 2, 1)])
def test_variation_of_every_pair_of_neighbors(kind, shape):
    image = _image(*shape)
    value, gradient = _run(image, kind)
    np.testing.assert_allclose(value, _oracle(image, kind), rtol=1e-5, atol=1e-7)
    assert np.isfinite(gradient).all()


@KINDS
def test_constant_image_has_none_and_a_zero_gradient(kind):
    value, gradient = _run(jnp.full((5, 7, 3), 0.3), kind)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("kind", "expected"), [("mean", 0.04), ("l1", 0.2), ("johnson", 4.32)])
def test_ramp(kind, expected):
    ramp = jnp.broadcast_to(0.2 * jnp.arange(5.0)[None, :, None], (9, 5, 3))
    np.testing.assert_allclose(_run(ramp, kind)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "l1"])
def test_the_default_kinds_do_not_grow_with_the_picture(kind):
    rows = jnp.asarray(_image(40, 1, 3))
    image = jnp.broadcast_to(rows, (40, 10, 3))
    wider = jnp.broadcast_to(rows, (40, 30, 3))
    np.testing.assert_allclose(_run(image, kind)[0], _run(wider, kind)[0], rtol=1e-5)


def test_gradient_of_johnson_code_is_the_released_one():
    """There the gradient itself is written, as differences on the common (h - 1)(w - 1) pixels."""
    image = _image(5, 6, 3)
    corner = image[:-1, :-1]
    to_right, to_below = corner - image[:-1, 1:], corner - image[1:, :-1]
    expected = np.zeros_like(image)
    expected[:-1, :-1] += to_right + to_below
    expected[:-1, 1:] -= to_right
    expected[1:, :-1] -= to_below
    _, gradient = _run(image, "johnson_code")
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@KINDS
def test_gradient_against_finite_differences(kind):
    # Neighbors differ by 0.1 or more: finite differences do not step over the kink of |x|.
    image = jnp.asarray(RNG.permutation(24).reshape(3, 4, 2) / 10, jnp.float32)
    function = jax.jit(functools.partial(variation, kind=kind))
    check_grads(function, (image,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@KINDS
def test_one_value_per_image(kind):
    images = jnp.asarray(_image(2, 3, 4, 5, 3))
    result, _ = _run(images, kind)
    assert result.shape == (2, 3) and result.dtype == jnp.float32
    np.testing.assert_allclose(result[1, 2], _run(images[1, 2], kind)[0], rtol=1e-5)
    mapped, _ = jax.vmap(functools.partial(_run, kind=kind))(images)
    np.testing.assert_allclose(mapped, result, rtol=1e-5)


def test_half_precision_is_summed_in_float32():
    checkers = jnp.indices((64, 64)).sum(0)[..., None].astype(jnp.bfloat16) % 2
    result, _ = _run(checkers, "johnson")
    assert result.dtype == jnp.float32 and result == 2 * 64 * 63


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="did you mean 'johnson'"):
        variation(jnp.zeros((2, 2, 3)), kind="jonson")
    with pytest.raises(InputError, match=r"\(2, 2\) has no variation"):
        variation(jnp.zeros((2, 2)))


# --- Penalties of pixels ---


def test_range_penalty_is_the_mean_squared_excess():
    image = RNG.uniform(-1, 2, (2, 5, 7, 3)).astype(np.float32)
    above, below = np.maximum(image - 1.0, 0), np.maximum(-image.astype(np.float64), 0)
    expected = (above**2 + below**2).mean((1, 2, 3))
    result = range_penalty(jnp.asarray(image))
    assert result.shape == (2,) and (expected > 0.1).all()
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_range_penalty_leaves_the_range_alone():
    value, gradient = jax.value_and_grad(range_penalty)(
        jnp.asarray([[[0.0], [1.0], [0.3], [1.5], [-0.5]]])
    )
    np.testing.assert_allclose(value, 0.1)
    np.testing.assert_allclose(gradient[0, :, 0], [0, 0, 0, 0.2, -0.2], rtol=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3.5, 6])
def test_norm_penalty_is_the_mean_power_of_the_distance_from_gray(p):
    image = _image(2, 5, 7, 3)
    expected = (np.abs(2 * image.astype(np.float64) - 1) ** p).mean((1, 2, 3))
    result = norm_penalty(jnp.asarray(image), p)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    gray = jnp.full((3, 3, 3), 0.5)
    value, gradient = jax.value_and_grad(functools.partial(norm_penalty, p=p))(gray)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("p", [1, 6])
def test_gradient_of_norm_penalty_against_finite_differences(p):
    image = jnp.asarray(RNG.permutation(24).reshape(3, 4, 2) / 23, jnp.float32)  # never gray
    check_grads(jax.jit(functools.partial(norm_penalty, p=p)), (image,), 1, ["rev"], 1e-2, 1e-2)


def test_penalties_of_half_precision_are_summed_in_float32():
    image = jnp.full((100, 100, 3), 2.0, jnp.bfloat16)
    for value in (range_penalty(image), norm_penalty(image, 2) / 9):
        assert value.dtype == jnp.float32 and value == 1


def test_what_has_no_penalty_is_refused():
    for p in (0.5, -1, float("nan")):
        with pytest.raises(InputError, match="give at least 1"):
            norm_penalty(jnp.zeros((2, 2, 3)), p)
        with pytest.raises(InputError, match="give at least 1"):
            pixel_norm(p)
    for function in (range_penalty, norm_penalty):
        with pytest.raises(InputError, match=r"\(2, 2\) has no (range|norm) penalty"):
            function(jnp.zeros((2, 2)))


@KINDS
def test_a_tile_has_no_place_where_it_begins(kind):
    image = _image(5, 6, 3)
    value = float(variation(jnp.asarray(image), kind=kind, wrap=True))
    rolled = jnp.roll(jnp.asarray(image), (2, -1), (0, 1))
    np.testing.assert_allclose(float(variation(rolled, kind=kind, wrap=True)), value, rtol=1e-5)
    # Where it is laid out, the pixels that have both neighbors are all of its own.
    both = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="wrap")
    if kind == "johnson_code":
        expected = _oracle(both, kind)
    else:
        down, right = both[1:, :-1] - image, both[:-1, 1:] - image
        power = 1 if kind == "l1" else 2
        total = np.sum(np.abs(down) ** power) + np.sum(np.abs(right) ** power)
        expected = total if kind == "johnson" else total / image.size
    np.testing.assert_allclose(value, expected, rtol=1e-5)
