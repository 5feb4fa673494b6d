"""A small training run that devices and processes share, and a program that takes part in it.

Usage: `shared_run.py WORKDIR PHOTOS STEPS SLEEP SETTING [COORDINATOR PROCESSES PROCESS]`.
"""

import dataclasses
import functools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxstyle import distributed, trainer, training
from jaxstyle.data import make_batches, open_photos
from jaxstyle.placement import Placement, place

BATCH = 8
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
SETTINGS = {"log_every": 3, "checkpoint_every": 4, "progress": False}


def new_state() -> training.TrainState:
    params = {"slope": jnp.zeros(3), "offset": jnp.zeros(())}
    extra = {"spread": jnp.ones(3)}
    return training.create(params, OPTIMIZER, metrics=("loss", "size"), extra=extra)


@functools.partial(jax.jit, donate_argnums=0)
def step(state, batch):
    colors = jnp.mean(batch.astype(jnp.float32) / 255, axis=(1, 2))  # [b, 3]
    # As in batch normalization: what a picture contributes depends on all the others.
    spread = jnp.std(colors, axis=0, keepdims=True) + 0.1
    seen = (colors - jnp.mean(colors, axis=0, keepdims=True)) / spread

    def loss_fn(params):
        error = seen @ params["slope"] + params["offset"] - colors[:, 0] * colors[:, 2]
        return jnp.mean(error**2)

    loss, gradient = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = OPTIMIZER.update(gradient, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": state.metrics["loss"] + loss,
        "size": state.metrics["size"] + jnp.sum(params["slope"] ** 2),
    }
    extra = {"spread": 0.9 * state.extra["spread"] + 0.1 * spread[0]}
    return dataclasses.replace(
        state, step=state.step + 1, params=params, extra=extra, opt_state=opt_state, metrics=metrics
    )


class Slowed:
    """Batches, and a wait before each; the file `fetching` tells that the run is under way."""

    def __init__(self, batches, seconds, folder):
        self._batches, self._seconds, self._folder = batches, seconds, folder

    def __iter__(self):
        self._data, self._count = iter(self._batches), 0
        return self

    def __next__(self):
        self._count += 1
        if self._count == 6:
            (self._folder / "fetching").touch()
        time.sleep(self._seconds)
        return next(self._data)

    def __getattr__(self, name):  # get_state, set_state, close
        return getattr(self._data, name)


def train(workdir, photos, steps, placement: Placement, sleep=0.0):
    group = placement.group
    batches = make_batches(
        open_photos(str(photos)),
        size=4,
        batch=BATCH // group.count,
        seed=3,
        process_index=group.index,
        process_count=group.count,
    )
    data = Slowed(batches, sleep, pathlib.Path(workdir)) if sleep else batches
    return trainer.train(
        step,
        new_state(),
        data,
        workdir=workdir,
        steps=steps,
        batch_size=BATCH,
        placement=placement,
        **SETTINGS,
    )


def main(workdir: str, photos: str, steps: str, sleep: str, setting: str, *told: str) -> int:
    if told:
        member = distributed.membership(told[0], int(told[1]), int(told[2]), environment={})
        distributed.join(member)
    placement = place(BATCH)
    with distributed.claim(workdir, {"setting": setting}, placement.group) as folder:
        outcome = train(folder, photos, int(steps), placement, float(sleep))
    numbers = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(outcome.state.params)])
    print("result", outcome.step, placement.devices, numbers.tobytes().hex(), flush=True)
    return 128 + outcome.signal if outcome.signal else 0


if __name__ == "__main__":
    status = 1
    try:
        status = main(*sys.argv[1:])
    except distributed.InputError as error:
        print(f"error: {error}", flush=True)
        status = 2
    distributed.leave(status)
    sys.exit(status)
