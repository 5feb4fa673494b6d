"""The endless list of training batches: which photographs, in which order, cropped how."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from jaxstyle.data import augment
from jaxstyle.data.photos import Photos, UnreadablePhoto
from jaxstyle.types import InputError

_ENDLESS = 2**62  # photographs; at a billion a second, a century


class Note(NamedTuple):
    """What happened to one photograph on the way: skipped, or converted to RGB."""

    name: str
    what: str
    skipped: bool


class Example(NamedTuple):
    """One crop uint8 `[size, size, 3]`, or a batch of them, and the notes on its photographs.

    Notes travel with the pixels so that they also arrive from worker processes.
    """

    pixels: np.ndarray
    notes: tuple[Note, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What, with the source, decides the content of every batch; see `make_batches`.

    Raises:
      InputError: a value is out of its range.

    Example:
      >>> Settings(size=256, batch=4, seed=-1)
      Traceback (most recent call last):
      jaxstyle.types.InputError: seed -1 must be from 0 to 2**32 - 1.
    """

    size: int
    batch: int
    seed: int
    flip: bool = True
    scale: tuple[float, float] = (1.0, 1.5)
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        low, high = self.scale
        last = self.process_count - 1
        rules = {
            f"size {self.size} must be at least 1": self.size >= 1,
            f"batch {self.batch} must be at least 1": self.batch >= 1,
            f"seed {self.seed} must be from 0 to 2**32 - 1": 0 <= self.seed < 2**32,
            f"scale {self.scale} must be (low, high) with 1 <= low <= high, because a crop cannot "
            "be larger than its photograph": 1 <= low <= high < math.inf,
            f"process_index {self.process_index} must be from 0 to process_count - 1 = {last}": (
                0 <= self.process_index <= last
            ),
        }
        for rule, holds in rules.items():
            if not holds:
                raise InputError(f"{rule}.")

    @property
    def shorter_side(self) -> int:
        """Pixels that a photograph's shorter side must have, or crops of it would be blurred."""
        return math.ceil(self.size * self.scale[1])


def batch_list(source: Photos, settings: Settings) -> grain.MapDataset[Example]:
    """Return the stream as a lazy endless list, made by Grain where it is indexed.

    Args:
      source: photographs.
      settings: of the stream.

    Returns:
      The list: item k is batch k, `pixels` uint8 `[batch, size, size, 3]`, sRGB. Indexing it raises
      InputError if no photograph of the source can be used any more.

    Example:
      >>> from jaxstyle.data import open_photos
      >>> batch_list(open_photos(), Settings(size=8, batch=2, seed=0))[1000].pixels.shape
      (2, 8, 8, 3)
    """
    order, crops = np.random.SeedSequence(settings.seed).generate_state(2)
    return (
        grain.MapDataset.source(_Order(len(source), int(order)))
        .random_map(_Crop(source, settings), seed=int(crops))
        .slice(slice(settings.process_index, None, settings.process_count))
        .batch(settings.batch, drop_remainder=True, batch_fn=_stack)
    )


class _Order:
    """The endless sequence of photographs' indices: every epoch a permutation of its own.

    Grain's own shuffle needs no memory, but walks through 2**16 places to find one of six: 3 ms per
    photograph (Grain 0.2.18), four times as long as cutting the crop.
    """

    def __init__(self, count: int, seed: int):
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> int:
        epoch, place = divmod(index, self._count)
        return int(_permutation(self._count, self._seed, epoch)[place])


@functools.lru_cache(maxsize=4)  # threads may be at work on both sides of an epoch's end
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a random order of `range(count)`, the same under every version of NumPy.

    NumPy promises that for a bit generator's raw numbers, not for `Generator.permutation`.
    """
    numbers = np.random.Philox(np.random.SeedSequence((seed, epoch))).random_raw(count)
    return np.argsort(numbers, kind="stable")


class _Crop(grain.transforms.RandomMap):
    """Turns the index of a photograph into an example."""

    def __init__(self, source: Photos, settings: Settings):
        self._source = source
        self._settings = settings

    def random_map(self, element: int, rng: np.random.Generator) -> Example:
        """Load photograph `element`, or a random one in its place, and crop it."""
        # Drawn always, so that the crop is the same one whether or not a replacement is needed.
        seed = int(rng.integers(2**63))
        notes = []
        for index in self._candidates(element, seed):
            try:
                photo = self._source.load(index, self._settings.shorter_side)
            except UnreadablePhoto as error:
                notes.append(Note(error.name, error.reason, skipped=True))
                continue
            if photo.converted_from:
                notes.append(Note(self._source.names[index], photo.converted_from, skipped=False))
            pixels = augment.random_crop(
                photo.picture,
                rng,
                size=self._settings.size,
                scale=self._settings.scale,
                flip=self._settings.flip,
            )
            return Example(pixels, tuple(notes))
        raise InputError(
            f"none of the {len(self._source)} photographs of '{self._source.where}' can be used "
            f"any more; '{notes[0].name}': {notes[0].what}."
        )

    def _candidates(self, first: int, seed: int) -> Iterator[int]:
        """Yield `first`, then every index once, at random."""
        yield first
        others = np.random.default_rng(seed).permutation(len(self._source))
        yield from (int(index) for index in others)


def _stack(examples: Sequence[Example]) -> Example:
    notes = tuple(note for example in examples for note in example.notes)
    return Example(np.stack([example.pixels for example in examples]), notes)
