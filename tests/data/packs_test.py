import contextlib
import itertools
import json
import os
import pickle
import random
import shutil
import sys
import threading

import grain
import numpy as np
import pytest
from PIL import Image

from jaxstyle.data import UnreadablePhoto, make_batches, open_photos, packs, prepare_photos
from jaxstyle.types import InputError


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder of ten smooth pictures, and packs of it: a folder of shards, and one raw file."""
    root = tmp_path_factory.mktemp("packs")
    for k in range(10):
        down, across = np.mgrid[: 200 + 10 * k, :300] / 300
        waves = [np.sin(2 + k + 7 * across), np.cos(k + 5 * down), np.sin(4 * across * down + k)]
        pixels = np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)
        path = root / "photos" / ("sub" if k % 3 == 0 else ".") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    prepare_photos(root / "photos", root / "pack", size=96, per_shard=4)
    prepare_photos(root / "photos", root / "raw.array_record", size=96, quality="raw")
    return root


@pytest.fixture
def pack(sources, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(sources / "pack", tmp_path / "pack")


def take(batches, count):
    with contextlib.closing(iter(batches)) as iterator:
        return np.stack(list(itertools.islice(iterator, count)))


@pytest.mark.parametrize("name", ["pack", "raw.array_record"])
def test_a_pack_is_its_folder_reduced(sources, name):
    folder, photos = open_photos(sources / "photos"), open_photos(sources / name)
    assert photos.names == folder.names
    assert photos.reduced_to == 96 and folder.reduced_to is None
    for whole, small in zip(folder, photos, strict=True):
        height, width = whole.shape[:2]
        assert min(small.shape[:2]) == 96
        assert abs(small.shape[1] / small.shape[0] - width / height) < 0.01
        expected = Image.fromarray(whole).resize(small.shape[1::-1], Image.Resampling.LANCZOS)
        error = np.abs(small.astype(int) - np.asarray(expected)).max()
        assert error == 0 if name.startswith("raw") else error <= 8


@pytest.mark.parametrize("name", ["pack", "raw.array_record"])
def test_the_stream_has_the_same_crops_as_the_folders(sources, name):
    settings = {"size": 64, "batch": 5, "seed": 3}
    expected = take(make_batches(open_photos(sources / "photos"), **settings), 4)
    crops = take(make_batches(open_photos(sources / name), **settings), 4)
    # Smooth pictures: another place, scale, mirroring or photograph would be far off.
    error = np.abs(crops.astype(int) - expected)
    assert error.mean() < 1.5 and error.max() < 16
    other = take(make_batches(open_photos(sources / name), **{**settings, "seed": 4}), 4)
    assert np.abs(other.astype(int) - expected).mean() > 30


def test_worker_processes_and_pickling_do_not_change_the_stream(sources):
    photos = open_photos(sources / "pack", cache_bytes=0)
    expected = take(make_batches(photos, size=64, batch=3, seed=0), 6)
    workers = make_batches(photos, size=64, batch=3, seed=0, workers=1)
    np.testing.assert_array_equal(take(workers, 6), expected)
    photos[3]  # opened: readers must not be pickled
    copy = pickle.loads(pickle.dumps(photos))
    assert copy.fingerprint == photos.fingerprint and copy.names == photos.names
    np.testing.assert_array_equal(copy[7], photos[7])


def test_a_position_resumes_in_any_form_of_the_same_pack_and_in_no_other(sources, tmp_path):
    settings = {"size": 64, "batch": 3, "seed": 0}
    with contextlib.closing(iter(make_batches(open_photos(sources / "pack"), **settings))) as data:
        next(data)
        state = json.loads(json.dumps(data.get_state()))
        expected = next(data)
    made = prepare_photos(sources / "photos", tmp_path / "one.array_record", size=96)
    with contextlib.closing(iter(make_batches(open_photos(made.path), **settings))) as data:
        data.set_state(state)
        np.testing.assert_array_equal(next(data), expected)
    for other in ("photos", "raw.array_record"):
        batches = make_batches(open_photos(sources / other), **settings)
        message = r"photos was 10 \(\w{16}\) and is 10"
        with contextlib.closing(iter(batches)) as data, pytest.raises(InputError, match=message):
            data.set_state(state)


def test_records_are_plain_pictures_for_grains_own_source(sources):
    files = sorted(map(str, (sources / "pack").glob("*.array_record")))
    assert len(files) == 3
    with grain.sources.ArrayRecordDataSource(files[:1]) as source:
        assert len(source) == 5  # four photographs and the index
        assert source[0][:3] == b"\xff\xd8\xff"
        assert json.loads(source[4])["photos"][0][0] == "1.png"


def test_many_threads_read_a_pack_at_once(sources):
    files = packs.pack_files(sources / "pack")
    expected, wrong = [files.read(k) for k in range(10)], []

    def read(seed):
        for k in random.Random(seed).choices(range(10), k=300):
            if files.read(k) != expected[k]:
                wrong.append(k)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(set(expected)) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_a_forked_child_reads_for_itself(sources):
    files = packs.pack_files(sources / "pack")
    expected, readers = files.read(9), files._readers
    child = os.fork()
    if child == 0:
        right = files.read(9) == expected and files._readers is not readers
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_crops_larger_than_the_packs_pictures_are_refused_unless_all_were_small(sources, tmp_path):
    photos = open_photos(sources / "pack")
    make_batches(photos, size=64, batch=1, seed=0, scale=(1, 1.5))
    with pytest.raises(InputError) as caught:
        make_batches(photos, size=80, batch=1, seed=0, scale=(1, 1.5))
    assert str(caught.value) == (
        f"the pack '{sources / 'pack'}' holds photographs reduced to a shorter side of 96 pixels, "
        "and crops of 80 at scales of 1 to 1.5 need 120: prepare it again with --size 120, or make "
        "crops of at most 64."
    )
    make_batches(photos, size=80, batch=1, seed=0, scale=(1, 1.2))
    made = prepare_photos(sources / "photos", tmp_path / "whole", size=400)
    assert made.reduced == 0
    batches = make_batches(open_photos(made.path), size=400, batch=1, seed=0)
    assert take(batches, 1).shape == (1, 1, 400, 400, 3)


def damaged_record(shard, record):
    """Flip a byte in the middle of a record."""
    data = bytearray(shard.read_bytes())
    reader = packs.open_reader(shard)
    at = data.index(reader.read([record])[0])
    data[at + 500] ^= 255
    shard.write_bytes(data)


def test_a_damaged_record_is_replaced_like_a_broken_file(sources, pack):
    damaged_record(pack / packs.shard_name(1, 3), 2)
    photos, whole = open_photos(pack), open_photos(sources / "pack")
    name = whole.names[6]
    with pytest.raises(UnreadablePhoto, match=f"'{name}' .*: its record in the pack is damaged"):
        photos[6]
    settings = {"size": 32, "batch": 1, "seed": 0}
    batches = make_batches(photos, **settings)
    same = (take(batches, 30) == take(make_batches(whole, **settings), 30)).all((1, 2, 3, 4))
    assert same.sum() == 27  # three epochs
    assert batches.skipped.reasons == {name: "its record in the pack is damaged"}


def test_a_shard_that_vanishes_or_shrinks_under_way_loses_its_photographs(pack):
    photos = open_photos(pack, cache_bytes=0)
    (pack / packs.shard_name(2, 3)).unlink()
    with pytest.raises(UnreadablePhoto, match="No such file or directory"):
        photos[9]
    photos[5]
    os.truncate(pack / packs.shard_name(1, 3), 70)
    with pytest.raises(UnreadablePhoto, match="its record in the pack is"):
        photos[5]
    assert take(make_batches(photos, size=16, batch=2, seed=0), 5).shape == (5, 2, 16, 16, 3)


def refused(path):
    with pytest.raises(InputError) as caught:
        open_photos(path)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and message.count(". ") == 0
    return message


def test_a_pack_that_is_not_whole_is_refused_with_one_sentence(sources, pack, tmp_path):
    shard, manifest = pack / packs.shard_name(1, 3), pack / packs.MANIFEST
    whole, about = shard.read_bytes(), manifest.read_text()
    shard.write_bytes(whole[:-1])
    assert f"'{shard}' has {len(whole) - 1} bytes in place of {len(whole)}" in refused(pack)
    shard.unlink()
    assert f"the pack '{pack}' lacks '{shard.name}'; copy or prepare it again." in refused(pack)
    shard.write_bytes(bytes(len(whole)))
    assert f"'{shard}' is damaged or not whole" in refused(pack)
    other = prepare_photos(sources / "photos", tmp_path / "other", size=80, per_shard=4).path
    moved = (other / shard.name).read_bytes()
    shard.write_bytes(moved)
    manifest.write_text(about.replace(f'"bytes": {len(whole)}\n', f'"bytes": {len(moved)}\n'))
    assert "'pack.json' and the files beside it do not belong together" in refused(pack)
    value = json.loads(about)
    for change in (
        {"shards": []},
        {"shards": 3},
        {"fingerprint": 1},
        {"shards": [{"file": "../x"}]},
    ):
        manifest.write_text(json.dumps(value | change))
        assert "do not belong together" in refused(pack)


def test_a_single_file_that_is_not_whole_is_refused_with_one_sentence(sources, tmp_path):
    whole = (sources / "raw.array_record").read_bytes()
    file = tmp_path / "a.array_record"
    for content in (b"", b"hello", whole[:-1], whole[: len(whole) // 2], bytes(200_000)):
        file.write_bytes(content)
        assert f"'{file}' is damaged or not whole" in refused(file)


def write_records(file, *records):
    writer = packs.array_record().ArrayRecordWriter(str(file), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def test_array_records_that_are_no_pack_are_refused_with_one_sentence(tmp_path):
    file = tmp_path / "a.array_record"
    index = {"format": packs.FORMAT, "version": 1, "size": 96, "encoding": "raw", "recipe": "x"}
    index |= {"photos": [["a.jpg", 1, 1, True, "0"]], "left_out": {}}
    broken = [
        {},
        {**index, "photos": [["a.jpg"]]},
        {**index, "left_out": []},
        {**index, "size": "x"},
    ]
    broken += [{**index, "photos": [[7, 1, 1, True, "0"]]}, {**index, "photos": 5}, [1], 3, None]
    for value in broken:
        write_records(file, b"picture", json.dumps(value).encode())
        assert f"'{file}' is damaged or not whole, or was not made by" in refused(file)
    for last in (b"\xff", b"[" * 100_000, json.dumps(index).encode()[:-1]):
        write_records(file, b"picture", last)
        assert "was not made by `jaxstyle prepare`" in refused(file)
    write_records(file, json.dumps(index).encode())  # it lists a picture more than there is
    assert "is damaged" in refused(file)
    write_records(file, b"picture", json.dumps(index | {"version": 2}).encode())
    assert "was made by a newer version of jaxstyle; update jaxstyle" in refused(file)
    write_records(file, json.dumps(index | {"photos": []}).encode())
    assert f"the pack '{file}' holds no photographs" in refused(file)
    write_records(file, b"picture", json.dumps(index).encode())
    assert "none of the 1 photographs of" in refused(file)


def test_bytes_flipped_anywhere_are_refused_replaced_or_harmless(sources, tmp_path):
    """The parts that hold ArrayRecord's own tables, where every flip must be noticed or heal."""
    whole = (sources / "pack" / packs.shard_name(0, 3)).read_bytes()
    expected = [packs.pack_files(sources / "pack").read(k) for k in range(4)]
    file, rng = tmp_path / "a.array_record", random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 4, 30))):
            at = rng.choice((rng.randrange(len(data)), rng.randrange(200), -rng.randrange(1, 700)))
            data[at] = rng.randrange(256)
        file.write_bytes(data)
        try:
            files = packs.pack_files(file)
        except InputError:
            continue
        for k in range(4):
            with contextlib.suppress(ValueError):
                assert files.read(k) == expected[k]


def test_a_folder_of_photographs_with_a_pack_json_of_another_kind_is_a_folder(sources, tmp_path):
    folder = shutil.copytree(sources / "photos", tmp_path / "photos")
    for content in ("{}", "[]", "not json", "[" * 100_000):
        (folder / packs.MANIFEST).write_text(content)
        assert open_photos(folder).reduced_to is None


def test_without_array_record_one_sentence_says_so(sources, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    assert "packs need the package array_record" in refused(sources / "pack")
    assert len(open_photos(sources / "photos")) == 10


def test_the_fingerprint_does_not_depend_on_how_files_are_split(sources, tmp_path):
    made = prepare_photos(sources / "photos", tmp_path / "split", size=96, per_shard=1)
    assert len(list(made.path.glob("*.array_record"))) == 10
    assert open_photos(made.path).fingerprint == open_photos(sources / "pack").fingerprint
