"""The parts of `gpu_suite.py`; each returns rows: a name, and numbers by unit."""

import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import gpu_work  # noqa: E402

# Largest difference over the largest value, by precision. bfloat16 keeps 8 bits, and errors add up.
TOLERANCES = {
    "features": {"float32": 1e-3, "bfloat16": 0.06},
    "loss": {"float32": 1e-3, "bfloat16": 0.03},
    "gradient": {"float32": 5e-3, "bfloat16": 0.4},
    "model": {"float32": 2e-3, "bfloat16": 0.08},
    "training": {"float32": 1e-3, "bfloat16": 0.05},
}


def golden(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    np.savez(folder / "golden.npz", **_computed("float32", tiny))
    return []


def correct(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
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
    jax, jnp = gpu_work.start()
    from jaxstyle import features, losses
    from jaxstyle.io import models
    from jaxstyle.methods import per_image, stylize

    size = 64 if tiny else 192
    photo, style = (
        jnp.asarray(gpu_work.photo_of(size)),
        jnp.asarray(gpu_work.photo_of(size)[::-1, :, ::-1].copy()),
    )
    found = {}
    for name in ("embedded",) if tiny else ("embedded", "vgg16"):
        params, network = gpu_work.network_of(name)
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
    step, state, batch, _ = gpu_work.training_of(precision, "tiny", 4)
    for _ in range(3):
        state = step(state, batch)
    found["training loss"] = np.asarray(state.metrics["loss"])
    return found


def matmul(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    jax, jnp = gpu_work.start()
    n = 256 if tiny else 8192
    one = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)
    other = jax.random.normal(jax.random.key(1), (n, n), jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)
    seconds = gpu_work.timed(lambda: product(one, other), 20)
    return [{"name": f"bfloat16 {n}^3", "TFLOP/s": 2 * n**3 / seconds / 1e12}]


def train(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    rows = []
    cases = [("bfloat16", 4), ("bfloat16", 16), ("bfloat16", 32), ("float32", 4)]
    for precision, batch in cases[: 1 if tiny else None]:
        step, state, pictures, work = gpu_work.training_of(
            precision, "tiny" if tiny else "full", batch
        )
        milliseconds, memory = gpu_work.step_time(step, state, pictures, 3 if tiny else 60)
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


def stylize(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    jax, jnp = gpu_work.start()
    from jaxstyle import networks
    from jaxstyle.methods import StyleModel, stylize

    config = networks.TransformerConfig(widths=(4, 6, 8) if tiny else (32, 64, 128))
    model = StyleModel(networks.init(jax.random.key(0), config), config)
    size, count = (32, 2) if tiny else (512, 8)
    frames = jnp.asarray(np.stack([gpu_work.photo_of(size)] * count))
    rows = []
    for precision in ("bfloat16", "float32"):
        paint = jax.jit(functools.partial(stylize, precision=precision))
        seconds = gpu_work.timed(functools.partial(paint, model, frames), 3 if tiny else 50)
        rows.append(
            {"name": f"{size} px, batch {count}, {precision}", "ms a frame": 1e3 * seconds / count}
        )
    return rows


def sweep(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    """Time steps of Adam on 16 pictures, as one program and one by one."""
    names = ("embedded",) if tiny else ("embedded", "vgg16")
    return [_sweep_of(name, *((32, 2, 2) if tiny else (256, 16, 20))) for name in names]


def _sweep_of(name: str, size: int, count: int, steps: int) -> dict[str, Any]:
    jax, jnp = gpu_work.start()
    from jaxstyle import losses, optimize
    from jaxstyle.methods import per_image

    params, network = gpu_work.network_of(name)
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    config = losses.ObjectiveConfig(content_layers=("relu3_1",), style_layers=layers)
    objective, weights = losses.assemble(config)
    problem = per_image.Problem(objective, network, dtype="auto")
    photo = jnp.asarray(gpu_work.photo_of(size))
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
    single = gpu_work.timed(lambda: [alone(photo, s, params, targets) for s in strengths], turns)
    joint = gpu_work.timed(lambda: together(photo, strengths, params, targets), turns)
    return {
        "name": f"{name}, {size} px, {count} pictures",
        "ms a step, one by one": 1e3 * single / steps / count,
        "ms a step, together": 1e3 * joint / steps / count,
        "times faster": single / joint,
    }


def train_torch(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    import against_torch
    import torch
    import torch_models
    import train_step

    from jaxstyle import features

    gpu_work.start(cpu=True)
    case = gpu_work.case_of("tiny" if tiny else "full")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for batch in (4, 16)[: 1 if tiny else None]:
        train_step.write_arrays(case | {"batch": batch}, str(folder / "arrays.npz"))
        arrays = dict(np.load(folder / "arrays.npz"))
        net = torch_models.Transformer(against_torch.nested(arrays, "net")).to(device)
        layers = tuple(dict.fromkeys(case["content"] + case["style"]))
        network = features.network(case["network"])
        perception = torch_models.Perception(
            against_torch.nested(arrays, "perception"), network, layers
        )
        perception.move(device)
        photo = torch.from_numpy(arrays["photo"]).permute(0, 3, 1, 2).to(device)
        photo = (photo.float() / 255).contiguous(memory_format=torch.channels_last)
        painting = torch.from_numpy(arrays["style"]).permute(2, 0, 1)[None].to(device)
        weights = train_step.weights_of(case)
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

            seconds = gpu_work.timed(step, 3 if tiny else 60, wait)
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


def data(folder: pathlib.Path, tiny: bool) -> list[dict[str, Any]]:
    """Time steps with photographs decoded on the way, and with one batch that is there."""
    gpu_work.start()
    from jaxstyle.data import make_batches, open_photos, prefetch_to_device
    from jaxstyle.placement import Placement

    kind, batch, steps = ("tiny", 2, 3) if tiny else ("full", 16, 60)
    step, state, pictures, _ = gpu_work.training_of("auto", kind, batch)
    at_hand, _ = gpu_work.step_time(step, state, pictures, steps)
    rows = [{"name": f"batch {batch}, at hand", "ms": at_hand}]
    for workers in (0, 8)[: 1 if tiny else None]:
        _, state, _, _ = gpu_work.training_of("auto", kind, batch)
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
