"""`python -m jaxstyle judge STYLE CONTENTS STYLIZED`: how good are stylized pictures?"""

import argparse
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxstyle.commands.terminal import printable

if TYPE_CHECKING:
    from jaxstyle.io.inputs import Found

Row = Mapping[str, Any]

_NOTES = """\
examples:
  jaxstyle judge starry photos/ painted/ --csv painted.csv
  jaxstyle judge wave.jpg photo.jpg painted.png --network vgg19 --weights vgg19.h5

style, per layer: relative Gram distance to the painting, 0 being the painting's own texture; color:
sliced Wasserstein distance to the painting's colors; content: relative distance of feature maps to
the photograph's; SSIM: structural similarity with the photograph, 1 being the photograph.
"below" is by how much a distance is below the unstylized photograph's, or how many times that it
is. Numbers of different networks, layers or sizes do not compare.
"""


def add(commands: Any) -> None:
    """Add the sub-parser.

    Args:
      commands: what `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "judge",
        help="measure stylized pictures against their style and their photographs",
        description="Measure stylized pictures against their style and their photographs.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("style", metavar="STYLE", help="the painting: a file, or see `jaxstyle paintings`")
    option("contents", metavar="CONTENTS", help="photograph, folder or 'pattern'")
    option("stylized", metavar="STYLIZED", help="likewise; paired with the photographs by name")
    option("--network", default="embedded", metavar="NAME", help="embedded (default), vgg16, vgg19")
    option("--weights", default="", metavar="FILE", help="its weights, from a file")
    option("--style-layers", default="", metavar="A,B", help="default: relu1_1 to relu5_1")
    option("--content-layer", default="", metavar="A", help="default: relu3_3")
    option("--size", type=_count, default=256, metavar="N", help="shorter side; 0: as they are")
    option("--style-size", type=_count, default=384, metavar="N", help="the painting's (384)")
    option("--csv", default="", metavar="FILE", help="write all numbers, a line per picture")
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _run(arguments: argparse.Namespace, interruption: Any) -> int:
    from jaxstyle import metrics
    from jaxstyle.io import images
    from jaxstyle.io.paintings import painting_file
    from jaxstyle.io.pairs import read_pair
    from jaxstyle.types import InputError
    from jaxstyle.weights import load_weights

    pairs, alone = _pairs(arguments)
    painting = images.read(painting_file(arguments.style)).pixels
    if arguments.style_size:
        painting = images.resize_shorter(painting, arguments.style_size)
    weights = load_weights(arguments.network, arguments.weights)
    layers = [name.strip() for name in arguments.style_layers.split(",") if name.strip()]
    examiner = metrics.prepare_judge(
        weights.params, weights.network, painting, layers, arguments.content_layer
    )
    rows: list[dict[str, Any]] = []
    print(_header(), flush=True)
    for photo, stylized in pairs:
        interruption.check()
        try:
            pictures = read_pair(photo.path, stylized.path, side=arguments.size)
            row = metrics.judge(examiner, *pictures)
        except InputError as error:
            print(printable(f"failed: {error}"), file=sys.stderr, flush=True)
            continue
        rows.append({"photograph": photo.path, "stylized": stylized.path})
        rows[-1] |= {name: float(value) for name, value in row.items()}
        print(_line(str(stylized.relative), rows[-1]), flush=True)
    if rows:
        seen = f"{weights.network.name}, content by {examiner.content_layer}"
        print("\n".join(_summary(rows, examiner.style_layers, seen)))
        if arguments.csv:
            _write_csv(arguments.csv, rows)
            print(printable(f"all numbers are in {arguments.csv}"))
    for picture in alone:
        print(printable(f"note: '{picture.path}' was left out: no photograph has its name"))
    return 0 if len(rows) == len(pairs) else 1


def _pairs(arguments: argparse.Namespace) -> tuple[list[tuple["Found", "Found"]], list["Found"]]:
    from jaxstyle.io.inputs import find_pictures
    from jaxstyle.io.pairs import pair_pictures
    from jaxstyle.types import InputError

    folder = pathlib.Path(os.path.expanduser(arguments.stylized))
    photos, missed = find_pictures([arguments.contents], besides=folder)
    stylized, more = find_pictures([arguments.stylized])
    for miss in (*missed, *more):
        raise InputError(miss.error)
    pairs, alone = pair_pictures(photos, stylized)
    if not pairs:
        raise InputError(
            f"no picture in '{arguments.stylized}' has the name of one in '{arguments.contents}'; "
            "stylized pictures are named as their photographs, or begin with that name."
        )
    return pairs, alone


def _header() -> str:
    return f"style{'below':>11}{'color':>9}{'below':>11}{'content':>10}{'SSIM':>8}  picture"


def _line(name: str, row: Row) -> str:
    from jaxstyle import metrics

    own = metrics.summarize([_numbers(row)])
    return (
        f"{row['style']:5.3f}{_below(own['style_below']):>11}"
        f"{row['color']:9.3f}{_below(own['color_below']):>11}"
        f"{row['content']:10.3f}{row['ssim']:8.3f}  {printable(name)}"
    )


def _numbers(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, float)}


def _below(part: float) -> str:
    """Return a part as a percentage; what is above instead, as a multiple."""
    return f"{part:.1%}" if part >= 0 else f"{1 - part:.1f} times"


def _summary(rows: Sequence[Row], layers: Sequence[str], seen: str) -> list[str]:
    """Return the table of means: the photographs', the pictures', and how much less that is."""
    from jaxstyle import metrics

    means, count = metrics.summarize([_numbers(row) for row in rows]), len(rows)
    names = {f"style/{layer}": f"style {layer}" for layer in layers}
    names |= {"style": "style, mean of layers", "color": "color"}
    lines = [
        "",
        f"means of {count} {'picture' if count == 1 else 'pictures'}, as {seen} sees them:",
        f"{'':24}{'photograph':>12}{'stylized':>12}{'below':>12}",
    ]
    for name, text in names.items():
        before, after, below = (means[name + end] for end in ("_photo", "", "_below"))
        lines.append(f"{text:24}{before:12.4f}{after:12.4f}{_below(below):>12}")
    lines.append(f"{'content':24}{0.0:12.4f}{means['content']:12.4f}")
    lines.append(f"{'SSIM':24}{1.0:12.4f}{means['ssim']:12.4f}")
    return lines


def _write_csv(file: str, rows: Sequence[Row]) -> None:
    import csv

    from jaxstyle.types import InputError

    try:
        path = pathlib.Path(os.path.expanduser(file))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"'{file}' cannot be written: {error.strerror or error}.") from error
