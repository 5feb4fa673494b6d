import contextlib
import itertools
import json

import grain
import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from jaxstyle.data import make_batches, open_photos, prefetch_to_device

SMALL = {"size": 16, "batch": 3, "seed": 5}


@pytest.fixture
def batches(photo_folder):
    return make_batches(open_photos(photo_folder(7)), **SMALL)


@pytest.fixture
def expected(batches):
    with contextlib.closing(iter(batches)) as iterator:
        return [next(iterator) for _ in range(12)]


class Log:
    """An endless iterator of numbers that tells what was asked of it, and when it was placed."""

    def __init__(self, fails_at=None, end=None):
        self.events, self.closed, self._position = [], 0, 0
        self._fails_at, self._end = fails_at, end

    def __next__(self):
        if self._position == self._fails_at:
            self._fails_at = None
            raise OSError("the disk is gone")
        if self._position == self._end:
            raise StopIteration
        self.events.append(f"read {self._position}")
        self._position += 1
        return self._position - 1

    def place(self, batch):
        self.events.append(f"place {batch}")
        return -batch

    def get_state(self):
        return {"position": self._position}

    def set_state(self, state):
        self._position = state["position"]

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_the_batches_are_the_same_and_on_the_device(batches, expected, ahead):
    with contextlib.closing(prefetch_to_device(iter(batches), jax.device_put, ahead)) as placed:
        for batch in expected:
            array = next(placed)
            assert isinstance(array, jax.Array)
            np.testing.assert_array_equal(array, batch)


def test_batches_are_placed_ahead_of_their_use():
    log = Log()
    placed = prefetch_to_device(log, log.place, ahead=2)
    assert log.events == []
    assert next(placed) == 0
    assert log.events == ["read 0", "place 0", "read 1", "place 1", "read 2", "place 2"]
    assert next(placed) == -1
    assert log.events[6:] == ["read 3", "place 3"]
    log = Log()
    placed = prefetch_to_device(log, log.place, ahead=0)
    assert [next(placed), next(placed)] == [0, -1]
    assert log.events == ["read 0", "place 0", "read 1", "place 1"]


def test_what_is_ready_can_be_started_early():
    log = Log()
    placed = prefetch_to_device(log, log.place)
    placed.start_prefetch()
    placed.start_prefetch()
    assert log.events == ["read 0", "place 0", "read 1", "place 1"]
    assert placed.get_state() == {"position": 0}
    assert next(placed) == 0


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_the_position_is_that_of_the_batches_handed_out(batches, expected, ahead):
    states = []
    with contextlib.closing(prefetch_to_device(iter(batches), jax.device_put, ahead)) as placed:
        for k in range(6):
            states.append(json.dumps(placed.get_state()))
            assert placed.get_state()["next_batch"] == k
            next(placed)
        placed.set_state(json.loads(states[2]))  # back, past what is ready
        np.testing.assert_array_equal(next(placed), expected[2])
        assert placed.get_state()["next_batch"] == 3
    for k in (0, 3, 5):  # by another, prefetching less or more, and by the iterator alone
        for wrap in (lambda data: prefetch_to_device(data, jax.device_put, 1), lambda data: data):
            with contextlib.closing(wrap(iter(batches))) as other:
                other.set_state(json.loads(states[k]))
                for batch in expected[k : k + 3]:
                    np.testing.assert_array_equal(next(other), batch)


def test_a_position_of_other_data_is_refused_and_nothing_moves(batches, expected, photo_folder):
    with contextlib.closing(prefetch_to_device(iter(batches), jax.device_put)) as placed:
        next(placed)
        state = placed.get_state()
        with pytest.raises(ValueError, match="seed was 6 and is 5"):
            placed.set_state({"next_batch": 9, "stream": {**state["stream"], "seed": 6}})
        assert placed.get_state() == state
        np.testing.assert_array_equal(next(placed), expected[1])


def test_orbax_saves_and_restores_the_position(batches, expected, tmp_path):
    with contextlib.closing(prefetch_to_device(iter(batches), jax.device_put)) as placed:
        for _ in range(4):
            next(placed)
        ocp.save_checkpointables(tmp_path / "checkpoint", {"data": placed})
    with contextlib.closing(prefetch_to_device(iter(batches), jax.device_put)) as placed:
        ocp.load_checkpointables(tmp_path / "checkpoint", {"data": placed})
        np.testing.assert_array_equal(next(placed), expected[4])


def test_iterators_of_grain_itself_keep_their_positions():
    numbers = grain.MapDataset.range(20).to_iter_dataset(grain.ReadOptions(2, 4)).batch(2)
    placed = prefetch_to_device(iter(numbers), jax.device_put, 3)
    first = [next(placed).tolist() for _ in range(4)]
    state = json.loads(json.dumps(placed.get_state()))
    rest = [batch.tolist() for batch in placed]
    assert first + rest == [[k, k + 1] for k in range(0, 20, 2)]
    again = prefetch_to_device(iter(numbers), jax.device_put, 1)
    again.set_state(state)
    assert [batch.tolist() for batch in again] == rest
    placed.close()
    again.close()


def test_an_error_comes_in_its_turn_and_only_once():
    log = Log(fails_at=3)
    placed = prefetch_to_device(log, log.place, ahead=2)
    assert [next(placed) for _ in range(3)] == [0, -1, -2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(placed)
    assert placed.get_state() == {"position": 3}
    assert next(placed) == -3
    assert list(prefetch_to_device(Log(end=4), lambda batch: batch, ahead=3)) == [0, 1, 2, 3]
    assert list(prefetch_to_device(Log(end=0), lambda batch: batch, ahead=3)) == []


def test_an_interruption_loses_nothing():
    log, interruptions = Log(), iter([4])
    wanted = next(interruptions)

    def place(batch):
        nonlocal wanted
        if batch == wanted:
            wanted = None
            log.set_state({"position": batch})
            raise KeyboardInterrupt
        return batch

    placed = prefetch_to_device(log, place, ahead=2)
    assert [next(placed), next(placed)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(placed)
    assert placed.get_state() == {"position": 2}
    assert list(itertools.islice(placed, 3)) == [2, 3, 4]


def test_closing_closes_what_is_inside_and_ends_iteration():
    log = Log()
    placed = prefetch_to_device(log, log.place)
    next(placed)
    placed.close()
    assert log.closed == 1
    with pytest.raises(ValueError, match="closed iterator"):
        next(placed)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="ahead -1 must be 0 or more"):
        prefetch_to_device(Log(), lambda batch: batch, -1)


def test_batches_may_be_spread_over_devices(batches, expected):
    """As data-parallel training places them."""
    mesh = jax.make_mesh((3,), ("data",), devices=jax.devices()[:3])
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    with contextlib.closing(
        prefetch_to_device(iter(batches), lambda batch: jax.device_put(batch, sharding))
    ) as placed:
        array = next(placed)
        assert array.sharding == sharding
        np.testing.assert_array_equal(array, expected[0])
