"""Transport distances against SciPy and sorted arrays in float64, and against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from jaxstyle.losses import (
    directions,
    gaussian_transport_distance,
    sliced_distance,
)
from jaxstyle.losses import gaussian_target as eager_gaussian_target
from jaxstyle.losses import sliced_target as eager_sliced_target
from jaxstyle.losses.transport import (
    SLICED_NORMALIZATIONS,
    TRANSPORT_NORMALIZATIONS,
    _order,
)
from jaxstyle.statistics import FLOOR, mean_and_covariance
from jaxstyle.statistics.square_root import EPSILON
from jaxstyle.types import InputError

RNG = np.random.default_rng(22)
H, W, C = 6, 5, 4


def _maps(*lead, size=(H, W), channels=C):
    return RNG.normal(0.3, 1, (*lead, *size, channels)).astype(np.float32)


def _points(features):
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


# Compiled: op by op, these take longer than all their tests.
gaussian_target = jax.jit(eager_gaussian_target)
sliced_target = jax.jit(eager_sliced_target, static_argnames="count")


@functools.partial(jax.jit, static_argnames="normalize")
def _gaussian(features, target, normalize="scale_free"):
    mean, covariance = mean_and_covariance(features)
    target_mean, target_covariance, root = target
    return gaussian_transport_distance(
        mean, covariance, target_mean, target_covariance, target_root=root, normalize=normalize
    )


@functools.partial(jax.jit, static_argnames="normalize")
def _sliced(features, target, normalize="scale_free"):
    return sliced_distance(features, *target, normalize=normalize)


# --- Gaussians ---


def _moments(points, blur):
    covariance = np.cov(points.T, bias=True).reshape(points.shape[1], -1)
    trace = np.trace(covariance)
    return points.mean(0), covariance + blur * (EPSILON * trace + FLOOR) * np.eye(len(covariance))


def _formula(f, p, blur=0):
    """The docstring's, in float64, of two lists of points; undivided."""
    (mean, c), (target_mean, t) = _moments(f, blur), _moments(p, blur)
    root = scipy.linalg.sqrtm(t)
    middle = scipy.linalg.sqrtm(root @ c @ root)
    return np.sum((mean - target_mean) ** 2) + np.trace(c + t - 2 * middle)


DIVISORS = {"scale_free": lambda p: np.mean(np.sum(p**2, axis=1)), "crowson": lambda p: p.shape[1]}


@pytest.mark.parametrize("normalize", DIVISORS)
@pytest.mark.parametrize("channels", [1, 4, 12])
def test_gaussian_distance_is_the_formula(normalize, channels):
    features, target = _maps(channels=channels), 2 * _maps(size=(7, 8), channels=channels) - 1
    expected = _formula(_points(features), _points(target)) / DIVISORS[normalize](_points(target))
    result = _gaussian(jnp.asarray(features), gaussian_target(jnp.asarray(target)), normalize)
    np.testing.assert_allclose(result, expected, rtol=2e-4)


def test_every_normalization_has_an_oracle():
    assert DIVISORS.keys() == TRANSPORT_NORMALIZATIONS.keys()
    assert SLICED_NORMALIZATIONS.keys() == {"scale_free", "heitz"}


def test_target_root_is_optional():
    features, target = jnp.asarray(_maps()), gaussian_target(jnp.asarray(_maps()))
    without = gaussian_transport_distance(*mean_and_covariance(features), *target[:2])
    np.testing.assert_allclose(without, _gaussian(features, target), rtol=1e-5)


@pytest.mark.parametrize(("deviation", "other"), [(2.0, 0.5), (0.01, 3.0), (1.0, 1.0)])
def test_one_channel_has_a_closed_form(deviation, other):
    """`(m - m')^2 + (s - s')^2`."""
    distance = gaussian_transport_distance(
        jnp.array([1.0]),
        jnp.array([[deviation**2]]),
        jnp.array([0.2]),
        jnp.array([[other**2]]),
        normalize="crowson",
    )
    np.testing.assert_allclose(distance, 0.8**2 + (deviation - other) ** 2, rtol=1e-5)


def test_turned_gaussian_is_as_far_as_its_transport():
    """A symmetric positive map is the transport: the distance is the mean square of its move."""
    points = _points(_maps())
    points = (points - points.mean(0)) / points.std(0)
    move = scipy.linalg.expm(_points(_maps(size=(2, 2)))[:4] * 0.2)
    move = move @ move.T
    moved = points @ move + 0.5
    expected = np.mean(np.sum((moved - points) ** 2, axis=1)) / C
    image, style = (jnp.asarray(p.reshape(H, W, C), jnp.float32) for p in (points, moved))
    np.testing.assert_allclose(
        _gaussian(image, gaussian_target(style), "crowson"), expected, rtol=2e-4
    )


def test_more_channels_than_positions():
    """Value and derivative in a direction, of the documented blurred Gaussians."""
    features, target = _maps(size=(4, 4), channels=48), _maps(size=(5, 4), channels=48)
    way = _maps(size=(4, 4), channels=48)

    def oracle(step):
        moved = _points(features) + step * _points(way)
        return _formula(moved, _points(target), blur=1) / DIVISORS["scale_free"](_points(target))

    value, gradient = jax.value_and_grad(_gaussian)(
        jnp.asarray(features), gaussian_target(jnp.asarray(target))
    )
    np.testing.assert_allclose(value, oracle(0), rtol=1e-3)
    expected = (oracle(1e-4) - oracle(-1e-4)) / 2e-4
    np.testing.assert_allclose(np.sum(gradient * way), expected, rtol=1e-2)


@pytest.mark.parametrize("channels", [4, 48])
def test_gaussian_target_itself_scores_zero_with_a_zero_gradient(channels):
    features, other = (jnp.asarray(_maps(channels=channels)) for _ in range(2))
    run = jax.jit(jax.value_and_grad(_gaussian))
    value, gradient = run(features, gaussian_target(features))
    other_value, other_gradient = run(other, gaussian_target(features))
    assert 0 <= value < 1e-9 * other_value
    assert np.linalg.norm(gradient) < 1e-3 * np.linalg.norm(other_gradient)


def test_gradients_of_gaussians_against_finite_differences():
    features, style = jnp.asarray(_maps(2)), jnp.asarray(_maps())

    def loss(x, y):
        return 10 * _gaussian(x, gaussian_target(y))

    check_grads(jax.jit(loss), (features, style), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


# --- Slices ---


def test_directions_are_orthonormal_sets():
    basis = np.asarray(directions(jax.random.key(3), 6))
    np.testing.assert_allclose(basis @ basis.T, np.eye(6), atol=1e-5)
    more = np.asarray(directions(jax.random.key(3), 6, 15))
    assert more.shape == (15, 6)
    np.testing.assert_allclose(more[6:12] @ more[6:12].T, np.eye(6), atol=1e-5)
    assert np.abs(more[:6] @ more[6:12].T).max() < 0.999  # another set
    assert directions(jax.random.key(3), 6, 2).shape == (2, 6)
    assert np.abs(np.asarray(directions(jax.random.key(4), 6)) - basis).max() > 0.1
    with pytest.raises(InputError, match="0 directions"):
        directions(jax.random.key(3), 6, 0)


def test_directions_prefer_none():
    first = jax.vmap(lambda k: directions(k, 3, 1)[0])(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(first.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(first.T @ first / 2000, np.eye(3) / 3, atol=0.03)


def _slices(features, target, along):
    """Distance and energy in float64: sorted values against the means of the target over shares."""
    f, p = (np.sort(_points(x) @ along.T.astype(np.float64), axis=0) for x in (features, target))
    count, given = len(f), len(p)
    shares = np.repeat(p, count, axis=0).reshape(count, given, -1).mean(1)
    return np.mean((f - shares) ** 2), np.mean(shares**2)


@pytest.mark.parametrize("count", [None, 3, 11])
@pytest.mark.parametrize("size", [(6, 5), (3, 5), (12, 5), (4, 4), (7, 11), (1, 1)])
def test_sliced_distance_pairs_equal_ranks(size, count):
    features, style = _maps(), _maps(size=size)
    target = sliced_target(jnp.asarray(style), seed=5, count=count)
    assert target[0].shape == (count or C, size[0] * size[1]) and target[1].shape == (count or C, C)
    expected, energy = _slices(features, style, np.asarray(target[1]))
    image = jnp.asarray(features)
    np.testing.assert_allclose(_sliced(image, target, "heitz"), expected, rtol=1e-5)
    np.testing.assert_allclose(_sliced(image, target), expected / energy, rtol=1e-5)


def test_sliced_gradient_moves_each_position_to_its_match():
    features, style = _maps(), _maps()
    values, along = sliced_target(jnp.asarray(style))
    gradient = jax.grad(_sliced)(jnp.asarray(features), (values, along), "heitz")
    projected = _points(features) @ np.asarray(along).T
    ranks = np.argsort(np.argsort(projected, axis=0), axis=0)
    matched = np.take_along_axis(np.asarray(values).T, ranks, axis=0)
    expected = 2 * (projected - matched) @ np.asarray(along) / projected.size
    np.testing.assert_allclose(gradient.reshape(-1, C), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(6, 5), (5, 3)])
def test_sliced_gradients_against_finite_differences(size):
    features, style = jnp.asarray(_maps(2)), jnp.asarray(_maps(size=size))

    def loss(x, y):
        return 10 * _sliced(x, sliced_target(y))

    check_grads(
        jax.jit(loss), (features, style), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-3
    )


def test_moved_cloud_is_as_far_as_its_move():
    features, move = _maps(), np.array([0.5, -0.2, 0.1, 0.4], np.float32)
    target = sliced_target(jnp.asarray(features))
    result = _sliced(jnp.asarray(features + move), target, "heitz")
    np.testing.assert_allclose(result, np.mean(move**2), rtol=1e-4)


def test_slices_see_what_gaussians_do_not():
    """Two clouds of one mean and covariance: a square's corners, and the square turned."""
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32).reshape(2, 2, 2)
    turned = np.sqrt(2) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    image, style = jnp.asarray(corners), jnp.asarray(turned.reshape(2, 2, 2))
    assert _gaussian(image, gaussian_target(style)) < 1e-6
    assert _sliced(image, sliced_target(style)) > 0.01


def test_seed_may_be_traced():
    style = jnp.asarray(_maps())
    traced = jax.jit(lambda seed: sliced_target(style, seed=seed))(7)
    for one, other in zip(traced, sliced_target(style, seed=7), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 70_000])
def test_order_is_that_of_numpy(count):
    """With far outliers, which leave the many values in between fewer bits."""
    rows = RNG.normal(size=(2, count)) ** 3 * np.array([[1.0], [1e6]]) + np.array([[1.0], [0.0]])
    rows = rows.astype(np.float32)
    order = np.asarray(_order(jnp.asarray(rows)))
    np.testing.assert_array_equal(np.sort(order, axis=-1), [np.arange(count)] * 2)
    expected = np.sort(rows, axis=-1)
    deviation = rows.std(-1, keepdims=True)
    # Wrong by at most a step of the squashed values, 1 / (1 + |z|)^2 of which is one of `z`.
    step = 2 / 2 ** (32 - max(count - 1, 1).bit_length())
    stretch = (1 + np.abs(expected - rows.mean(-1, keepdims=True)) / (deviation + 1e-30)) ** 2
    error = np.abs(np.take_along_axis(rows, order, axis=-1) - expected)
    assert (error <= (1.1 * step + 1e-6) * stretch * deviation).all()


def test_equal_values_stay_in_place():
    rows = jnp.zeros((1, 9)).at[0, 4].set(-1.0)
    assert _order(rows).tolist() == [[4, 0, 1, 2, 3, 5, 6, 7, 8]]
    assert _order(jnp.full((1, 9), 3.0)).tolist() == [list(range(9))]


# --- Both ---

BOTH = pytest.mark.parametrize(
    ("prepare", "compare"),
    [(gaussian_target, _gaussian), (sliced_target, _sliced)],
    ids=["gaussian", "sliced"],
)


@BOTH
def test_shuffled_positions_change_nothing(prepare, compare):
    features, target = _maps(), prepare(jnp.asarray(_maps(size=(4, 7))))
    order = RNG.permutation(H * W)
    shuffled = features.reshape(-1, C)[order].reshape(W, H, C)
    run = jax.value_and_grad(compare)
    value, gradient = run(jnp.asarray(features), target)
    other_value, other_gradient = run(jnp.asarray(shuffled), target)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    np.testing.assert_allclose(
        other_gradient.reshape(-1, C), gradient.reshape(-1, C)[order], rtol=1e-3, atol=1e-6
    )


@BOTH
@pytest.mark.parametrize("tiles", [(2, 3), (1, 2)])
def test_repetition_is_the_same_style(prepare, compare, tiles):
    features = jnp.asarray(_maps())
    tiled = jnp.tile(features, (*tiles, 1))
    for image, style in ((features, tiled), (tiled, features)):
        value, gradient = jax.value_and_grad(compare)(image, prepare(style))
        assert 0 <= value < 1e-9
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_constant_features_are_finite(prepare, compare, level):
    constant, other = jnp.full((H, W, C), level), jnp.asarray(_maps())
    for image, style in ((constant, other), (other, constant), (constant, constant)):
        value, gradients = jax.value_and_grad(lambda x, y: compare(x, prepare(y)), argnums=(0, 1))(
            image, style
        )
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)
        assert (value < 1e-9) == (image is style)


@BOTH
def test_constant_image_is_as_far_as_the_target_is_wide(prepare, compare):
    style = _maps()
    points = _points(style)
    expected = np.mean(np.sum((points - 0.5) ** 2, axis=1)) / np.mean(np.sum(points**2, axis=1))
    value = compare(jnp.full((H, W, C), 0.5), prepare(jnp.asarray(style)))
    np.testing.assert_allclose(value, expected, rtol=1e-3)


@BOTH
def test_only_scale_free_ignores_the_scale(prepare, compare):
    features, style = jnp.asarray(_maps()), jnp.asarray(_maps())
    plain = {"gaussian_target": "crowson", "sliced_target": "heitz"}[prepare.__name__]
    for normalize, factor in (("scale_free", 1), (plain, 1e4)):
        near = compare(features, prepare(style), normalize)
        far = compare(100 * features, prepare(100 * style), normalize)
        np.testing.assert_allclose(far, factor * near, rtol=1e-4)


@BOTH
def test_one_target_or_one_for_each_image(prepare, compare):
    features, styles = jnp.asarray(_maps(2, 3)), jnp.asarray(_maps(3))
    shared = compare(features, prepare(styles[0]))
    apart = compare(features, prepare(styles))
    assert shared.shape == apart.shape == (2, 3) and shared.dtype == jnp.float32
    for i, j in np.ndindex(2, 3):
        one = compare(features[i, j], prepare(styles[0]))
        np.testing.assert_allclose(shared[i, j], one, rtol=1e-4)
        one = compare(features[i, j], prepare(styles[j]))
        np.testing.assert_allclose(apart[i, j], one, rtol=1e-4)


@BOTH
def test_vmap_and_scan_with_gradients(prepare, compare):
    features, style = jnp.asarray(_maps(3)), jnp.asarray(_maps(size=(4, 4)))
    target = prepare(style)
    gradient = jax.jit(jax.grad(lambda x: compare(x, target)))
    looped = jnp.stack([gradient(x) for x in features])
    np.testing.assert_allclose(jax.vmap(gradient)(features), looped, rtol=1e-3, atol=1e-5)
    _, scanned = jax.lax.scan(lambda c, x: (c, gradient(x)), None, features)
    np.testing.assert_allclose(scanned, looped, rtol=1e-3, atol=1e-5)
    images, targets = jnp.roll(features, 1, 0), jax.vmap(prepare)(features)
    mapped = jax.vmap(compare)(images, targets)
    np.testing.assert_allclose(mapped, compare(images, prepare(features)), rtol=1e-4)


@BOTH
def test_descent_reaches_the_target(prepare, compare):
    """From another cloud of another size, by plain gradient steps."""
    features, target = jnp.asarray(3 * _maps() + 1), prepare(jnp.asarray(_maps(size=(9, 9))))
    gradient = jax.grad(compare)
    first = compare(features, target)

    def step(x, _):
        return x - 20 * gradient(x, target), None

    last, _ = jax.lax.scan(step, features, length=100)
    assert compare(last, target) < 1e-4 * first


@BOTH
def test_unknown_normalization_names_the_nearest(prepare, compare):
    features = jnp.asarray(_maps())
    with pytest.raises(InputError, match="did you mean 'scale_free'"):
        compare(features, prepare(features), "scalefree")


@BOTH
def test_layers_of_other_channels_are_refused(prepare, compare):
    target = prepare(jnp.asarray(_maps()))
    with pytest.raises(InputError, match="take both from one layer"):
        compare(jnp.asarray(_maps(channels=3)), target)


def test_covariances_of_other_channels_are_refused():
    with pytest.raises(InputError, match=r"a covariance of \(3, 3\).*one layer"):
        gaussian_transport_distance(jnp.zeros(4), jnp.eye(3), jnp.zeros(4), jnp.eye(4))
