import collections
import itertools

import numpy as np
import pytest

from jaxstyle.data import open_photos
from jaxstyle.data.stream import Settings, batch_list
from jaxstyle.types import InputError


def take(photos, count, *, size=4, batch=1, seed=0, **options):
    """The first batches, [count, batch, size, size, 3], and the notes that came with them."""
    batches = batch_list(photos, Settings(size, batch, seed, **options))
    first = [batches[k] for k in range(count)]
    notes = [note for example in first for note in example.notes]
    return np.stack([example.pixels for example in first]), notes


def examples(batches):
    return batches.reshape(-1, *batches.shape[2:])


def photo_ids(batches):
    """Which picture each example in a row shows: its blue, the same all over (photo_folder)."""
    blue = examples(batches)[..., 2]
    assert (blue == blue[:, :1, :1]).all()
    return (blue[:, 0, 0] // 10 - 1).tolist()


@pytest.fixture
def photos(photo_folder):
    return open_photos(photo_folder(7))


def test_every_epoch_visits_every_photograph_once_in_an_order_of_its_own(photos):
    ids = photo_ids(take(photos, 28, batch=5, seed=1)[0])
    epochs = [tuple(ids[start : start + 7]) for start in range(0, 140, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) >= 19  # 20 epochs of 5040 orders


def test_every_photograph_comes_in_every_place_of_an_epoch(photo_folder):
    photos = open_photos(photo_folder(5))
    ids = np.array(photo_ids(take(photos, 300, batch=5, size=1)[0])).reshape(300, 5)
    counts = np.array([np.bincount(place, minlength=5) for place in ids.T])
    # 300 epochs: 60 times in each place, standard deviation 7.
    assert counts.min() > 32 and counts.max() < 88


def test_a_batch_may_be_larger_than_the_source(photo_folder):
    ids = photo_ids(take(open_photos(photo_folder(3)), 3, batch=8)[0])
    assert all(sorted(ids[k : k + 3]) == [0, 1, 2] for k in range(0, 24, 3))


def test_the_same_photograph_is_cropped_anew_every_epoch(photo_folder):
    crops, _ = take(open_photos(photo_folder(1)), 30, size=16)
    assert len({crop.tobytes() for crop in crops}) == 30


def test_seeds_differ_and_are_not_shifted_copies_of_each_other(photos):
    orders = {}
    for seed in (0, 1, 2, 2**32 - 1):
        ids = photo_ids(take(photos, 12, batch=7, seed=seed)[0])
        orders[seed] = {tuple(ids[k : k + 7]) for k in range(0, 84, 7)}
    for one, other in itertools.combinations(orders.values(), 2):
        assert len(one & other) <= 1


def test_the_order_is_that_of_earlier_versions(photos):
    """Golden: a run must go on with the same photographs after an upgrade."""
    assert photo_ids(take(photos, 2, batch=7)[0]) == [0, 2, 5, 3, 6, 4, 1, 2, 3, 6, 4, 5, 1, 0]


def test_crops_keep_their_aspect_and_stay_inside(photos):
    size, low, high = 24, 1.0, 1.5
    batches, _ = take(photos, 40, size=size, batch=8, seed=2, scale=(low, high))
    crops = examples(batches).astype(float)
    middle = slice(4, -4)  # away from the filter's reach over the edges of the picture
    across = np.polyfit(np.arange(16), crops[:, 12, middle, 0].T, 1)[0]
    down = np.polyfit(np.arange(16), crops[:, middle, 12, 1].T, 1)[0]
    # Slopes are photograph pixels per crop pixel, and photographs are 120 x 90.
    assert np.abs(np.abs(across) - down).max() < 0.1  # not stretched
    assert down.min() > 90 / size / high - 0.1
    assert down.max() < 90 / size / low + 0.1
    assert down.max() - down.min() > 0.9 * (90 / size / low - 90 / size / high)
    assert 0.35 < (across < 0).mean() < 0.65  # mirrored
    # Positions reach both ends of the photographs, whose colors are their coordinates.
    assert crops[..., 0].min() <= 2 and crops[..., 0].max() >= 117
    assert crops[..., 1].min() <= 2 and crops[..., 1].max() >= 87


def test_without_mirroring_nothing_is_mirrored(photos):
    crops, _ = take(photos, 20, size=16, batch=4, flip=False)
    assert (np.diff(crops[..., 8, :, 0].astype(int), axis=-1) >= 0).all()


def test_broken_photographs_are_replaced_and_noted(broken_photos):
    batches, notes = take(broken_photos, 30, size=8, batch=12)
    assert {note.name for note in notes} == {
        "a_empty.jpg",
        "a_text.png",
        "photo03_cut.png",
        "photo04_cut.png",
        "z_tiny.png",
    }
    assert all(note.skipped and note.what for note in notes)
    ids = photo_ids(batches)
    for start in range(0, 360, 12):  # an epoch holds every good one, and five replacements
        assert set(ids[start : start + 12]) == set(range(7))
    counts = collections.Counter(ids).values()
    assert min(counts) > 38 and max(counts) < 65  # replacements are spread: 360 / 7 = 51 each


def test_one_broken_file_shifts_nothing(photo_folder):
    folder = photo_folder(7)
    before, _ = take(open_photos(folder), 14, size=16, batch=3)
    whole = (folder / "photo02.png").read_bytes()
    (folder / "photo02.png").write_bytes(whole[: len(whole) // 3])
    after, _ = take(open_photos(folder), 14, size=16, batch=3)
    same = (examples(before) == examples(after)).all((1, 2, 3))
    np.testing.assert_array_equal(same, np.array(photo_ids(before)) != 2)


def test_conversions_are_noted(photo_folder, encode):
    gray = encode(np.full((70, 70), 200, np.uint8))
    _, notes = take(open_photos(photo_folder(2, {"gray.png": gray})), 1, size=8, batch=3)
    assert [tuple(note) for note in notes] == [("gray.png", "grayscale", False)]


def test_large_jpegs_are_decoded_at_the_size_the_crops_need(tmp_path, encode, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(encode(np.zeros((800, 800, 3), np.uint8), "JPEG"))
    photos = open_photos(tmp_path)
    asked = []
    load = photos.load
    monkeypatch.setattr(photos, "load", lambda i, side: asked.append(side) or load(i, side))
    take(photos, 2, size=100, scale=(1.0, 1.501))
    assert asked == [151, 151]


def test_processes_share_one_stream(photos):
    whole, _ = take(photos, 5, size=8, batch=6)
    for count in (2, 3):
        for k in range(count):
            options = {"process_index": k, "process_count": count}
            part, _ = take(photos, 5, size=8, batch=6 // count, **options)
            np.testing.assert_array_equal(part, whole[:, k::count])


def test_more_processes_than_photographs(photo_folder):
    photos = open_photos(photo_folder(2))
    ids = [photo_ids(take(photos, 8, process_index=k, process_count=5)[0]) for k in range(5)]
    stream = [ids[k][step] for step in range(8) for k in range(5)]
    assert all(sorted(stream[k : k + 2]) == [0, 1] for k in range(0, 40, 2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 0}, "size 0 must be at least 1"),
        ({"batch": 0}, "batch 0 must be at least 1"),
        ({"seed": -1}, r"seed -1 must be from 0 to 2\*\*32 - 1"),
        ({"seed": 2**32}, "seed 4294967296 must be"),
        ({"scale": (0.9, 1.5)}, r"scale \(0.9, 1.5\) must be .* 1 <= low <= high"),
        ({"scale": (1.5, 1.2)}, r"scale \(1.5, 1.2\) must be"),
        ({"scale": (1.0, float("nan"))}, r"scale \(1.0, nan\) must be"),
        ({"process_index": 2, "process_count": 2}, "process_index 2 must be from 0 to .* = 1"),
    ],
)
def test_values_out_of_range_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        Settings(**{"size": 16, "batch": 3, "seed": 5, **changed})
