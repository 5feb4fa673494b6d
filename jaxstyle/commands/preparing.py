"""`python -m jaxstyle prepare PHOTOS --out PACK`: photographs packed for training."""

import argparse
import sys
import time
import warnings
from typing import Any

from jaxstyle.commands.terminal import printable

_EXAMPLES = """\
examples:
  jaxstyle prepare photos/ --out photos.pack
  jaxstyle prepare coco.zip --out coco.array_record --size 768
  python launch.py --config configs/starry_fast.py --config.data.photos=photos.pack

Every photograph is turned upright, converted to sRGB and reduced to a shorter side of --size, never
enlarged. Crops of 256 pixels at scales of up to 1.5 need 384. Those that cannot be read are named
and left out. The same command goes on where an earlier one stopped.
"""

_SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal


def add(commands: Any) -> None:
    """Add the sub-parser.

    Args:
      commands: what `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "prepare",
        help="pack a folder of photographs, reduced once, for fast training",
        description="Pack photographs, reduced once, for fast training.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("photos", metavar="PHOTOS", help="folder or .zip of photographs")
    option(
        "--out",
        required=True,
        metavar="PACK",
        help="folder to make, or one file if the name ends in .array_record",
    )
    option("--size", type=int, default=384, metavar="N", help="shorter side in pixels (384)")
    option(
        "--quality",
        type=_quality,
        default=95,
        metavar="Q",
        help="of the JPEGs, 1 to 100 (95); or raw: no loss, faster to read, six times as large",
    )
    option("--workers", type=int, metavar="N", help="threads (default: one per core, at most 8)")
    option("--overwrite", action="store_true", help="replace a pack that is there")
    parser.set_defaults(run=_run)


def _quality(text: str) -> int | str:
    if text != "raw" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number nor 'raw'")
    return text if text == "raw" else int(text)


def _run(arguments: argparse.Namespace, interruption: Any) -> int:
    from jaxstyle.data import prepare_photos

    progress = _Progress(interruption)
    with warnings.catch_warnings():
        # Pillow warns of odd metadata; what matters leaves a photograph out.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            made = prepare_photos(
                arguments.photos,
                arguments.out,
                size=arguments.size,
                quality=arguments.quality,
                workers=arguments.workers,
                overwrite=arguments.overwrite,
                report=progress,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{progress.done} of {progress.total} photographs; the same command goes on"
            ) from None
        finally:
            progress.end()
    for name, reason in made.left_out.items():
        print(printable(f"left out: '{name}': {reason}"), file=sys.stderr, flush=True)
    total = made.photos + len(made.left_out)
    if made.found == total:
        print(printable(f"{arguments.out} was made before, of the same photographs and settings:"))
    elif made.found:
        print(f"{made.found} photographs were done before")
    each = made.bytes / made.photos / 1e3
    print(
        printable(
            f"{made.photos} of {total} photographs are in {arguments.out}, {made.reduced} of them "
            f"reduced ({made.bytes / 1e6:.1f} MB, {each:.0f} kB each); train with them:"
        )
    )
    print(printable(f"  --config.data.photos={arguments.out}"))
    return 1 if made.left_out else 0


class _Progress:
    """Tells how far it is: in place on a terminal, now and then a line elsewhere."""

    def __init__(self, interruption: Any):
        self.done = self.total = 0
        self._interruption = interruption
        self._terminal = sys.stderr.isatty()
        self._began: float | None = None
        self._at_first = 0
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        self._interruption.check()
        now = time.monotonic()
        if self._began is None:
            self._began, self._at_first = now, done
        self.done, self.total = done, total
        if now - self._last >= (0.2 if self._terminal else _SECONDS_BETWEEN_LINES):
            self._last = now
            rate = (done - self._at_first) / max(now - self._began, 1e-9)
            left = f", {_minutes((total - done) / rate)} left" if rate else ""
            text = f"{done} of {total} photographs, {rate:.0f} a second{left}"
            end = "" if self._terminal else "\n"
            print(
                f"\r\033[K{text}" if self._terminal else text, end=end, file=sys.stderr, flush=True
            )

    def end(self) -> None:
        """Clear the line."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
