"""Time each convolution of the networks against PyTorch (CPU): forward, by input, by kernel.

    python benchmarks/operations.py  # all, 6 minutes
    python benchmarks/operations.py --layers vgg --precisions bf16 --rounds 11

Says which operation stands in the way where a whole step is slower than PyTorch's. Every cell is
the time of jaxstyle and of PyTorch, and the ratio: the median over rounds, each of them one call of
either side in turn, and its lowest and highest. Both run in one process, channels last, with the
allocator settings that jaxstyle uses; a PyTorch that waits asleep, so as not to slow the other.
Where a layer doubles the map ('up'), PyTorch's time is that of the convolution alone.
Below 1 jaxstyle is faster. At the end of each layer the work is given, and the rates.
"""

import argparse
import functools
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


class Layer(NamedTuple):
    """A convolution: side of the map, channels, side of the kernel, stride, whether it doubles."""

    side: int
    c_in: int
    c_out: int
    kernel: int = 3
    stride: int = 1
    doubles: bool = False

    @property
    def operations(self) -> float:
        """Multiplications and additions of one image, as the definition has them."""
        side = self.side * 2 if self.doubles else self.side // self.stride
        return 2 * side**2 * self.kernel**2 * self.c_in * self.c_out


LAYERS = {
    "default": {  # of `configs/starry_fast.py`: its network, and the one that judges
        "9x9 3-16": Layer(144, 3, 16, 9),
        "3x3/2 16-32": Layer(144, 16, 32, 3, 2),
        "3x3/2 32-64": Layer(72, 32, 64, 3, 2),
        "3x3 64-64": Layer(36, 64, 64),
        "up 64-32": Layer(36, 64, 32, doubles=True),
        "up 32-16": Layer(72, 32, 16, doubles=True),
        "9x9 16-3": Layer(144, 16, 3, 9),
        "conv1_1": Layer(144, 3, 16),
        "conv1_2": Layer(144, 16, 16),
        "conv2_1": Layer(72, 16, 48),
        "conv2_2": Layer(72, 48, 48),
        "conv3_1": Layer(36, 48, 96),
        "conv3_2": Layer(36, 96, 64),
        "conv4_1": Layer(18, 96, 128),
        "conv4_2": Layer(18, 128, 128),
    },
    "transformer": {
        "9x9 3-32": Layer(256, 3, 32, 9),
        "3x3/2 32-64": Layer(256, 32, 64, 3, 2),
        "3x3/2 64-128": Layer(128, 64, 128, 3, 2),
        "3x3 128-128": Layer(64, 128, 128),
        "up 128-64": Layer(64, 128, 64, doubles=True),
        "up 64-32": Layer(128, 64, 32, doubles=True),
        "9x9 32-3": Layer(256, 32, 3, 9),
    },
    "vgg": {
        "conv1_1": Layer(256, 3, 64),
        "conv1_2": Layer(256, 64, 64),
        "conv2_1": Layer(128, 64, 128),
        "conv2_2": Layer(128, 128, 128),
        "conv3_1": Layer(64, 128, 256),
        "conv3_2": Layer(64, 256, 256),
        "conv4_1": Layer(32, 256, 512),
        "conv4_2": Layer(32, 512, 512),
    },
}
PASSES = ("forward", "by input", "by kernel")


def main() -> None:
    """Print a table for each network and precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", nargs="*", choices=LAYERS, default=tuple(LAYERS))
    parser.add_argument("--precisions", nargs="*", choices=("float32", "bf16"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only-jaxstyle", action="store_true", help="processor time, no ratios")
    args = parser.parse_args()
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    for network in args.layers:
        for precision in args.precisions or ("float32", "bf16"):
            most = PASSES[:2] if all(map(_judges, LAYERS[network])) else PASSES
            heads = [f"{name:^32s}" for name in most]
            print(f"\n{network}, batch {args.batch}, {precision}: ms, PyTorch's, ratio (rounds)")
            print(f"{'':14s}", *heads, "   GFLOP, GFLOP/s")
            for name, layer in LAYERS[network].items():
                _row(name, layer, precision, args, kernels=not _judges(name))
    return None


def _judges(layer: str) -> bool:
    """Return whether a layer is of the loss network, which nothing trains."""
    return layer.startswith("conv")


def _row(
    name: str, layer: Layer, precision: str, args: argparse.Namespace, *, kernels: bool
) -> None:
    passes = PASSES if kernels else PASSES[:2]
    ours = _jaxstyle(layer, precision, args.batch)
    theirs = {} if args.only_jaxstyle else _torch(layer, precision, args.batch)
    cells, rates = [], []
    for which in passes:
        if args.only_jaxstyle:
            cells.append(f"{_processor_time(ours[which], args.rounds) * 1e3:8.2f} ms of processors")
            continue
        a, b = _in_turn(ours[which], theirs[which], args.rounds)
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        cells.append(
            f"{statistics.median(a) * 1e3:7.2f} {statistics.median(b) * 1e3:7.2f} "
            f"{statistics.median(ratios):5.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )
        rates.append(f"{layer.operations * args.batch / statistics.median(a) / 1e9:.0f}")
    amount = f"{layer.operations * args.batch / 1e9:6.1f}"
    print(f"{name:14s}", *(f"{cell:32s}" for cell in cells), amount, *rates, flush=True)


def _in_turn(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for call, seconds in zip((ours, theirs), times, strict=True):
            began = time.perf_counter()
            call()
            if turn:
                seconds.append(time.perf_counter() - began)
    return times


def _processor_time(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of all processors in the best of some calls: others on the machine count little."""
    call()
    times = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def _arrays(layer: Layer, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, layer.side, layer.side, layer.c_in)).astype(np.float32)
    kernel = rng.normal(size=(layer.kernel, layer.kernel, layer.c_in, layer.c_out))
    return x, kernel.astype(np.float32)


def _jaxstyle(layer: Layer, precision: str, batch: int) -> dict[str, Callable[[], Any]]:
    import jax
    import jax.numpy as jnp

    from jaxstyle import ops, runtime

    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    compiled = functools.partial(jax.jit, compiler_options=runtime.compiler_options(dtype.dtype))
    x, kernel = (jnp.asarray(array, dtype) for array in _arrays(layer, batch))

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if layer.doubles:
            return ops.upsample_conv2d(x, kernel)
        return ops.conv2d(x, kernel, stride=layer.stride)

    forward = compiled(convolve)
    g = forward(x, kernel)
    by_input = compiled(lambda x, k, g: jax.vjp(lambda x: convolve(x, k), x)[1](g)[0])
    by_kernel = compiled(lambda x, k, g: jax.vjp(lambda k: convolve(x, k), k)[1](g)[0])
    return {
        "forward": lambda: jax.block_until_ready(forward(x, kernel)),
        "by input": lambda: jax.block_until_ready(by_input(x, kernel, g)),
        "by kernel": lambda: jax.block_until_ready(by_kernel(x, kernel, g)),
    }


def _torch(layer: Layer, precision: str, batch: int) -> dict[str, Callable[[], Any]]:
    import torch
    import torch.nn.functional as F
    import torch_models

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    array, taps = _arrays(layer, batch)
    x = torch.from_numpy(array).permute(0, 3, 1, 2)
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch_models.kernel(taps).to(dtype)
    if layer.doubles:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = x.contiguous(memory_format=torch.channels_last)
    pad = layer.kernel // 2

    def convolve() -> torch.Tensor:
        with torch.no_grad():
            return F.conv2d(x, kernel, None, layer.stride, pad)

    g = torch.ones_like(convolve())

    def backward(mask: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            g, x, kernel, None, [layer.stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask
        )

    return {
        "forward": convolve,
        "by input": lambda: backward([True, False, False]),
        "by kernel": lambda: backward([False, True, False]),
    }


if __name__ == "__main__":
    main()
