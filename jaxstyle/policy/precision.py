"""What networks compute with: one policy for every backend, and a user's choice over it.

The policy, wherever `precision` or `dtype` is asked for:

* Parameters, optimizer states, running averages, losses and pictures are float32, always.
* 'float32' computes networks in float32, on every backend: on a GPU not in TF32, on a TPU not in
  one pass of bfloat16, which are those backends' own defaults (see `product_precision`).
* 'bfloat16' computes feature maps and convolutions in bfloat16, each sum over a window in float32.
  Means and variances, Gram matrices and losses are computed and summed in float32.
* 'auto' is what is fast without a visible difference: bfloat16 on a TPU and on an NVIDIA GPU of
  compute capability 8.0 or later, elsewhere float32.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxstyle.types import unknown_choice

PRECISIONS = ("auto", "float32", "bfloat16")

_FIRST_WITH_HALVES = 8.0  # compute capability of NVIDIA's Ampere


def compute_dtype(precision: str | None, given: jnp.dtype) -> jnp.dtype:
    """Return what to compute in.

    Args:
      precision: 'auto', 'float32' or 'bfloat16'; None is the dtype of what is given.
      given: dtype of the pictures. 'auto' changes float32 alone: who gives another has chosen.

    Raises:
      InputError: for an unknown precision.

    Example:
      >>> compute_dtype('bfloat16', jnp.dtype('float32')).name
      'bfloat16'
    """
    if precision is None:
        return given
    if precision not in PRECISIONS:
        raise unknown_choice("precision", precision, PRECISIONS)
    if precision == "auto":
        best = _best(jax.default_backend())
        return jnp.dtype(best) if given == jnp.float32 else given
    return jnp.dtype(precision)


def product_precision(dtype: jnp.dtype) -> lax.Precision | None:
    """Return the precision that convolutions and matrix products of a dtype should be given.

    A GPU's default multiplies float32 in TF32, which keeps 10 bits, a TPU's in bfloat16. Here
    float32 means float32: who wants speed takes bfloat16, which is faster than either. JAX's own
    setting stands above this one: under `jax.default_matmul_precision('tensorfloat32')`, or with
    `JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32`, float32 means TF32.

    Args:
      dtype: of the operands.

    Example:
      >>> product_precision(jnp.dtype('bfloat16')) is None
      True
    """
    chosen_by_user = jax.config.jax_default_matmul_precision is not None  # type: ignore[attr-defined]
    if dtype != jnp.float32 or chosen_by_user or jax.default_backend() == "cpu":
        return None
    return lax.Precision.HIGHEST


@functools.cache
def _best(backend: str) -> str:
    """Return what 'auto' is for float32 on a backend.

    On two CPU cores with AMX, `benchmarks/train_step.py`, `stylize_speed.py` and `gatys_speed.py`
    time both. A GPU or TPU is unmeasured: bfloat16 there is what their makers' peak rates promise.
    """
    if backend == "tpu":
        return "bfloat16"
    if backend == "gpu":
        return _best_of_gpu(str(getattr(jax.devices()[0], "compute_capability", "")))
    return "float32"


def _best_of_gpu(capability: str) -> str:
    """Return 'bfloat16' for '8.0' and later; AMD's names, such as 'gfx90a', are not numbers."""
    number = capability.replace(".", "", 1)
    fast = number.isdigit() and float(capability) >= _FIRST_WITH_HALVES
    return "bfloat16" if fast else "float32"
