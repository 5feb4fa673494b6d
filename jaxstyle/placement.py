"""Where a training run on several devices keeps its state and its batches.

A batch is divided among the devices, everything else is the same on each of them, and the compiler
adds up what they find: the mean over a batch, its gradient and the statistics of batch
normalization are those of the whole batch, however many devices share it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxstyle.distributed import Group
from jaxstyle.types import Array, InputError

AXIS = "data"

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a training run keeps its state and its batches.

    Attributes:
      group: the processes that take part.
      mesh: the devices, along the axis 'data'; None for one device, where nothing is placed.
    """

    group: Group = dataclasses.field(default_factory=Group)
    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        """How many devices share a batch."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def whole(self) -> NamedSharding | None:
        """Where arrays are that every device has; None where nothing is placed."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    @property
    def divided(self) -> NamedSharding | None:
        """Where a batch is; None where nothing is placed."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec(AXIS))

    def everywhere(self, tree: Tree) -> Tree:
        """Return a pytree whose arrays are on every device, as the first process has them.

        Args:
          tree: arrays and numbers; numbers stay as they are.
        """
        if self.mesh is None:
            return tree
        return jax.tree.map(self._everywhere, tree)

    def _everywhere(self, leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._everywhere(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        value = np.asarray(leaf)
        if self.group.count > 1:
            flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            flat = np.asarray(multihost_utils.broadcast_one_to_all(flat))
            value = flat.view(value.dtype).reshape(value.shape)
        assert self.whole is not None
        return jax.make_array_from_callback(value.shape, self.whole, lambda index: value[index])

    def batch(self, batch: Any) -> Any:
        """Return a batch divided among the devices.

        Args:
          batch: this process's share, `[b / processes, ...]` each leaf.

        Returns:
          `[b, ...]`, each device holding its part.
        """
        if self.mesh is None:
            return batch if jax.default_backend() == "cpu" else jax.device_put(batch)
        place = functools.partial(jax.make_array_from_process_local_data, self.divided)
        return jax.tree.map(place, batch)

    def here(self, tree: Tree) -> Tree:
        """Return what lies on every device as arrays of this process alone, tied to no device.

        Args:
          tree: from `everywhere`, or what a program made of it.
        """
        return tree if self.mesh is None else jax.tree.map(_here, tree)

    def largest(self, number: int) -> Array | int:
        """Return the largest of all processes' numbers, without waiting for it."""
        if self.group.count == 1:
            return number
        assert self.mesh is not None
        own = np.full(len(self.mesh.local_devices), number, np.int32)
        return _largest(self.whole)(self.batch(own))


def _here(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _here(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf))  # jnp.asarray would compile a copy for each shape


@functools.cache
def _largest(whole: NamedSharding | None) -> Callable[[Array], Array]:
    return jax.jit(jnp.max, out_shardings=whole)


def place(batch: int) -> Placement:
    """Divide batches among as many of the devices as share them evenly.

    Args:
      batch: pictures in a batch, of all processes together.

    Returns:
      The placement. On one device it places nothing, and the programs are those of a run that knows
      nothing of others.

    Raises:
      InputError: the batch cannot be divided among the processes.

    Example:
      >>> place(8).devices  # of eight
      8
    """
    group = Group()
    if batch % group.count:
        raise InputError(
            f"a batch of {batch} cannot be divided among {group.count} processes; set data.batch "
            f"to a multiple of {group.count}, such as {group.count * -(-batch // group.count)}."
        )
    share = batch // group.count
    own: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        own.setdefault(device.process_index, []).append(device)
    each = min(map(len, own.values()))
    used = max(n for n in range(1, each + 1) if share % n == 0)
    if used < each:
        group.say(
            f"{used * group.count} of {each * group.count} devices are used, because a batch of "
            f"{batch} cannot be divided by more; data.batch={each * group.count} would use them all"
        )
    if used * group.count == 1:
        return Placement(group)
    chosen = [device for index in sorted(own) for device in own[index][:used]]
    return Placement(group, Mesh(np.array(chosen), (AXIS,)))
