import os
import pickle
import socket
import zipfile

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxstyle.data import UnreadablePhoto, open_photos
from jaxstyle.types import InputError


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("where", ["", "skimage"])
def test_the_bundled_photographs_are_scikit_images_without_network(no_network, where):
    photos = open_photos(where)
    originals = {
        "astronaut.png": skimage.data.astronaut(),
        "camera.png": np.repeat(skimage.data.camera()[..., None], 3, -1),
        "chelsea.png": skimage.data.chelsea(),
        "coffee.png": skimage.data.coffee(),
        "motorcycle_left.png": skimage.data.stereo_motorcycle()[0],
        "rocket.jpg": skimage.data.rocket(),
    }
    assert photos.names == tuple(originals)
    for index, original in enumerate(originals.values()):
        assert photos[index].dtype == np.uint8
        np.testing.assert_array_equal(photos[index], original)


def test_indices_behave_as_a_lists(photo_folder):
    photos = open_photos(photo_folder(3))
    assert len(photos) == 3
    assert [pixels[0, 0, 2] for pixels in photos] == [10, 20, 30]
    np.testing.assert_array_equal(photos[-1], photos[2])
    with pytest.raises(IndexError):
        photos[3]
    with pytest.raises(TypeError):
        photos[0.5]


def test_zip_and_folder_give_the_same_pixels_names_and_fingerprint(photo_folder, tmp_path):
    folder = photo_folder(3)
    with zipfile.ZipFile(tmp_path / "Übung.ZIP", "w") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, path.name)
    photos, zipped = open_photos(folder), open_photos(str(tmp_path / "Übung.ZIP"))
    assert zipped.names == photos.names
    assert zipped.fingerprint == photos.fingerprint
    for pixels, other in zip(photos, zipped, strict=True):
        np.testing.assert_array_equal(pixels, other)


def test_the_fingerprint_tells_other_names(photo_folder):
    folder = photo_folder(3)
    before = open_photos(folder).fingerprint
    assert open_photos(folder).fingerprint == before
    (folder / "photo00.png").rename(folder / "photo09.png")
    assert open_photos(folder).fingerprint != before


def test_a_broken_or_tiny_photograph_says_which_and_why(photo_folder, encode):
    folder = photo_folder(1, {"z_tiny.png": encode(np.zeros((63, 500, 3), np.uint8))})
    whole = (folder / "photo00.png").read_bytes()
    (folder / "z_cut.png").write_bytes(whole[: len(whole) // 2])
    photos = open_photos(folder)
    assert photos.names == ("photo00.png", "z_cut.png", "z_tiny.png")
    with pytest.raises(UnreadablePhoto) as caught:
        photos[2]
    assert str(caught.value) == (
        "photograph 'z_tiny.png' cannot be used: 500 x 63 pixels, the shorter side must have 64."
    )
    with pytest.raises(UnreadablePhoto, match="photograph 'z_cut.png' cannot be used: .*truncated"):
        photos[1]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, copy.reason, str(copy)) == (
        caught.value.name,
        caught.value.reason,
        str(caught.value),
    )
    assert open_photos(folder, minimum=63)[2].shape == (63, 500, 3)


def test_a_photograph_that_vanishes_is_unreadable(photo_folder):
    folder = photo_folder(2)
    photos = open_photos(folder, cache_bytes=0)
    (folder / "photo01.png").unlink()
    with pytest.raises(UnreadablePhoto, match="photo01.png.*: No such file or directory"):
        photos[1]


def test_where_nothing_is_usable_is_one_sentence(photo_folder, tmp_path, encode):
    folder = photo_folder(0, {"a.jpg": b"", "b.png": encode(np.zeros((9, 9, 3), np.uint8))})
    with pytest.raises(InputError) as caught:
        open_photos(folder)
    assert str(caught.value) == (
        f"none of the 2 photographs of '{folder}' can be used; "
        "'a.jpg': not a picture, or one broken at its start."
    )


def test_what_is_not_a_source_is_one_sentence(photo_folder, tmp_path):
    folder = photo_folder(1)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "fake.zip").write_text("hello")
    cases = {
        str(tmp_path / "nowhere"): "do not exist; give a folder, a .zip, or 'skimage'",
        str(tmp_path / "notes.txt"): r"notes.txt' are neither a folder nor a \.zip\.$",
        str(folder / "photo00.png"): f"give its folder, '{folder}'",
        str(tmp_path / "fake.zip"): "cannot be read as a zip",
    }
    for where, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            open_photos(where)
        assert "\n" not in str(caught.value)


def test_a_home_folder_may_be_written_with_a_tilde(photo_folder, monkeypatch, tmp_path):
    photo_folder(2)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(open_photos(os.path.join("~", "photos"))) == 2


def test_decoded_photographs_are_kept_up_to_the_limit(photo_folder):
    folder = photo_folder(3)  # 120 x 90 pixels of four bytes: 43200 each
    photos = open_photos(folder, cache_bytes=100_000)
    before = [photos[i] for i in range(3)]
    for path in folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(photos[0], before[0])
    np.testing.assert_array_equal(photos[1], before[1])
    with pytest.raises(UnreadablePhoto):
        photos[2]


def test_a_pickled_source_reads_anew(photo_folder):
    photos = open_photos(photo_folder(2))
    small, full = len(pickle.dumps(photos)), photos[0].nbytes
    assert small < full / 4  # the cache stays behind
    copy = pickle.loads(pickle.dumps(photos))
    assert copy.names == photos.names
    np.testing.assert_array_equal(copy[1], photos[1])


def test_the_needed_size_reaches_the_decoder(tmp_path, encode):
    (tmp_path / "big.jpg").write_bytes(encode(Image.new("RGB", (1200, 800), "teal"), "JPEG"))
    photos = open_photos(tmp_path)
    assert photos[0].shape == (800, 1200, 3)
    assert photos.load(0, shorter_side=150).picture.size == (300, 200)
    assert photos.load(0).picture.size == (1200, 800)


def test_names_that_are_not_text_are_usable(photo_folder):
    folder = photo_folder(1)
    try:
        os.rename(folder / "photo00.png", os.path.join(os.fsencode(folder), b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system allows only names that are text")
    photos = open_photos(folder)
    assert photos[0].shape == (90, 120, 3)
    assert len(photos.fingerprint) == 16
