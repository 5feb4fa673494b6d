import dataclasses
import errno
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxstyle.data import open_photos, packs, prepare_photos, preparing
from jaxstyle.io import color_profiles
from jaxstyle.types import InputError
from jaxstyle.workdir import claimed


def noise(seed, width, height):
    """A picture of a few colors, smooth enough for JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Nine photographs of several sizes and kinds, and two that cannot be read."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for k in range(6):
        noise(k, 130 + 10 * k, 110).save(folder / f"{k}.png")
    noise(6, 900, 700).save(folder / "sub" / "large.jpg")
    noise(7, 90, 70).save(folder / "sub" / "small.jpg")
    noise(8, 120, 200).convert("L").save(folder / "sub" / "gray.png")
    (folder / "4b_broken.jpg").write_bytes(b"not a picture")
    noise(9, 20, 20).save(folder / "tiny.png")
    return folder


LEFT_OUT = {
    "4b_broken.jpg": "not a picture, or one broken at its start",
    "tiny.png": "20 x 20 pixels, the shorter side must have 64",
}


def content(path):
    """All bytes of a pack."""
    if path.is_file():
        return path.read_bytes()
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_what_is_made_and_what_is_told(folder, tmp_path):
    told = []
    made = prepare_photos(
        folder, tmp_path / "pack", size=100, per_shard=4, report=lambda *now: told.append(now)
    )
    assert told == [(done, 11) for done in range(12)]
    files = content(made.path)
    size = sum(map(len, files.values()))
    expected = preparing.Prepared(tmp_path / "pack", 9, 8, size, LEFT_OUT, 0)
    assert made == expected
    assert sorted(files) == ["pack.json", *(packs.shard_name(k, 3) for k in range(3))]
    about = json.loads(files["pack.json"])
    photos = open_photos(made.path)
    assert about["fingerprint"] == photos.fingerprint and about["left_out"] == LEFT_OUT
    assert (about["version"], about["photos"], about["size"], about["encoding"]) == (
        *(1, 9, 100),
        "JPEG 95",
    )
    names = [name for name in open_photos(folder).names if name not in LEFT_OUT]
    assert list(photos.names) == names
    sizes = {name: photo.shape for name, photo in zip(names, photos, strict=True)}
    assert sizes["0.png"] == (100, 118, 3) and sizes["sub/gray.png"] == (167, 100, 3)
    assert sizes["sub/small.jpg"] == (70, 90, 3)  # never enlarged
    assert sizes["sub/large.jpg"] == (100, 129, 3)
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_bytes_do_not_depend_on_workers_or_on_folder_or_zip(folder, tmp_path):
    expected = content(prepare_photos(folder, tmp_path / "a", size=80, workers=1, per_shard=3).path)
    made = prepare_photos(folder, tmp_path / "b", size=80, workers=5, per_shard=3)
    assert content(made.path) == expected
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    made = prepare_photos(tmp_path / "photos.zip", tmp_path / "c", size=80, per_shard=3)
    assert content(made.path) == expected
    files = [
        prepare_photos(folder, tmp_path / f"{k}.array_record", size=80, per_shard=k).path
        for k in (2, 50)
    ]
    assert content(files[0]) == content(files[1])


SCRIPT = """
import os, signal, sys
from jaxstyle.data import prepare_photos
def stop(done, total):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
prepare_photos(sys.argv[1], sys.argv[2], size=80, per_shard=3, report=stop)
"""


@pytest.mark.parametrize(("name", "kills"), [("pack", (2, 5, 11)), ("pack.array_record", (11,))])
def test_killed_at_any_photograph_it_goes_on_to_the_same_bytes(
    folder, tmp_path, name, kills, repository
):
    (tmp_path / "whole").mkdir()
    expected = content(prepare_photos(folder, tmp_path / "whole" / name, size=80, per_shard=3).path)
    out = tmp_path / name
    for at in kills:
        command = [sys.executable, "-c", SCRIPT, str(folder), str(out), str(at)]
        ended = subprocess.run(command, cwd=repository, capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not out.exists()
        with pytest.raises(InputError, match="is not finished; give the same `jaxstyle prepare`"):
            open_photos(out)
    told = []
    made = prepare_photos(folder, out, size=80, per_shard=3, report=lambda *now: told.append(now))
    assert made.found == 9 and told[0] == (9, 11)  # of the last kill: three shards of four
    assert content(made.path) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "photos", "whole"]


def stop_after(count):
    def report(done, total):
        if done == count:
            raise KeyboardInterrupt

    return report


def test_an_exception_stops_it_and_finished_shards_stay(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        prepare_photos(folder, tmp_path / "pack", size=80, per_shard=3, report=stop_after(7))
    left = sorted(file.name for file in (tmp_path / "pack.unfinished" / "pack").iterdir())
    assert left == [packs.shard_name(0, 4), packs.shard_name(1, 4)]
    made = prepare_photos(folder, tmp_path / "pack", size=80, per_shard=3)
    assert made.found == 6 and made.photos == 9


def test_unfinished_work_of_other_settings_or_photographs_is_begun_anew(folder, tmp_path):
    for change in ({"size": 90}, {"quality": 80}, {"per_shard": 4}):
        options = {"size": 80, "per_shard": 3, "overwrite": True}
        with pytest.raises(KeyboardInterrupt):
            prepare_photos(folder, tmp_path / "pack", **options, report=stop_after(9))
        made = prepare_photos(folder, tmp_path / "pack", **{**options, **change})
        assert made.found == 0
    with pytest.raises(KeyboardInterrupt):
        prepare_photos(folder, tmp_path / "new", size=80, per_shard=3, report=stop_after(9))
    noise(50, 300, 300).save(folder / "0.png")
    made = prepare_photos(folder, tmp_path / "new", size=80, per_shard=3)
    assert made.found == 0 and open_photos(made.path)[0].shape == (80, 80, 3)


def test_a_finished_shard_that_was_damaged_is_made_again(folder, tmp_path):
    expected = content(prepare_photos(folder, tmp_path / "whole", size=80, per_shard=3).path)
    with pytest.raises(KeyboardInterrupt):
        prepare_photos(folder, tmp_path / "pack", size=80, per_shard=3, report=stop_after(9))
    shard = tmp_path / "pack.unfinished" / "pack" / packs.shard_name(1, 4)
    shard.write_bytes(shard.read_bytes()[:100])
    made = prepare_photos(folder, tmp_path / "pack", size=80, per_shard=3)
    assert made.found == 3
    assert content(made.path) == expected


def test_a_finished_pack_is_left_alone_or_replaced_when_told(folder, tmp_path):
    for name in ("pack", "pack.array_record"):
        out = tmp_path / name
        made = prepare_photos(folder, out, size=80)
        before = {file: file.stat().st_mtime_ns for file in (out, *out.parent.rglob("pack/*"))}
        (tmp_path / f"{name}.unfinished").mkdir()  # a kill after the last rename leaves it
        again = prepare_photos(folder, out, size=80)
        assert again == dataclasses.replace(made, found=11)
        assert all(file.stat().st_mtime_ns == time for file, time in before.items())
        assert not (tmp_path / f"{name}.unfinished").exists()
        with pytest.raises(InputError, match=r"settings \(shorter side 80, JPEG 95\); --overwrite"):
            prepare_photos(folder, out, size=90)
        with pytest.raises(KeyboardInterrupt):
            prepare_photos(folder, out, size=90, overwrite=True, report=stop_after(4))
        assert open_photos(out).reduced_to == 80  # until the new one is whole
        assert prepare_photos(folder, out, size=90, overwrite=True).photos == 9
        assert open_photos(out).reduced_to == 90
        damaged = out if out.is_file() else out / packs.shard_name(0, 1)
        damaged.write_bytes(b"")
        with pytest.raises(InputError, match="--overwrite replaces it"):
            prepare_photos(folder, out, size=90)
        assert prepare_photos(folder, out, size=90, overwrite=True).photos == 9
        open_photos(out)


def test_orientation_and_profile_are_applied_once_and_notes_are_dropped(tmp_path):
    upright = noise(3, 160, 120)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera of someone"
    photos = tmp_path / "photos"
    photos.mkdir()
    turned.save(photos / "turned.jpg", quality=98, exif=exif, subsampling=0, comment=b"secret")
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    # A profile of swapped channels shows at once whether it was applied.
    swapped = swap_red_and_blue(color_profiles.srgb_profile())
    upright.save(photos / "profiled.png", icc_profile=swapped)
    upright.save(photos / "odd.png", icc_profile=lab)
    cmyk = upright.convert("CMYK")
    cmyk.save(photos / "print.jpg", quality=98)
    gray = upright.convert("L")
    gray.save(photos / "gray.png", icc_profile=b"broken")
    layer = upright.convert("RGBA")
    layer.putalpha(0)
    layer.save(photos / "clear.png", icc_profile=swapped)
    made = prepare_photos(photos, tmp_path / "pack", size=64, quality="raw")
    pack = dict(zip(open_photos(made.path).names, open_photos(made.path), strict=True))
    expected = np.asarray(upright.resize((85, 64), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(pack["turned.jpg"] - expected).mean() < 3
    np.testing.assert_array_equal(pack["odd.png"], expected)  # of another mode: not applied
    assert np.abs(pack["profiled.png"][..., ::-1] - expected).mean() < 12
    assert np.abs(pack["profiled.png"] - expected).mean() > 30
    assert (pack["clear.png"] == 255).all()
    assert np.abs(pack["print.jpg"] - expected).mean() < 3
    assert np.ptp(pack["gray.png"], axis=-1).max() == 0
    made = prepare_photos(photos, tmp_path / "jpegs", size=64)
    stored = packs.pack_files(made.path)
    for name in stored.names:
        data = stored.read(stored.names.index(name))
        picture = Image.open(io.BytesIO(data))
        assert picture.format == "JPEG" and picture.mode == "RGB"
        assert not dict(picture.getexif()) and "icc_profile" not in picture.info
        assert b"secret" not in data and b"someone" not in data


def swap_red_and_blue(profile):
    """Exchange the tags of two primaries in an ICC profile's table."""
    data = bytearray(profile)
    red, blue = data.index(b"rXYZ"), data.index(b"bXYZ")
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def test_the_quality_is_that_of_the_jpegs(folder, tmp_path):
    sizes = {}
    for quality in (60, 95, "raw"):
        made = prepare_photos(folder, tmp_path / str(quality), size=64, quality=quality)
        stored = packs.pack_files(made.path)
        sizes[quality] = sum(len(stored.read(k)) for k in range(9))
    assert sizes[60] < sizes[95] < sizes["raw"]


def sentence(error):
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_is_one_sentence_and_leaves_nothing(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    (tmp_path / "folder.array_record").mkdir()
    pack = prepare_photos(folder, tmp_path / "pack", size=64).path
    before = sorted(tmp_path.rglob("*"))
    cases = [
        ((folder, "x", {"size": 63}), "size 63 must be at least 64"),
        ((folder, "x", {"quality": 0}), "quality 0 must be from 1 to 100, or 'raw'"),
        ((folder, "x", {"quality": "good"}), "quality good must be"),
        ((folder, "x", {"workers": 0}), "workers 0 must be at least 1"),
        ((tmp_path / "no", "x", {}), "no' do not exist; give a folder"),
        ((pack, "x", {}), "pack' is a pack already; give the photographs"),
        ((folder, "mine", {"overwrite": True}), "mine' holds other files than a pack's"),
        ((folder, "mine/diary.txt", {}), "diary.txt' is a file; give a folder"),
        ((folder, "mine/diary.txt/x", {}), "cannot be made: '.*diary.txt' is a file"),
        ((folder, "folder.array_record", {}), "is a folder; a name that ends in"),
        ((folder, "photos", {"overwrite": True}), "holds other files than a pack's"),
    ]
    for (where, out, options), message in cases:
        with pytest.raises(InputError, match=message) as error:
            prepare_photos(where, tmp_path / out, **options)
        sentence(error)
    with pytest.raises(InputError, match="--out is empty"):
        prepare_photos(folder, "")
    assert sorted(tmp_path.rglob("*")) == before


def test_photographs_none_of_which_can_be_read_make_no_pack(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError) as error:
        prepare_photos(tmp_path / "photos", tmp_path / "pack")
    assert sentence(error) == (
        "none of the 1 photographs can be used; 'a.jpg': not a picture, or one broken at its start."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_two_at_once_are_not_mixed_up(folder, tmp_path):
    with (
        claimed(tmp_path / "pack.unfinished"),
        pytest.raises(InputError, match="another process prepares '.*pack' now"),
    ):
        prepare_photos(folder, tmp_path / "pack")


def test_a_full_disk_is_one_sentence_and_then_it_goes_on(folder, tmp_path, monkeypatch):
    library = packs.array_record()

    class Full:
        def __init__(self, path, options):
            self._writer = library.ArrayRecordWriter(path, options)
            self._room = 4

        def write(self, data):
            self._room -= 1
            if self._room < 0:
                raise RuntimeError(f"write() failed: {os.strerror(errno.ENOSPC)}; writing x; at 7")
            self._writer.write(data)

        def close(self):
            self._writer.close()

    fake = types.SimpleNamespace(
        ArrayRecordReader=library.ArrayRecordReader, ArrayRecordWriter=Full
    )
    with monkeypatch.context() as patch:
        patch.setattr(packs, "array_record", lambda: fake)
        with pytest.raises(InputError) as error:
            prepare_photos(folder, tmp_path / "pack", size=64, per_shard=9)
    assert sentence(error) == (
        f"the pack '{tmp_path / 'pack'}' cannot be written: No space left on device; the same "
        "command goes on where this one stopped."
    )
    assert not list(tmp_path.rglob("*.tmp"))
    assert prepare_photos(folder, tmp_path / "pack", size=64, per_shard=9).photos == 9


def test_names_that_are_not_text_and_a_home_folder(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    try:
        noise(0, 80, 80).save(os.path.join(os.fsencode(folder), b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system allows only names that are text")
    monkeypatch.setenv("HOME", str(tmp_path))
    made = prepare_photos(folder, pathlib.PurePath("~", "pack"), size=64)
    assert open_photos(tmp_path / "pack").names == open_photos(folder).names
    assert made.path == tmp_path / "pack"


def test_files_that_came_meanwhile_are_not_deleted(folder, tmp_path):
    def report(done, total):
        if done == total:
            (tmp_path / "pack").mkdir(exist_ok=True)
            (tmp_path / "pack" / "diary.txt").write_text("x")

    with pytest.raises(InputError, match="holds other files than a pack's"):
        prepare_photos(folder, tmp_path / "pack", size=64, report=report)
    assert [path.name for path in (tmp_path / "pack").iterdir()] == ["diary.txt"]
    (tmp_path / "pack" / "diary.txt").unlink()
    assert prepare_photos(folder, tmp_path / "pack", size=64).found == 11


def test_many_photographs_do_not_make_too_many_files(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for k in range(10):
        noise(k, 70, 70).save(tmp_path / "photos" / f"{k}.png")
    monkeypatch.setattr(preparing, "_MOST_SHARDS", 4)
    made = prepare_photos(tmp_path / "photos", tmp_path / "pack", size=64, per_shard=1)
    assert len(list(made.path.glob("*.array_record"))) == 4
    assert made.photos == 10
