"""Photographs for training: where they come from, and the stream of crops made of them."""

from jaxstyle.data.photos import Photos, UnreadablePhoto, open_photos
from jaxstyle.data.pipeline import PhotoBatches, PhotoBatchIterator, default_threads, make_batches
from jaxstyle.data.prefetch import PlacedBatches, prefetch_to_device
from jaxstyle.data.preparing import Prepared, prepare_photos
from jaxstyle.data.skipped import SkippedPhotos

__all__ = [
    "PhotoBatchIterator",
    "PhotoBatches",
    "Photos",
    "PlacedBatches",
    "Prepared",
    "SkippedPhotos",
    "UnreadablePhoto",
    "default_threads",
    "make_batches",
    "open_photos",
    "prefetch_to_device",
    "prepare_photos",
]
