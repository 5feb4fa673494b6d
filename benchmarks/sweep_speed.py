"""Time the cells of a sweep as lanes of one program, one by one, and in PyTorch, interleaved.

    python benchmarks/sweep_speed.py  # Adam, everything: about an hour on two cores
    python benchmarks/sweep_speed.py --network embedded --size 128 --rounds 9
    python benchmarks/sweep_speed.py --network vgg16 --size 256 --optimizer lbfgs --lanes 1 4

A cell is a picture by 300 steps of the default objective of `configs/gatys.py` (Gram matrices of
relu1_1 to relu5_1, content relu4_2, total variation), square and without the margin; cells differ
in the weight of the style, the seed and the first picture. Parameters and pictures are random.

`vmap` and `map` are the programs of a sweep with so many lanes, `loop` is its program of one lane
called for one cell after the other, and PyTorch, too, paints one after the other: eager, eager with
the allocator settings jaxstyle uses, and compiled, as in `gatys_speed.py`. Its best mode counts. On
a GPU it takes part only if it can use the GPU.

Every worker does a few steps a call, and a cell's time is that of 300. `with compiling` adds what
comes before the first step, compilation and targets, once for N cells; caches of compiled programs
are off, and workers start one by one. The best mode of PyTorch is then chosen again for every N.
The first loss of lane 0 is compared: equal losses mean equal work; otherwise the exit code is 1.

Prints of every cell its workers, and a table: cells a minute by N; ratios of the time of a cell,
of medians, in brackets of minima and the lowest and highest of single rounds (below 1: the first is
faster); and peaks, of the process on a CPU, of the device's memory elsewhere.
"""

import argparse
import itertools
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[i]) for i in (0, 1)]

import against_torch  # noqa: E402
import gatys_speed  # noqa: E402
import interleave  # noqa: E402

LANES = (1, 2, 4, 8, 16)
VMAP, MAP, LOOP = "vmap", "map", "loop"
TOGETHER, TORCH = (VMAP, MAP), ("torch", "torch+malloc", "torch compile")
FORMS = (*TOGETHER, LOOP, *TORCH)
NETWORKS, SIZES, OPTIMIZERS = ("embedded", "vgg16"), (128, 256), ("adam", "lbfgs")
CELL_STEPS = 300
# Steps in a program, and rounds. (A sweep's programs have 20.)
STEPS = {("embedded", 128): (10, 7), ("embedded", 256): (5, 5), ("vgg16", 128): (3, 5)}
SLOWEST, ON_ACCELERATOR = (2, 3), (20, 7)
# A worker of fewer lanes runs its program several times a call: short calls measure noise.
PROGRAMS = 4
# Relative, of first losses; an accelerator multiplies with 10 bits of mantissa.
APART, APART_ON_ACCELERATOR = 1e-5, 1e-2


def main() -> None:
    """Compare in every cell, or be one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="*", choices=(*NETWORKS, "vgg19"), default=NETWORKS)
    parser.add_argument("--size", nargs="*", type=int, default=SIZES)
    parser.add_argument("--optimizer", nargs="*", choices=OPTIMIZERS, default=OPTIMIZERS[:1])
    parser.add_argument("--lanes", nargs="*", type=int, default=LANES)
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    parser.add_argument("--rounds", type=int, default=0, help="default: by network and size")
    parser.add_argument("--steps", type=int, default=0, help="in a program; default: as rounds")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", default="", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return _torch(args) if args.worker in TORCH else _jaxstyle(args)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # workers share the GPU's memory
    import jax

    backend = jax.default_backend()
    forms = [form for form in args.forms if form not in TORCH or _torch_runs_on(backend)]
    same = True
    for network, size, optimizer in itertools.product(args.network, args.size, args.optimizer):
        steps, rounds = STEPS.get((network, size), SLOWEST)
        steps, rounds = (steps, rounds) if backend == "cpu" else ON_ACCELERATOR
        steps, rounds = args.steps or steps, args.rounds or rounds
        print(f"{network}, {size} px, {optimizer}, {backend}: {steps} steps a program", flush=True)
        timings = _measure((network, size, optimizer), args.lanes, forms, steps, rounds, backend)
        _print_workers(timings, steps)
        same &= _same(timings, APART if backend == "cpu" else APART_ON_ACCELERATOR)
        print(_rule(backend, size), "", *_table(timings, args.lanes, steps), "", sep="\n")
    return None if same else sys.exit(1)


def _torch_runs_on(backend: str) -> bool:
    if backend == "cpu":
        return True
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _rule(backend: str, size: int) -> str:
    """Say what a sweep does with such cells."""
    from jaxstyle.sweeps import lanes

    choice = lanes.choose(backend, size * size)
    return f"a sweep takes {choice.form}, at most {choice.lanes} lanes: {choice.why}"


def _measure(
    cell: tuple[str, int, str],
    lanes: Sequence[int],
    forms: Sequence[str],
    steps: int,
    rounds: int,
    backend: str,
) -> dict[str, interleave.Timing]:
    """Run the workers of one cell in turn, 'vmap 4' and so on."""
    network, size, optimizer = cell
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder) / "arrays.npz")
        gatys_speed.write_arrays(network, size, file)
        command = [sys.executable, __file__, "--network", network, "--size", str(size)]
        command += ["--optimizer", optimizer, "--steps", str(steps), "--arrays", file]
        command += ["--device", "cpu" if backend == "cpu" else "cuda", "--worker"]
        names = [f"{form} {n}" for form in TOGETHER if form in forms for n in lanes]
        names += [form for form in forms if form not in TOGETHER]
        workers = {name: [*command, name] for name in names}
        return interleave.collect(workers, rounds, one_by_one=True)


def _work(name: str) -> tuple[int, int]:
    """Return the lanes of a worker, and how many programs it runs in a call."""
    lanes = int(name.split()[1]) if name.startswith(TOGETHER) else 1
    return lanes, max(1, PROGRAMS // lanes)


def _jaxstyle(args: argparse.Namespace) -> None:
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import jax
    import jax.numpy as jnp

    from configs import gatys
    from experiments import _lanes
    from jaxstyle import features, optimize
    from jaxstyle.io import scenes
    from jaxstyle.sweeps import lanes

    count, programs = _work(args.worker)
    form, name = args.worker.split()[0], args.optimizer[0]
    arrays = dict(np.load(args.arrays))

    def config(lane: int) -> object:
        made = gatys.get_config()
        made.size, made.margin, made.seed = str(args.size[0]), 0, lane
        made.objective.beta *= 2 ** (lane / 8)
        made.solver.optimizer, made.solver.learning_rate = name, gatys_speed.RATES[name]
        made.solver.parameters = {"adam": "clipped", "lbfgs": "pixels"}[name]
        return made

    def build() -> tuple[lanes.Work, optimize.State]:
        scene = scenes.Scene(arrays["photo"], (arrays["style"],))
        cells = [_lanes.Cell(config(lane), scene) for lane in range(count)]
        params = jax.tree.map(jnp.asarray, against_torch.nested(arrays, "perception"))
        loaded = params, features.network(args.network[0])
        wide = _lanes.together([cell.config for cell in cells])
        group = _lanes.Group(wide, cells[0], loaded, CELL_STEPS)
        group.program(form, count, args.steps)
        runtime.free_memory()  # as the planner does, which gives back what compiling took
        solver = optimize.solver(**wide.solver.to_dict(), steps=CELL_STEPS)
        firsts = [np.roll(arrays["first"], lane, axis=0) for lane in range(count)]
        states = [optimize.start(jnp.asarray(first), solver) for first in firsts]
        return group.work(cells, form), lanes.stacked(states)

    built: list = []

    def call() -> float:
        if not built:
            built.extend(build())
        work, state = built
        losses = []
        for _ in range(programs):
            state, history = work.advance(state, 0, args.steps)
            losses.append(history)
        built[1] = state
        values = np.asarray(losses)  # waits
        assert np.isfinite(values).all()
        return float(values[0, 0, 0])

    def device_peak() -> float:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", np.nan)

    on_cpu = args.device == "cpu"
    interleave.serve(call, interleave.resident_peak if on_cpu else device_peak)


def _torch(args: argparse.Namespace) -> None:
    import warnings

    import torch
    import torch_models  # noqa: F401  (imports are no part of the first call)

    from jaxstyle import features  # noqa: F401

    warnings.filterwarnings("ignore", "dynamo_pgo")  # that its cache is off
    args.steps *= _work(args.worker)[1]
    if args.device == "cuda":  # as XLA does
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    built: list[Callable[[], float]] = []

    def call() -> float:
        if not built:
            built.append(gatys_speed._torch(args, args.device))
        return built[0]()

    on_cpu = args.device == "cpu"
    interleave.serve(call, interleave.resident_peak if on_cpu else torch.cuda.max_memory_allocated)


class Speed:
    """What the calls of a worker say of a cell.

    Attributes:
      seconds: of a step of one cell, one a round.
      median: of them.
      setup: seconds before the first step.
      peak: MiB.
    """

    def __init__(self, name: str, timing: interleave.Timing, steps: int):
        lanes, programs = _work(name)
        self.name, self.peak = name, timing.peak / 2**20
        self.seconds = [seconds / (lanes * programs * steps) for seconds in timing.seconds]
        self.median = statistics.median(self.seconds)
        self.setup = max(0.0, timing.warm_up - statistics.median(timing.seconds))

    def cells_a_minute(self, count: int = 0) -> float:
        """Without what comes before the first step, or with it, once for `count` cells."""
        cell = CELL_STEPS * self.median
        return 60 / (cell + self.setup / count if count else cell)

    def over(self, other: "Speed") -> str:
        """Return the ratio of times to another's."""
        rounds = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        least = min(self.seconds) / min(other.seconds)
        spread = f"{least:.2f}, {min(rounds):.2f}-{max(rounds):.2f}"
        return f"{self.median / other.median:.2f} ({spread})"


def _print_workers(timings: Mapping[str, interleave.Timing], steps: int) -> None:
    print(
        f"{'ms a step and cell':18s} {'median':>8s} {'min':>8s} {'max':>8s} {'before first':>13s} "
        f"{'peak MiB':>9s}  value"
    )
    for name, timing in timings.items():
        speed = Speed(name, timing, steps)
        low, high = min(speed.seconds), max(speed.seconds)
        print(
            f"{name:18s} {speed.median * 1e3:8.2f} {low * 1e3:8.2f} {high * 1e3:8.2f} "
            f"{speed.setup:12.1f}s {speed.peak:9.0f}  {timing.value:.6g}"
        )


def _same(timings: Mapping[str, interleave.Timing], allowed: float) -> bool:
    """Say whether all computed the same."""
    values = [timing.value for timing in timings.values()]
    apart = (max(values) - min(values)) / min(values)
    same = apart <= allowed
    print(f"first losses of lane 0: {'the same' if same else 'NOT THE SAME'} ({apart:.0e} apart)")
    return same


def _table(timings: Mapping[str, interleave.Timing], lanes: Sequence[int], steps: int) -> list[str]:
    """Return the rows of a table in Markdown, one for every number of cells."""
    speeds = {name: Speed(name, timing, steps) for name, timing in timings.items()}
    rivals = [speeds[name] for name in TORCH if name in speeds]
    rows: list[str] = []
    for count in lanes:
        sides = {
            form: speeds[f"{form} {count}"] for form in TOGETHER if f"{form} {count}" in speeds
        }
        sides = {LOOP: speeds[LOOP], **sides} if LOOP in speeds else sides
        cells = _cells(count, sides, rivals)
        if not rows:
            rows = [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]
        rows.append(f"| {' | '.join(cells.values())} |")
    if rivals:
        rows += ["", f"PyTorch's best mode: {_best(rivals).name}"]
    return rows


def _cells(count: int, sides: Mapping[str, Speed], rivals: Sequence[Speed]) -> dict[str, str]:
    """Return one row of the table, by heading."""
    everyone = {**sides, "PyTorch": _best(rivals)} if rivals else dict(sides)
    row = {"N": str(count)}
    row |= {name: _number(speed.cells_a_minute()) for name, speed in everyone.items()}
    for one, other in ((VMAP, LOOP), (VMAP, "PyTorch"), (MAP, LOOP)):
        if one in everyone and other in everyone:
            row[f"{one} / {other}"] = everyone[one].over(everyone[other])
    compiled = {name: speed.cells_a_minute(count) for name, speed in sides.items()}
    if rivals:
        compiled["PyTorch"] = max(rival.cells_a_minute(count) for rival in rivals)
    row[f"with compiling, {' / '.join(compiled)}"] = " / ".join(map(_number, compiled.values()))
    peaks = [f"{speed.peak:.0f}" for speed in everyone.values()]
    row[f"peak MiB, {' / '.join(everyone)}"] = " / ".join(peaks)
    return row


def _best(speeds: Sequence[Speed]) -> Speed:
    return min(speeds, key=lambda speed: speed.median)


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


if __name__ == "__main__":
    main()
