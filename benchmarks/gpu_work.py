"""What the parts of `gpu_suite.py` share: pictures, networks, a training step, and the clock."""

import functools
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def start(cpu: bool = False) -> tuple[Any, Any]:
    from jaxstyle import runtime

    runtime.setup()
    if cpu:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp

    return jax, jnp


def photo_of(size: int) -> np.ndarray:
    """Return a smooth picture with some noise, `[size, size, 3]` in [0, 1]."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y * x + 2), np.sin(5 * y - 8 * x)], -1)
    noise = np.random.default_rng(0).normal(0, 0.05, waves.shape)
    return np.clip(0.5 + 0.35 * waves + noise, 0, 1).astype(np.float32)


def network_of(name: str) -> tuple[Any, Any]:
    """Return a loss network: ours, or a VGG with random weights."""
    import jax

    from jaxstyle import features
    from jaxstyle.weights import load_joined

    if name == "embedded":
        return load_joined(name)
    network = features.network(name)
    return features.initialize(jax.random.key(0), network), network


def case_of(kind: str) -> dict[str, Any]:
    import train_step

    tiny = {"size": 32, "widths": (4, 6, 8), "network": "embedded"}
    layers = {"content": ("relu2_1",), "style": ("relu1_1", "relu2_1"), "statistic": "gram"}
    return tiny | layers if kind == "tiny" else dict(train_step.CASES["vgg16"])


def training_of(precision: str, kind: str, batch: int) -> tuple[Callable, Any, Any, float]:
    """Return a training step, its state, a batch on the device, and operations in a step."""
    jax, jnp = start()
    import train_step

    from jaxstyle import losses, networks, training
    from jaxstyle.training import feedforward, optimizers

    case = case_of(kind)
    config = networks.TransformerConfig(widths=case["widths"])
    params, network = network_of(case["network"])
    problem = feedforward.Problem(
        losses.content(case["content"]),
        losses.style(case["style"], case["statistic"]),
        losses.total_variation(),
        network,
        precision,
    )
    painting = jnp.asarray(photo_of(case["size"]))
    style = jax.jit(functools.partial(feedforward.style_targets, problem))(params, painting)
    weights, optimizer = train_step.weights_of(case), optimizers.adam(1e-3)
    variables = networks.init(jax.random.key(0), config)
    state = training.create(variables["params"], optimizer, metrics=("loss", *weights))
    pixels = np.stack([np.roll(photo_of(case["size"]), 9 * k, 1) for k in range(batch)])
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


def step_time(step: Callable, state: Any, pictures: Any, steps: int) -> tuple[float, float]:
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


def timed(call: Callable[[], Any], turns: int, wait: Callable | None = None) -> float:
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
