import numpy as np
import pytest
from PIL import Image

from jaxstyle.data import decode

KINDS = {
    "baseline JPEG": ("JPEG", {"quality": 90}),
    "progressive JPEG": ("JPEG", {"quality": 90, "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"quality": 80}),
    "TIFF": ("TIFF", {"compression": "tiff_lzw"}),
}


def noise(width=97, height=80):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width]


def test_lossless_pixels_come_back(encode):
    pixels = noise()
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        picture, form = decode.decode(encode(pixels, kind))
        np.testing.assert_array_equal(np.asarray(picture), pixels)
        assert form == ""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(encode, orientation):
    upright = noise()
    # How a camera stores a scene it tags with each orientation (EXIF 2.32, table 6): the array
    # whose display, after the tag's transformation, is `upright`.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, _ = decode.decode(encode(np.ascontiguousarray(stored), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(picture), upright)


def test_gray_becomes_rgb(encode):
    gray = noise()[..., 0]
    picture, form = decode.decode(encode(gray))
    np.testing.assert_array_equal(np.asarray(picture), np.repeat(gray[..., None], 3, -1))
    assert form == "grayscale"


def test_16_bit_gray_is_scaled_not_clipped(encode):
    gray = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    picture, form = decode.decode(encode(gray))
    assert picture.mode == "RGB"
    error = np.asarray(picture)[..., 1] - gray / 257
    assert np.abs(error).max() <= 0.5
    assert form == "16-bit grayscale"


def test_palette_becomes_rgb(encode):
    picture = Image.fromarray(noise()).quantize(16)
    back, form = decode.decode(encode(picture))
    np.testing.assert_array_equal(np.asarray(back), np.asarray(picture.convert("RGB")))
    assert form == "palette"


def test_cmyk_jpeg_becomes_rgb(encode):
    inks = np.zeros((40, 60, 4), np.uint8)
    inks[:20, :, 0] = 255  # cyan above, a half black below
    inks[20:, :, 3] = 128
    data = encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    picture, form = decode.decode(data)
    pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[4:12] - [0, 255, 255]).max() < 12
    assert np.abs(pixels[28:36] - 127).max() < 12
    assert form == "CMYK"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(encode, mode):
    layer = Image.new("RGBA", (10, 8), (0, 0, 0, 255))
    layer.paste((200, 0, 0, 0), (0, 0, 5, 8))  # hidden color on the left
    picture, form = decode.decode(encode(layer.convert(mode)))
    pixels = np.asarray(picture)
    assert (pixels[:, :5] == 255).all()
    assert (pixels[:, 5:] == 0).all()
    assert form in ("transparent", "grayscale", "palette")


def test_one_frame_of_an_animation(encode):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode.decode(data)[0].getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("needed", [50, 99, 100, 101, 200, 400, 900])
def test_a_large_jpeg_is_decoded_small_but_never_too_small(encode, needed):
    smooth = Image.effect_noise((13, 10), 80).convert("RGB").resize((1040, 800), Image.BICUBIC)
    data = encode(smooth, "JPEG", quality=95)
    full, _ = decode.decode(data)
    small, _ = decode.decode(data, shorter_side=needed)
    assert full.size == (1040, 800)
    assert min(needed, 800) <= small.height < max(2 * needed, 801)
    assert small.width / small.height == pytest.approx(1.3, rel=0.01)
    expected = full.resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(expected)).max() <= 6


def test_only_what_is_smaller_than_the_minimum_is_refused(encode):
    decode.decode(encode(noise(64, 90)), minimum=64)
    with pytest.raises(ValueError, match="63 x 90 pixels, the shorter side must have 64"):
        decode.decode(encode(noise(63, 90)), minimum=64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.0, 0.002, 0.05, 0.5, 0.9])
def test_a_truncated_file_raises_and_has_a_reason_without_paths_or_addresses(
    encode, kind, fraction
):
    name, options = KINDS[kind]
    data = encode(noise(), name, **options)
    decode.decode(data)
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 -- what it is depends on the decoder
        decode.decode(data[: int(fraction * len(data))])
    reason = decode.reason(caught.value)
    assert reason
    assert "\n" not in reason and "BytesIO" not in reason and "0x" not in reason


def test_other_files_are_not_pictures():
    for data in (b"", b"hello", b"%PDF-1.4", b"\x00" * 1000):
        with pytest.raises(OSError) as caught:
            decode.decode(data)
        assert decode.reason(caught.value) == "not a picture, or one broken at its start"


def test_floating_point_pixels_are_refused(encode):
    with pytest.raises(ValueError, match="floating-point"):
        decode.decode(encode(Image.new("F", (20, 20)), "TIFF"))


def test_the_picture_does_not_hold_the_file(encode):
    picture, _ = decode.decode(encode(noise(), "JPEG"))
    assert type(picture) is Image.Image
    assert decode.bytes_in_memory(picture) == 4 * 97 * 80
