import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstyle.training import optimizers
from jaxstyle.types import InputError

PEAK = 2e-3


def rates(optimizer: optax.GradientTransformation, steps: int) -> np.ndarray:
    """Learning rates from step 0 on: for a constant gradient Adam moves by just that much."""
    gradient = jnp.ones(())

    def step(state, _):
        update, state = optimizer.update(gradient, state)
        return state, -update

    return np.asarray(jax.lax.scan(step, optimizer.init(gradient), None, steps)[1])


def assert_rates(found: np.ndarray, expected: dict[int, float]):
    at = list(expected)
    np.testing.assert_allclose(found[at], [expected[i] for i in at], rtol=2e-4, atol=1e-9)


def test_constant():
    np.testing.assert_allclose(rates(optimizers.adam(PEAK), 20), PEAK, rtol=2e-4)


def test_one_cycle_goes_up_for_three_tenths_and_down_to_almost_nothing():
    found = rates(optimizers.adam(PEAK, schedule="one_cycle", steps=100), 101)
    start, end = PEAK / 25, PEAK / 25e4
    middles = {15: (start + PEAK) / 2, 65: (PEAK + end) / 2}
    assert_rates(found, {0: start, 30: PEAK, 100: end, **middles})
    quarter = PEAK - (PEAK - start) * (1 + np.cos(np.pi / 3)) / 2  # a third of the way up
    assert_rates(found, {10: quarter})
    assert (np.diff(found[:31]) > 0).all() and (np.diff(found[30:]) < 0).all()


def test_cosine_goes_up_straight_and_down_along_a_cosine():
    found = rates(optimizers.adam(PEAK, schedule="cosine", steps=1000), 1001)
    assert_rates(found, {0: 0, 50: PEAK / 4, 100: PEAK / 2, 200: PEAK, 1000: 1e-6})
    assert_rates(found, {600: (PEAK + 1e-6) / 2})
    third = 1e-6 + (PEAK - 1e-6) * (1 + np.cos(np.pi / 4)) / 2
    assert_rates(found, {400: third})


def test_cosine_warms_up_for_a_quarter_of_a_short_run():
    found = rates(optimizers.adam(PEAK, schedule="cosine", steps=40), 41)
    assert_rates(found, {0: 0, 5: PEAK / 2, 10: PEAK, 40: 1e-6})


@pytest.mark.parametrize("schedule", optimizers.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_shortest_runs_learn_too(schedule, steps):
    found = rates(optimizers.adam(PEAK, schedule=schedule, steps=steps), steps)
    assert (found >= 0).all() and (found <= PEAK * 1.001).all()
    assert found.max() > PEAK / 3


@pytest.mark.parametrize("rate", [0, -1e-3, float("nan"), float("inf")])
def test_a_learning_rate_is_positive_and_finite(rate):
    with pytest.raises(InputError, match="choose one above 0"):
        optimizers.adam(rate)


def test_unknown_schedule_names_the_nearest():
    with pytest.raises(InputError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        optimizers.adam(PEAK, schedule="cosin", steps=10)
