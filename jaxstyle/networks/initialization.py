"""Initial values of an image-transformation network's kernels and scales."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxstyle.networks.configuration import TransformerConfig
from jaxstyle.types import Array


def draw_initial(key: Array, params: dict[str, Any], config: TransformerConfig) -> dict[str, Any]:
    """Replace kernels by random values, and scales too if `config.norm_scale_init` says so.

    All kernels share one draw: XLA takes about half a second to compile a generator for each
    shape, which for the default network is seconds before the first step.

    Args:
      key: from `jax.random.key`.
      params: nested dict whose leaves have their final shapes.
      config: the network; `kernel_init`, `kernel_init_std` and `norm_scale_init` count here.

    Returns:
      `params` with new values for the leaves called 'kernel' and, where they are random, 'scale'.

    References:
      He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852, eq. 10.
    """
    kernel_key, scale_key = jax.random.split(key)
    params = _redraw(params, "kernel", lambda n: _standard(kernel_key, n, config), config)
    if config.norm_scale_init == "uniform":
        params = _redraw(params, "scale", lambda n: jax.random.uniform(scale_key, (n,)), config)
    return params


def _redraw(params: dict[str, Any], leaf_name: str, draw: Any, config: TransformerConfig) -> Any:
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    named = [([entry.key for entry in path], leaf) for path, leaf in paths_and_leaves]
    values = draw(sum(leaf.size for path, leaf in named if path[-1] == leaf_name))
    leaves, start = [], 0
    for path, leaf in named:
        if path[-1] == leaf_name:
            part = values[start : start + leaf.size].reshape(leaf.shape)
            start += leaf.size
            leaf = part * _deviation(path, leaf.shape, config) if leaf_name == "kernel" else part
        leaves.append(leaf)
    return jax.tree.unflatten(structure, leaves)


def _standard(key: Array, count: int, config: TransformerConfig) -> Array:
    """Numbers for `_deviation` to scale; of variance 1 except for 'truncated_normal'."""
    shape = (count,)
    match config.kernel_init:
        case "he":
            spread = 0.8796256610342398  # deviation of a normal distribution cut at -2 and 2
            return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32) / spread
        case "torch":
            bound = math.sqrt(3.0)
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)
        case "normal":
            return jax.random.normal(key, shape, jnp.float32)
        case _:  # as in TensorFlow, the deviation is the one before the tails are cut
            return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32)


def _deviation(path: list[str], shape: tuple[int, ...], config: TransformerConfig) -> float:
    transposed = config.upsampling == "transposed" and path[0].startswith("decoder")
    fan_in = shape[0] * shape[1] * (shape[3] if transposed else shape[2])
    if config.kernel_init == "he":
        # At full size the last kernel drives the sigmoid far into saturation, color by color, and
        # training spends its first steps on undoing that.
        gain = 0.1 if path[0] == "output" else 1.0
        return gain * math.sqrt(2 / fan_in)
    return math.sqrt(1 / (3 * fan_in)) if config.kernel_init == "torch" else config.kernel_init_std
