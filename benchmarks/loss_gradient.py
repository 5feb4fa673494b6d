"""Time the gradient of the loss by the picture through VGG-16 against PyTorch (CPU), interleaved.

    python benchmarks/loss_gradient.py --batches 1 4

What a training step takes besides the network that is trained: the loss network forward and back
to the pictures, Gram matrices of relu1_2, 2_2, 3_3 and 4_3 and the content of relu3_3, 256 px,
random parameters. The column 'value' is the loss: equal values mean equal work. In float32, and in
bfloat16 against PyTorch's autocast, each compared with its own kind.
"""

import argparse
import functools
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import against_torch  # noqa: E402
import interleave  # noqa: E402
from train_step import CASES, weights_of  # noqa: E402

CASE = CASES["vgg16"]
LAYERS = tuple(dict.fromkeys(CASE["content"] + CASE["style"]))


def main() -> None:
    """Compare at each batch, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="*", default=(1, 4))
    parser.add_argument("--size", type=int, default=CASE["size"])
    against_torch.add_options(parser)
    args = parser.parse_args()
    if args.worker:
        arrays = dict(np.load(args.arrays))
        make = _torch if interleave.is_torch(args.worker) else _jaxstyle
        return interleave.serve(make(arrays, args.worker))
    for batch in args.batches:
        print(f"batch {batch}, {args.size} px")
        write = functools.partial(_write_arrays, batch, args.size)
        against_torch.compare(__file__, write, variants=args.variants, rounds=args.rounds)
    return None


def _write_arrays(batch: int, size: int, file: str) -> None:
    """Random parameters and pictures that all workers use."""
    import jax

    from jaxstyle import features

    perception = features.initialize(jax.random.key(0), features.network(CASE["network"]))
    arrays = against_torch.named({"perception": perception})
    rng = np.random.default_rng(0)
    shapes = {"photo": (batch,), "painted": (batch,), "style": ()}
    pictures = {n: rng.random((*lead, size, size, 3), np.float32) for n, lead in shapes.items()}
    np.savez(file, **pictures, **arrays)


def _jaxstyle(arrays: dict, variant: str):
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import jax
    import jax.numpy as jnp

    from jaxstyle import features, losses
    from jaxstyle.training import feedforward

    dtype = against_torch.dtype_of(variant)
    problem = feedforward.Problem(
        losses.content(CASE["content"]),
        losses.style(CASE["style"]),
        losses.total_variation(),
        features.network(CASE["network"]),
        dtype,
    )
    perception = jax.tree.map(jnp.asarray, against_torch.nested(arrays, "perception"))
    style = feedforward.style_targets(problem, perception, jnp.asarray(arrays["style"]))
    content = feedforward.content_targets(problem, perception, jnp.asarray(arrays["photo"]))
    weights = weights_of(CASE)

    @functools.partial(jax.jit, compiler_options=runtime.compiler_options(dtype))
    def run(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(image: jax.Array) -> jax.Array:
            maps = problem.see(perception, image, problem.layers)
            values = feedforward.terms(problem, image, maps, content, style)
            return jnp.mean(losses.weigh(values, weights))

        return jax.value_and_grad(loss)(image)

    image = jnp.asarray(arrays["painted"])
    return lambda: float(jax.block_until_ready(run(image))[0])


def _torch(arrays: dict, variant: str):
    import torch
    import torch_models

    from jaxstyle import features

    if "malloc" in variant:
        torch_models.keep_freed_memory()
    network = features.network(CASE["network"])
    perception = torch_models.Perception(
        against_torch.nested(arrays, "perception"), network, LAYERS
    )
    photo, painted, style = (
        torch.from_numpy(pixels.reshape(-1, *pixels.shape[-3:]))
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=torch.channels_last)
        for pixels in (arrays["photo"], arrays["painted"], arrays["style"])
    )
    painted.requires_grad_(True)
    weights = weights_of(CASE)
    with torch.no_grad():
        wanted, grams = perception(photo), perception(style)
        grams = {name: torch_models.statistics(grams[name], False)[0] for name in CASE["style"]}

    def compute(image: torch.Tensor) -> torch.Tensor:
        maps = perception(image)
        total = weights["tv"] * torch_models.variation(image)
        for layer in CASE["content"]:
            distance = torch_models.relative(maps[layer].float(), wanted[layer])
            total = total + weights[f"content/{layer}"] * distance
        for layer, target in grams.items():
            gram = torch_models.statistics(maps[layer], False)[0]
            total = total + weights[f"style/{layer}"] * torch_models.relative(gram, target)
        return total.mean()

    run = torch.compile(compute) if "compile" in variant else compute

    def call() -> float:
        painted.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in variant):
            value = run(painted)
        value.backward()
        return float(value.detach())

    return call


if __name__ == "__main__":
    main()
