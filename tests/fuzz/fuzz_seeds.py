"""Small valid files of every kind that is read, made by code; fuzzing begins with them."""

import functools
import importlib.util
import io
import json
import pathlib
import struct
import tempfile
import zipfile

import h5py
import numpy as np
import safetensors.numpy
import scipy.io
from PIL import Image, ImageCms, PngImagePlugin, features

_SPEC = importlib.util.spec_from_file_location(
    "torch_files", pathlib.Path(__file__).parent.parent / "weights" / "torch_files.py"
)
torch_files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(torch_files)


def pixels(mode: str = "RGB", side: int = 12) -> Image.Image:
    """Return a picture that compresses neither to nothing nor not at all."""
    ramp = np.arange(side * side * 3, dtype=np.uint8).reshape(side, side, 3)
    picture = Image.fromarray(ramp)
    if mode in ("I;16", "F"):
        kind = np.uint16 if mode == "I;16" else np.float32
        return Image.fromarray(ramp[..., 0].astype(kind) * 257)
    return picture.convert(mode)


def _saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int = 6) -> Image.Exif:
    """Return metadata that turns a picture."""
    data = Image.Exif()
    data[0x0112], data[0x010F] = orientation, "a camera"
    return data


def profile(kind: str = "sRGB") -> bytes:
    """Return an ICC profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


@functools.cache
def pictures() -> dict[str, bytes]:
    """Return encoded pictures by name."""
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("comment", "a note")
    notes.add_text("more", "x" * 40, zip=True)

    def several() -> dict:  # Pillow leaves notes of one format in a picture, which break another
        return {"save_all": True, "append_images": [pixels(), pixels().rotate(90)]}

    found = {
        "png": _saved(pixels(), "PNG"),
        "png-alpha": _saved(pixels("RGBA"), "PNG", exif=exif(), pnginfo=notes),
        "png-palette": _saved(pixels("P"), "PNG", transparency=3),
        "png-16": _saved(pixels("I;16"), "PNG"),
        "png-1": _saved(pixels("1"), "PNG"),
        "png-profile": _saved(pixels(), "PNG", icc_profile=profile()),
        "apng": _saved(pixels(), "PNG", **several()),
        "jpeg": _saved(pixels(), "JPEG", exif=exif(), icc_profile=profile()),
        "jpeg-progressive": _saved(pixels(), "JPEG", progressive=True),
        "jpeg-cmyk": _saved(pixels("CMYK"), "JPEG"),
        "mpo": _saved(pixels(), "MPO", **several()),
        "gif": _saved(pixels("P"), "GIF", **several()),
        "bmp": _saved(pixels(), "BMP"),
        "bmp-palette": _saved(pixels("P"), "BMP"),
        "ppm": _saved(pixels(), "PPM"),
        "pgm": _saved(pixels("I;16"), "PPM"),
        "pfm": _saved(pixels("F"), "PPM"),
        "ppm-plain": b"P3\n2 2\n255\n" + b"1 2 3 " * 4,
        "tiff-16": _saved(pixels("I;16"), "TIFF"),
        "tiff-float": _saved(pixels("F"), "TIFF"),
        "tiff-profile": _saved(pixels(), "TIFF", icc_profile=profile(), exif=exif()),
        "tiff-pages": _saved(pixels(), "TIFF", **several()),
        "tiff-lab": _saved(pixels("LAB"), "TIFF"),
    }
    if features.check("webp"):
        found["webp"] = _saved(pixels(), "WEBP", exif=exif(), icc_profile=profile())
        found["webp-alpha"] = _saved(pixels("RGBA"), "WEBP", lossless=True)
        found["webp-frames"] = _saved(pixels(), "WEBP", **several())
    if features.check("libtiff"):
        for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            found[f"tiff-{how}"] = _saved(pixels(), "TIFF", compression=how)
    if features.check("jpg_2000"):
        found["jpeg2000"] = _saved(pixels(), "JPEG2000")
    if features.check("avif"):
        found["avif"] = _saved(pixels(), "AVIF")
    return found


NAMES = ("conv1_1", "conv1_2", "conv2_1")
_WIDTHS = (3, 2, 2, 2)


def network() -> dict[str, dict[str, np.ndarray]]:
    """Return the first convolutions of a thin VGG."""
    rng = np.random.default_rng(0)
    return {
        name: {
            "kernel": rng.standard_normal((3, 3, c_in, c_out)).astype(np.float32),
            "bias": rng.standard_normal(c_out).astype(np.float32),
        }
        for name, c_in, c_out in zip(NAMES, _WIDTHS, _WIDTHS[1:], strict=False)
    }


def _flat() -> dict[str, np.ndarray]:
    return {f"{name}/{part}": a for name, parts in network().items() for part, a in parts.items()}


def torch_arrays() -> dict[str, np.ndarray]:
    """Return the network as PyTorch names it."""
    return {
        f"{name}.{ {'kernel': 'weight', 'bias': 'bias'}[part] }": (
            np.ascontiguousarray(a.transpose(3, 2, 0, 1)) if a.ndim == 4 else a
        )
        for name, parts in network().items()
        for part, a in parts.items()
    }


def _hdf5(file: pathlib.Path, **options) -> None:
    with h5py.File(file, "w") as out:
        for name, array in _flat().items():
            own = options if array.ndim == 4 else {}
            out.create_dataset(name, data=array, **own)


def _mat(file: pathlib.Path, **options) -> None:
    layers = np.empty((1, len(NAMES)), object)
    for place, (name, parts) in enumerate(network().items()):
        weights = np.empty((1, 2), object)
        weights[0, 0], weights[0, 1] = parts["kernel"], parts["bias"].reshape(-1, 1)
        layers[0, place] = {"name": name, "type": "conv", "weights": weights}
    scipy.io.savemat(file, {"layers": layers}, **options)


@functools.cache
def weights() -> dict[str, bytes]:
    """Return files of weights by kind."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "weights"

        def keep(name: str) -> None:
            found[name] = file.read_bytes()
            file.unlink()

        torch_files.save(file, torch_arrays()), keep("pth")
        torch_files.save(file, torch_arrays(), nest="state_dict"), keep("pth-nested")
        torch_files.save(file, torch_arrays(), legacy=True), keep("pth-legacy")
        _hdf5(file), keep("h5")
        _hdf5(file, compression="gzip", shuffle=True, fletcher32=True), keep("h5-filters")
        _mat(file), keep("mat")
        _mat(file, do_compression=True), keep("mat-compressed")
    found["safetensors"] = safetensors.numpy.save(_flat(), metadata={"convention": "caffe"})
    for name, writer in (("npz", np.savez), ("npz-compressed", np.savez_compressed)):
        out = io.BytesIO()
        writer(out, **_flat())
        found[name] = out.getvalue()
    return found


def safetensors_file(header: object, content: bytes = b"", length: int | None = None) -> bytes:
    """Return a file whose header says whatever one likes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()
