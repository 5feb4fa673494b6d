import contextlib
import itertools
import json
import pathlib
import subprocess
import sys
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from orbax.checkpoint import v1 as ocp

from jaxstyle.data import make_batches, open_photos
from jaxstyle.data.stream import Settings, batch_list
from jaxstyle.types import InputError

SMALL = {"size": 16, "batch": 3, "seed": 5}


def take(batches, count):
    with contextlib.closing(iter(batches)) as iterator:
        return np.stack(list(itertools.islice(iterator, count)))


@pytest.fixture
def photos(photo_folder):
    return open_photos(photo_folder(7))


def test_batches_are_bytes_of_the_asked_shape(photos):
    batch = take(make_batches(photos, size=20, batch=4, seed=0), 1)[0]
    assert batch.shape == (4, 20, 20, 3)
    assert batch.dtype == np.uint8
    assert type(batch) is np.ndarray


@pytest.mark.parametrize(
    "how",
    [
        {"threads": 0},
        {"threads": 1},
        {"threads": 2, "prefetch": 1},
        {"threads": 7, "prefetch": 30},
        {"threads": 0, "prefetch": 9},
        {},
    ],
)
def test_threads_and_read_ahead_do_not_change_the_stream(broken_photos, how):
    expected = batch_list(broken_photos, Settings(**SMALL))
    batches = make_batches(broken_photos, **SMALL, **how)
    np.testing.assert_array_equal(take(batches, 12), [expected[k].pixels for k in range(12)])
    assert batches.skipped.reasons == {
        note.name: note.what for k in range(12) for note in expected[k].notes
    }


def test_iterators_of_one_stream_are_independent_and_start_over(photos):
    batches = make_batches(photos, **SMALL)
    with contextlib.closing(iter(batches)) as one, contextlib.closing(iter(batches)) as other:
        first = [next(one) for _ in range(3)]
        second = [next(other) for _ in range(3)]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(take(batches, 3), first)


@pytest.fixture(scope="module")
def long_stream(tmp_path_factory):
    """A small source, its first 40 batches, and the state before each."""
    folder = tmp_path_factory.mktemp("stream")
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (70, 80, 3), np.uint8)
        (folder / f"{index}.ppm").write_bytes(b"P6 80 70 255\n" + pixels.tobytes())
    photos = open_photos(folder)
    states, expected = [], []
    with contextlib.closing(iter(make_batches(photos, **SMALL))) as iterator:
        for _ in range(40):
            states.append(json.dumps(iterator.get_state()))
            expected.append(next(iterator))
    return photos, states, expected


@pytest.mark.parametrize("threads", [0, 3])
def test_a_new_iterator_resumes_at_every_batch(long_stream, threads):
    photos, states, expected = long_stream
    batches = make_batches(photos, **SMALL, threads=threads)
    for position in range(37):
        with contextlib.closing(iter(batches)) as iterator:
            iterator.set_state(json.loads(states[position]))
            assert json.dumps(iterator.get_state()) == states[position]
            for k in range(position, position + 3):
                np.testing.assert_array_equal(next(iterator), expected[k])


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 34), st.integers(0, 5)), min_size=1, max_size=5)
)
def test_one_iterator_jumps_anywhere(long_stream, jumps):
    photos, states, expected = long_stream
    with contextlib.closing(iter(make_batches(photos, **SMALL, threads=2))) as iterator:
        for position, count in jumps:
            iterator.set_state(json.loads(states[position]))
            for k in range(position, position + count):
                np.testing.assert_array_equal(next(iterator), expected[k])


def test_worker_processes_change_neither_the_stream_nor_the_record(broken_photos):
    expected = batch_list(broken_photos, Settings(**SMALL))
    whole = np.stack([expected[k].pixels for k in range(12)])
    workers = make_batches(broken_photos, **SMALL, workers=2)
    with contextlib.closing(iter(workers)) as iterator:
        first = [next(iterator) for _ in range(5)]
        state = json.loads(json.dumps(iterator.get_state()))
    np.testing.assert_array_equal(first, whole[:5])
    assert all(type(batch) is np.ndarray for batch in first)
    assert workers.skipped.reasons == {
        note.name: note.what for k in range(5) for note in expected[k].notes
    }
    # Go on with another number of workers, and then without any.
    with contextlib.closing(iter(make_batches(broken_photos, **SMALL, workers=1))) as iterator:
        iterator.set_state(state)
        np.testing.assert_array_equal([next(iterator) for _ in range(3)], whole[5:8])
        state = iterator.get_state()
    with contextlib.closing(iter(make_batches(broken_photos, **SMALL))) as iterator:
        iterator.set_state(state)
        np.testing.assert_array_equal([next(iterator) for _ in range(4)], whole[8:12])


def test_orbax_saves_and_restores_the_position(photos, tmp_path):
    batches = make_batches(photos, **SMALL)
    with contextlib.closing(iter(batches)) as iterator:
        for _ in range(4):
            next(iterator)
        ocp.save_checkpointables(tmp_path / "checkpoint", {"data": iterator})
        expected = [next(iterator) for _ in range(3)]
    with contextlib.closing(iter(make_batches(photos, **SMALL))) as iterator:
        ocp.load_checkpointables(tmp_path / "checkpoint", {"data": iterator})
        np.testing.assert_array_equal([next(iterator) for _ in range(3)], expected)


def test_numbers_of_numpy_are_fine(photos):
    numbers = {name: np.int32(value) for name, value in SMALL.items()}
    scale = (np.float32(1), np.float64(1.5))
    with contextlib.closing(iter(make_batches(photos, **numbers, scale=scale))) as iterator:
        state = json.loads(json.dumps(iterator.get_state()))
        first = next(iterator)
    with contextlib.closing(iter(make_batches(photos, **SMALL))) as iterator:
        iterator.set_state(state)
        np.testing.assert_array_equal(next(iterator), first)


def test_a_position_in_other_data_is_refused(photos, tmp_path):
    with contextlib.closing(iter(make_batches(photos, **SMALL))) as iterator:
        state = json.loads(json.dumps(iterator.get_state()))
    other = make_batches(photos, size=32, batch=3, seed=6, scale=(1, 2))
    with contextlib.closing(iter(other)) as iterator, pytest.raises(InputError) as caught:
        iterator.set_state(state)
    assert str(caught.value) == (
        "the saved position belongs to other training data: "
        "scale was [1.0, 1.5] and is [1.0, 2.0], "
        "seed was 5 and is 6, size was 16 and is 32; "
        "restore the settings and photographs, or start a new run."
    )
    (tmp_path / "photos" / "photo00.png").unlink()
    fewer = make_batches(open_photos(tmp_path / "photos"), **SMALL)
    message = r"photos was 7 \(\w{16}\) and is 6 \(\w{16}\)"
    with contextlib.closing(iter(fewer)) as iterator, pytest.raises(InputError, match=message):
        iterator.set_state(state)


def test_the_record_holds_what_was_handed_out_not_what_was_read_ahead(photo_folder):
    photos = open_photos(photo_folder(1, {"z.jpg": b""}))
    batches = make_batches(photos, size=8, batch=1, seed=0, threads=1, prefetch=20)
    with contextlib.closing(iter(batches)) as iterator:
        iterator.start_prefetch()
        assert len(batches.skipped) == 0
        for _ in range(6):  # three epochs
            next(iterator)
        assert list(batches.skipped.reasons) == ["z.jpg"]
        assert len(batches.skipped) == 1


@pytest.mark.parametrize("how", [{"threads": 0}, {"threads": 2}, {"workers": 1}])
def test_photographs_that_all_vanish_end_the_stream_with_one_sentence(photo_folder, how):
    folder = photo_folder(3)
    batches = make_batches(open_photos(folder, cache_bytes=0), **SMALL, **how)
    for path in folder.iterdir():
        path.unlink()
    with contextlib.closing(iter(batches)) as iterator, pytest.raises(InputError) as caught:
        next(iterator)
    message = str(caught.value)
    assert message.startswith(f"none of the 3 photographs of '{folder}' can be used any more; ")
    assert message.endswith("No such file or directory.")


@pytest.mark.parametrize("name", ["threads", "prefetch", "workers"])
def test_negative_counts_are_refused(photos, name):
    with pytest.raises(InputError, match=f"{name} -1 must be 0 or more"):
        make_batches(photos, **SMALL, **{name: -1})


def test_a_closed_iterator_says_so_and_closing_twice_is_fine(photos):
    iterator = iter(make_batches(photos, **SMALL))
    next(iterator)
    iterator.close()
    iterator.close()
    with pytest.raises(ValueError, match="closed iterator"):
        next(iterator)


def test_the_bundled_photographs_make_colorful_batches():
    batches = take(make_batches(open_photos(), size=24, batch=6, seed=0), 2)
    assert batches.mean() > 40 and batches.std() > 40
    assert len({example.tobytes() for batch in batches for example in batch}) == 12


SCRIPT = """
import multiprocessing, sys, time
from jaxstyle.data import make_batches, open_photos
if __name__ == "__main__":
    iterator = iter(make_batches(open_photos(), size=8, batch=2, seed=0, workers=1))
    next(iterator), next(iterator)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[1] == "wait":
        time.sleep(600)
"""


@pytest.fixture
def worker_script(tmp_path, repository):
    path = tmp_path / "script.py"
    path.write_text(f"import sys; sys.path.insert(0, {str(repository)!r})\n" + SCRIPT)
    return lambda mode: subprocess.Popen(
        [sys.executable, "-W", "error", path, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_open_iterator_is_silent_when_python_ends(worker_script):
    """Also where no one parsed absl's flags, as in a notebook."""
    output, errors = worker_script("end").communicate(timeout=120)
    assert output.strip().isdigit()
    assert errors == ""


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_when_the_trainer_is_killed(worker_script):
    process = worker_script("wait")
    worker = int(process.stdout.readline())
    assert running(worker)
    process.kill()
    process.communicate()
    for _ in range(300):
        if not running(worker):
            break
        time.sleep(0.1)
    assert not running(worker)


def running(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
