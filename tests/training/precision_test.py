"""Training in bfloat16: float32 where it must be, and a loss and gradient near those of float32.

The tolerances here are those that `docs/precision.md` states.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from jaxstyle import features, losses, networks, training
from jaxstyle.training import feedforward, many, optimizers

# Channels that reach the formulation for bfloat16 on a CPU.
CONFIG = networks.TransformerConfig(widths=(8, 32), blocks=1, outer_kernels=(3, 3))
NETWORK = features.Network("toy", ((32,), (48, 32)), convention=features.PLAIN)
PERCEPTION = features.initialize(jax.random.key(1), NETWORK)
PROBLEM = feedforward.Problem(
    losses.content(("relu2_2",)),
    losses.style(("relu1_1", "relu2_1"), "moments"),
    losses.total_variation(),
    NETWORK,
    "float32",
)
HALF = PROBLEM._replace(dtype="bfloat16")
WEIGHTS = {"content/relu2_2": 1.0, "tv": 1.0, "style/relu1_1": 1.0, "style/relu2_1": 1.0}
OPTIMIZER = optimizers.adam(3e-3)
STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def _crops(picture, *corners, size=32):
    return np.stack([picture[y : y + size, x : x + size] for y, x in corners])


BATCH = _crops(skimage.data.astronaut(), (0, 160), (200, 100))
STYLE = _crops(skimage.data.chelsea(), (100, 150))[0] / np.float32(255)


def _state():
    params = networks.init(jax.random.key(0), CONFIG)["params"]
    return training.create(params, OPTIMIZER, metrics=("loss", *WEIGHTS))


@functools.cache
def _step(problem):
    style = jax.jit(functools.partial(feedforward.style_targets, problem))(PERCEPTION, STYLE)
    return functools.partial(
        jax.jit(feedforward.make_step(problem, CONFIG, OPTIMIZER)),
        perception=PERCEPTION,
        style=style,
        weights=WEIGHTS,
    )


@functools.cache
def _curve(problem):
    """The states from the first to the last, and the loss of each step."""
    states, curve = [_state()], []
    for _ in range(STEPS):
        states.append(_step(problem)(states[-1], BATCH))
        curve.append(float(states[-1].metrics["loss"] - states[-2].metrics["loss"]))
    return states, np.array(curve)


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def _gradient(problem):
    """Adam's first moment after a step from zero is a tenth of the gradient."""
    return _flat(_curve(problem)[0][1].opt_state[0].mu) * 10


@pytest.mark.parametrize("problem", [PROBLEM, HALF], ids=["float32", "bfloat16"])
def test_what_is_kept_is_float32(problem):
    for leaf in jax.tree.leaves(_curve(problem)[0][-1]):
        assert leaf.dtype in (jnp.float32, jnp.int32)


def test_the_first_loss_and_gradient_are_near():
    (_, exact), (_, rough) = _curve(PROBLEM), _curve(HALF)
    assert exact[0] != rough[0]  # or nothing was computed in bfloat16
    assert abs(rough[0] / exact[0] - 1) < 0.01
    gradient, other = _gradient(PROBLEM), _gradient(HALF)
    cosine = gradient @ other / np.linalg.norm(gradient) / np.linalg.norm(other)
    assert 0.98 < cosine < 1 - 1e-7
    assert abs(np.linalg.norm(other) / np.linalg.norm(gradient) - 1) < 0.05


def test_a_training_converges_alike():
    (_, exact), (_, rough) = _curve(PROBLEM), _curve(HALF)
    assert exact[-1] < 0.7 * exact[0]
    np.testing.assert_allclose(rough, exact, rtol=0.05)


def test_several_networks_learn_what_one_does():
    names = ("a", "b")
    state = many.create(
        [{"params": _state().params}] * 2, OPTIMIZER, names=names, terms=tuple(WEIGHTS)
    )
    style = _step(HALF).keywords["style"]
    step = jax.jit(many.make_step(HALF, CONFIG, OPTIMIZER, names, formulation="unrolled"))
    both = jax.tree.map(jnp.float32, WEIGHTS)
    after = step(state, BATCH, PERCEPTION, many.stacked([style] * 2), many.stacked([both] * 2))
    alone = _curve(HALF)[0][1]
    for name in names:
        ours, theirs = (float(m) for m in (after.metrics[f"{name}/loss"], alone.metrics["loss"]))
        assert ours == pytest.approx(theirs, rel=0.003)
    for i in range(2):
        mine, own = (_flat(s[0].mu) for s in (many.network_of(after.opt_state, i), alone.opt_state))
        assert mine @ own > 0.98 * np.linalg.norm(mine) * np.linalg.norm(own)
        assert mine.dtype == np.float64 and np.isfinite(mine).all()
