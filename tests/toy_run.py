"""A small training run, and a program that does it, to be killed by the tests.

Usage: `python tests/toy_run.py WORKDIR --steps=N [--sleep=SECONDS]`.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import signal
import sys
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxstyle import trainer
from jaxstyle.checkpoints import Checkpointer

BATCH = 3
OPTIMIZER = optax.adam(0.05)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "opt_state", "extra", "metrics"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class ToyState:
    step: jax.Array
    params: dict
    opt_state: object
    extra: dict
    metrics: dict


def new_state() -> ToyState:
    params = {"slope": jnp.zeros(4), "offset": jnp.zeros(())}
    extra = {"key": jax.random.key(7), "average": jnp.zeros(4, jnp.bfloat16)}
    zeros = {name: jnp.zeros(()) for name in ("loss", "fit/square", "size")}
    return ToyState(jnp.int32(0), params, OPTIMIZER.init(params), extra, zeros)


def loss_fn(params, x, y):
    residual = x @ params["slope"] + params["offset"] - y
    terms = {"fit/square": jnp.mean(residual**2), "size": jnp.sum(params["slope"] ** 2)}
    return terms["fit/square"] + 0.01 * terms["size"], terms


@functools.cache
def make_step(sharding=None):
    """Return the jitted step; one for all tests that do not look at its cache."""

    @functools.partial(jax.jit, donate_argnames=("state",), out_shardings=sharding)
    def step(state, batch):
        key, noise_key = jax.random.split(state.extra["key"])
        x = batch["x"] + 0.01 * jax.random.normal(noise_key, batch["x"].shape)
        (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, x, batch["y"]
        )
        updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = (0.9 * state.extra["average"] + 0.1 * params["slope"]).astype(jnp.bfloat16)
        metrics = {name: state.metrics[name] + value for name, value in terms.items()}
        metrics["loss"] = state.metrics["loss"] + loss
        extra = {"key": key, "average": average}
        return ToyState(state.step + 1, params, opt_state, extra, metrics)

    return step


class Jitter(grain.transforms.RandomMap):
    def random_map(self, element, rng):
        x = np.float32([element, element**2 % 7, element % 3, 1]) / 8
        x = (x + rng.normal(0, 0.1, 4)).astype(np.float32)
        return {"x": x, "y": np.float32(x @ [1, -2, 0.5, 3])}


def batches():
    data = grain.MapDataset.range(10).seed(5).shuffle().repeat().random_map(Jitter())
    read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return data.to_iter_dataset(read).batch(BATCH, drop_remainder=True)


def train(workdir, steps=12, *, step_fn=None, state=None, data=None, **options):
    settings = {"log_every": 5, "checkpoint_every": 4, "progress": False} | options
    return trainer.train(
        step_fn or make_step(),
        state or new_state(),
        data if data is not None else batches(),
        workdir=workdir,
        steps=steps,
        batch_size=BATCH,
        **settings,
    )


def bits(tree) -> dict[str, tuple]:
    """Return dtype, shape and bytes of every leaf by path."""

    def leaf_bits(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        return str(array.dtype), array.shape, array.tobytes()

    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(where): leaf_bits(leaf) for where, leaf in leaves}


def result_of(workdir, steps) -> tuple:
    """Return all that an interruption must not change: state, data position, metrics file."""
    step, state, notes = Checkpointer(workdir).restore_latest(new_state())
    assert step == steps
    return bits(state), notes, (workdir / "metrics.jsonl").read_bytes()


class ActAt:
    """Batches that do something while the given one is fetched."""

    def __init__(self, batch, action):
        self._batch, self._action = batch, action

    def __iter__(self):
        self._data, self._count = iter(batches()), 0
        return self

    def __next__(self):
        self._count += 1
        if self._count == self._batch:
            self._action()
        return next(self._data)

    def __getattr__(self, name):  # get_state, set_state, close
        return getattr(self._data, name)


def signal_at(batch, number=signal.SIGINT):
    """Return batches that send this process a signal while the given one is fetched."""
    return ActAt(batch, lambda: os.kill(os.getpid(), number))


def main(workdir: str, steps: str, sleep: str = "--sleep=0.004") -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner may ignore it
    seconds = float(sleep.removeprefix("--sleep="))
    fetched = itertools.count(1)

    def fetch(batch):
        if next(fetched) >= 3:  # by now the step is compiled
            pathlib.Path(workdir, "fetching").touch()
            time.sleep(seconds)
        return batch

    outcome = train(
        pathlib.Path(workdir),
        int(steps.removeprefix("--steps=")),
        data=batches().map(fetch),
        checkpoint_every=20,
        progress=True,
    )
    return 128 + outcome.signal if outcome.signal else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
