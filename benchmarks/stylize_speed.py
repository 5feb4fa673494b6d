"""Time one pass of the full-width network against PyTorch (CPU), in one interleaved run.

    python benchmarks/stylize_speed.py --sizes 256 512 1024

One picture at a time. The column 'value' is the mean of the result: equal values mean equal work.
PyTorch is measured eager and compiled, channels-last and contiguous, with its own allocator
settings and with the ones jaxstyle uses. In float32, and in bfloat16: `precision` of jaxstyle
against PyTorch's autocast, each compared with its own kind.
"""

import argparse
import functools
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import against_torch  # noqa: E402
import interleave  # noqa: E402

VARIANTS = (*against_torch.VARIANTS[:2], "torch contiguous", *against_torch.VARIANTS[2:])


def main() -> None:
    """Compare at each size, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=(256, 512, 1024))
    against_torch.add_options(parser, VARIANTS)
    args = parser.parse_args()
    if args.worker:
        arrays = dict(np.load(args.arrays))
        make = _torch if interleave.is_torch(args.worker) else _jaxstyle
        return interleave.serve(make(arrays, args.worker))
    for size in args.sizes:
        print(f"{size} px")
        write = functools.partial(_write_arrays, size)
        against_torch.compare(__file__, write, variants=args.variants, rounds=args.rounds)
    return None


def _write_arrays(size: int, file: str) -> None:
    import jax

    from jaxstyle import networks

    params = networks.init(jax.random.key(0), networks.TransformerConfig())["params"]
    arrays = against_torch.named({"net": params})
    photo = np.random.default_rng(0).random((size, size, 3), np.float32)
    np.savez(file, photo=photo, **arrays)


def _jaxstyle(arrays: dict, variant: str):
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import jax
    import jax.numpy as jnp

    from jaxstyle import networks
    from jaxstyle.methods import StyleModel, stylize

    config = networks.TransformerConfig()
    params = jax.tree.map(jnp.asarray, against_torch.nested(arrays, "net"))
    model = StyleModel({"params": params}, config)
    precision = against_torch.dtype_of(variant)
    options = runtime.compiler_options(precision)
    paint = jax.jit(functools.partial(stylize, precision=precision), compiler_options=options)
    photo = jnp.asarray(arrays["photo"])
    return lambda: float(np.asarray(paint(model, photo)).mean())


def _torch(arrays: dict, variant: str):
    import torch
    import torch_models

    if "malloc" in variant:
        torch_models.keep_freed_memory()
    net = torch_models.Transformer(against_torch.nested(arrays, "net")).eval()
    photo = torch.from_numpy(arrays["photo"]).permute(2, 0, 1)[None]
    if "contiguous" in variant:
        net, photo = net.to(memory_format=torch.contiguous_format), photo.contiguous()
    else:
        photo = photo.contiguous(memory_format=torch.channels_last)
    run = torch.compile(net) if "compile" in variant else net

    def call() -> float:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bf16" in variant):
            return float(run(photo).clamp(0, 1).float().mean())

    return call


if __name__ == "__main__":
    main()
