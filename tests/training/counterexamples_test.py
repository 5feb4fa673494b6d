import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle import features, losses
from jaxstyle.training import counterexamples

RNG = np.random.default_rng(0)
NETWORK = features.Network("toy", ((4, 5), (6,)), features.PLAIN, padding="reflect")
LAYERS = ("relu1_1", "relu2_1")
COUNT, SIZE, GROUPS = 2, 12, 12


@pytest.fixture(scope="module")
def student():
    return features.initialize(jax.random.key(0), NETWORK)


@pytest.fixture(scope="module")
def visit():
    return jax.jit(
        functools.partial(counterexamples.visit, network=NETWORK, layers=LAYERS),
    )


def photos(seed):
    return jnp.float32(np.random.default_rng(seed).uniform(size=(5, SIZE, SIZE, 3)))


def style_distance(student, image, reference):
    style = losses.style(LAYERS, "moments")
    maps, wanted = (
        features.features(student, x, LAYERS, network=NETWORK) for x in (image, reference)
    )
    terms = style.evaluate(image, maps, style.prepare({"style": wanted}))
    return sum(terms.values())


def test_the_first_visit_takes_photographs_and_moves_them(visit, student):
    pool = counterexamples.start(COUNT, SIZE)
    fresh = photos(1)
    after, given = visit(pool, jnp.int32(3), fresh, student)
    np.testing.assert_array_equal(after.reference[3], fresh[:COUNT])
    np.testing.assert_array_equal(after.image[3], given)
    changed = np.asarray(after.image) != np.asarray(pool.image)
    assert changed[3].all() and not np.delete(changed, 3, axis=0).any()

    # The same, one operation after the other.
    image, optimizer = fresh[-COUNT:], optax.adam(0.03)
    solver = optimizer.init(image)
    gradient = jax.jit(
        jax.grad(lambda x, reference: jnp.sum(style_distance(student, x, reference)))
    )
    for _ in range(2):
        updates, solver = optimizer.update(gradient(image, fresh[:COUNT]), solver)
        image = jnp.clip(image + updates, 0, 1)
    np.testing.assert_allclose(given, image, atol=1e-5)


def test_a_picture_goes_on_where_it_was_and_comes_to_fool_the_student(visit, student):
    pool, fresh = counterexamples.start(COUNT, SIZE), photos(2)
    for round_ in range(20):
        pool, given = visit(
            pool, jnp.int32(5 + GROUPS * round_), fresh if not round_ else photos(9), student
        )
        assert float(given.min()) >= 0 and float(given.max()) <= 1
    np.testing.assert_array_equal(pool.reference[5], fresh[:COUNT])
    before = style_distance(student, fresh[-COUNT:], fresh[:COUNT])
    after = style_distance(student, given, fresh[:COUNT])
    assert (np.asarray(after) < 0.5 * np.asarray(before)).all()


def test_pictures_of_every_age_are_about_and_each_lives_as_long(visit, student):
    """With the references numbered by the round that brought them."""
    pool = counterexamples.start(COUNT, SIZE)
    births = []
    for round_ in range(3 * 36):
        step = jnp.int32(GROUPS * round_)
        fresh = jnp.full((2 * COUNT, SIZE, SIZE, 3), round_ / 200)
        pool, _ = visit(pool, step, fresh, student)
        births.append(round(float(pool.reference[0, 0, 0, 0, 0]) * 200))
    assert sorted(set(births)) == [0, 36, 72] and births.count(36) == 36
    # At any moment the groups' ages are spread over a life.
    pool = counterexamples.start(COUNT, SIZE)
    for step in range(GROUPS * 40):
        fresh = jnp.full((2 * COUNT, SIZE, SIZE, 3), step / 1000)
        pool, _ = visit(pool, jnp.int32(step), fresh, student)
    ages = 40 - np.round(np.asarray(pool.reference[:, 0, 0, 0, 0]) * 1000) // GROUPS
    assert len(set(ages.tolist())) == GROUPS and ages.max() - ages.min() > 30


def test_a_visit_depends_on_its_arguments_alone_and_compiles_once(student):
    visit = jax.jit(functools.partial(counterexamples.visit, network=NETWORK, layers=LAYERS))
    pool = counterexamples.start(COUNT, SIZE)
    once = [visit(pool, jnp.int32(step), photos(step), student) for step in (0, 1, 0)]
    assert visit._cache_size() == 1
    jax.tree.map(np.testing.assert_array_equal, once[0], once[2])
    assert (np.asarray(once[0][1]) != np.asarray(once[1][1])).any()
