"""The contract of `objective_test.py`, of the objectives of classic per-image methods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.losses import (
    activation,
    chained_style,
    guided_activation,
    guided_style,
    mrf_style,
    pixel_norm,
    pixel_range,
    shifted_style,
    weigh,
)

RNG = np.random.default_rng(26)
KERNELS = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 5))]
LAYERS = ("relu1_1", "relu2_1")
REGIONS = ("left", "right")

OBJECTIVES = {
    "guided-gram": guided_style(LAYERS, REGIONS),
    "guided-moments": guided_style(LAYERS, REGIONS, "moments"),
    "guided-wasserstein": guided_style(LAYERS, REGIONS, "wasserstein"),
    "shifted": shifted_style(LAYERS),
    "chain": chained_style(LAYERS),
    "chain-blurred": chained_style(LAYERS, "gatys", shift=-1.0, blur=0.7),
    "mrf": mrf_style(LAYERS, size=2),
    "mrf-li_wand": mrf_style(LAYERS, "li_wand", stride=2, references=("style", "guide")),
    "dream": activation(LAYERS),
    "dream-channel": activation(LAYERS, "google", channel=2),
    "dream-guided": guided_activation(LAYERS),
    "range": pixel_range(),
    "norm": pixel_norm(),
}
TABLE = pytest.mark.parametrize("name", OBJECTIVES)


def _see(image):
    """A network of two layers: 1x1 convolutions, the second after 2x2 mean pooling."""
    first = jax.nn.relu(image @ KERNELS[0] + 0.1)
    *lead, height, width, channels = first.shape
    pooled = first.reshape(*lead, height // 2, 2, width // 2, 2, channels).mean((-4, -2))
    return {"relu1_1": first, "relu2_1": jax.nn.relu(pooled @ KERNELS[1] + 0.1)}


def _image(*lead):
    return jnp.asarray(RNG.uniform(-0.2, 1.2, size=(*lead, 8, 6, 3)), jnp.float32)


def _references(*lead):
    guides = [jnp.asarray(RNG.uniform(size=s), jnp.float32) for s in ((8, 6), (4, 3))]
    left = dict(zip(LAYERS, guides, strict=True))
    kinds = {"style": _see(_image()), "guide": _see(_image()), "content": _see(_image(*lead))}
    right = {layer: 1 - guide for layer, guide in left.items()}
    return kinds | {"guide/left": left, "guide/right": right}


def _run(objective, image, references):
    def loss(image):
        terms = objective.evaluate(image, _see(image), objective.prepare(references))
        total = weigh(terms, {name: 1.0 + i for i, name in enumerate(sorted(terms))})
        return jnp.sum(total), terms

    (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(image)
    return terms, gradient


@functools.cache
def _compiled(name):
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(functools.partial(_run, OBJECTIVES[name]), compiler_options=options)


def _assert_close(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)


@TABLE
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_one_float32_value_per_image(name, lead):
    run = functools.partial(_run, OBJECTIVES[name])
    terms, gradient = jax.eval_shape(run, _image(*lead), _references(*lead))
    assert terms
    assert {(value.shape, value.dtype) for value in terms.values()} == {
        (lead, jnp.dtype(jnp.float32))
    }
    assert gradient.shape == (*lead, 8, 6, 3) and gradient.dtype == jnp.float32


@TABLE
def test_images_of_a_batch_and_lanes_of_a_vmap_are_single_runs(name):
    images, references = _image(3), _references(3)
    batched = _compiled(name)(images, references)
    axes = {kind: 0 if kind == "content" else None for kind in references}
    mapped = jax.vmap(functools.partial(_run, OBJECTIVES[name]), (0, axes))
    _assert_close(jax.jit(mapped)(images, references), batched)
    assert all((value != 0).all() for value in batched[0].values())
    for k in range(3):
        own = {layer: value[k] for layer, value in references["content"].items()}
        alone = _compiled(name)(images[k], references | {"content": own})
        _assert_close(jax.tree.map(lambda value: value[k], batched), alone)  # noqa: B023


@TABLE
def test_steps_inside_scan_are_steps_outside(name):
    image, references = _image(), _references()
    run = _compiled(name)

    def step(image, _):
        _, gradient = _run(OBJECTIVES[name], image, references)
        return image - 0.01 * gradient / jnp.max(jnp.abs(gradient)), None

    scanned, _ = jax.jit(lambda x: jax.lax.scan(step, x, length=3))(image)
    for _ in range(3):
        _, gradient = run(image, references)
        image -= 0.01 * gradient / jnp.max(jnp.abs(gradient))
    np.testing.assert_allclose(scanned, image, rtol=1e-4, atol=1e-5)


@TABLE
def test_targets_are_arrays_that_may_be_prepared_inside_jit(name):
    objective, references = OBJECTIVES[name], _references()
    targets = objective.prepare(references)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(targets))
    _assert_close(jax.jit(objective.prepare)(references), targets)
    assert objective.prepare({}) == {}
