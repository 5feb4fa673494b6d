"""How fast the data pipeline delivers training crops, and whether a training step ever waits.

    python benchmarks/data_pipeline.py --step-ms 260
    python benchmarks/data_pipeline.py --with-step --size 256 --photos coco pack
    python benchmarks/data_pipeline.py --encodings

The first prints crops per second by kind of source, threads and worker processes, and how many
times over that feeds a step of `--step-ms`. CPU ms is what a crop costs of one core; the processes'
own share is left out for workers. The second trains: ms per step with a batch that lies on the
device, with one that is moved there anew, and with photographs, in turns. The third compares ways
to store the pictures of a pack.

Sources are made on the spot from scikit-image's photographs, enlarged and with grain, so that files
are as large as a camera's: `large` (12 megapixels, 4 MB), `coco` (640 x 480), `zip` of those,
`pack` (what `jaxstyle prepare` makes of coco), `large-pack`, `raw` (--quality raw of coco). Any
other name is a folder, zip or pack of yours. Every file is decoded anew for every crop. A few
minutes with the defaults on two cores; the machine should be idle.
"""

import argparse
import contextlib
import io
import os
import pathlib
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import jaxstyle.data as data
from jaxstyle.data import decode, preparing
from jaxstyle.types import InputError

COUNTS = {"large": 12, "coco": 96}  # files; more would only fill the disk
SIDES = {"large": (4032, 3024), "coco": (640, 480)}
MADE = ("large", "coco", "zip", "pack", "raw", "large-pack")


class Rate(NamedTuple):
    """Images per second in each window, and CPU milliseconds per image of this process."""

    windows: list[float]
    cpu_ms: float


class Sources:
    """Photographs by name, made when first asked for, in one folder."""

    def __init__(self, root: pathlib.Path, size: int):
        self._root, self._size = root, size

    def open(self, name: str) -> data.Photos:
        """Open photographs that are made here, or the user's."""
        where = str(self._make(name)) if name in MADE else name
        return data.open_photos(where, cache_bytes=0)

    def _make(self, name: str) -> pathlib.Path:
        path = self._root / name
        if path.exists():
            return path
        if name == "zip":
            path = path.with_suffix(".zip")
            with zipfile.ZipFile(path, "w") as archive:
                for file in sorted(self._make("coco").iterdir()):
                    archive.write(file, file.name)
        elif name in ("pack", "raw", "large-pack"):
            photos = self._make("large" if name == "large-pack" else "coco")
            quality = preparing.RAW if name == "raw" else preparing.QUALITY
            began = time.perf_counter()
            made = data.prepare_photos(photos, path, size=self._size, quality=quality)
            passed = time.perf_counter() - began
            print(
                f"{name}: {made.photos / passed:.0f} photographs a second packed, "
                f"{made.bytes / made.photos / 1e3:.0f} kB each"
            )
        else:
            _write_photos(path, COUNTS[name], SIDES[name])
        return path


def _write_photos(folder: pathlib.Path, count: int, sides: tuple[int, int]) -> None:
    """Enlarge parts of scikit-image's photographs, and add a sensor's noise."""
    folder.mkdir()
    photos = data.open_photos()
    # One pattern for all: new noise for each would take most of the time.
    grain = np.random.default_rng(0).normal(0, 5, (sides[1], sides[0], 3)).astype(np.float32)
    for k in range(count):
        pixels = photos[k % len(photos)]
        height, width = pixels.shape[:2]
        across, down = width - width // 4 * (k % 3), height - height // 4 * (k % 2)
        picture = Image.fromarray(pixels[:down, :across]).resize(sides, Image.Resampling.BICUBIC)
        noisy = np.asarray(picture, np.float32) + grain
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(
            folder / f"{k:03}.jpg", quality=90
        )
    kilobytes = sum(file.stat().st_size for file in folder.iterdir()) / count / 1e3
    print(f"{folder.name}: {count} JPEGs of {sides[0]} x {sides[1]}, {kilobytes:.0f} kB each")


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


def report_rates(sources: Sources, options: argparse.Namespace) -> None:
    """Print crops per second of every source and setting."""
    lines = [f"{'photographs':14} threads  workers   crops/s (least - most)    CPU ms   x step"]
    for name in options.photos:
        photos = sources.open(name)
        for setting in settings(options):
            batches = data.make_batches(
                photos, size=options.size, batch=options.batch, seed=0, **setting
            )
            rate = measure(batches, repeats=options.repeats, seconds=options.seconds)
            median = statistics.median(rate.windows)
            spread = f"({min(rate.windows):.0f} - {max(rate.windows):.0f})"
            cpu = "-" if setting["workers"] else f"{rate.cpu_ms:.2f}"
            fed = f"{median * options.step_ms / options.batch / 1e3:.1f}"
            lines.append(
                f"{pathlib.Path(name).name:14} {setting['threads']:7}  {setting['workers']:7}  "
                f"{median:8.0f} {spread:15}   {cpu:>8} {fed if options.step_ms else '-':>8}"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join([f"\ncrops of {options.size} pixels, batches of {options.batch}", *lines]))


def report_steps(sources: Sources, options: argparse.Namespace) -> None:
    """Print ms per training step by where its batches come from."""
    from jaxstyle import runtime

    runtime.setup(compilation_cache=False)
    import jax

    shape = (options.batch, options.size, options.size, 3)
    host = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    resident = jax.device_put(host)
    feeds: dict[str, Callable[[], Any]] = {
        "on the device": lambda: resident,
        "moved each step": lambda: jax.device_put(host),
    }
    with contextlib.ExitStack() as stack:
        for name in options.photos:
            batches = data.make_batches(
                sources.open(name),
                size=options.size,
                batch=options.batch,
                seed=0,
                workers=options.workers[0] if options.workers else 0,
            )
            iterator = data.prefetch_to_device(iter(batches), jax.device_put)
            stack.enter_context(contextlib.closing(iterator))
            feeds[name] = iterator.__next__
        train = _trainer(options, host)
        times: dict[str, list[float]] = {name: [] for name in feeds}
        for _ in range(options.repeats + 1):
            for name, feed in feeds.items():
                times[name].append(train(feed, options.seconds))
    device = jax.devices()[0].device_kind
    print(f"\n{options.case}, {options.size} pixels, batches of {options.batch}, on {device}")
    print(f"{'batches':18} ms/step (least - most)    x on the device")
    base = statistics.median(times["on the device"][1:])
    for name, (_, *own) in times.items():  # the first round compiles and fills buffers
        median, spread = statistics.median(own), f"({min(own):.2f} - {max(own):.2f})"
        label = pathlib.Path(name).name
        print(f"{label:18} {median:7.2f} {spread:18} {median / base:8.3f}")


ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG 95": ("JPEG", {"quality": 95, "subsampling": 0}),  # what packs hold
    "JPEG 95 4:2:0": ("JPEG", {"quality": 95, "subsampling": 2}),
    "JPEG 90": ("JPEG", {"quality": 90, "subsampling": 0}),
    "WebP 95": ("WEBP", {"quality": 95}),
    "WebP lossless": ("WEBP", {"lossless": True, "method": 2}),
    "PNG": ("PNG", {"compress_level": 4}),
    "raw": ("PPM", {}),
}


def report_encodings(sources: Sources, options: argparse.Namespace) -> None:
    """Print size, milliseconds and loss of ways to store photographs reduced for a pack."""
    photos, side = sources.open("coco"), -(-options.size * 3 // 2)
    pictures = [
        preparing.reduced(photos.load(k).picture, side) for k in range(min(24, len(photos)))
    ]
    print(f"\n{len(pictures)} photographs, shorter side {side}, one thread")
    print(f"{'stored as':15} kB each   write ms   read ms   PSNR dB")
    for name, (kind, how) in ENCODINGS.items():
        stored, spent, kept, losses = [], [], [], []
        for picture in pictures:
            file, start = io.BytesIO(), time.process_time()
            picture.save(file, kind, **how)
            spent.append(time.process_time() - start)
            stored.append(file.getvalue())
        for _ in range(options.repeats):
            start = time.process_time()
            decoded = [decode.decode(item)[0] for item in stored]
            kept.append((time.process_time() - start) / len(stored))
        for picture, seen in zip(pictures, decoded, strict=True):
            error = np.asarray(picture, np.float32) - np.asarray(seen, np.float32)
            losses.append(float(np.square(error).mean()))
        loss = statistics.mean(losses)
        psnr = f"{10 * np.log10(255**2 / loss):.1f}" if loss else "no loss"
        print(
            f"{name:15} {statistics.mean(map(len, stored)) / 1e3:7.0f} "
            f"{1e3 * statistics.mean(spent):10.2f} {1e3 * statistics.median(kept):9.2f}   {psnr:>7}"
        )


def _trainer(
    options: argparse.Namespace, batch: np.ndarray
) -> Callable[[Callable[[], Any], float], float]:
    """Return a function that trains on what `feed` returns for some seconds: ms per step."""
    import collections

    import jax
    import jax.numpy as jnp

    from jaxstyle import features, losses, networks, training
    from jaxstyle.training import feedforward, optimizers

    wide = options.case == "vgg16"
    config = networks.TransformerConfig(widths=(32, 64, 128) if wide else (16, 32, 64))
    network = features.network("vgg16" if wide else "embedded")
    style = ("relu1_2", "relu2_2", "relu3_3", "relu4_3") if wide else ("relu1_1", "relu3_1")
    problem = feedforward.Problem(
        losses.content(("relu3_3",)), losses.style(style), losses.total_variation(), network
    )
    key = jax.random.key(0)
    perception = features.initialize(key, network)
    targets = feedforward.style_targets(problem, perception, jnp.asarray(batch[0] / 255.0))
    weights = {"content/relu3_3": 1.0, "tv": 1.0, **{f"style/{layer}": 1.0 for layer in style}}
    optimizer = optimizers.adam(1e-3)
    step = jax.jit(feedforward.make_step(problem, config, optimizer), donate_argnums=0)
    state = training.create(
        networks.init(key, config)["params"], optimizer, metrics=("loss", *weights)
    )

    def run(feed: Callable[[], Any], seconds: float) -> float:
        nonlocal state
        under_way: collections.deque[Any] = collections.deque()
        start, count = time.perf_counter(), 0
        while count < 3 or time.perf_counter() - start < seconds:
            state = step(state, feed(), perception, targets, weights)
            under_way.append(jnp.copy(state.step))
            if len(under_way) > 2:  # as the trainer: two steps ahead of the device
                under_way.popleft().block_until_ready()
            count += 1
        jax.block_until_ready(state)
        return 1e3 * (time.perf_counter() - start) / count

    return run


def parse() -> argparse.Namespace:
    cores = data.default_threads()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", default=MADE, metavar="NAME", help="sources, above")
    parser.add_argument("--size", type=int, default=256, help="of the crops")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, cores}))
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=5, help="windows per setting")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a window")
    parser.add_argument("--step-ms", type=float, default=0, help="time of a training step")
    parser.add_argument("--with-step", action="store_true", help="measure training steps")
    parser.add_argument("--encodings", action="store_true", help="measure ways to store pictures")
    parser.add_argument("--case", choices=("default", "vgg16"), default="default")
    return parser.parse_args()


@contextlib.contextmanager
def told() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    options = parse()
    print(f"{os.cpu_count()} cores; by default {data.default_threads()} threads and no workers")
    with tempfile.TemporaryDirectory() as folder, told():
        sources = Sources(pathlib.Path(folder), size=-(-options.size * 3 // 2))
        if options.encodings:
            report_encodings(sources, options)
        else:
            (report_steps if options.with_step else report_rates)(sources, options)


if __name__ == "__main__":
    main()
