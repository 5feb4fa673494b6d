"""Rows of a picture divided among devices, and of all that has rows: states and targets.

JAX divides an array among devices evenly. A picture has any height, so between two calls of a
program its arrays are kept a little longer, with rows of zeros at the end; inside, `Rows.joined`
cuts these off, and the compiler divides what is left with fewer rows for the last device. What is
computed there has the shapes, and to rounding the numbers, of one device.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxstyle.features.across import ROWS
from jaxstyle.types import Array, InputError

LEAST = 16  # rows of a device: one of the deepest maps

# `shape -> axis that is divided`, or None for an array that every device holds.
Axis = Callable[[tuple[int, ...]], int | None]


@final
@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["axis", "size"]
)
@dataclasses.dataclass(frozen=True)
class Divided:
    """An array in the place of one that is divided.

    Attributes:
      array: longer than it, by zeros at the end of the axis.
      axis: that is divided.
      size: of the axis without them.
    """

    array: Array
    axis: int
    size: int


def mesh_of(devices: int, height: int) -> Mesh | None:
    """Return the devices that the rows of a picture are divided among.

    Args:
      devices: how many of this process's; 0 for all that the picture can be divided among.
      height: of the picture.

    Returns:
      A mesh with the axis 'rows'; None for one device.

    Raises:
      InputError: fewer than 0 devices, more than there are, or fewer than 16 rows for each.

    Example:
      >>> mesh_of(1, 512) is None
      True
    """
    there = jax.local_devices()
    if devices < 0:
        raise InputError(f"features.devices is {devices}; give 1 or more, or 0 for all.")
    if devices > len(there):
        virtual = f" (on a CPU, JAX_NUM_CPU_DEVICES={devices} makes as many)"
        raise InputError(
            f"features.devices is {devices}, but there are {len(there)}; give at most that many"
            f"{virtual if there[0].platform == 'cpu' else ''}."
        )
    most = max(1, height // LEAST)
    if devices > most:
        raise InputError(
            f"{height} rows (with the margin) are too few for {devices} devices, at least {LEAST} "
            f"each; set features.devices to {most} or less, or paint a larger picture."
        )
    count = devices or min(len(there), most)
    return Mesh(np.array(there[:count]), (ROWS,)) if count > 1 else None


@dataclasses.dataclass(frozen=True)
class Rows:
    """Divides what belongs to pictures among devices.

    Attributes:
      mesh: the devices, from `mesh_of`; None for one, where everything stays as it is.
    """

    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return self.mesh.size if self.mesh else 1

    def divided(self, tree: Any, axis: Axis) -> Any:
        """Return a pytree with a `Divided` for each array that has rows; outside of programs.

        Args:
          tree: of arrays.
          axis: which one has them.
        """
        if self.mesh is None:
            return tree
        tree = jax.tree.map(np.asarray, tree)  # the whole is on no device
        return jax.tree.map(functools.partial(self._divide, axis, jax.device_put), tree)

    def within(self, tree: Any, axis: Axis) -> Any:
        """Return the same inside a program.

        Args:
          tree: as for `divided`.
          axis: likewise.
        """
        if self.mesh is None:
            return tree
        place = lax.with_sharding_constraint
        return jax.tree.map(functools.partial(self._divide, axis, place), tree)

    def _divide(self, axis: Axis, place: Any, leaf: Array) -> Any:
        where = axis(leaf.shape)
        if where is None:
            return place(leaf, self._sharding())
        ends = [(0, 0)] * leaf.ndim
        ends[where] = (0, -leaf.shape[where] % self.devices)
        pad = np.pad if isinstance(leaf, np.ndarray) else jnp.pad
        longer = pad(leaf, ends) if ends[where][1] else leaf
        return Divided(place(longer, self._sharding(where)), where, leaf.shape[where])

    def _sharding(self, axis: int | None = None) -> NamedSharding:
        assert self.mesh is not None
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, ROWS)
        return NamedSharding(self.mesh, spec)

    def joined(self, tree: Any) -> Any:
        """Return the arrays as one device has them, divided unevenly; inside a program.

        Args:
          tree: from `divided` or `within`.
        """
        if self.mesh is None:
            return tree

        def cut(leaf: Any) -> Array:
            if not isinstance(leaf, Divided):
                return leaf
            own = lax.slice_in_dim(leaf.array, 0, leaf.size, axis=leaf.axis)
            return lax.with_sharding_constraint(own, self._sharding(leaf.axis))

        return jax.tree.map(cut, tree, is_leaf=_is_divided)


def _is_divided(leaf: Any) -> bool:
    return isinstance(leaf, Divided)


def fetched(tree: Any) -> Any:
    """Return the arrays as one device has them, on the host; outside of programs.

    Args:
      tree: from `Rows.divided`, or from a program that returns `Rows.within`.
    """

    def fetch(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, Divided):
            return np.asarray(leaf)
        whole = np.asarray(leaf.array)
        return whole[(slice(None),) * leaf.axis + (slice(leaf.size),)]

    return jax.tree.map(fetch, tree, is_leaf=_is_divided)


def of_state(shape: tuple[int, ...]) -> Axis:
    """Return which axes of a picture's state have rows: of images, and of tables of flat ones.

    Flat ones are divided where one device's part begins, not where its rows do: by whole rows
    only if the height divides.

    Args:
      shape: of the picture, `(h, w, 3)`.
    """
    numbers = shape[0] * shape[1] * shape[2]

    def axis(leaf: tuple[int, ...]) -> int | None:
        if leaf == shape:
            return 0
        return len(leaf) - 1 if leaf and leaf[-1] == numbers else None

    return axis


def of_maps(shape: tuple[int, ...]) -> int | None:
    """Return the axis of rows of pictures and feature maps, `[h, w, c]`; of nothing else.

    Args:
      shape: of an array.
    """
    return 0 if len(shape) == 3 else None
