"""ICC profiles made from first principles, and the smallest model that stylizes."""

import struct

import jax
import numpy as np
import pytest

from jaxstyle import networks
from jaxstyle.methods.feedforward import StyleModel

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def to_d50(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix from linear RGB with a D65 white to XYZ adapted to D50."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    matrix = columns * np.linalg.solve(columns, D65)
    gains = (BRADFORD @ D50) / (BRADFORD @ D65)
    return np.linalg.inv(BRADFORD) @ np.diag(gains) @ BRADFORD @ matrix


def fixed(values: np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in np.ravel(values))


def icc(space: bytes, kind: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile."""
    text = b"made for a test\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + text,
        b"wtpt": b"XYZ " + bytes(4) + fixed(D50),
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, kind, space, pcs)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(4 * 7)
    return (header + fixed(D50)).ljust(128, b"\0") + table + body


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


@pytest.fixture(scope="session")
def wide_profile() -> bytes:
    """Display P3's primaries with a gamma of 2.2."""
    matrix = to_d50(P3_PRIMARIES)
    tags = {
        n: b"XYZ " + bytes(4) + fixed(matrix[:, c])
        for c, n in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
    }
    tags |= {n: curve(2.2) for n in (b"rTRC", b"gTRC", b"bTRC")}
    return icc(b"RGB ", b"mntr", b"XYZ ", tags)


@pytest.fixture(scope="session")
def gray_profile() -> bytes:
    """Gray of gamma 1: linear light."""
    return icc(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": curve(1.0)})


@pytest.fixture(scope="session")
def ink_profile() -> bytes:
    """CMYK whose every ink, whatever its name, only darkens: L* = 100 - 25 (c + m + y + k)."""
    ramp = struct.pack(">2H", 0, 65535)
    nodes = b""
    for node in np.ndindex(2, 2, 2, 2):
        lightness = 100 - 25 * sum(node)
        nodes += struct.pack(">3H", round(lightness / 100 * 65280), 32768, 32768)
    table = b"mft2" + bytes(4) + struct.pack(">4B", 4, 3, 2, 0) + fixed(np.eye(3))
    table += struct.pack(">2H", 2, 2) + ramp * 4 + nodes + ramp * 3
    return icc(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


@pytest.fixture(scope="session")
def tiny_model() -> StyleModel:
    config = networks.TransformerConfig(widths=(4, 6, 8), blocks=1, outer_kernels=(3, 3))
    return StyleModel(networks.init(jax.random.key(0), config), config)


def wide_to_srgb(values: np.ndarray) -> np.ndarray:
    """The oracle: from P3 with gamma 2.2 to sRGB by the definitions, float64 in [0, 1]."""
    linear = values.astype(np.float64) ** (563 / 256)
    matrix = np.linalg.inv(to_d50(SRGB_PRIMARIES)) @ to_d50(P3_PRIMARIES)
    light = np.clip(linear @ matrix.T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.fixture(scope="session")
def from_wide():
    """From values in the space of `wide_profile` to sRGB."""
    return wide_to_srgb
