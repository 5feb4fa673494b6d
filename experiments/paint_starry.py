"""Paint "starry": a crescent moon over a lake, in thick oil strokes, from a seed.

The picture is the project's own: a spiral of light in the sky, ridges, a village with lit windows,
a boat, a stone pine, a flowering bank. A *cartoon* (the preparatory drawing) gives every point a
material, a tone, and a direction. *Strokes* follow the directions, from the far sky to the near
pine: broad dark ones, a packed layer, then lights. Bristles leave *relief*, lit from the top left.

Points are complex numbers x + iy in units of the picture's height (the scene is 1.28 wide, 1 high,
y downward), so every size shows the same strokes; another aspect ratio stretches the scene.

`configs/paint_starry.py` is its recipe. One core needs about ten seconds. A seed gives the same
pixels, bit for bit, on the same NumPy, SciPy, Pillow, and kind of processor. The picture is
dedicated to the public domain (CC0 1.0).
"""

import pathlib
from typing import NamedTuple

import ml_collections
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from jaxstyle import workdir
from jaxstyle.types import InputError

Array = np.ndarray
Rng = np.random.Generator

ASPECT = 1.28  # width of the scene in units of its height
GRID = 640  # cells per unit in the cartoon
SHAPE = (GRID, round(GRID * ASPECT))
POINTS = 7  # on the center line of a stroke


# The paints, from the far sky to the near pine, as they are laid: colors from shadow to light,
# length and width of the brush, and the standard deviation of the tone from stroke to stroke.
MATERIALS = {
    "sky": ("050b2e 0b1a63 1433a0 1f56c4 3b8ad8 7cc0e0 c4e2c0 f8e272", 0.085, 0.0155, 0.037),
    "far": ("0a0f3c 1b2a78 2f4fae 4f86c9 8cc4d6 d3e6b8", 0.065, 0.0155, 0.045),
    "hill": ("040a22 0b2350 125070 1f7d74 5aa860 c9cf5c", 0.055, 0.0135, 0.045),
    "water": ("03082a 0a1c66 1238a0 1f66bd 3fa0c8 a8dcc8 fbe888", 0.085, 0.0135, 0.045),
    "wall": ("101c4a 34509a 6f95c4 c8d8c0 f6e9a8", 0.03, 0.011, 0.028),
    "roof": ("1a0a1e 6a1f1c b8431c e8842c ffe04a", 0.035, 0.011, 0.045),
    "bank": ("02060f 062a2a 0d5238 3f8030 9aa82c f0d048", 0.065, 0.0125, 0.059),
    "flower": ("d8501c f9a51e ffe04a fff2a8", 0.02, 0.0125, 0.087),
    "trunk": ("04020a 1c0f1e 4a2018 8a4a1c c8863a", 0.06, 0.011, 0.045),
    "tree": ("01040c 04161f 06302a 14562f 5a8a2a d0c048", 0.05, 0.0115, 0.052),
}
ACCENTS = "0d6d8f 48b8a8 5a3fa0 1f48b8 e9c46a d8701c"  # strange notes, one stroke in fourteen
NAMES = tuple(MATERIALS)
HALO = "fffbd8 ffe04a f9a51e ffe45c e4ee86 9fdcc8 58a8dc 2a62c8"  # a star, from its core outward
COOL = "fff0a0 f2e47a bfe6b8 7cc8d0 3b8ad8 1f56c4"  # around the moon
GOLD = "ffe860 ffd23a fbb01e f08a12 d8601c"
SHORE = 0.685
MOON = (0.30 + 0.215j, 0.080)  # center, radius of the disk
# Whirls: center, reach, sense; the first is the great spiral.
WHIRLS = ((0.80 + 0.285j, 0.25, 1), (0.135 + 0.475j, 0.115, -1), (0.545 + 0.47j, 0.11, -1))
STARS = (  # center, reach of the halo
    (0.075 + 0.085j, 0.062), (0.53 + 0.080j, 0.066), (0.665 + 0.04j, 0.034), (0.975 + 0.08j, 0.080),
    (1.205 + 0.150j, 0.060), (0.07 + 0.295j, 0.050), (0.45 + 0.385j, 0.046), (0.752 + 0.52j, 0.044),
    (1.225 + 0.255j, 0.036), (0.345 + 0.500j, 0.036),
)  # fmt: skip
RIDGES = (  # material, steepness, bumps: center, spread, height
    ("far", 3.4, ((0.12, 0.16, 0.13), (0.52, 0.15, 0.10), (0.88, 0.14, 0.16), (1.22, 0.15, 0.13))),
    ("hill", 6.0, ((0.28, 0.16, 0.045), (0.70, 0.2, 0.035), (1.12, 0.16, 0.075))),
)
HOUSES = (  # left foot, width, height of the wall
    (0.400 + 0.690j, 0.070, 0.032), (0.490 + 0.684j, 0.052, 0.044), (0.560 + 0.692j, 0.080, 0.034),
    (0.662 + 0.688j, 0.036, 0.105), (0.712 + 0.692j, 0.074, 0.038), (0.805 + 0.688j, 0.060, 0.030),
)  # fmt: skip
BOAT = (  # sail and hull
    (0.137 + 0.675j, 0.192 + 0.780j, 0.128 + 0.782j),
    (0.085 + 0.792j, 0.185 + 0.790j, 0.165 + 0.815j, 0.105 + 0.815j),
)
LIMBS = (  # half width at the foot, control points of a Bezier curve from foot to tip
    (0.037, 1.035 + 1.03j, 1.12 + 0.70j, 1.10 + 0.38j),
    (0.014, 1.085 + 0.70j, 1.04 + 0.56j, 0.96 + 0.52j),
    (0.014, 1.105 + 0.60j, 1.17 + 0.52j, 1.23 + 0.42j),
)
CLUMPS = (  # center, half width, half height
    (1.10 + 0.300j, 0.115, 0.085), (0.990 + 0.400j, 0.095, 0.060), (1.215 + 0.380j, 0.105, 0.070),
    (1.10 + 0.425j, 0.100, 0.052), (0.945 + 0.515j, 0.075, 0.042), (1.240 + 0.495j, 0.075, 0.045),
)  # fmt: skip


class Cartoon(NamedTuple):
    """The drawing under the paint: maps of shape SHAPE of material, tone, and direction."""

    material: Array  # index into NAMES
    tone: Array  # 0 the shadow end of the material's ramp, 1 the light end
    direction: Array  # complex; only the angle counts

    def lay(self, name: str, where: Array, tone: Array | float, direction: Array | complex) -> None:
        """Draw a material over what was there."""
        self.material[where] = NAMES.index(name)
        np.copyto(self.tone, tone, where=where)
        np.copyto(self.direction, direction, where=where)

    def cell(self, points: Array) -> tuple[Array, Array]:
        """Row and column of scene points (the nearest cell for those outside)."""
        row = np.clip((points.imag * GRID).astype(int), 0, SHAPE[0] - 1)
        return row, np.clip((points.real * GRID).astype(int), 0, SHAPE[1] - 1)


class Strokes(NamedTuple):
    """Brush strokes in painting order: complex points [n, POINTS], width [n], sRGB color [n, 3]."""

    points: Array
    width: Array
    color: Array


def mix(codes: str, tone: Array) -> Array:
    """sRGB colors [..., 3] in [0, 1] along a ramp of hex codes, tone 0 its first, 1 its last."""
    ramp = np.array([list(bytes.fromhex(code)) for code in codes.split()]) / 255
    return np.stack([np.interp(tone, np.linspace(0, 1, len(ramp)), c) for c in ramp.T], axis=-1)


def draw_sky(z: Array, noise: Array) -> tuple[Array, Array]:
    """Tone and flow of the sky: wavy currents, whirls, and rings around the lights."""
    x, y = z.real, z.imag
    stream = y + 0.05 * np.sin(4.6 * x + 0.8) + 0.025 * np.sin(9 * x - 5 * y) + 0.012 * noise
    tone = 0.34 + 0.20 * np.sin(30 * stream) + 0.25 * np.clip(y - 0.2, -0.2, 0.2) + 0.11 * noise
    dy, dx = np.gradient(stream, 1 / GRID)
    flow = dy - 1j * dx  # along the level lines of the stream
    pitch = 0.30  # of the logarithmic spirals, in radians
    for center, reach, sense in WHIRLS:
        p, r = z - center, np.abs(z - center) + 1e-6
        weight = np.exp(-((r / reach) ** 4))
        phase = sense * np.angle(p) + np.log(r / reach) / np.tan(pitch)  # constant along a stroke
        arms = 0.45 + 0.30 * np.cos(2 * phase) + 0.35 * np.exp(-((r / (0.3 * reach)) ** 2))
        tone += weight * (arms - tone)
        flow += weight * (1.2j * sense * p / r * np.exp(1j * sense * pitch) - flow)
    for center, reach in (*STARS, (MOON[0], 2.5 * MOON[1])):
        p, r = z - center, np.abs(z - center) + 1e-6
        weight = np.exp(-((r / (1.15 * reach)) ** 4))
        tone += weight * (0.95 - 0.45 * r / reach - tone)
        flow += weight * (1j * p / r - flow)
    return tone, flow


def draw_land(rng: Rng, cartoon: Cartoon, z: Array, noise: Array, fine: Array) -> None:
    """Moonlit ridges with dark outlines, water that mirrors them, and the flowering bank."""
    x, y = z.real, z.imag
    for name, steep, bumps in RIDGES:
        top = SHORE - sum(h * np.exp(-(np.abs((x - c) / s) ** 1.7)) for c, s, h in bumps)
        slope, depth = np.gradient(top, 1 / GRID, axis=1), y - top
        tone = np.where(depth < 0.01, 0.05, 0.60 - steep * depth - 0.75 * slope + 0.09 * noise)
        cartoon.lay(name, depth > 0, tone, (1 + 1j * slope) * np.exp(2j * steep * depth))
    mirrored = 0.75 * cartoon.tone[cartoon.cell(x + 1j * (2 * SHORE - 0.05 - y))] - 0.05
    swell = np.exp(1j * (0.12 * np.sin(38 * y + 6 * x) + 0.05 * noise))
    cartoon.lay("water", y > SHORE, mirrored + 0.06 * np.sin(90 * y + 3 * noise), swell)
    knolls = 0.05 * np.exp(-(((x - 1.2) / 0.28) ** 2)) - 0.075 * np.exp(-(((x - 0.42) / 0.22) ** 2))
    depth = y - 0.90 + 0.07 * np.sin(2.3 * x + 0.4) ** 2 + knolls
    furrows = 0.17 * np.sin(62 * (y + 0.035 * np.sin(6 * x + 2))) + 0.08 * fine
    grass = np.exp(1j * (0.5 * noise + 0.5 * np.sin(9 * x) - 1.25))
    cartoon.lay("bank", depth > 0, 0.52 - 2.0 * depth + furrows, grass)
    speckle = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 0.006 * GRID)
    drift = speckle > speckle.std() * np.where(fine > 0.1, 1.1, 2.6)
    cartoon.lay("flower", drift & (depth > 0.01), 0.55, 1)


def fill(*outlines: tuple[complex, ...]) -> Array:
    """Number [h, w] of the last outline (from 1) that a cell lies in, 0 outside all."""
    sheet = Image.new("L", (SHAPE[1], SHAPE[0]))
    for number, outline in enumerate(outlines, 1):
        corners = [(p.real * GRID, p.imag * GRID) for p in outline]
        ImageDraw.Draw(sheet).polygon(corners, fill=number)
    return np.asarray(sheet)


def draw_village(cartoon: Cartoon) -> None:
    """Houses on the far shore, each in its own tones, with lit windows; and the boat."""
    for i, (foot, width, height) in enumerate(HOUSES):
        left, right = foot - 1j * height, foot - 1j * height + width
        rise = 0.055j if height > 0.1 else 0.03j
        roof = (left - 0.009, left + width / 3 - rise, right - width / 3 - rise, right + 0.009)
        sills = [foot + k / 6 * width - 0.35j * height for k in ((2, 4) if width > 0.05 else (3,))]
        panes = [(p - 0.006, p + 0.006, p + 0.006 - 0.014j, p - 0.006 - 0.014j) for p in sills]
        part = fill((foot, left, right, foot + width), roof, *panes)
        cartoon.lay("wall", part == 1, 0.30 + 0.14 * (i % 4), 1j)
        cartoon.lay("roof", part == 2, 0.22 + 0.20 * (i % 3), (1 - 1j, 1 + 0.15j, 1 + 1j)[i % 3])
        cartoon.lay("roof", part > 2, 1.1, 1j)
    part = fill(*BOAT)
    cartoon.lay("roof", part == 1, 0.62, 0.2 + 1j)
    cartoon.lay("trunk", part == 2, 0.55, 1)


def draw_pine(cartoon: Cartoon, z: Array, noise: Array) -> None:
    """A stone pine: limbs, and clumps of needles whose strokes fan over their tops."""
    s = np.linspace(0, 1, 40)
    outlines = []
    for half, foot, bend, tip in LIMBS:
        spine = (1 - s) ** 2 * foot + 2 * s * (1 - s) * bend + s**2 * tip
        taper = half * (1 - 0.6 * np.sqrt(s)) * (1 + 0.12 * np.sin(17 * s))
        outlines.append((*(spine - taper), *(spine + taper)[::-1]))
    limbs = fill(*outlines) > 0
    side = np.sign(ndimage.gaussian_filter1d(limbs * 1.0, 9, axis=1, order=1))  # 1: by the moon
    lit = 0.42 + 0.0025 * ndimage.distance_transform_edt(limbs) * side + 0.1 * noise
    cartoon.lay("trunk", limbs, lit, np.exp(1j * (0.4 * np.sin(15 * z.imag + 1) - 1.57)))
    for center, a, b in CLUMPS:
        p = (z - center).real / a + 1j * (z - center).imag / b
        rim = 1 + 0.07 * np.sin(9 * np.angle(p) + 30 * center.real)
        lit = 0.36 - 0.20 * p.real - 0.34 * p.imag + 0.07 * noise
        fan = 1j * p.real / a - (p.imag - 0.7) / b
        cartoon.lay("tree", (np.abs(p) < rim) & (p.imag < 0.62), lit, fan)


def draw_cartoon(rng: Rng) -> Cartoon:
    """The whole drawing, back to front."""
    y, x = (np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5) / GRID
    soft = [ndimage.gaussian_filter(rng.standard_normal(SHAPE), GRID * s) for s in (0.08, 0.02)]
    noise, fine = (field / field.std() for field in soft)
    cartoon = Cartoon(np.zeros(SHAPE, int), *draw_sky(x + 1j * y, noise))
    draw_land(rng, cartoon, x + 1j * y, noise, fine)
    draw_village(cartoon)
    draw_pine(cartoon, x + 1j * y, fine)
    return cartoon


def trace(cartoon: Cartoon, seeds: Array, length: Array) -> Array:
    """Center lines [n, POINTS] through the seeds, along the directions, within one material."""
    home = cartoon.material[cartoon.cell(seeds)]
    line = [seeds]
    for end, sense in ((0, -1), (-1, 1)):
        heading = sense * cartoon.direction[cartoon.cell(seeds)]
        for _ in range(POINTS // 2):
            step = np.exp(1j * np.angle(cartoon.direction[cartoon.cell(line[end])]))
            heading = step * np.where((step * heading.conj()).real < 0, -1, 1)  # keep going forward
            ahead = line[end] + heading * length / (POINTS - 1)
            leaves = cartoon.material[cartoon.cell(ahead)] != home
            ahead = np.where(leaves, line[end] + 1e-4 * heading, ahead)
            line.insert(0 if end == 0 else len(line), ahead)
    return np.stack(line, axis=1)


def scatter(rng: Rng, cartoon: Cartoon, name: str, count: int, size: float, lift: float) -> Strokes:
    """Random strokes of one material, `size` times its brush and `lift` lighter."""
    ramp, length, width, looseness = MATERIALS[name]
    seeds = rng.random(count) * ASPECT + 1j * rng.random(count)
    seeds = seeds[cartoon.material[cartoon.cell(seeds)] == NAMES.index(name)]
    points = trace(cartoon, seeds, length * size * rng.uniform(0.7, 1.25, len(seeds)))
    legs = np.diff(points)
    turns = np.abs(np.angle(legs[:, 1:] * legs[:, :-1].conj())).max(axis=1)
    points = points[turns < 1.1]  # a brush does not turn a corner
    n = len(points)
    tone = cartoon.tone[cartoon.cell(points[:, POINTS // 2])]
    color = mix(ramp, tone + lift + looseness * rng.standard_normal(n))
    color += 0.8 * (rng.random((n, 1)) < 0.07) * (mix(ACCENTS, rng.integers(6, size=n) / 5) - color)
    color = np.clip(color * rng.normal(1.0, 0.06, (n, 3)), 0, 1)
    return Strokes(points, width * size * rng.uniform(0.75, 1.25, n), color)


def pack(strokes: Strokes, crowding: float) -> Strokes:
    """Keep, in order, the strokes that mostly fall on free ground: they then lie side by side."""
    cells = GRID // 2
    taken = np.zeros((cells, int(cells * ASPECT)), bool)
    rows = np.clip((strokes.points.imag * cells).astype(int), 0, taken.shape[0] - 1)
    columns = np.clip((strokes.points.real * cells).astype(int), 0, taken.shape[1] - 1)
    reach = np.maximum(1, np.rint(0.5 * strokes.width * cells)).astype(int)
    kept = []
    for i, k in enumerate(reach):
        if taken[rows[i], columns[i]].mean() <= crowding:
            kept.append(i)
            for row, column in zip(rows[i], columns[i], strict=True):
                taken[max(0, row - k) : row + k + 1, max(0, column - k) : column + k + 1] = True
    return Strokes(*(field[kept] for field in strokes))


def ring(rng: Rng, center: complex, radius: float, width: float, ramp: str, tone: float) -> Strokes:
    """A ring of separate curved strokes."""
    n = max(3, round(2 * np.pi * radius / (4.2 * width)))
    start = (np.arange(n) + rng.uniform(-0.2, 0.2, n) + rng.random())[:, None]
    sweep = rng.uniform(0.7, 0.95, (n, 1)) * np.linspace(0, 1, POINTS)
    points = radius * rng.normal(1, 0.03, (n, 1)) * np.exp(2j * np.pi / n * (start + sweep))
    color = mix(ramp, tone + rng.normal(0, 0.12, n)) * rng.normal(1, 0.04, (n, 3))
    return Strokes(center + points, width * rng.uniform(0.8, 1.2, n), np.clip(color, 0, 1))


def star(rng: Rng, center: complex, reach: float) -> list[Strokes]:
    """A star: rings of strokes that cool outward from a bright core."""
    n = max(3, round(reach / 0.0125))
    width = 0.85 * reach / n
    radii = [reach * k / n for k in range(n, 0, -1)] + [0.4 * width]
    return [ring(rng, center, r, width, HALO, r / reach if r > width else 0.0) for r in radii]


def moon(rng: Rng) -> list[Strokes]:
    """A crescent in a wide halo: a golden disk, then its shadow side over it."""
    center, radius = MOON
    shadow = center + radius * (0.46 - 0.22j)
    halo = [ring(rng, center, radius + 0.0128 * k, 0.0125, COOL, k / 11) for k in range(10, 0, -1)]
    disk = [ring(rng, center, radius * r, 0.0125, GOLD, r**3) for r in np.arange(0.34, 1.05, 0.13)]
    dark = [ring(rng, shadow, radius * r, 0.012, COOL, 0.8) for r in np.arange(0.78, 0.0, -0.13)]
    return halo + disk + dark


def glitter(rng: Rng, x: float, spread: float, top: float, bottom: float) -> Strokes:
    """A column of broken light on the water, thinning downward."""
    n = round((bottom - top) * 110)
    y = top + (bottom - top) * np.sort(rng.random((n, 1)), axis=0) ** 1.2
    s = np.linspace(-1, 1, POINTS)
    curl = 1j * rng.normal(0, 0.0025, (n, 1)) * np.sin(2.2 * s)
    middle = x + rng.normal(0, 0.35 * spread, (n, 1)) + 1j * y
    points = middle + spread * rng.uniform(0.25, 1.0, (n, 1)) * s + curl
    return Strokes(points, rng.uniform(0.008, 0.013, n), mix(GOLD, rng.random(n)))


def plan(rng: Rng, cartoon: Cartoon) -> Strokes:
    """Every stroke of the painting, in painting order."""
    parts = []
    for name in NAMES:
        parts.append(scatter(rng, cartoon, name, 9000, 1.5, -0.16))
        parts.append(pack(scatter(rng, cartoon, name, 60000, 1.0, 0.0), 0.35))
        parts.append(pack(scatter(rng, cartoon, name, 9000, 0.75, 0.14), 0.1))
        if name == "sky":
            parts += [ring(rng, eye, 0.007, 0.014, COOL, 0.3) for eye, _, _ in WHIRLS]
            parts += moon(rng) + [rings for place in STARS for rings in star(rng, *place)]
        if name == "water":
            lamps = [(MOON[0].real, 0.055, 0.70, 0.91), (0.14, 0.03, 0.825, 0.87)]  # moon, boat
            for i, (foot, width, _) in enumerate(HOUSES):
                lamps.append((foot.real + width / 2, 0.02, 0.70, 0.76 + 0.03 * (i % 4)))
            parts += [glitter(rng, *lamp) for lamp in lamps]
    return Strokes(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def line_coordinates(line: Array, pixels: Array) -> tuple[Array, Array]:
    """Where pixels [h, w] lie by a center line: along it in [0, 1], and signed distance aside."""
    leg = np.diff(line)[:, None, None]
    offset = pixels - line[:-1, None, None]
    turned = offset * leg.conj()
    part = np.clip(turned.real / (np.abs(leg) ** 2 + 1e-6), 0, 1)
    aside = np.abs(offset - part * leg)
    nearest = aside.argmin(axis=0)[None]  # leg
    part, turned, aside = (np.take_along_axis(a, nearest, 0)[0] for a in (part, turned, aside))
    return (nearest[0] + part) / (len(line) - 1), np.sign(turned.imag) * aside


def lay_stroke(canvas: Array, line: Array, width: float, color: Array, mark: Array) -> None:
    """Lay one stroke (in pixels) on the canvas [h, w, 4], color and thickness, in place."""
    reach = 0.5 * width + 1
    left, right = max(0, int(line.real.min() - reach)), int(line.real.max() + reach) + 1
    top, bottom = max(0, int(line.imag.min() - reach)), int(line.imag.max() + reach) + 1
    under = canvas[top:bottom, left:right]  # a view
    rows, columns = np.ogrid[: under.shape[0], : under.shape[1]]
    pixels = columns + (left + 0.5) + 1j * (rows + (top + 0.5))
    along, aside = line_coordinates(line, pixels)
    half = 0.5 * width * (0.55 + 0.45 * np.minimum(1, np.minimum(along * 6, (1 - along) * 2.2)))
    across = np.clip(aside / half, -1, 1)
    streak = mark[((across + 1) * 7.99).astype(int), (along * 23.99).astype(int)]
    dry = np.clip(1.35 - 1.1 * np.maximum(0, along - 0.6) * (1.6 - streak), 0, 1)  # paint runs out
    alpha = np.clip(half - np.abs(aside) + 0.5, 0, 1) * dry
    under[..., :3] += alpha[..., None] * (color * (1 + 0.09 * streak[..., None]) - under[..., :3])
    thickness = width * (0.8 + 0.12 * across**4 - 0.35 * across**8 + 0.13 * streak)
    under[..., 3] += alpha * (thickness - 0.65 * under[..., 3])  # some relief shows through


def light(canvas: Array) -> Array:
    """Light from the upper left: brighten the slopes that face it, darken the others."""
    color, thickness = canvas[..., :3], canvas[..., 3]
    gy, gx = np.gradient(ndimage.gaussian_filter(thickness, 0.0009 * min(thickness.shape)))
    slope = np.tanh(0.9 * (gx + gy))[..., None]
    return color + slope * np.where(slope > 0, 0.05 * color, 0.1 * color)


def age(color: Array) -> Array:
    """Narrow the range to that of oil on canvas: less light and dark, less color, no gray."""
    luminance = (color @ [0.299, 0.587, 0.114])[..., None]
    return 0.3 + 0.62 * (luminance - 0.3) + 0.6 * (color - luminance)


def paint(height: int, width: int, seed: int = 7) -> Array:
    """Paint the picture: uint8 sRGB [height, width, 3], for sides of 2 pixels or more."""
    rng = np.random.default_rng(seed)
    strokes = plan(rng, draw_cartoon(rng))
    # The streaks of the bristles: [mark, across, along], about N(0, 1).
    marks = ndimage.gaussian_filter(rng.standard_normal((64, 16, 24)), (0, 1.3, 5), mode="nearest")
    canvas = np.zeros((height, width, 4))
    canvas[..., :3] = mix("0b1a63", np.zeros(()))  # a blue ground
    lines = strokes.points.real * (width / ASPECT) + 1j * strokes.points.imag * height
    brushes = strokes.width * np.sqrt(width / ASPECT * height)
    hands = (marks / marks.std())[rng.integers(len(marks), size=len(brushes))]
    for stroke in zip(lines, brushes, strokes.color, hands, strict=True):
        lay_stroke(canvas, *stroke)
    return (np.clip(age(light(canvas)), 0, 1) * 255 + 0.5).astype(np.uint8)


def run(config: ml_collections.ConfigDict, folder: pathlib.Path) -> int:
    """Paint `folder/starry.jpg`, its license and color space in the file.

    Args:
      config: from `configs/paint_starry.py`.
      folder: the work folder.

    Returns:
      0.

    Raises:
      InputError: a side below 2 pixels.
    """
    if min(config.height, config.width) < 2:
        raise InputError(
            f"the painting is {config.width}x{config.height}; give height and width of 2 or more."
        )
    picture = Image.fromarray(paint(config.height, config.width, config.seed))
    exif = Image.Exif()
    exif[0x8298] = "CC0 1.0: dedicated to the public domain"  # Copyright
    exif.get_ifd(0x8769)[0xA001] = 1  # ColorSpace: sRGB
    with workdir.claim(folder, config.to_dict()) as claim:
        file = claim.path / "starry.jpg"
        picture.save(file, quality=85, subsampling=0, optimize=True, exif=exif)
    print(f"  painting       {file}", flush=True)
    return 0
