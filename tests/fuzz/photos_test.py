"""Zips and folders of photographs: nothing is unpacked, nothing without end is read."""

import io
import os
import zipfile

import fuzz_kit
import fuzz_seeds
import pytest
from hypothesis import given

from jaxstyle.data import files, photos
from jaxstyle.types import InputError


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A photograph large enough to train on."""
    out = io.BytesIO()
    fuzz_seeds.pixels(side=64).save(out, "PNG")
    return out.getvalue()


def test_damaged_zips(tmp_path, photo):
    seed = fuzz_seeds.zipped({"a.png": photo, "b/c.png": photo}, zipfile.ZIP_DEFLATED)

    @fuzz_kit.fuzzed(80)
    @given(changes=fuzz_kit.edits())
    def look(changes):
        source = fuzz_kit.tried(
            photos.open_photos, fuzz_kit.write(tmp_path, "x.zip", fuzz_kit.damaged(seed, changes))
        )
        if isinstance(source, photos.Photos):
            for index in range(len(source)):
                fuzz_kit.tried(source.load, index)

    look()


def test_names_that_lead_out_of_the_zip(tmp_path, photo):
    names = ["../../out.png", "/out.png", "a/../../out.png", "C:\\out.png", "a\nb.png", "ü.png"]
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    file = fuzz_kit.write(inner, "x.zip", fuzz_seeds.zipped(dict.fromkeys(names, photo)))
    source = photos.open_photos(file)
    assert [source[index].shape for index in range(len(source))] == [
        (64, 64, 3)
    ] * 4  # .. is hidden
    assert [*inner.iterdir()] == [file] and [*tmp_path.rglob("out*")] == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_and_encrypted(tmp_path, photo):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.png", b"x")
        archive.writestr("a.png", photo)
    assert len(photos.open_photos(fuzz_kit.write(tmp_path, "x.zip", out.getvalue()))) == 1
    content = bytearray(out.getvalue())
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    with pytest.raises(InputError, match="is encrypted"):
        photos.open_photos(fuzz_kit.write(tmp_path, "y.zip", bytes(content)))


def test_an_entry_that_inflates_to_gigabytes(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 1 << 20)
    content = {"a.png": bytes(2 << 20), "b.png": photo}
    file = fuzz_kit.write(tmp_path, "x.zip", fuzz_seeds.zipped(content, zipfile.ZIP_DEFLATED))
    source = photos.open_photos(file)
    assert source[1].shape == (64, 64, 3)
    with pytest.raises(photos.UnreadablePhoto, match="2 MB; a photograph may have 1 MB"):
        source.load(0)


def test_an_entry_that_lies_about_its_length(tmp_path, photo):
    """No more is unpacked than the table of contents says."""
    content = bytearray(fuzz_seeds.zipped({"a.png": bytes(64 << 20)}, zipfile.ZIP_DEFLATED))
    at = content.index(b"PK\1\2")
    content[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    source = files.zip_files(fuzz_kit.write(tmp_path, "x.zip", bytes(content)))
    with pytest.raises(Exception) as error:
        source.read(0)
    assert not isinstance(error.value, MemoryError)


def test_what_is_no_file_in_a_folder(tmp_path, photo, monkeypatch):
    fuzz_kit.write(tmp_path, "z.png", photo)
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    (tmp_path / "d.png").mkdir()
    fuzz_kit.write(tmp_path, os.fsdecode(b"\xff.png"), photo)
    source = photos.open_photos(tmp_path)
    reasons = {}
    for index, name in enumerate(source.names):
        try:
            source.load(index)
        except photos.UnreadablePhoto as error:
            reasons[name] = error.reason
    assert {*reasons} == {"a.png", "b.png", "c.png"}
    assert reasons["a.png"] == reasons["b.png"] == "not a regular file"
    monkeypatch.setattr(files, "LARGEST", 100)
    with pytest.raises(ValueError, match="a photograph may have 0 MB"):
        files.folder_files(tmp_path).read(source.names.index("z.png"))
