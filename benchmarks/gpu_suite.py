"""Everything a GPU has to show, in one call of at most nine minutes: correctness first, then speed.

    python benchmarks/gpu_suite.py --out results/      # on the machine with the GPU
    python benchmarks/gpu_suite.py --tiny              # that it runs at all, on a CPU

Writes `gpu_suite.json` and `gpu_suite.md`. Each part is a process of its own with a limit of its
own, so that one that fails or hangs costs only itself; what no time is left for is named.

| part | what it shows | goal on an H200 |
|---|---|---|
| correct | the GPU's numbers against the CPU's, from features to training | all within tolerance |
| matmul | the rate of bfloat16 matrix products, which the others are compared with | |
| train | a step of `starry_fast.py:full`: VGG-16, full widths, 256 px; its 40 000 steps | < 5 min |
| train_torch | the same in PyTorch: channels-last, bfloat16 autocast, compiled | 1.2x or more |
| stylize | 512 px, batch 8 | < 1.5 ms a frame |
| sweep | 16 pictures in one program against one by one | 3x or more |
| data | a step with photographs from disk against one with a batch at hand | no slower |

PyTorch is compared with where it is installed. Loss networks have random weights: the work is the
same, and nothing has to be downloaded.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(ROOT))

LIMIT = 530.0  # seconds, of all parts
# Seconds each part may take; in this order, those with goals before those for information.
PARTS = {
    "golden": 90,
    "correct": 110,
    "matmul": 40,
    "train": 150,
    "stylize": 60,
    "sweep": 110,
    "train_torch": 150,
    "data": 60,
}
# Largest difference over the largest value, by precision. bfloat16 keeps 8 bits, and errors add up.
TOLERANCES = {
    "features": {"float32": 1e-3, "bfloat16": 0.06},
    "loss": {"float32": 1e-3, "bfloat16": 0.03},
    "gradient": {"float32": 5e-3, "bfloat16": 0.4},
    "model": {"float32": 2e-3, "bfloat16": 0.08},
    "training": {"float32": 1e-3, "bfloat16": 0.05},
}
GOALS = {
    "train, 40 000 steps of batch 4": "< 5 min",
    "stylize, 512 px, batch 8, bfloat16": "< 1.5 ms a frame",
    "sweep of 16": ">= 3 x",
    "train against PyTorch": ">= 1.2 x",
    "train, share of the matmul rate": ">= 45 %",
}


def main() -> None:
    """Run the parts, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="gpu_suite_results", help="folder for the results")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the suite itself")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = pathlib.Path(args.out)
    if args.part:
        rows = globals()[f"_{args.part}"](folder, args.tiny)
        (folder / f"{args.part}.json").write_text(json.dumps(rows))
        return
    folder.mkdir(parents=True, exist_ok=True)
    began, rows, trouble = time.monotonic(), {}, {}
    for part in args.parts:
        left = LIMIT - (time.monotonic() - began)
        problem = _run(part, folder, args.tiny, min(PARTS[part], left))
        seconds = time.monotonic() - began
        if problem:
            trouble[part] = problem
            print(f"{seconds:5.0f} s  {part}: {problem}", flush=True)
            continue
        rows[part] = json.loads((folder / f"{part}.json").read_text())
        print(f"{seconds:5.0f} s  {part}", flush=True)
        for row in rows[part]:
            print(f"         {_told(row)}", flush=True)
    rows["summary"] = [] if args.tiny else _summary(rows)
    report = {"machine": _machine(folder), "rows": rows, "trouble": trouble, "tiny": args.tiny}
    (folder / "gpu_suite.json").write_text(json.dumps(report, indent=1))
    (folder / "gpu_suite.md").write_text(_markdown(report))
    print(f"\n{_markdown(report)}\nwritten to {folder}/gpu_suite.json and gpu_suite.md")
    wrong = [row for row in rows.get("correct", []) if not row["ok"]]
    if wrong or "correct" in trouble:
        sys.exit("error: the device's numbers are not right, so its speed means nothing.")


def _run(part: str, folder: pathlib.Path, tiny: bool, limit: float) -> str:
    """Run one part; return what went wrong, '' if nothing."""
    if limit < 10:
        return "no time was left"
    command = [sys.executable, __file__, "--part", part, "--out", str(folder)]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if part == "golden":
        environment["JAX_PLATFORMS"] = "cpu"
    try:
        done = subprocess.run(
            command + ["--tiny"] * tiny,
            env=environment,
            timeout=limit,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {limit:.0f} s"
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return lines[-1][:300] if lines else f"exit {done.returncode}"
    return ""


# The parts. Each returns rows: a name, and numbers by unit.


def _golden(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    np.savez(folder / "golden.npz", **_computed("float32", tiny))
    return []


def _correct(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    golden = dict(np.load(folder / "golden.npz"))
    rows = []
    for precision in ("float32", "bfloat16"):
        for name, value in _computed(precision, tiny).items():
            wanted, kind = golden[name], name.split()[0]
            error = np.abs(value.astype(np.float64) - wanted).max() / np.abs(wanted).max()
            allowed = TOLERANCES[kind][precision]
            ok = bool(error <= allowed)  # NaN is not
            row = {"name": f"{name}, {precision}", "error": float(error), "allowed": allowed}
            rows.append(row | {"ok": ok})
    return rows


def _computed(precision: str, tiny: bool) -> dict[str, np.ndarray]:
    """Return what CPU and GPU must agree on."""
    jax, jnp = _jax()
    from jaxstyle import features, losses
    from jaxstyle.io import models
    from jaxstyle.methods import per_image, stylize

    size = 64 if tiny else 192
    photo, style = jnp.asarray(_photo(size)), jnp.asarray(_photo(size)[::-1, :, ::-1].copy())
    found = {}
    for name in ("embedded",) if tiny else ("embedded", "vgg16"):
        params, network = _network(name)
        layers = ("relu1_2", "relu3_1", "relu4_1")
        look = jax.jit(
            functools.partial(features.features, layers=layers, network=network, dtype=precision)
        )
        for layer, values in look(params, photo).items():
            found[f"features {name} {layer}"] = np.asarray(values, np.float32)
        config = losses.ObjectiveConfig(content_layers=("relu3_1",), style_layers=layers)
        objective, weights = losses.assemble(config)
        problem = per_image.Problem(objective, network, dtype=precision)
        targets = jax.jit(functools.partial(per_image.prepare, problem, params))(
            {"content": photo, "style": style}, {}
        )
        loss = functools.partial(per_image.loss, problem=problem)
        context = per_image.Context(params, targets, weights)
        descend = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, _), gradient = descend(0.5 * photo + 0.25, context)
        found[f"loss {name}"], found[f"gradient {name}"] = np.asarray(value), np.asarray(gradient)
    model, _ = models.load_model("starry")
    found["model starry"] = np.asarray(
        jax.jit(functools.partial(stylize, precision=precision))(model, photo)
    )
    step, state, batch, _ = _training(precision, "tiny", 4)
    for _ in range(3):
        state = step(state, batch)
    found["training loss"] = np.asarray(state.metrics["loss"])
    return found


def _matmul(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    jax, jnp = _jax()
    n = 256 if tiny else 8192
    one = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)
    other = jax.random.normal(jax.random.key(1), (n, n), jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)
    seconds = _timed(lambda: product(one, other), 20)
    return [{"name": f"bfloat16 {n}^3", "TFLOP/s": 2 * n**3 / seconds / 1e12}]


def _train(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    rows = []
    cases = [("bfloat16", 4), ("bfloat16", 16), ("bfloat16", 32), ("float32", 4)]
    for precision, batch in cases[: 1 if tiny else None]:
        step, state, pictures, work = _training(precision, "tiny" if tiny else "full", batch)
        milliseconds, memory = _step_time(step, state, pictures, 3 if tiny else 60)
        rows.append(
            {
                "name": f"{precision}, batch {batch}",
                "ms": milliseconds,
                "images/s": 1e3 * batch / milliseconds,
                "TFLOP/s": work / milliseconds / 1e9,
                "min for 40 000 steps": milliseconds * 40_000 / 60e3,
                "GiB": memory,
            }
        )
    return rows


def _stylize(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    jax, jnp = _jax()
    from jaxstyle import networks
    from jaxstyle.methods import StyleModel, stylize

    config = networks.TransformerConfig(widths=(4, 6, 8) if tiny else (32, 64, 128))
    model = StyleModel(networks.init(jax.random.key(0), config), config)
    size, count = (32, 2) if tiny else (512, 8)
    frames = jnp.asarray(np.stack([_photo(size)] * count))
    rows = []
    for precision in ("bfloat16", "float32"):
        paint = jax.jit(functools.partial(stylize, precision=precision))
        seconds = _timed(functools.partial(paint, model, frames), 3 if tiny else 50)
        rows.append(
            {"name": f"{size} px, batch {count}, {precision}", "ms a frame": 1e3 * seconds / count}
        )
    return rows


def _sweep(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    """Time steps of Adam on 16 pictures, as one program and one by one."""
    names = ("embedded",) if tiny else ("embedded", "vgg16")
    return [_sweep_of(name, *((32, 2, 2) if tiny else (256, 16, 20))) for name in names]


def _sweep_of(name: str, size: int, count: int, steps: int) -> dict[str, Any]:
    jax, jnp = _jax()
    from jaxstyle import losses, optimize
    from jaxstyle.methods import per_image

    params, network = _network(name)
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    config = losses.ObjectiveConfig(content_layers=("relu3_1",), style_layers=layers)
    objective, weights = losses.assemble(config)
    problem = per_image.Problem(objective, network, dtype="auto")
    photo = jnp.asarray(_photo(size))
    targets = jax.jit(functools.partial(per_image.prepare, problem, params))(
        {"content": photo, "style": photo[::-1]}, {}
    )
    solver = optimize.solver("adam", steps=1000)
    loss = functools.partial(per_image.loss, problem=problem)

    def run(photo: Any, strength: Any, params: Any, targets: Any) -> Any:
        own = {term: strength * weight for term, weight in weights.items()}
        context = per_image.Context(params, targets, own)
        start = optimize.start(photo, solver)
        return optimize.advance(start, context, loss=loss, solver=solver, steps=steps)[1]

    strengths, turns = jnp.linspace(0.5, 2.0, count), 2 if count < 4 else 5
    alone, together = jax.jit(run), jax.jit(jax.vmap(run, in_axes=(None, 0, None, None)))
    single = _timed(lambda: [alone(photo, s, params, targets) for s in strengths], turns)
    joint = _timed(lambda: together(photo, strengths, params, targets), turns)
    return {
        "name": f"{name}, {size} px, {count} pictures",
        "ms a step, one by one": 1e3 * single / steps / count,
        "ms a step, together": 1e3 * joint / steps / count,
        "times faster": single / joint,
    }


def _train_torch(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    import torch
    import torch_models
    import train_step

    from jaxstyle import features

    _jax(cpu=True)
    case = _case("tiny" if tiny else "full")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for batch in (4, 16)[: 1 if tiny else None]:
        train_step._write_arrays(case | {"batch": batch}, str(folder / "arrays.npz"))
        arrays = dict(np.load(folder / "arrays.npz"))
        net = torch_models.Transformer(train_step._nested(arrays, "net")).to(device)
        layers = tuple(dict.fromkeys(case["content"] + case["style"]))
        network = features.network(case["network"])
        perception = torch_models.Perception(
            train_step._nested(arrays, "perception"), network, layers
        )
        perception.move(device)
        photo = torch.from_numpy(arrays["photo"]).permute(0, 3, 1, 2).to(device)
        photo = (photo.float() / 255).contiguous(memory_format=torch.channels_last)
        painting = torch.from_numpy(arrays["style"]).permute(2, 0, 1)[None].to(device)
        weights = train_step._weights(case)
        with torch.no_grad():
            maps = perception(painting)
            style = {name: torch_models.statistics(maps[name], False) for name in case["style"]}
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for compiled in (False, True)[: 1 if tiny else None]:
            compute = torch.compile(torch_models.loss) if compiled else torch_models.loss

            step = functools.partial(
                _torch_step, compute, optimizer, net, perception, photo, case["content"], style,
                weights,
            )  # fmt: skip

            def wait(value: Any) -> None:
                float(value.detach())

            seconds = _timed(step, 3 if tiny else 60, wait)
            how = "compiled" if compiled else "eager"
            rows.append({"name": f"bfloat16, batch {batch}, {how}", "ms": 1e3 * seconds})
    return rows


def _torch_step(
    compute: Callable, optimizer: Any, net: Any, perception: Any, photo: Any, *rest: Any
) -> Any:
    import torch

    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(photo.device.type, torch.bfloat16):
        value = compute(net, perception, photo, *rest)
    value.backward()
    optimizer.step()
    return value


def _data(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    """Time steps with photographs decoded on the way, and with one batch that is there."""
    _jax()
    from jaxstyle.data import make_batches, open_photos, prefetch_to_device
    from jaxstyle.placement import Placement

    kind, batch, steps = ("tiny", 2, 3) if tiny else ("full", 16, 60)
    step, state, pictures, _ = _training("auto", kind, batch)
    at_hand, _ = _step_time(step, state, pictures, steps)
    rows = [{"name": f"batch {batch}, at hand", "ms": at_hand}]
    for workers in (0, 8)[: 1 if tiny else None]:
        _, state, _, _ = _training("auto", kind, batch)
        batches = make_batches(
            open_photos(), size=pictures.shape[1], batch=batch, seed=0, workers=workers
        )
        stream = prefetch_to_device(iter(batches), Placement().batch, 2)
        began = 0.0
        for k in range(steps + 10):
            if k == 10:
                float(state.metrics["loss"])
                began = time.perf_counter()
            state = step(state, next(stream))
        float(state.metrics["loss"])
        milliseconds = 1e3 * (time.perf_counter() - began) / steps
        stream.close()
        name = f"batch {batch}, from files, {workers or 'no'} worker processes"
        rows.append({"name": name, "ms": milliseconds, "times at hand": milliseconds / at_hand})
    return rows


# What the parts share.


def _jax(cpu: bool = False) -> tuple[Any, Any]:
    from jaxstyle import runtime

    runtime.setup()
    if cpu:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp

    return jax, jnp


def _photo(size: int) -> np.ndarray:
    """Return a smooth picture with some noise, `[size, size, 3]` in [0, 1]."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y * x + 2), np.sin(5 * y - 8 * x)], -1)
    noise = np.random.default_rng(0).normal(0, 0.05, waves.shape)
    return np.clip(0.5 + 0.35 * waves + noise, 0, 1).astype(np.float32)


def _network(name: str) -> tuple[Any, Any]:
    """Return a loss network: ours, or a VGG with random weights."""
    import jax

    from jaxstyle import features
    from jaxstyle.weights import load_joined

    if name == "embedded":
        return load_joined(name)
    network = features.network(name)
    return features.initialize(jax.random.key(0), network), network


def _case(kind: str) -> dict[str, Any]:
    import train_step

    tiny = {"size": 32, "widths": (4, 6, 8), "network": "embedded"}
    layers = {"content": ("relu2_1",), "style": ("relu1_1", "relu2_1"), "statistic": "gram"}
    return tiny | layers if kind == "tiny" else dict(train_step.CASES["vgg16"])


def _training(precision: str, kind: str, batch: int) -> tuple[Callable, Any, Any, float]:
    """Return a training step, its state, a batch on the device, and operations in a step."""
    jax, jnp = _jax()
    import train_step

    from jaxstyle import losses, networks, training
    from jaxstyle.training import feedforward, optimizers

    case = _case(kind)
    config = networks.TransformerConfig(widths=case["widths"])
    params, network = _network(case["network"])
    problem = feedforward.Problem(
        losses.content(case["content"]),
        losses.style(case["style"], case["statistic"]),
        losses.total_variation(),
        network,
        precision,
    )
    painting = jnp.asarray(_photo(case["size"]))
    style = jax.jit(functools.partial(feedforward.style_targets, problem))(params, painting)
    weights, optimizer = train_step._weights(case), optimizers.adam(1e-3)
    variables = networks.init(jax.random.key(0), config)
    state = training.create(variables["params"], optimizer, metrics=("loss", *weights))
    pixels = np.stack([np.roll(_photo(case["size"]), 9 * k, 1) for k in range(batch)])
    pictures = jnp.asarray((255 * pixels).astype(np.uint8))
    step = jax.jit(feedforward.make_step(problem, config, optimizer), donate_argnums=0)
    rest = {"perception": params, "style": style, "weights": weights}
    program = step.lower(state, pictures, **rest).compile()
    size, layers = case["size"], dict.fromkeys(case["content"] + case["style"])
    work = batch * _operations(case["widths"], network, tuple(layers), case["content"], size)
    return functools.partial(program, **rest), state, pictures, work


def _operations(
    widths: tuple[int, ...], network: Any, layers: tuple[str, ...], content: Any, size: int
) -> float:
    """Return multiplications and additions of one picture's step, convolutions only.

    Those of the formulas: three passes through the transformation network, two through the loss
    network, one of the photograph to the content layer. What a compiler saves does not count.
    """
    small, middle, wide = widths
    pixels = size * size
    transformer = pixels * (81 * 3 * small + 81 * small * 3)
    transformer += pixels / 4 * 9 * small * middle + pixels / 16 * 9 * middle * wide
    transformer += 10 * pixels / 16 * 9 * wide * wide
    transformer += pixels / 4 * 9 * wide * middle + pixels * 9 * middle * small
    seen = _seen(network, layers, pixels)
    return 2.0 * (3 * transformer + 2 * seen + _seen(network, tuple(content), pixels))


def _seen(network: Any, layers: tuple[str, ...], pixels: float) -> float:
    """Return multiplications of a loss network up to the deepest of the layers."""
    import jax

    from jaxstyle import features

    params = jax.eval_shape(lambda key: features.initialize(key, network), jax.random.key(0))
    deepest = max(layers).removeprefix("relu")
    total = 0.0
    for name in network.layers:
        if name.startswith("pool"):
            pixels /= 4
        elif name.startswith("conv") and name.removeprefix("conv") <= deepest and name in params:
            total += pixels * float(np.prod(params[name]["kernel"].shape))
    return total


def _step_time(step: Callable, state: Any, pictures: Any, steps: int) -> tuple[float, float]:
    """Return milliseconds of a step, the host running ahead as in training, and GiB at most."""
    import jax

    for _ in range(3):
        state = step(state, pictures)
    float(state.metrics["loss"])
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(steps):
            state = step(state, pictures)
        float(state.metrics["loss"])
        times.append(1e3 * (time.perf_counter() - began) / steps)
    stats = jax.local_devices()[0].memory_stats() or {}
    return statistics.median(times), stats.get("peak_bytes_in_use", 0) / 2**30


def _timed(call: Callable[[], Any], turns: int, wait: Callable | None = None) -> float:
    """Return seconds of a call: the median of three series, each waited for at its end."""
    if wait is None:
        import jax

        wait = jax.block_until_ready
    for _ in range(3):
        wait(call())
    series = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(turns - 1):
            call()
        wait(call())
        series.append((time.perf_counter() - began) / turns)
    return statistics.median(series)


def _summary(rows: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the figures that have a goal."""

    def find(part: str, start: str) -> dict[str, Any]:
        return next((row for row in rows.get(part, []) if row["name"].startswith(start)), {})

    found: dict[str, tuple[float, str]] = {}
    train = find("train", "bfloat16, batch 4")
    if train:
        found["train, 40 000 steps of batch 4"] = train["min for 40 000 steps"], "min"
    largest = max((row["TFLOP/s"] for row in rows.get("train", [])), default=0.0)
    if largest and rows.get("matmul"):
        share = 100 * largest / rows["matmul"][0]["TFLOP/s"]
        found["train, share of the matmul rate"] = share, "%"
    rivals = [r["ms"] for r in rows.get("train_torch", []) if "batch 4," in r["name"]]
    if train and rivals:
        found["train against PyTorch"] = min(rivals) / train["ms"], "x"
    frame = find("stylize", "512 px, batch 8, bfloat16")
    if frame:
        found["stylize, 512 px, batch 8, bfloat16"] = frame["ms a frame"], "ms a frame"
    if rows.get("sweep"):
        found["sweep of 16"] = max(row["times faster"] for row in rows["sweep"]), "x"
    return [
        {"name": name, unit: value, "goal": GOALS[name]} for name, (value, unit) in found.items()
    ]


def _machine(folder: pathlib.Path) -> dict[str, str]:
    """Return device and versions, asked for in a process of its own: it would keep the device."""
    program = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind, sep='|')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    platform_name, _, kind = done.stdout.strip().rpartition("\n")[2].partition("|")
    versions = {}
    for package in ("jax", "jaxlib", "flax", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return {
        "device": f"{kind} ({platform_name})",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        **versions,
    }


def _told(row: Mapping[str, Any]) -> str:
    numbers = [
        f"{value:.4g} {unit}" if isinstance(value, float) else f"{unit}: {value}"
        for unit, value in row.items()
        if unit != "name"
    ]
    return f"{row['name']}: {', '.join(numbers)}"


def _markdown(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"{machine['device']}, jax {machine['jax']}, Python {machine['python']}, PyTorch "
        f"{machine['torch']}, {machine['date']}"
        + (" (tiny sizes: the numbers mean nothing)" if report["tiny"] else ""),
        "",
    ]
    for part in ("summary", *PARTS):
        rows = report["rows"].get(part, [])
        if not rows:
            continue
        units = list(dict.fromkeys(unit for row in rows for unit in row if unit != "name"))
        lines += [f"| {part} | {' | '.join(units)} |", "|---" * (len(units) + 1) + "|"]
        for row in rows:
            cells = [row.get(unit, "") for unit in units]
            texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
            lines.append(f"| {row['name']} | {' | '.join(texts)} |")
        lines.append("")
    lines += [f"Not measured: {part} ({why})." for part, why in report["trouble"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
