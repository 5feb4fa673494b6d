"""How fast the data pipeline delivers training crops, by threads and worker processes.

    python benchmarks/data_pipeline.py [PHOTOS] --consume 60

Prints images per second for scikit-image's photographs (kept decoded in memory) and, if PHOTOS (a
folder or a zip) is given, for those with every file decoded anew. `--consume` is what a training
step eats; the last column says how many times over the pipeline feeds it. The CPU time per image is
what feeding takes from a training step on the same cores. Under a minute with the defaults on two
cores; the machine should be idle.
"""

import argparse
import os
import statistics
import sys
import time
from typing import NamedTuple

import jaxstyle.data as data
from jaxstyle.types import InputError


class Rate(NamedTuple):
    """Images per second in each window, and CPU milliseconds per image of this process."""

    windows: list[float]
    cpu_ms: float


def measure(batches: data.PhotoBatches, *, repeats: int, seconds: float) -> Rate:
    """Take batches as fast as they come, in `repeats` windows of `seconds`."""
    iterator = iter(batches)
    try:
        for _ in range(20):  # start threads or processes, fill caches, drain what was made ahead
            size = len(next(iterator))
        windows, images, cpu = [], 0, time.process_time()
        for _ in range(repeats):
            start, count = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < seconds:
                next(iterator)
                count += size
            windows.append(count / passed)
            images += count
        return Rate(windows, 1e3 * (time.process_time() - cpu) / images)
    finally:
        iterator.close()


def settings(options: argparse.Namespace) -> list[dict[str, int]]:
    """List the settings to compare: threads of this process, then worker processes."""
    threads = [{"threads": count, "workers": 0} for count in options.threads]
    return threads + [{"threads": 1, "workers": count} for count in options.workers]


def report(photos: data.Photos, options: argparse.Namespace) -> None:
    """Print the table of one source."""
    print(f"\n{photos.where}: {len(photos)} photographs, batches of {options.batch}")
    print("  size  threads  workers   images/s (least - most)   CPU ms/image   x consumed")
    for size in options.sizes:
        for setting in settings(options):
            batches = data.make_batches(photos, size=size, batch=options.batch, seed=0, **setting)
            rate = measure(batches, repeats=options.repeats, seconds=options.seconds)
            median = statistics.median(rate.windows)
            spread = f"({min(rate.windows):.0f} - {max(rate.windows):.0f})"
            cpu = "-" if setting["workers"] else f"{rate.cpu_ms:.2f}"
            times = f"{median / options.consume:.1f}" if options.consume else "-"
            print(
                f"  {size:4}  {setting['threads']:7}  {setting['workers']:7}   "
                f"{median:8.0f} {spread:15}   {cpu:>12}   {times:>10}",
                flush=True,
            )


def parse() -> argparse.Namespace:
    cores = data.default_threads()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", help="also measure this folder or zip")
    parser.add_argument("--sizes", type=int, nargs="+", default=[144, 256], help="crop sizes")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({0, 1, cores, 2 * cores}))
    parser.add_argument("--workers", type=int, nargs="*", default=[min(cores, 4)])
    parser.add_argument("--repeats", type=int, default=5, help="windows per setting")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a window")
    parser.add_argument("--consume", type=float, default=0, help="images/s of the training step")
    return parser.parse_args()


def main() -> None:
    options = parse()
    print(f"{os.cpu_count()} cores; by default {data.default_threads()} threads and no workers")
    try:
        sources = [data.open_photos()]
        if options.photos:
            sources.append(data.open_photos(options.photos, cache_bytes=0))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for photos in sources:
        report(photos, options)


if __name__ == "__main__":
    main()
