"""Convolution with fewer multiplications: Winograd's F(4x4, 3x3) and F(5x5, 2x2), for the CPU.

A tile of 6x6 inputs and a kernel of `k` x `k` taps make `t` x `t` outputs, `t = 7 - k`. Seen as
polynomials, tile and kernel are multiplied by their values at six points: `B` takes the tile there,
`G` the kernel, and `A` brings the product back:

    Y = A [(G K G^T) * (B X B^T)] A^T.

For a 3x3 kernel that is 36 products for each pair of channels, where the definition has 144. Over
all tiles they are 36 matrix products, which a CPU runs at full speed; what the transforms move
stays in the cache, because the map is worked through in strips. The gradient by the input is the
same with the flipped kernel, whose values at the points are the kernel's own in another order; the
gradient by the kernel is

    dK = G^T [sum over tiles of (B X B^T) * (A^T dY A)] G.

The points are 0, +-2/3, +-3/2 and infinity: the result is then within 1.2e-6 of the exact one (root
mean square, relative, 256 channels). The plain sum in float32 is within 2e-7, the usual points 0,
+-1, +-2 within 2.6e-6.

References:
  Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for
  Convolutional Neural Networks, 2015, arXiv:1509.09308, section 4; Barabasz, Anderson, Soodhalter
  and Gregg, Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
  Networks, 2018, arXiv:1803.10986, on the choice of points.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstyle.types import Array

# And infinity. The inverse of each is one of them too, in the order of `_INVERSES`.
_POINTS = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
_INVERSES = (5, 3, 4, 1, 2, 0)
_SIDE = len(_POINTS) + 1
_VALUES = _SIDE**2

# Tiles in a strip. Few keep the values in the cache; a gradient by the kernel adds to a sum of 36
# matrices in every turn, which many tiles should share.
_FORWARD_TILES = 128
_GRADIENT_TILES = 512
_FEWEST_TILES = 64  # below, transforming the kernel costs what the products save
_FEWEST_CHANNELS = 256  # below, transforming the map does

_Widths = tuple[tuple[int, int], tuple[int, int]]


def pays(x: Array, kernel: Array, stride: int, widths: _Widths) -> bool:
    """Return whether `convolve` is faster than a plain convolution, as measured on two cores.

    Args:
      x: `[n, h, w, c_in]`.
      kernel: `[k_h, k_w, c_in, c_out]`.
      stride: of the convolution.
      widths: zeros around the map.
    """
    k_h, k_w, c_in, c_out = kernel.shape
    if stride != 1 or k_h != k_w or k_h not in (2, 3):
        return False
    if x.dtype != jnp.float32 or kernel.dtype != jnp.float32 or min(*widths[0], *widths[1]) < 0:
        return False
    plan = _Plan.of(x.shape, k_h, widths, _FORWARD_TILES)
    tiles = plan.images * plan.rows * plan.columns * plan.turns
    return tiles >= _FEWEST_TILES and min(c_in, c_out) >= _FEWEST_CHANNELS


def convolve(x: Array, kernel: Array, widths: _Widths) -> Array:
    """Convolve at stride 1, with zeros added around the map.

    Args:
      x: `[n, h, w, c_in]`.
      kernel: `[k, k, c_in, c_out]`, k in 2 to 5.
      widths: zeros before and after, of height and width, none negative.

    Returns:
      `[n, h + sum(widths[0]) - k + 1, w + sum(widths[1]) - k + 1, c_out]`.
    """
    from_tile, _, to_output = matrices(kernel.shape[0])
    return _by_tiles(x, kernel, widths, "tpi,tio->tpo", from_tile, to_output)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def input_gradient(g: Array, kernel: Array, widths: _Widths) -> Array:
    """Convolve with the kernel flipped and its channels exchanged, at stride 1.

    That is the gradient of a convolution by its input. The kernel is neither flipped nor transposed
    in memory, and its values at the points are those that `convolve` uses: where both run, they
    are computed and stored once.

    Args:
      g: `[n, h, w, c_out]`.
      kernel: `[k, k, c_in, c_out]`, as given to `convolve`.
      widths: zeros around `g`, at most `k - 1`.

    Returns:
      `[n, h + sum(widths[0]) - k + 1, w + sum(widths[1]) - k + 1, c_in]`.
    """
    return _by_tiles(g, kernel, widths, "tpo,tio->tpi", *mirrored(kernel.shape[0]))


def _input_gradient_forward(
    g: Array, kernel: Array, widths: _Widths
) -> tuple[Array, tuple[Array, Array]]:
    return input_gradient(g, kernel, widths), (g, kernel)


def _input_gradient_backward(
    widths: _Widths, saved: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    # It is linear in either: the transposes are the convolution itself and its kernel's gradient.
    g, kernel = saved
    k = kernel.shape[0]
    (top, bottom), (left, right) = widths
    theirs = ((k - 1 - top, k - 1 - bottom), (k - 1 - left, k - 1 - right))
    by_g = convolve(cotangent, kernel, theirs)
    return by_g, kernel_gradient(cotangent, g, k, theirs)


input_gradient.defvjp(_input_gradient_forward, _input_gradient_backward)


def _by_tiles(
    x: Array,
    kernel: Array,
    widths: _Widths,
    product: str,
    from_tile: np.ndarray,
    to_output: np.ndarray,
) -> Array:
    """Take tiles to the points, multiply by the kernel's values, and bring the products back."""
    k, c_in, c_out = kernel.shape[1:]
    plan = _Plan.of(x.shape, k, widths, _FORWARD_TILES)
    taps = _both_ways(matrices(k)[1], kernel).reshape(_VALUES, c_in, c_out)
    # Barriers keep the compiler from fusing transforms into the products, or into the loop's body.
    x, taps = lax.optimization_barrier((plan.pad(x, widths), taps))

    def strip(turn: Array | int) -> Array:
        values = plan.to_points(plan.take(x, turn, k - 1), from_tile)
        products = jnp.einsum(product, values, taps)
        return plan.from_points(lax.optimization_barrier(products), to_output)

    if plan.turns == 1:
        y = strip(0)
    else:
        channels = c_out if product.endswith("o") else c_in
        y = jnp.zeros((plan.n, *plan.padded, channels), x.dtype)
        y = lax.fori_loop(0, plan.turns, lambda turn, y: plan.put(y, turn, strip(turn)), y)
    return y[:, : plan.height, : plan.width]


def kernel_gradient(x: Array, g: Array, k: int, widths: _Widths) -> Array:
    """Return the gradient of `convolve` by its kernel.

    Args:
      x: `[n, h, w, c_in]`.
      g: cotangent of the result, `[n, h_out, w_out, c_out]`.
      k: height and width of the kernel.
      widths: as given to `convolve`.

    Returns:
      `[k, k, c_in, c_out]`.
    """
    plan = _Plan.of(x.shape, k, widths, _GRADIENT_TILES)
    from_tile, from_kernel, to_output = matrices(k)
    x, g = lax.optimization_barrier((plan.pad(x, widths), plan.pad(g, ((0, 0), (0, 0)))))

    def strip(turn: Array | int) -> Array:
        values = plan.to_points(plan.take(x, turn, k - 1), from_tile)
        cotangents = plan.to_points(plan.take(g, turn, 0), to_output.T)
        return jnp.einsum("tpi,tpo->tio", values, cotangents)

    if plan.turns == 1:
        total = strip(0)
    else:
        total = jnp.zeros((_VALUES, x.shape[-1], g.shape[-1]), x.dtype)
        total = lax.fori_loop(0, plan.turns, lambda turn, total: total + strip(turn), total)
    return _both_ways(from_kernel.T, total.reshape(_SIDE, _SIDE, *total.shape[1:]))


@functools.cache
def matrices(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `B` `[6, 6]`, `G` `[6, k]` and `A` `[t, 6]` of the module's docstring, float64.

    Row `i < 5` of `B` holds the coefficients of the product of `x - p` over the other points `p`
    (Lagrange's numerator), of `G` and of `A`'s transpose the powers of point `i`; Lagrange's
    denominators are in `G`. The last row belongs to infinity: the highest coefficient alone.
    """
    t = _SIDE + 1 - k
    points = np.array(_POINTS)
    others = [np.delete(points, i) for i in range(len(points))]
    denominators = np.array([np.prod(p - rest) for p, rest in zip(points, others, strict=True)])
    from_tile = np.zeros((_SIDE, _SIDE))
    for i, rest in enumerate(others):
        from_tile[i, :-1] = np.poly(rest)[::-1]
    from_tile[-1] = np.poly(points)[::-1]
    from_kernel = np.vander(points, k, increasing=True) / denominators[:, None]
    to_output = np.vander(points, t, increasing=True).T
    return (
        np.where(np.abs(from_tile) < 1e-12, 0, from_tile),
        np.vstack([from_kernel, np.eye(k)[-1]]),
        np.column_stack([to_output, np.eye(t)[-1]]),
    )


@functools.cache
def mirrored(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `B` and `A` for the flipped kernel, where the products are with the kernel's values.

    A flipped kernel's value at a point `p` is the kernel's at `1 / p`, times `p^(k - 1)`; and of
    each of the points the inverse is one too. So `B` and `A` exchange the points, and `B` scales.
    """
    from_tile, from_kernel, to_output = matrices(k)
    flipped = from_kernel[:, ::-1]
    inverse = np.array(_INVERSES)
    there = from_kernel[inverse]
    scale = (flipped * there).sum(1) / (there**2).sum(1)
    swapped_tile, swapped_output = np.empty_like(from_tile), np.empty_like(to_output)
    swapped_tile[inverse] = scale[:, None] * from_tile
    swapped_output[:, inverse] = to_output
    return swapped_tile, swapped_output


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How a map is cut into strips of tiles.

    Attributes:
      n: images.
      height: of the output.
      width: of the output.
      tile: side of a tile's output.
      images: in a strip; more than one only where a strip holds all rows.
      rows: of tiles in a strip.
      columns: of tiles.
      bands: strips in an image.
    """

    n: int
    height: int
    width: int
    tile: int
    images: int
    rows: int
    columns: int
    bands: int

    @classmethod
    def of(cls, shape: tuple[int, ...], k: int, widths: _Widths, tiles: int) -> "_Plan":
        """Plan strips of about `tiles` tiles for a map of `shape`."""
        n, tile = shape[0], _SIDE + 1 - k
        height, width = (shape[1 + axis] + sum(widths[axis]) - k + 1 for axis in (0, 1))
        rows, columns = -(-height // tile), -(-width // tile)
        if rows * columns <= tiles:
            images = max(d for d in range(1, n + 1) if n % d == 0 and d * rows * columns <= tiles)
            return cls(n, height, width, tile, images, rows, columns, 1)
        bands = -(-rows // max(1, tiles // columns))
        return cls(n, height, width, tile, 1, -(-rows // bands), columns, bands)

    @property
    def turns(self) -> int:
        """Number of strips."""
        return self.n // self.images * self.bands

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the output in whole tiles and strips."""
        return self.bands * self.rows * self.tile, self.columns * self.tile

    def pad(self, x: Array, widths: _Widths) -> Array:
        """Add zeros: `widths`, and what the last tiles lack."""
        lacking = (self.padded[0] - self.height, self.padded[1] - self.width)
        full = [(low, high + more) for (low, high), more in zip(widths, lacking, strict=True)]
        return jnp.pad(x, ((0, 0), *full, (0, 0)))

    def take(self, x: Array, turn: Array | int, halo: int) -> Array:
        """Cut out a strip, with `halo` more rows for the windows of its last outputs."""
        size = (self.images, self.rows * self.tile + halo, *x.shape[2:])
        return x if self.turns == 1 else lax.dynamic_slice(x, self._start(turn), size)

    def put(self, y: Array, turn: Array | int, strip: Array) -> Array:
        """Write a strip of the output."""
        # Computed apart: within the update it would run on one core.
        return lax.dynamic_update_slice(y, lax.optimization_barrier(strip), self._start(turn))

    def _start(self, turn: Array | int) -> tuple[Array | int, ...]:
        image = turn // self.bands * self.images
        return image, turn % self.bands * (self.rows * self.tile), 0, 0

    def to_points(self, strip: Array, matrix: np.ndarray) -> Array:
        """Take the tiles of a strip to `[36, tiles, c]`."""
        rows, columns = self.rows, self.columns
        lines = [
            strip[:, i : i + (rows - 1) * self.tile + 1 : self.tile] for i in range(len(matrix.T))
        ]
        half = lax.optimization_barrier(_combine(matrix, lines, 0))  # [6, images, rows, w, c]
        lines = [
            half[:, :, :, j : j + (columns - 1) * self.tile + 1 : self.tile]
            for j in range(len(matrix.T))
        ]
        values = lax.optimization_barrier(_combine(matrix, lines, 1))
        return values.reshape(_VALUES, -1, strip.shape[-1])

    def from_points(self, products: Array, matrix: np.ndarray) -> Array:
        """Bring `[36, tiles, c]` back to a strip of the output."""
        images, rows, columns, tile = self.images, self.rows, self.columns, self.tile
        at = products.reshape(_SIDE, _SIDE, images, rows, columns, -1)
        half = _combine(matrix, [at[:, j] for j in range(_SIDE)], 4)
        half = lax.optimization_barrier(half)  # [6, images, rows, columns, tile, c]
        whole = _combine(matrix, list(half), 2)  # [images, rows, tile, columns, tile, c]
        return whole.reshape(images, rows * tile, columns * tile, -1)


def _both_ways(matrix: np.ndarray, x: Array) -> Array:
    """Apply a matrix along the first two axes of a kernel."""
    half = _combine(matrix, list(x), 0)
    return _combine(matrix, [half[:, j] for j in range(matrix.shape[1])], 1)


def _combine(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> Array:
    """Stack one sum of parts for each row of a matrix: written out, it has no zeros to multiply."""
    sums = []
    for row in matrix:
        used = [(float(c), part) for c, part in zip(row, parts, strict=True) if c]
        sums.append(functools.reduce(jnp.add, [p if c == 1 else p * c for c, p in used]))
    return jnp.stack(sums, axis)
