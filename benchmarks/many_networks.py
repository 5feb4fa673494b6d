"""Time the training step of several networks at once against as many steps of one each.

    python benchmarks/many_networks.py  # 1, 2, 4 and 8 networks, a quarter of an hour
    python benchmarks/many_networks.py --networks 4 --rounds 9

The step of `configs/starry_many.py`: the default recipe's network, objective and batch, at its
size; random parameters, styles and photographs. `sequential` runs the compiled step of one network
once for each; `unrolled` and `vmap` are the formulations of `jaxstyle.training.many`. The column
'value' is the mean loss of the first step: equal values mean equal work. Prints for every number of
networks the table of its workers, and at the end milliseconds a network and the ratios to
`sequential`: of medians, of minima, the lowest and highest of single rounds. Below 1 the networks
are faster together.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import interleave  # noqa: E402

VARIANTS = ("sequential", "unrolled", "vmap")
CONTENT = ("relu3_3", "relu4_1")
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
WIDTHS = (16, 32, 64)


def main() -> None:
    """Compare, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="*", type=int, default=(1, 2, 4, 8))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return interleave.serve(_worker(args))
    rows = []
    for count in args.networks:
        print(f"{count} networks, {args.batch} photographs of {args.size} px", flush=True)
        command = [sys.executable, __file__, "--networks", str(count), "--size", str(args.size)]
        command += ["--batch", str(args.batch), "--worker"]
        table = interleave.compare(
            {name: [*command, name] for name in args.variants},
            args.rounds,
            baseline=lambda name: name == args.variants[0],
        )
        rows += [_row(count, name, row) for name, row in table.items()]
    print(
        f"\n{'':14s} {'ms/network':>10s} {'ratio':>6s} {'of min':>6s} {'rounds':>11s} "
        f"{'peak MiB':>8s} {'first call':>10s}",
        *rows,
        sep="\n",
    )
    return None


def _row(count: int, name: str, row: dict[str, float]) -> str:
    rounds = f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
    return (
        f"{count} {name:12s} {row['median'] / count * 1e3:10.1f} {row['ratio_median']:6.2f} "
        f"{row['ratio_min']:6.2f} {rounds:>11s} {row['peak'] / 2**20:8.0f} {row['warm_up']:9.1f}s"
    )


def _worker(args: argparse.Namespace) -> Callable[[], float]:
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import jax
    import jax.numpy as jnp

    from jaxstyle import features, losses, networks, training
    from jaxstyle.training import feedforward, many, optimizers

    (count,), rng = args.networks, np.random.default_rng(0)
    config = networks.TransformerConfig(widths=WIDTHS)
    problem = feedforward.Problem(
        losses.content(CONTENT),
        losses.style(STYLE, "moments"),
        losses.total_variation(),
        features.network("embedded"),
    )
    perception = features.initialize(jax.random.key(0), problem.perception)
    optimizer = optimizers.adam(1e-3)
    terms = ("tv", *(f"content/{x}" for x in CONTENT), *(f"style/{x}" for x in STYLE))
    names = tuple(map(str, range(count)))
    shape = (args.size, args.size, 3)
    batch = rng.integers(256, size=(args.batch, *shape), dtype=np.uint8)
    prepare = jax.jit(lambda style: feedforward.style_targets(problem, perception, style))
    styles = [prepare(np.float32(rng.random(shape))) for _ in names]
    variables = [networks.init(jax.random.key(i), config) for i in range(count)]

    if args.worker == "sequential":
        step = jax.jit(feedforward.make_step(problem, config, optimizer), donate_argnums=0)
        weights = dict.fromkeys(terms, 1.0)
        alone = [
            training.create(own["params"], optimizer, metrics=("loss", *terms)) for own in variables
        ]
        before = np.zeros(count)

        def call() -> float:
            nonlocal before
            for i, style in enumerate(styles):
                alone[i] = step(alone[i], batch, perception, style, weights)
            sums = np.array([float(state.metrics["loss"]) for state in alone])
            found, before = np.mean(sums - before), sums
            return float(found)

        return call

    step = jax.jit(
        many.make_step(problem, config, optimizer, names, formulation=args.worker),
        donate_argnums=0,
    )
    state = many.create(variables, optimizer, names=names, terms=terms)
    weights = dict.fromkeys(terms, jnp.ones(count))
    targets, total = many.stacked(styles), 0.0

    def together() -> float:
        nonlocal state, total
        state = step(state, batch, perception, targets, weights)
        earlier, total = total, float(state.metrics["loss"])  # sums over steps; waits for the step
        return total - earlier

    return together


if __name__ == "__main__":
    main()
