"""Time the optimization of one picture against PyTorch (CPU), in interleaved runs.

    python benchmarks/gatys_speed.py  # everything, a quarter of an hour
    python benchmarks/gatys_speed.py --network embedded --size 512 --optimizer lbfgs

The default objective of `configs/gatys.py` (Gram matrices of relu1_1 to relu5_1, content relu4_2,
total variation) on random pictures and random parameters. Adam moves pixels and clips them; L-BFGS
moves pixels with 20 pairs in memory, evaluates once a step on both sides (`torch.optim.LBFGS`
without line search, as many iterations a call as it is given). PyTorch's is timed with its memory
full, the pairs come from a quadratic that costs nothing; jaxstyle takes the same time full or not.
The first steps begin at the same picture with the same parameters, and their losses are compared:
equal losses mean equal work. PyTorch is
measured eager and compiled, channels-last, with its own allocator settings and with the ones
jaxstyle uses. In float32, and in bfloat16: `features.dtype` of jaxstyle against PyTorch's autocast,
each compared with its own kind.

Prints, for every cell, the table of its workers, and at the end the ratios to PyTorch's best mode:
of medians, of minima, and the lowest and highest of single rounds. Below 1 jaxstyle is faster. Of
sizes of 512 px also the time of the field's protocol, 500 iterations, as five times that of 100.
"""

import argparse
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import against_torch  # noqa: E402
import interleave  # noqa: E402

VARIANTS = against_torch.VARIANTS[:-1]
NETWORKS, SIZES, OPTIMIZERS = ("embedded", "vgg19"), (256, 512), ("adam", "lbfgs")
CONTENT = ("relu4_2",)
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
WEIGHTS = {"tv": 1.0, "content/relu4_2": 0.15, **{f"style/{layer}": 1.0 for layer in STYLE}}
RATES = {"adam": 0.02, "lbfgs": 1.0}
MEMORY = 20
# Steps in a call, and rounds. (`experiments/paint_picture.py` takes 20 a call.)
STEPS = {("embedded", 256): (20, 5), ("embedded", 512): (10, 5), ("vgg19", 256): (6, 5)}
LARGEST = (4, 3)


def main() -> None:
    """Compare in every cell, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--size", nargs="*", type=int, default=SIZES)
    parser.add_argument("--optimizer", nargs="*", choices=OPTIMIZERS, default=OPTIMIZERS)
    parser.add_argument("--steps", type=int, default=0, help="in a call; default: by cell")
    against_torch.add_options(parser, VARIANTS, rounds=0)  # by cell
    args = parser.parse_args()
    if args.worker:
        make = _torch if interleave.is_torch(args.worker) else _jaxstyle
        return interleave.serve(make(args))
    rows, protocol = [], []
    for network, size, optimizer in itertools.product(args.network, args.size, args.optimizer):
        steps, rounds = STEPS.get((network, size), LARGEST)
        steps, rounds = args.steps or steps, args.rounds or rounds
        name = f"{network}, {size} px, {optimizer}"
        print(f"{name}: {steps} steps a call", flush=True)
        table = _cell((network, size, optimizer), steps, rounds, args.variants)
        for kind in dict.fromkeys(map(interleave.precision_of, table)):
            own = {n: row for n, row in table.items() if interleave.precision_of(n) == kind}
            if any(map(interleave.is_torch, own)):
                rows.append(_row(f"{name}, {kind}", own, steps))
        if size == 512 and any(name in args.variants for name in VARIANTS[1:4]):
            ours, theirs = (t["median"] / steps * 500 for t in _sides(table, "float32"))
            protocol.append(f"{name}: {ours:.0f} s, PyTorch {theirs:.0f} s")
    print(
        f"\n{'':32s} {'s/100 steps':>11s} {'PyTorch':>8s}  {'ratio':>5s} {'of min':>6s} "
        f"{'rounds':>11s}  {'peak MiB':>9s} PyTorch  best mode",
        *rows,
        *(["", "500 iterations at 512 px", *protocol] if protocol else []),
        sep="\n",
    )
    return None


def _cell(
    cell: tuple[str, int, str], steps: int, rounds: int, variants: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Run the workers of one cell in turn; says whether they compute the same."""
    network, size, optimizer = cell
    options = ["--network", network, "--size", str(size), "--optimizer", optimizer]
    table = against_torch.compare(
        __file__,
        functools.partial(write_arrays, network, size),
        *(*options, "--steps", str(steps)),
        variants=variants,
        rounds=rounds,
    )
    values = [row["value"] for name, row in table.items() if "bf16" not in name]
    if len(values) < 2:
        return table
    apart = (max(values) - min(values)) / min(values)
    verdict = "the same to 5 digits" if apart < 1e-5 else "NOT THE SAME"
    print(f"first losses: {verdict} ({apart:.0e} apart)\n", flush=True)
    return table


def _sides(
    table: Mapping[str, dict[str, float]], kind: str
) -> tuple[dict[str, float], dict[str, float]]:
    """The rows of jaxstyle and of PyTorch's best mode, of one precision."""
    own = {name: row for name, row in table.items() if interleave.precision_of(name) == kind}
    theirs = min((row for name, row in own.items() if interleave.is_torch(name)), key=_median)
    ours = [row for name, row in own.items() if not interleave.is_torch(name)]
    return (ours or [theirs])[0], theirs


def _median(row: Mapping[str, float]) -> float:
    return row["median"]


def _row(name: str, table: Mapping[str, dict[str, float]], steps: int) -> str:
    ours, theirs = _sides(table, interleave.precision_of(next(iter(table))))
    best = next(n for n, row in table.items() if row is theirs)
    seconds = (row["median"] / steps * 100 for row in (ours, theirs))
    rounds = f"{ours['ratio_low']:.2f}-{ours['ratio_high']:.2f}"
    return (
        f"{name:32s} {next(seconds):11.1f} {next(seconds):8.1f}  {ours['ratio_median']:5.2f} "
        f"{ours['ratio_min']:6.2f} {rounds:>11s}  {ours['peak'] / 2**20:9.0f} "
        f"{theirs['peak'] / 2**20:7.0f}  {best}"
    )


def write_arrays(network: str, size: int, file: str) -> None:
    """Random parameters and pictures that all workers use."""
    import jax

    from jaxstyle import features

    row = features.network(network)
    deepest = row.layers.index("conv5_1")
    params = {
        name: leaves
        for name, leaves in features.initialize(jax.random.key(0), row).items()
        if row.layers.index(name.replace("relu", "conv")) <= deepest
    }
    arrays = against_torch.named({"perception": params})
    rng = np.random.default_rng(0)
    pictures = {
        name: rng.random((size, size, 3), np.float32) for name in ("photo", "style", "first")
    }
    np.savez(file, **pictures, **arrays)


def _curvatures(shape: tuple[int, ...]) -> np.ndarray:
    """Of the quadratic that fills the memory of L-BFGS: from 0.001 to 1."""
    return np.float32(10 ** np.random.default_rng(1).uniform(-3, 0, shape))


def _jaxstyle(args: argparse.Namespace) -> Callable[[], float]:
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import functools

    import jax
    import jax.numpy as jnp

    from jaxstyle import features, losses, optimize
    from jaxstyle.methods import per_image

    arrays, dtype = dict(np.load(args.arrays)), against_torch.dtype_of(args.worker)
    problem = per_image.Problem(
        losses.combine(losses.content(CONTENT), losses.style(STYLE), losses.total_variation()),
        features.network(args.network[0]),
        dtype=dtype,
    )
    params = jax.tree.map(jnp.asarray, against_torch.nested(arrays, "perception"))
    prepare = jax.jit(functools.partial(per_image.prepare, problem))
    targets = prepare(params, {"content": arrays["photo"], "style": arrays["style"]})
    context = per_image.Context(params, targets, jax.tree.map(jnp.float32, WEIGHTS))
    name = args.optimizer[0]
    parameters = {"adam": "clipped", "lbfgs": "pixels"}[name]
    solver = optimize.solver(name, learning_rate=RATES[name], memory=MEMORY, parameters=parameters)
    state = optimize.start(jnp.asarray(arrays["first"]), solver)
    del arrays

    def program(steps: int) -> Callable[..., Any]:
        loss = functools.partial(per_image.loss, problem=problem)
        advance = functools.partial(optimize.advance, loss=loss, solver=solver, steps=steps)
        lowered = jax.jit(advance, donate_argnums=0).lower(state, context)
        return lowered.compile(runtime.compiler_options(dtype))

    run = program(args.steps)
    runtime.free_memory()  # gives back what compiling took
    runtime.return_large_blocks()

    def call() -> float:
        nonlocal state
        state, history = run(state, context)
        values = np.asarray(history)
        assert np.isfinite(values).all()
        return float(values[0])

    return call


def _torch(args: argparse.Namespace, device: str = "cpu") -> Callable[[], float]:
    import torch
    import torch_models

    from jaxstyle import features

    if "malloc" in args.worker:
        torch_models.keep_freed_memory()
    arrays = dict(np.load(args.arrays))
    network = features.network(args.network[0])
    layers = tuple(dict.fromkeys(CONTENT + STYLE))
    perception = torch_models.Perception(
        against_torch.nested(arrays, "perception"),
        network,
        layers,
        channels_last="contig" not in args.worker,
    )
    perception.move(device)
    photo, style, first = (
        torch.from_numpy(arrays[name].copy()).permute(2, 0, 1)[None].contiguous().to(device)
        for name in ("photo", "style", "first")
    )
    del arrays
    with torch.no_grad():
        wanted = {layer: m for layer, m in perception(photo).items() if layer in CONTENT}
        grams = {
            layer: torch_models.statistics(m, False)[0]
            for layer, m in perception(style).items()
            if layer in STYLE
        }
    image = first.clone().requires_grad_(True)

    def compute(image: torch.Tensor) -> torch.Tensor:
        maps = perception(image)
        total = WEIGHTS["tv"] * torch_models.variation(image)
        for layer, target in wanted.items():
            distance = torch_models.relative(maps[layer].float(), target)
            total = total + WEIGHTS[f"content/{layer}"] * distance
        for layer, target in grams.items():
            gram = torch_models.statistics(maps[layer], False)[0]
            total = total + WEIGHTS[f"style/{layer}"] * torch_models.relative(gram, target)
        return total.sum()

    run = torch.compile(compute) if "compile" in args.worker else compute

    def closure() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled="bf16" in args.worker):
            value = run(image)
        value.backward()
        image.grad = image.grad.contiguous()  # LBFGS flattens it
        losses.append(value.detach())
        return value

    losses: list[torch.Tensor] = []
    if args.optimizer[0] == "adam":
        optimizer = torch.optim.Adam([image], lr=RATES["adam"], fused=True)

        def step() -> None:
            for _ in range(args.steps):
                closure()
                optimizer.step()
                with torch.no_grad():
                    image.clamp_(0, 1)

    else:
        optimizer = torch.optim.LBFGS(
            [image], lr=RATES["lbfgs"], history_size=MEMORY, tolerance_grad=0, tolerance_change=0
        )
        options = optimizer.param_groups[0]
        options["max_iter"], options["max_eval"] = MEMORY + 1, 10 * MEMORY
        curvatures = torch.from_numpy(_curvatures(first.shape)).to(device)

        def bowl() -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            value = (curvatures * (image - 0.5) ** 2).sum() / 2
            value.backward()
            return value

        optimizer.step(bowl)
        assert len(optimizer.state[image]["old_dirs"]) == MEMORY
        options["max_iter"] = args.steps
        with torch.no_grad():
            image.copy_(first)

        def step() -> None:
            optimizer.step(closure)

    def call() -> float:
        losses.clear()
        step()
        assert len(losses) == args.steps
        return float(losses[0])

    return call


if __name__ == "__main__":
    main()
