"""Reading pictures: whatever a file holds, it is read or refused in a sentence."""

import io
import struct
import zlib

import fuzz_kit
import fuzz_seeds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.data import decode
from jaxstyle.io import images, opening
from jaxstyle.types import InputError

MOST = 1_000_000


@pytest.mark.parametrize("name", fuzz_seeds.pictures())
def test_the_seeds_are_pictures(tmp_path, name):
    assert images.read(fuzz_kit.write(tmp_path, "x", fuzz_seeds.pictures()[name])).pixels.size


def _looked_at(file):
    """Read as every caller does; what is read must be a picture."""
    fuzz_kit.tried(images.read_size, file, max_pixels=MOST)
    picture = fuzz_kit.tried(images.read, file, max_pixels=MOST)
    if isinstance(picture, images.Picture):
        pixels = picture.pixels
        assert pixels.dtype == np.float32 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1
        fuzz_kit.tried(images.write, file.with_name("out.png"), pixels, like=picture)
    return picture


@fuzz_kit.fuzzed(250)
@given(name=st.sampled_from(sorted(fuzz_seeds.pictures())), changes=fuzz_kit.edits())
def test_damaged_files(tmp_path_factory, name, changes):
    folder = tmp_path_factory.getbasetemp()
    _looked_at(
        fuzz_kit.write(folder, "x.png", fuzz_kit.damaged(fuzz_seeds.pictures()[name], changes))
    )


@fuzz_kit.fuzzed(60)
@given(name=st.sampled_from(sorted(fuzz_seeds.pictures())), changes=fuzz_kit.edits())
def test_damaged_photographs(name, changes):
    content = fuzz_kit.damaged(fuzz_seeds.pictures()[name], changes)
    try:
        picture = fuzz_kit.tried(decode.decode, content)
    except Exception as error:  # as documented; the caller names the file and goes on
        assert "\n" not in decode.reason(error) and decode.reason(error)
    else:
        assert picture[0].mode == "RGB"


@fuzz_kit.fuzzed(60)
@given(start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"GIF89a",
                              b"P6 "]),
       rest=st.binary(max_size=200))  # fmt: skip
def test_noise(tmp_path_factory, start, rest):
    _looked_at(fuzz_kit.write(tmp_path_factory.getbasetemp(), "x.jpg", start + rest))


@fuzz_kit.fuzzed(30)
@given(changes=fuzz_kit.edits(8), kind=st.sampled_from(["sRGB", "LAB", "XYZ"]))
def test_damaged_color_profiles(tmp_path_factory, changes, kind):
    out = io.BytesIO()
    profile = fuzz_kit.damaged(fuzz_seeds.profile(kind), changes)
    fuzz_seeds.pixels().save(out, "JPEG", icc_profile=profile or b"x")
    picture = _looked_at(fuzz_kit.write(tmp_path_factory.getbasetemp(), "x.jpg", out.getvalue()))
    assert isinstance(picture, images.Picture)  # a profile is no reason to lose a picture


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_orientations_that_there_are_not(tmp_path, orientation):
    out = io.BytesIO()
    fuzz_seeds.pixels(side=8).crop((0, 0, 8, 4)).save(
        out, "JPEG", exif=fuzz_seeds.exif(orientation)
    )
    file = fuzz_kit.write(tmp_path, "x.jpg", out.getvalue())
    assert images.read(file).pixels.shape == (4, 8, 3) and images.read_size(file) == (4, 8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG that says it is of a size, and is not."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [
        _chunk(b"IHDR", header),
        *more,
        _chunk(b"IDAT", zlib.compress(b"")),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _jpeg(width: int, height: int) -> bytes:
    content = bytearray(fuzz_seeds.pictures()["jpeg"])
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def _gif(width: int, height: int) -> bytes:
    content = bytearray(fuzz_seeds.pictures()["gif"])
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


@pytest.mark.parametrize("make", [png, _jpeg, _gif])
def test_declared_sizes_beyond_the_limit(tmp_path, make):
    file = fuzz_kit.write(tmp_path, "x", make(40_000, 40_000))
    with pytest.raises(InputError, match=r"1600.0 megapixels, and the limit is 200.0; raise it"):
        images.read(file)
    with pytest.raises(InputError, match="megapixels, and the limit"):
        images.read_size(file)


def test_declared_sizes_beyond_the_memory(tmp_path, monkeypatch):
    """200 megapixels are allowed, but not where they do not fit."""
    monkeypatch.setattr(opening.runtime, "free_memory", lambda: 2_000_000_000)
    for content in (png(14_000, 14_000), _jpeg(14_000, 14_000), _gif(14_000, 14_000)):
        file = fuzz_kit.write(tmp_path, "x", content)
        with pytest.raises(InputError, match=r"takes 4.7 GB to read, but 2.0 GB are free; make it"):
            images.read(file)
        assert images.read_size(file) == (14_000, 14_000)  # the header alone costs nothing


@pytest.mark.parametrize("make", [png, _jpeg, _gif])
def test_training_refuses_declared_sizes_beyond_the_limit(make):
    with pytest.raises(ValueError, match="60000 x 60000 pixels, at most 200 million are read"):
        decode.decode(make(60_000, 60_000))


def test_training_takes_what_the_largest_cameras_make():
    """Pillow would warn of it, on the terminal; warnings are errors here."""
    picture, _ = decode.decode(_jpeg(14_204, 10_652), shorter_side=300)
    assert picture.size == (1332, 1776)  # read at an eighth, and turned


def test_a_limit_of_our_own_in_place_of_pillows(tmp_path, monkeypatch):
    """TIFF files look at Pillow's limit while they are decoded."""
    file = tmp_path / "x.tif"
    fuzz_seeds.pixels(side=64).save(file, compression="tiff_lzw")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert images.read(file).pixels.shape == (64, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(InputError):
        images.read(file, max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_notes_that_inflate_without_end(tmp_path, kind):
    bomb = _chunk(kind, b"x\0\0" + zlib.compress(bytes(16 << 20), 1))
    fuzz_kit.tried(images.read, fuzz_kit.write(tmp_path, "x.png", png(4, 4, bomb)))


@pytest.mark.parametrize("name", ["zip", "html", "pdf", "eps", "svg"])
def test_other_files_with_a_pictures_name(tmp_path, name):
    content = {
        "zip": fuzz_seeds.zipped({"a.png": fuzz_seeds.pictures()["png"]}),
        "html": b"<!doctype html><html></html>",
        "pdf": b"%PDF-1.4\n",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }[name]
    with pytest.raises(InputError, match="is not a picture that can be read"):
        images.read(fuzz_kit.write(tmp_path, "a.png", content))
