"""Pictures made for the tests: coordinates as colors, so that a crop tells where it came from."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxstyle.data import Photos, open_photos


def _coordinates(width: int, height: int, blue: int = 0) -> np.ndarray:
    assert max(width, height) <= 256
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    pixels[..., 2] = blue
    return pixels


def _encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def coordinates() -> Callable[..., np.ndarray]:
    """Make uint8 [h, w, 3] with red = x, green = y, blue = a constant that names the picture."""
    return _coordinates


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Encode an array or a Pillow picture as a PNG or another kind."""
    return _encode


@pytest.fixture
def photo_folder(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Make a folder of `count` pictures whose blue is 10, 20, 30..., and other files as given."""

    def make(
        count: int, others: dict[str, bytes] | None = None, size: tuple[int, int] = (120, 90)
    ) -> pathlib.Path:
        folder = tmp_path / "photos"
        folder.mkdir()
        for index in range(count):
            data = _encode(_coordinates(*size, blue=10 * (index + 1)))
            (folder / f"photo{index:02}.png").write_bytes(data)
        for name, data in (others or {}).items():
            (folder / name).write_bytes(data)
        return folder

    return make


@pytest.fixture
def broken_photos(photo_folder: Callable[..., pathlib.Path]) -> Photos:
    """Seven good pictures among five that are broken in different ways, never cached."""
    whole = _encode(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    others = {
        "a_empty.jpg": b"",
        "a_text.png": b"this is not a picture",
        "photo03_cut.png": whole[: len(whole) // 2],
        "photo04_cut.png": whole[:200],
        "z_tiny.png": _encode(np.zeros((20, 20, 3), np.uint8)),
    }
    return open_photos(photo_folder(7, others), cache_bytes=0)
