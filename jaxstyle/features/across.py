"""Feature maps of pictures too large for one device: the rows divided among several.

Every device holds a run of rows of the picture, and of every map. The compiler divides the work
(`jax.jit` with shardings): at a convolution neighbors exchange a row, and what is asked of the
maps, a Gram matrix for one, is computed of each device's rows and then summed over the devices.
Values and gradients are those of one device to rounding, for any height.

A convolution is written so that its input and its output are divided alike. With zeros around the
map that is so. A map with reflected borders is one of `h + 2` rows: divided evenly, its rows lie
elsewhere than the output's, and up to as many rows as there are devices would travel. But a
convolution is linear: it is the one with zeros above and below, plus what the two rows beyond the
borders add to the outermost ones, which is convolved apart.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxstyle import ops, policy
from jaxstyle.features.table import Joined, Network, adjusted
from jaxstyle.features.vgg import (
    IMAGE,
    blocks,
    by_network,
    check_layers,
    computed,
    preprocess,
    run_block,
)
from jaxstyle.types import Array, Params

ROWS = "rows"  # the mesh's axis


def features_across(
    params: Params,
    image: Array,
    layers: Sequence[str],
    *,
    network: Network | Joined,
    mesh: Mesh,
    pooling: str | None = None,
    padding: str | None = None,
    dtype: str | None = None,
    remat: bool = False,
) -> dict[str, Array]:
    """Return what `features` returns, the rows of every map divided among devices.

    To be called inside `jax.jit`, where maps of any height can be divided: the last device has
    fewer rows, or none.

    Args:
      params: as `features` takes them.
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      layers: as `features` takes them.
      network: the row of the table the parameters belong to, or two joined.
      mesh: devices along an axis 'rows'.
      pooling: as of `features`.
      padding: as of `features`; also 'circular', where the first device exchanges rows with the
        last.
      dtype: as of `features`.
      remat: as of `features`.

    Returns:
      The feature maps `[..., h', w', c]` by layer name, in the order asked for.

    Raises:
      InputError: as `features`.

    Example:
      >>> from jaxstyle.features.vgg import initialize
      >>> small = Network('small', ((8, 8), (16,)))
      >>> params = initialize(jax.random.key(0), small)
      >>> mesh = Mesh(jax.devices()[:2], (ROWS,))
      >>> see = lambda image: features_across(
      ...     params, image, ('pool2',), network=small, mesh=mesh
      ... )
      >>> jax.jit(see)(jnp.ones((36, 48, 3)))['pool2'].shape
      (9, 12, 16)

    References:
      Xu et al., GSPMD: General and Scalable Parallelization for ML Computation Graphs, 2021,
      arXiv:2105.04663, section 4.3 (convolutions whose positions are divided).
    """
    network = adjusted(network, pooling=pooling or "", padding=padding or "")

    def held(x: Array) -> Array:
        divided = PartitionSpec(*[None] * (x.ndim - 3), ROWS, None, None)
        return lax.with_sharding_constraint(x, NamedSharding(mesh, divided))

    def convolve(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
        y = _convolve(padding, held(x), kernel)
        return held(y + lax.broadcast_in_dim(bias, y.shape, (y.ndim - 1,)))

    def alone(params: Params, layers: Sequence[str], network: Network) -> dict[str, Array]:
        x = preprocess(held(image), network.convention)
        check_layers(params, image.shape, computed(layers), network)
        x, maps = x.astype(policy.compute_dtype(dtype, image.dtype)), {IMAGE: image}
        for names in blocks(network, computed(layers)):
            run = functools.partial(
                run_block,
                names=names,
                wanted=tuple(layers),
                network=network,
                convolve=convolve,
                show=held,
            )
            x, found = (jax.checkpoint(run) if remat else run)(params, x)
            x, maps = held(x), maps | found
        return {layer: maps[layer] for layer in layers}

    with policy.formulation("plain"):
        return by_network(alone, params, layers, network)


def _borders(size: int, padding: str) -> tuple[int, int]:
    """Return which row is seen before the first, and which after the last."""
    last = size - 1
    if padding == "reflect":
        return min(1, last), max(last - 1, 0)
    return (0, last) if padding == "replicate" else (last, 0)  # or 'circular'


def _edges(x: Array, padding: str) -> list[Array]:
    """Return the rows above and below, as seen beyond the borders."""
    height = x.shape[-3]
    return [
        lax.slice_in_dim(x, place, place + 1, axis=x.ndim - 3)
        for place in _borders(height, padding)
    ]


@policy.formulation("plain")
def _seen(edges: list[Array], kernel: Array) -> list[Array]:
    """Return what the edges add to the first and last row of a convolution."""
    above, below = edges
    return [
        ops.conv2d(above, kernel[:1], padding="valid"),
        ops.conv2d(below, kernel[2:], padding="valid"),
    ]


def _added(y: Array, parts: list[Array], places: tuple[int, int]) -> Array:
    """Add two rows to a map, in one pass and each where its row is."""
    axis = y.ndim - 3
    shape = [1] * y.ndim
    shape[axis] = y.shape[axis]
    index = lax.broadcasted_iota(jnp.int32, shape, axis)
    for part, place in zip(parts, places, strict=True):
        y = y + jnp.where(index == place, part, 0)
    return y


@policy.formulation("plain")
def _plain(x: Array, kernel: Array) -> Array:
    return ops.conv2d(x, kernel, padding="zero")


def _convolve(padding: str, x: Array, kernel: Array) -> Array:
    """Convolve with a 3x3 kernel; input, output and both gradients are divided alike."""
    # Every device has all columns of its rows, so those beyond the borders are at hand.
    return _over_rows(padding, ops.pad2d(x, ((0, 0), (1, 1)), padding), kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _over_rows(padding: str, x: Array, kernel: Array) -> Array:
    """Convolve a map whose columns are padded, `[..., h, w + 2, c]`, to `[..., h, w, c_out]`."""
    # With zeros around all of it, whose columns are cut off: two columns too many, but one halo.
    y = _plain(x, kernel)[..., 1:-1, :]
    if padding == "zero":
        return y
    return _added(y, _seen(_edges(x, padding), kernel), (0, x.shape[-3] - 1))


def _forward(padding: str, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _over_rows(padding, x, kernel), (x, kernel)


def _backward(padding: str, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    wide = ops.pad2d(g, ((0, 0), (1, 1)), "zero")
    # A forward convolution, as everywhere in `ops`; written out, it is fast inside loops too.
    by_x = _plain(wide, lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3)))
    by_kernel = jax.vjp(lambda kernel: _plain(x, kernel), kernel)[1](wide)[0]
    if padding == "zero":
        return by_x, by_kernel
    theirs = _edges(g, "replicate")  # the outermost rows, where edges were added
    by_edges, more = jax.vjp(_seen, _edges(x, padding), kernel)[1](theirs)
    return _added(by_x, by_edges, _borders(x.shape[-3], padding)), by_kernel + more


_over_rows.defvjp(_forward, _backward)
