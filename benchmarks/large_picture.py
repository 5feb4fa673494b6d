"""Measure memory and time of optimizing a large picture, in strips or not.

    python benchmarks/large_picture.py                      # 4096 x 4096 in strips of 64 rows
    python benchmarks/large_picture.py --size 1024 --rows 0     # everything at once
    python benchmarks/large_picture.py --size 1024 --rows 0 --remat
    python benchmarks/large_picture.py --size 1024 --devices 8  # rows divided among devices
    python benchmarks/large_picture.py --plan 16384 --devices 64    # by arithmetic alone

The default objective of `configs/gatys.py` (Gram matrices of relu1_1 to relu5_1, content of
relu4_2, total variation) of a synthetic picture, Adam on clipped pixels without averages. Prints
what XLA says that the program needs, the peak of the process's resident memory, and for every step
its seconds and those of all cores together (which others' programs change less). Goal: a picture of
4096 x 4096 in 8 GB.
"""

import argparse
import contextlib
import functools
import resource
import time
from typing import Any

from jaxstyle import policy, runtime

# Freed memory goes back: kept, a hole of many GB may be a little too small for the next step.
runtime.setup(allocator=False, compilation_cache=False)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import large_picture_plan  # noqa: E402

from jaxstyle import features, losses, optimize  # noqa: E402
from jaxstyle.methods import per_image  # noqa: E402
from jaxstyle.methods.rows import Rows, mesh_of, of_maps, of_state  # noqa: E402
from jaxstyle.types import Array  # noqa: E402
from jaxstyle.weights import load_weights  # noqa: E402

CONTENT, STYLE = ("relu4_2",), ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
ALPHA, BETA, TV = 0.15, 5.0, 1.0
STYLE_SIZE = 512  # the Gram matrices of a painting do not grow with it


def main() -> None:
    """Run, and print what it took."""
    args = _arguments()
    if args.plan:
        network = features.network(args.network)
        large_picture_plan.show(args.plan, args.devices, network, STYLE, args.dtype or "float32")
        return
    if args.devices > 1:  # virtual ones, where there is a CPU only
        jax.config.update("jax_num_cpu_devices", args.devices)
    rows = Rows(mesh_of(args.devices, args.size))
    loaded = load_weights(args.network, args.weights)
    see = functools.partial(features.features, network=loaded.network, remat=args.remat)
    if rows.mesh:
        across = {"mesh": rows.mesh, "network": loaded.network, "remat": args.remat}
        see = functools.partial(features.features_across, **across)
    elif args.rows:
        see = functools.partial(features.features_in_strips, network=loaded.network, rows=args.rows)
    see = functools.partial(see, dtype=args.dtype)
    objective = losses.combine(
        losses.content(CONTENT), losses.style(STYLE), losses.total_variation()
    )
    weights = losses.layer_weights("content", CONTENT, ALPHA)
    weights |= losses.layer_weights("style", STYLE, BETA) | {"tv": TV}

    def prepare(params: dict, content: Array, style: Array) -> dict:
        content, style = rows.joined((content, style))
        found = {"content": see(params, content, CONTENT), "style": see(params, style, STYLE)}
        with _formulation(rows):
            return rows.within(objective.prepare(found), of_maps)

    def loss(image: Array, context: per_image.Context) -> tuple[Array, dict[str, Array]]:
        maps = see(context.params, image, ("image", *objective.layers))
        with _formulation(rows):
            terms = objective.evaluate(maps["image"], maps, context.targets)
        return losses.weigh(terms, context.weights), terms

    solver = optimize.solver(args.optimizer, memory=args.memory, parameters=args.parameters)
    content = jax.jit(_painted, static_argnums=(0, 1))(args.size, 0)
    style = jax.jit(_painted, static_argnums=(0, 1))(STYLE_SIZE, 1)
    _report("pictures")
    axis, params = of_state(content.shape), rows.divided(loaded.params, lambda shape: None)
    content, style = rows.divided((content, style), of_maps)
    targets = jax.jit(prepare)(params, content, style)
    jax.block_until_ready(targets)
    _report("targets")
    context = per_image.Context(params, targets, jax.tree.map(jnp.float32, weights))
    begin = jax.jit(lambda first: rows.within(optimize.start(rows.joined(first), solver), axis))
    state = begin(content) if rows.mesh else optimize.start(content, solver)
    del content
    began = time.perf_counter()

    def advance(state: Any, context: Any) -> tuple[Any, Array]:
        how = {"loss": loss, "solver": solver, "steps": args.chunk}
        state, history = optimize.advance(rows.joined(state), rows.joined(context), **how)
        return rows.within(state, axis), history

    program = jax.jit(advance, donate_argnums=0).lower(state, context).compile()
    needs = program.memory_analysis()
    print(
        f"compiled in {time.perf_counter() - began:.1f} s; needed by each of {rows.devices}: "
        f"{runtime.needed_memory(program) / 1e9:.2f} GB, of which "
        f"{needs.argument_size_in_bytes / 1e9:.2f} arguments, {needs.temp_size_in_bytes / 1e9:.2f} "
        "temporary",
        flush=True,
    )
    runtime.free_memory()  # as a run does: what compiling took goes back to the system
    _report("compiled")
    for step in range(0, args.steps, args.chunk):
        began, busy = time.perf_counter(), time.process_time()
        state, history = jax.block_until_ready(program(state, context))
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        print(
            f"step {step}: {seconds / args.chunk:.2f} s ({busy / args.chunk:.2f} s of the cores), "
            f"loss {float(history[0]):.6f}",
            flush=True,
        )
        _report(f"step {step}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the picture, pixels")
    parser.add_argument("--devices", type=int, default=1, help="that share its rows")
    parser.add_argument("--plan", type=int, default=0, metavar="SIZE", help="only calculate")
    parser.add_argument("--rows", type=int, default=64, help="of a strip; 0 for no strips")
    parser.add_argument("--remat", action="store_true", help="without strips: recompute blocks")
    parser.add_argument("--dtype", default=None, choices=policy.PRECISIONS)
    parser.add_argument("--optimizer", default="adam", choices=optimize.OPTIMIZERS)
    parser.add_argument("--memory", type=int, default=4, help="pairs of vectors of L-BFGS")
    parser.add_argument("--parameters", default="", help="default: the optimizer's")
    parser.add_argument("--network", default="embedded")
    parser.add_argument("--weights", default="")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=1, help="steps in one program")
    return parser.parse_args()


def _formulation(rows: Rows) -> contextlib.AbstractContextManager[None]:
    return policy.formulation("plain") if rows.mesh else contextlib.nullcontext()


def _painted(size: int, seed: int) -> Array:
    """Return waves of some lengths, and noise: every layer sees something."""
    keys = jax.random.split(jax.random.key(seed), 3)
    x, y = jnp.arange(size)[None, :, None] / 40, jnp.arange(size)[:, None, None] / 40
    slopes = jax.random.normal(keys[0], (2, 1, 1, 3))
    waves = jnp.sin(slopes[0] * x + slopes[1] * y) + jnp.sin(3 * slopes[1] * x - 5 * slopes[0] * y)
    noise = jax.random.normal(keys[1], (size, size, 3))
    return jnp.clip(0.5 + 0.2 * waves + 0.05 * noise, 0.0, 1.0)


def _report(when: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{when}: peak resident memory {peak / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
