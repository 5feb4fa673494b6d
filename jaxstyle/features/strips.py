"""Feature maps of pictures of many megapixels: every block of the network strip by strip.

A network's memory is what its layers leave for the gradient. Here each block works through its
input in strips of the full width, and the gradient computes a strip again before it goes back
through it, so that of all that lies between the input of a block and the maps asked for there is
never more than a strip. A strip needs as many rows of its neighbors as the block has convolutions,
two to four, because it begins anew at every block: the rows that the whole network would need
(66 on either side for relu5_1) are not computed twice.

The maps asked for are whole, so whatever is asked of them, a Gram matrix, a comparison with the
content, a mask, is asked of the whole picture, and its gradient is the one without strips.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxstyle import ops, policy
from jaxstyle.features.table import Joined, Network, adjusted
from jaxstyle.features.vgg import (
    IMAGE,
    blocks,
    by_network,
    check_image,
    check_layers,
    computed,
    preprocess,
    run_block,
)
from jaxstyle.types import Array, InputError, Params

# Rows come in this measure: with fewer, the rows computed twice outweigh what is saved.
_LEAST_ROWS = 16


def features_in_strips(
    params: Params,
    image: Array,
    layers: Sequence[str],
    *,
    network: Network | Joined,
    rows: int = 64,
    pooling: str | None = None,
    padding: str | None = None,
    dtype: str | None = None,
) -> dict[str, Array]:
    """Return what `features` returns, computed in strips.

    Values and gradients agree with those of `features` to rounding, for any size of the picture.
    Reverse mode only.

    Args:
      params: as `features` takes them.
      image: `[..., h, w, 3]`, sRGB in [0, 1].
      layers: names such as 'relu4_1', whose maps are kept whole; besides them 'image', the image
        as it was given. What else is asked of the picture, its total variation for one, should be
        asked of `maps['image']`: then all gradients are summed in one array, where XLA otherwise
        keeps one for each, 0.2 GB a piece at 4096 x 4096.
      network: the row of the table the parameters belong to, or two joined.
      rows: of a block's maps, in one strip; rounded up to a multiple of 16. Blocks with few more
        rows are computed at once.
      pooling: 'max' or 'average' instead of the network's own.
      padding: 'zero', 'reflect' or 'replicate' instead of the network's own.
      dtype: 'float32', 'bfloat16' or 'auto', as of `features`.

    Returns:
      The feature maps `[..., h', w', c]` by layer name, in the order asked for.

    Raises:
      InputError: fewer than 1 row; and as `features`.

    Example:
      >>> from jaxstyle.features.vgg import initialize
      >>> small = Network('small', ((8, 8), (16,)))
      >>> params = initialize(jax.random.key(0), small)
      >>> maps = features_in_strips(
      ...     params, jnp.ones((64, 48, 3)), ('relu1_1', 'pool2'), network=small, rows=16
      ... )
      >>> {name: m.shape for name, m in maps.items()}
      {'relu1_1': (64, 48, 8), 'pool2': (16, 12, 16)}
    """
    if rows < 1:
        raise InputError(f"strips of {rows} rows hold nothing; give at least 1, 64 as a rule.")
    network = adjusted(network, pooling=pooling or "", padding=padding or "")

    def alone(params: Params, layers: Sequence[str], network: Network) -> dict[str, Array]:
        check_image(image)
        check_layers(params, image.shape, computed(layers), network)
        maps: dict[str, Array] = {}
        x, numbers = image, str(policy.compute_dtype(dtype, image.dtype))
        for names in blocks(network, computed(layers)):
            block = _Block(network, names, tuple(layers), numbers, enters=x is image)
            own = {name: params[name] for name in names if name in params}
            found = block.compute(own, x, rows=-(-rows // _LEAST_ROWS) * _LEAST_ROWS)
            x = found[names[-1]]
            maps = found | maps  # the first block's input is the image
        return {layer: maps[layer] for layer in layers}

    return by_network(alone, params, layers, network)


@final
@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the rows of a map are cut into strips of one height; overlapping, where need be.

    All strips begin at an even row, because pools join pairs of rows.

    Attributes:
      starts: first row of each strip, and the height at the end.
      rows: of a strip: even, and one more where the height is odd.
      halo: rows needed on either side.
    """

    starts: tuple[int, ...]
    rows: int
    halo: int

    @classmethod
    def of(cls, height: int, rows: int, halo: int) -> "_Layout | None":
        """Cut; None where strips would not be much smaller than the whole."""
        if height < rows + 1 + 2 * halo:
            return None
        even = height // 2 * 2
        count = -(-even // rows)
        rows = -(-even // (2 * count)) * 2
        starts = [2 * round(i * (even - rows) / (2 * (count - 1))) for i in range(count)]
        return cls((*starts, height), rows + height % 2, halo)

    @property
    def count(self) -> int:
        """Number of strips."""
        return len(self.starts) - 1

    @property
    def seen(self) -> int:
        """Rows that a strip sees."""
        return self.rows + 2 * self.halo

    def turns(self) -> dict[str, Array]:
        """Return what differs from strip to strip, `[count]` each."""
        starts = np.array(self.starts[:-1])
        return {
            "start": jnp.asarray(starts),
            "owned": jnp.asarray(np.diff(self.starts)),  # rows, until the next strip begins
            "first": jnp.asarray(starts == 0),
            "last": jnp.asarray(starts == starts[-1]),
        }

    def at(self, start: Array) -> Array:
        """Return the first row that is read for a strip: all that it sees is in the picture."""
        return jnp.clip(start - self.halo, 0, self.starts[-1] - self.seen)

    def centered(self, window: Array, start: Array) -> Array:
        """Shift what was read to where an inner strip has it; what comes in means nothing."""
        shift = start - self.halo - self.at(start)
        ends = ((self.halo, self.halo), (0, 0))
        return _rows(ops.pad2d(window, ends, "zero"), self.halo + shift, self.seen)


@final
@dataclasses.dataclass(frozen=True)
class _Block:
    """A block of a network, and what is wanted of it; nothing in it is traced.

    Attributes:
      network: says how to pool and to pad, and what the first block takes.
      names: the block's layers.
      wanted: layers to return, besides the last; also of other blocks.
      dtype: to compute in.
      enters: whether the block begins with the picture.
    """

    network: Network
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    dtype: str
    enters: bool

    def compute(self, params: Params, x: Array, *, rows: int) -> dict[str, Array]:
        """Return the wanted maps, the last and the input, in strips if it has many rows."""
        halo = sum(name.startswith("conv") for name in self.names)
        layout = _Layout.of(x.shape[-3], rows, halo)
        if layout is None:
            return jax.checkpoint(self.whole)(params, x) | {IMAGE: x}
        return _in_strips(self, layout, params, x)

    def whole(self, params: Params, x: Array, **how: Any) -> dict[str, Array]:
        """Return the same at once."""
        if self.enters:
            x = preprocess(x, self.network.convention)
        wanted = (*self.wanted, self.names[-1])
        x = x.astype(self.dtype)
        return run_block(params, x, names=self.names, wanted=wanted, network=self.network, **how)[1]

    def strip(
        self, params: Params, window: Array, layout: _Layout, turn: dict[str, Array]
    ) -> dict[str, Array]:
        """Return a strip of the wanted maps.

        Args:
          params: of the block.
          window: rows of the input, from `layout.at(start)` on.
          layout: of the strips.
          turn: which strip, one of `layout.turns()`.
        """

        def inner(x: Array) -> int:
            """Rows that `x` still has beyond the strip, on either side."""
            return (x.shape[-3] - layout.rows) // 2

        def convolve(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
            x = ops.pad2d(x, ((0, 0), (1, 1)), padding)
            halo = inner(x)
            x = _beyond(x, halo - 1, halo, turn["first"], padding)
            end = halo + layout.rows
            x = _beyond(x, end, end - 1, turn["last"], padding)
            return ops.conv2d(x, kernel, bias, padding="valid")

        def show(x: Array) -> Array:
            pooled = x.shape[-3] < layout.rows
            return x if pooled else _rows(x, inner(x), layout.rows)

        return self.whole(
            params, layout.centered(window, turn["start"]), convolve=convolve, show=show
        )


def _beyond(x: Array, row: int, border: int, here: Array, padding: str) -> Array:
    """Write the row beyond a border of the picture, where `here` says that it is one."""
    old = _rows(x, row, 1)
    if padding == "zero":
        new = jnp.zeros_like(old)
    else:
        new = _rows(x, border if padding == "replicate" else 2 * border - row, 1)
    return lax.dynamic_update_slice_in_dim(x, jnp.where(here, new, old), row, axis=x.ndim - 3)


def _rows(x: Array, start: Array | int, count: int) -> Array:
    return lax.dynamic_slice_in_dim(x, start, count, axis=x.ndim - 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_strips(block: _Block, layout: _Layout, params: Params, x: Array) -> dict[str, Array]:
    """Return a block's maps, computed strip by strip, and its input as it came."""

    def put(maps: dict[str, Array], turn: dict[str, Array]) -> tuple[dict[str, Array], None]:
        window = _rows(x, layout.at(turn["start"]), layout.seen)
        strip = block.strip(params, window, layout, turn)
        return {name: _write(maps[name], strip[name], turn, name) for name in maps}, None

    shapes = jax.eval_shape(lambda params, x: block.whole(params, x), params, x)
    maps = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    return lax.scan(put, maps, layout.turns())[0] | {IMAGE: x}


def _write(whole: Array, strip: Array, turn: dict[str, Array], name: str) -> Array:
    start = turn["start"] // _step(name)
    return lax.dynamic_update_slice_in_dim(whole, strip, start, axis=whole.ndim - 3)


def _step(name: str) -> int:
    """Rows of a block's input for one of a layer."""
    return 2 if name.startswith("pool") else 1


def _in_strips_forward(
    block: _Block, layout: _Layout, params: Any, x: Any
) -> tuple[dict[str, Array], tuple[Params, Array, Any]]:
    values = jax.tree.map(lambda leaf: leaf.value, params)
    learns = any(leaf.perturbed for leaf in jax.tree.leaves(params))
    # Whether the parameters are learned is not an array: it is told by the tree's form.
    saved = (values, x.value, () if learns else None)
    return _in_strips(block, layout, values, x.value), saved


def _in_strips_backward(
    block: _Block, layout: _Layout, saved: tuple[Params, Array, Any], g: dict[str, Any]
) -> tuple[Any, Array]:
    params, x, learns = saved
    # The sum begins with what is said of the input itself. It is one array, made by a loop: a sum
    # outside of it would be written once more for each of its uses, with all its parts kept.
    others = jnp.zeros_like(x) if isinstance(g[IMAGE], SymbolicZero) else g[IMAGE]

    def back(sums: tuple[Any, Array], turn: dict[str, Array]) -> tuple[tuple[Any, Array], None]:
        at = layout.at(turn["start"])
        of_params, of_x = sums
        run = functools.partial(block.strip, layout=layout, turn=turn)
        cotangents = {name: _owned(g[name], layout, turn, name) for name in g if name != IMAGE}
        window = _rows(x, at, layout.seen)
        if learns is None:
            (more,) = jax.vjp(lambda window: run(params, window), window)[1](cotangents)
        else:
            of_strip, more = jax.vjp(run, params, window)[1](cotangents)
            of_params = jax.tree.map(jnp.add, of_params, of_strip)
        more += _rows(of_x, at, layout.seen)
        return (of_params, lax.dynamic_update_slice_in_dim(of_x, more, at, axis=x.ndim - 3)), None

    sums = (jax.tree.map(jnp.zeros_like, params), others)
    return lax.scan(back, sums, layout.turns())[0]


def _owned(whole: Any, layout: _Layout, turn: dict[str, Array], name: str) -> Array:
    """Return a strip of a cotangent, without the rows that the next strip has too."""
    step = _step(name)
    if isinstance(whole, SymbolicZero):
        *lead, _, w, c = whole.shape
        return jnp.zeros((*lead, layout.rows // step, w, c), whole.dtype)
    strip = _rows(whole, turn["start"] // step, layout.rows // step)
    own = jnp.arange(layout.rows // step) < turn["owned"] // step
    return jnp.where(lax.expand_dims(own, (*range(strip.ndim - 3), -2, -1)), strip, 0)


_in_strips.defvjp(_in_strips_forward, _in_strips_backward, symbolic_zeros=True)
