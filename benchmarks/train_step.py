"""Time one training step against the same step in PyTorch (CPU), in one interleaved run.

    python benchmarks/train_step.py --case default   # the default recipe: half widths, embedded net
    python benchmarks/train_step.py --case vgg16     # full widths, VGG-16, 256 px, batch 4

Transformation network forward and backward, loss network twice forward and once backward, Adam. The
column 'value' is the loss of the first step on the same parameters and photographs: equal values
mean equal work. PyTorch is measured eager and compiled, channels-last, with its own allocator
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

CASES = {
    "default": {
        "size": 144,
        "batch": 4,
        "widths": (16, 32, 64),
        "network": "embedded",
        "content": ("relu3_3", "relu4_1"),
        "style": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
        "statistic": "moments",
    },
    "vgg16": {
        "size": 256,
        "batch": 4,
        "widths": (32, 64, 128),
        "network": "vgg16",
        "content": ("relu3_3",),
        "style": ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        "statistic": "gram",
    },
}


def main() -> None:
    """Compare, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, default="default")
    against_torch.add_options(parser)
    args = parser.parse_args()
    case = CASES[args.case]
    if args.worker:
        arrays = dict(np.load(args.arrays))
        make = _torch if interleave.is_torch(args.worker) else _jaxstyle
        return interleave.serve(make(case, arrays, args))
    against_torch.compare(
        __file__,
        functools.partial(write_arrays, case),
        *("--case", args.case),
        variants=args.variants,
        rounds=args.rounds,
    )
    return None


def write_arrays(case: dict, file: str) -> None:
    """Random parameters and pictures that all workers use."""
    import jax

    from jaxstyle import features, networks

    key = jax.random.key(0)
    network = networks.init(key, networks.TransformerConfig(widths=case["widths"]))
    perception = features.initialize(key, features.network(case["network"]))
    leaves = {"net": network["params"], "perception": perception}
    arrays = against_torch.named(leaves)
    shape = (case["batch"], case["size"], case["size"], 3)
    rng = np.random.default_rng(0)
    np.savez(
        file,
        photo=rng.integers(256, size=shape, dtype=np.uint8),
        style=rng.random(shape[1:]).astype(np.float32),
        **arrays,
    )


def weights_of(case: dict) -> dict[str, float]:
    """Return a weight of 1 for each term."""
    weights = {f"content/{layer}": 1.0 for layer in case["content"]}
    return {"tv": 1.0, **weights, **{f"style/{layer}": 1.0 for layer in case["style"]}}


def _jaxstyle(case: dict, arrays: dict, args: argparse.Namespace):
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import jax
    import jax.numpy as jnp

    from jaxstyle import features, losses, networks, training
    from jaxstyle.training import feedforward, optimizers

    config = networks.TransformerConfig(widths=case["widths"])
    dtype = against_torch.dtype_of(args.worker)
    problem = feedforward.Problem(
        losses.content(case["content"]),
        losses.style(case["style"], case["statistic"]),
        losses.total_variation(),
        features.network(case["network"]),
        dtype,
    )
    perception = jax.tree.map(jnp.asarray, against_torch.nested(arrays, "perception"))
    weights, optimizer = weights_of(case), optimizers.adam(1e-3)
    targets = feedforward.style_targets(problem, perception, jnp.asarray(arrays["style"]))
    step = jax.jit(
        feedforward.make_step(problem, config, optimizer),
        donate_argnums=0,
        compiler_options=runtime.compiler_options(dtype),
    )
    params = jax.tree.map(jnp.asarray, against_torch.nested(arrays, "net"))
    state = training.create(params, optimizer, metrics=("loss", *weights))
    total = 0.0

    def call() -> float:
        nonlocal state, total
        state = step(state, arrays["photo"], perception, targets, weights)
        before, total = total, float(state.metrics["loss"])  # sums over steps; waits for the step
        return total - before

    return call


def _torch(case: dict, arrays: dict, args: argparse.Namespace):
    import torch
    import torch_models

    from jaxstyle import features

    if "malloc" in args.worker:
        torch_models.keep_freed_memory()
    torch.manual_seed(0)
    network = features.network(case["network"])
    net = torch_models.Transformer(against_torch.nested(arrays, "net"))
    layers = tuple(dict.fromkeys(case["content"] + case["style"]))
    perception = torch_models.Perception(
        against_torch.nested(arrays, "perception"), network, layers
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def images(pixels: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        return tensor.contiguous(memory_format=torch.channels_last)

    with torch.no_grad():
        maps = perception(images(arrays["style"][None]))
        moments = case["statistic"] == "moments"
        style = {layer: torch_models.statistics(maps[layer], moments) for layer in case["style"]}
    weights = weights_of(case)
    compute = torch_models.loss
    if "compile" in args.worker:
        compute = torch.compile(compute)

    def call() -> float:
        photo = images(arrays["photo"]) / 255
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in args.worker):
            value = compute(net, perception, photo, case["content"], style, weights)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return call


if __name__ == "__main__":
    main()
