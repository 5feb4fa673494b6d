import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.io import images
from jaxstyle.types import InputError

RNG = np.random.default_rng(0)
# An F: no rotation or reflection of it looks like another.
UPRIGHT = np.kron(
    np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], np.uint8) * 200,
    np.ones((8, 8), np.uint8),
)
# How a file stores an upright picture, by its orientation (EXIF 2.32, 4.6.4, tag 0x0112).
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def png(array: np.ndarray, color_type: int, *, chunks: bytes = b"", size=None) -> bytes:
    """A PNG with 16 bits per channel, which Pillow cannot write."""
    height, width = size or array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp", ".ppm"])
def test_lossless_formats_give_back_every_byte(tmp_path, suffix):
    array = np.arange(256 * 3, dtype=np.uint16).reshape(16, 16, 3).astype(np.uint8)
    images.write(tmp_path / f"a{suffix}", array.astype(np.float32) / 255)
    picture = images.read(tmp_path / f"a{suffix}")
    assert picture.pixels.dtype == np.float32
    np.testing.assert_array_equal(picture.pixels * 255, array)
    with Image.open(tmp_path / f"a{suffix}") as image:
        np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_survives_to_the_bit(tmp_path, suffix, mode):
    array = noise(20, 30, 4)
    Image.fromarray(array).convert(mode).save(tmp_path / "in.png")
    picture = images.read(tmp_path / "in.png")
    np.testing.assert_array_equal(picture.alpha * 255, array[..., 3])
    images.write(tmp_path / f"out{suffix}", 1 - picture.pixels, like=picture)
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3], array[..., 3])


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_formats_without_alpha_put_the_picture_on_white(tmp_path, suffix):
    alpha = np.repeat(np.array([0, 0.5, 1], np.float32), 16)[None].repeat(16, 0)
    picture = images.Picture(np.zeros((16, 48, 3), np.float32), alpha)
    assert not images.holds_alpha(tmp_path / f"a{suffix}")
    images.write(tmp_path / f"a{suffix}", picture.pixels, like=picture)
    written = images.read(tmp_path / f"a{suffix}")
    assert written.alpha is None
    np.testing.assert_allclose(written.pixels[8, [8, 24, 40], 1], [1, 0.5, 0], atol=1.5 / 255)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied_and_not_written_again(tmp_path, suffix, orientation):
    upright = np.repeat(UPRIGHT[..., None], 3, -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"in{suffix}"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(path, exif=exif)
    picture = images.read(path)
    assert images.read_size(path) == picture.pixels.shape[:2] == (40, 24)
    np.testing.assert_allclose(picture.pixels, upright / 255, atol=0.1)
    images.write(tmp_path / f"out{suffix}", picture.pixels, like=picture)
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert image.size == (24, 40)


def test_metadata_that_is_damaged_does_not_cost_the_picture(tmp_path):
    array = noise(16, 16, 3)
    Image.fromarray(array).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert images.read_size(tmp_path / "a.png") == (16, 16)
        np.testing.assert_array_equal(images.read(tmp_path / "a.png").pixels * 255, array)


def gray_png(tmp_path, array, **options):
    Image.fromarray(array).save(tmp_path / "a.png", **options)
    return images.read(tmp_path / "a.png")


def test_gray(tmp_path):
    array = noise(9, 7)
    picture = gray_png(tmp_path, array)
    np.testing.assert_array_equal(picture.pixels * 255, np.repeat(array[..., None], 3, -1))
    assert (picture.alpha, picture.mode, picture.bits, picture.format) == (None, "L", 8, "PNG")


def test_gray_with_one_transparent_value(tmp_path):
    array = np.array([[0, 7, 255]], np.uint8)
    picture = gray_png(tmp_path, array, transparency=7)
    np.testing.assert_array_equal(picture.alpha, [[1, 0, 1]])
    np.testing.assert_array_equal(picture.pixels[..., 0] * 255, array)


def test_rgb_with_one_transparent_color(tmp_path):
    array = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    picture = gray_png(tmp_path, array, transparency=(4, 5, 6))
    np.testing.assert_array_equal(picture.alpha, [[1, 0]])
    np.testing.assert_array_equal(picture.pixels * 255, array)


def test_one_bit(tmp_path):
    picture = gray_png(tmp_path, np.array([[True, False, True]]))
    np.testing.assert_array_equal(picture.pixels[..., 0], [[1, 0, 1]])
    assert picture.bits == 1


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=bytes([255, 128, 0]))
    picture = images.read(tmp_path / "a.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(
        picture.pixels[0] * 255, [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    )
    np.testing.assert_array_equal(picture.alpha * 255, [[255, 128, 0]])


def test_gif_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture = images.read(tmp_path / "a.gif")
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to([1.0, 0, 0], (4, 5, 3)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_gray_keeps_all_its_bits(tmp_path, suffix):
    array = np.array([[0, 1, 255, 256, 40000, 65535]], np.uint16)
    Image.fromarray(array).save(tmp_path / f"a{suffix}")
    picture = images.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(picture.pixels[..., 2], array.astype(np.float32) / 65535)
    assert picture.bits == 16


def test_deep_gray_with_one_transparent_value(tmp_path):
    array = np.array([[300, 301]], np.uint16)
    transparent = chunk(b"tRNS", struct.pack(">H", 301))
    (tmp_path / "a.png").write_bytes(png(array, 0, chunks=transparent))
    np.testing.assert_array_equal(images.read(tmp_path / "a.png").alpha, [[1, 0]])


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4)])
def test_deep_color_png_is_read_with_eight_bits(tmp_path, color_type, channels):
    array = RNG.integers(0, 65536, (6, 5, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(array, color_type))
    picture = images.read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels * 255, array[..., :3] >> 8)
    assert (picture.alpha is not None) == (channels == 4)


def test_deep_color_tiff_is_read_with_eight_bits(tmp_path):
    array = RNG.integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    picture = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels * 255, array >> 8)


@pytest.mark.parametrize(
    ("brightest", "white"), [(0.5, 1), (1.0, 1), (200, 255), (60000, 65535), (1e6, 1e6)]
)
def test_float_tiff_is_scaled_by_the_white_it_seems_to_have(tmp_path, brightest, white):
    array = np.array([[0, brightest / 4, brightest, -1, np.nan, np.inf]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    values = images.read(tmp_path / "a.tif").pixels[0, :, 0]
    expected = [0, brightest / 4 / white, brightest / white, 0, 0, 1]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_32_bit_integers_are_scaled_by_the_brightest_unless_they_fit_16_bits(tmp_path):
    for array, white in (([[0, 65535]], 65535), ([[0, 2**20]], 2**20)):
        tifffile.imwrite(tmp_path / "a.tif", np.array(array, np.int32), photometric="minisblack")
        values = images.read(tmp_path / "a.tif").pixels[0, :, 0]
        np.testing.assert_allclose(values, np.array(array[0]) / white, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_without_a_profile(tmp_path, suffix):
    inks = np.zeros((16, 64, 4), np.uint8)
    inks[:, 16:32, 0] = 255  # cyan
    inks[:, 32:48, 3] = 255  # black
    inks[:, 48:, 1:3] = 255  # magenta and yellow
    image = Image.frombytes("CMYK", (64, 16), inks.tobytes())
    image.save(tmp_path / f"a{suffix}", **({"quality": 100} if suffix == ".jpg" else {}))
    picture = images.read(tmp_path / f"a{suffix}")
    assert (picture.mode, picture.icc_profile) == ("CMYK", None)
    colors = picture.pixels[8, [8, 24, 40, 56]]
    np.testing.assert_allclose(colors, [[1, 1, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]], atol=4 / 255)


def test_cmyk_with_a_profile_follows_it_and_the_output_is_rgb(tmp_path, ink_profile):
    inks = noise(8, 8, 4)
    image = Image.frombytes("CMYK", (8, 8), inks.tobytes())
    image.save(tmp_path / "a.tif", icc_profile=ink_profile)
    picture = images.read(tmp_path / "a.tif")
    lightness = 100 - 25 * (inks / 255).sum(-1)
    scaled = (lightness + 16) / 116  # CIE 15, L* to Y
    light = np.where(scaled > 6 / 29, scaled**3, 3 * (6 / 29) ** 2 * (scaled - 4 / 29))
    gray = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(picture.pixels, np.repeat(gray[..., None], 3, -1), atol=1.5 / 255)
    assert picture.icc_profile is None
    images.write(tmp_path / "b.tif", picture.pixels, like=picture)
    with Image.open(tmp_path / "b.tif") as written:
        assert written.mode == "RGB" and "icc_profile" not in written.info


def test_lab(tmp_path):
    lab = np.array([[[255, 128, 128], [0, 128, 128], [128, 128, 128]]], np.uint8)
    lab[..., 1:] -= 128  # TIFF's a* and b* are signed
    Image.frombytes("LAB", (3, 1), lab.tobytes()).save(tmp_path / "a.tif")
    picture = images.read(tmp_path / "a.tif")
    assert picture.mode == "LAB"
    scaled = (100 * 128 / 255 + 16) / 116
    middle = 1.055 * scaled ** (3 / 2.4) - 0.055
    np.testing.assert_allclose(picture.pixels[0, :, 1], [1, 0, middle], atol=1.5 / 255)


def test_rgb_with_a_profile_is_converted_to_srgb(tmp_path, wide_profile, from_wide):
    array = noise(24, 24, 3)
    Image.fromarray(array).save(tmp_path / "a.png", icc_profile=wide_profile)
    picture = images.read(tmp_path / "a.png")
    np.testing.assert_allclose(picture.pixels, from_wide(array / 255), atol=1.5 / 255)
    assert np.abs(picture.pixels - array / 255).max() > 0.1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_the_profile_is_written_and_the_colors_look_the_same(
    tmp_path, wide_profile, from_wide, suffix
):
    pixels = np.kron(RNG.uniform(0, 1, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.float32)
    picture = images.Picture(pixels, icc_profile=wide_profile)
    images.write(tmp_path / f"a{suffix}", pixels, like=picture)
    with Image.open(tmp_path / f"a{suffix}") as written:
        assert written.info["icc_profile"] == wide_profile
        shown = from_wide(np.asarray(written.convert("RGB")) / 255)
    # Lossless: half a level of rounding in each space, the first up to 3 levels near black.
    tolerance = 3 / 255 if suffix in (".png", ".tif") else 12 / 255
    np.testing.assert_allclose(shown[8::16, 8::16], pixels[8::16, 8::16], atol=tolerance)


def test_reading_and_writing_with_a_profile_moves_no_color_inside_srgb_by_much(
    tmp_path, wide_profile, from_wide
):
    array = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png", icc_profile=wide_profile)
    picture = images.read(tmp_path / "a.png")
    images.write(tmp_path / "b.png", picture.pixels, like=picture)
    before, after = from_wide(array / 255), images.read(tmp_path / "b.png").pixels
    inside = ((before > 0.05) & (before < 0.95)).all(-1)
    assert inside.sum() > 1000
    np.testing.assert_allclose(after[inside], before[inside], atol=2.5 / 255)


def test_gray_profile_gives_its_tones_and_ends_there(tmp_path, gray_profile):
    array = np.arange(0, 65536, 257, dtype=np.uint16)[None]
    light = array / 65535
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    for name, stored in (("a.png", (array >> 8).astype(np.uint8)), ("b.tif", array)):
        Image.fromarray(stored).save(tmp_path / name, icc_profile=gray_profile)
        picture = images.read(tmp_path / name)
        np.testing.assert_allclose(picture.pixels[..., 0], expected, atol=1.5 / 255)
        assert picture.icc_profile is None


def test_a_profile_of_srgb_changes_nothing_and_is_kept(tmp_path):
    from jaxstyle.io import color_profiles

    array, profile = noise(40, 40, 3), color_profiles.srgb_profile()
    Image.fromarray(array).save(tmp_path / "a.png", icc_profile=profile)
    picture = images.read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels * 255, array)
    images.write(tmp_path / "b.png", picture.pixels, like=picture)
    with Image.open(tmp_path / "b.png") as written:
        np.testing.assert_array_equal(np.asarray(written), array)
        assert written.info["icc_profile"] == profile


@pytest.mark.parametrize("damage", ["garbage", "cut", "other mode"])
def test_an_unusable_profile_is_dropped(tmp_path, wide_profile, gray_profile, damage):
    profile = {"garbage": b"x" * 200, "cut": wide_profile[:300], "other mode": gray_profile}[damage]
    array = noise(8, 8, 3)
    Image.fromarray(array).save(tmp_path / "a.png", icc_profile=profile)
    picture = images.read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels * 255, array)
    assert picture.icc_profile is None


def test_formats_without_a_profile_stay_srgb(tmp_path, wide_profile):
    pixels = noise(8, 8, 3).astype(np.float32) / 255
    images.write(tmp_path / "a.bmp", pixels, like=images.Picture(pixels, icc_profile=wide_profile))
    np.testing.assert_array_equal(images.read(tmp_path / "a.bmp").pixels, pixels)


@pytest.mark.parametrize("name", ["Grüße.png", "写真 №1.jpg", "emoji 🎨.webp", "a b'c\".tif"])
def test_any_name_works(tmp_path, name):
    path = tmp_path / "Ordner ä" / name
    images.write(path, np.full((4, 5, 3), 0.5))
    assert images.read(os.fspath(path)).pixels.shape == (4, 5, 3)
    assert os.listdir(path.parent) == [name]


def test_names_that_are_not_unicode_work(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    images.write(path, np.zeros((1, 2, 3)))
    assert images.read_size(path) == (1, 2)


def make_bad_file(tmp_path, kind):
    path = tmp_path / "bad.jpg"
    whole = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(whole, "JPEG")
    contents = {
        "empty": b"",
        "text": b"this is a shopping list, not a photograph\n" * 20,
        "truncated": whole.getvalue()[: len(whole.getvalue()) // 2],
        "header only": whole.getvalue()[:30],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "bomb": png(np.zeros((1, 1)), 0, size=(60000, 60000)),
        "no pixels": png(np.zeros((1, 1)), 0, size=(0, 5)),
    }
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no file"),
        ("folder", "is a folder"),
        ("pipe", "not a regular file"),
        ("empty", "is empty"),
        ("text", "not a picture that can be read"),
        ("postscript", "not a picture that can be read"),
        ("header only", "damaged or truncated"),
        ("truncated", "damaged or truncated"),
        ("bomb", "60000x60000, 3600.0 megapixels, and the limit is 200.0"),
        ("no pixels", "cannot be read|without pixels|not a picture"),
    ],
)
def test_a_bad_file_gives_one_sentence(tmp_path, kind, message):
    path = make_bad_file(tmp_path, kind)
    with pytest.raises(InputError, match=message) as caught:
        images.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    if kind != "truncated":  # the header is all there is to see
        with pytest.raises(InputError, match=message):
            images.read_size(path)


def test_a_name_too_long_gives_one_sentence(tmp_path):
    with pytest.raises(InputError, match="File name too long"):
        images.read(tmp_path / ("x" * 300 + ".png"))
    with pytest.raises(InputError, match="File name too long"):
        images.write(tmp_path / ("x" * 300 + ".png"), np.zeros((1, 1, 3)))


def test_the_limit_on_pixels_is_a_parameter_and_pillows_own_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    images.write(tmp_path / "a.png", np.zeros((10, 10, 3)))
    assert images.read(tmp_path / "a.png", max_pixels=100).pixels.shape == (10, 10, 3)
    assert images.read(tmp_path / "a.png", max_pixels=None).pixels.shape == (10, 10, 3)
    with pytest.raises(InputError, match="max_pixels"):
        images.read(tmp_path / "a.png", max_pixels=99)
    assert Image.MAX_IMAGE_PIXELS == 10


def sample_files() -> dict[str, bytes]:
    array, files = noise(20, 24, 3), {}
    for name in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(array).save(file, name)
        files[name] = file.getvalue()
    return files


SAMPLES = sample_files()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_whatever_is_in_a_file_it_gives_a_picture_or_one_sentence(tmp_path, data, name):
    content = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    (tmp_path / "a").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd metadata
        try:
            picture = images.read(tmp_path / "a", max_pixels=10**6)
        except InputError as error:
            assert "\n" not in str(error)
            return
    height, width = picture.pixels.shape[:2]
    assert picture.pixels.shape == (height, width, 3) and picture.pixels.dtype == np.float32
    assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1
    assert picture.alpha is None or picture.alpha.shape == (height, width)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    images.write(tmp_path / "a.png", np.zeros((2, 2, 3)))
    before = (tmp_path / "a.png").read_bytes()

    def full(image, file, name, **options):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match=r"a\.png' cannot be written: No space left on device\."):
        images.write(tmp_path / "a.png", np.ones((2, 2, 3)))
    assert os.listdir(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_files_get_the_users_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    images.write(tmp_path / "a.png", np.zeros((1, 1, 3)))
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("a.gif", np.zeros((1, 1, 3)), "no suffix that can be written; choose .jpg"),
        ("a", np.zeros((1, 1, 3)), "no suffix that can be written"),
        ("a.png", np.zeros((1, 1)), r"shape \[1, 1\]"),
        ("a.png", np.zeros((1, 0, 3)), r"shape \[1, 0, 3\]"),
        ("a.png", np.zeros((1, 1, 3), np.uint8), "uint8; give floating point"),
        ("a.png", np.full((1, 1, 3), np.nan), "not finite"),
        ("a.webp", np.zeros((1, 16384, 3)), "1x16384, but WEBP holds at most 16383"),
        ("a.jpg", np.zeros((65501, 1, 3)), "65501x1, but JPEG holds at most 65500"),
        ("folder.png", np.zeros((1, 1, 3)), "cannot be written"),
        ("file/a.png", np.zeros((1, 1, 3)), "cannot be written"),
    ],
)
def test_what_cannot_be_written_gives_one_sentence(tmp_path, name, pixels, message):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        images.write(tmp_path / name, pixels)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


def test_alpha_of_another_size_is_refused(tmp_path):
    like = images.Picture(np.zeros((2, 3, 3), np.float32), np.ones((2, 3), np.float32))
    with pytest.raises(InputError, match="4x4.*2x3"):
        images.write(tmp_path / "a.png", np.zeros((4, 4, 3)), like=like)


def test_jpeg_keeps_color_edges(tmp_path):
    """Chroma is not subsampled: alternating red and blue columns stay apart."""
    pixels = np.zeros((32, 32, 3))
    pixels[:, ::2, 0] = pixels[:, 1::2, 2] = 0.8
    images.write(tmp_path / "a.jpg", pixels)
    np.testing.assert_allclose(images.read(tmp_path / "a.jpg").pixels, pixels, atol=0.1)


def test_resizing_keeps_flat_pictures_flat_and_averages_fine_ones():
    np.testing.assert_allclose(images.resize_shorter(np.full((50, 70, 3), 0.3), 20), 0.3, atol=1e-6)
    checkerboard = np.indices((64, 96)).sum(0)[..., None].repeat(3, -1) % 2
    small = images.resize_shorter(checkerboard.astype(np.float32), 8)
    np.testing.assert_allclose(small, 0.5, atol=0.02)


@pytest.mark.parametrize("side", [16, 96])
def test_resizing_samples_a_ramp_at_pixel_centers(side):
    values = (np.arange(48) + 0.5) / 48
    ramp = np.broadcast_to(values[None, :, None], (32, 48, 3)).astype(np.float32)
    resized = images.resize_shorter(ramp, side)
    width = side * 3 // 2
    expected = (np.arange(width) + 0.5) / width
    margin = width // 6  # Lanczos sees the border within three (source or target) pixels
    inner = resized[side // 2, margin:-margin, 1]
    np.testing.assert_allclose(inner, expected[margin:-margin], atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), side=st.integers(1, 80))
def test_resizing_gives_the_side_and_the_proportions(height, width, side):
    resized = images.resize_shorter(np.ones((height, width, 3), np.float32), side)
    shorter, longer = sorted(resized.shape[:2])
    assert shorter == side
    assert abs(longer - side * max(height, width) / min(height, width)) <= 0.5
    assert (resized.shape[0] <= resized.shape[1]) == (height <= width) or shorter == longer
    np.testing.assert_allclose(resized, 1, atol=1e-6)


def test_resizing_to_nothing_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        images.resize_shorter(np.ones((4, 4, 3)), 0)


def test_reading_a_real_photograph(shared_data):
    path = shared_data / "content" / "chicago.jpg"
    picture = images.read(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(picture.pixels * 255, np.asarray(image.convert("RGB")))
    assert picture.pixels.shape == (474, 712, 3) == (*images.read_size(path), 3)
    assert (picture.format, picture.mode, picture.bits) == ("JPEG", "RGB", 8)
