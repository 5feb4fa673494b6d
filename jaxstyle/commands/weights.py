"""`python -m jaxstyle weights`: what perceptual networks there are, and files of them."""

import argparse
import sys
from typing import Any

from jaxstyle.commands.terminal import printable

_EXAMPLES = """\
examples:
  jaxstyle weights list
  jaxstyle weights fetch vgg19
  jaxstyle weights verify my-vgg19.pth --name vgg19
  jaxstyle weights convert imagenet-vgg-verydeep-19.mat --name vgg19 --out vgg19.safetensors

Read are Keras HDF5 (.h5), .safetensors, .npz, PyTorch's .pth and MatConvNet's .mat; nothing in a
file is executed. JAXSTYLE_WEIGHTS_URL names a mirror of the published files.
"""


def add(commands: Any) -> None:
    """Add the sub-parsers.

    Args:
      commands: what `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "weights",
        help="list, fetch, convert and verify perceptual networks",
        description="List, fetch, convert and verify weights of perceptual networks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = actions.add_parser("list", help="networks by name, and which are on this machine")
    action.set_defaults(run=_list)

    action = actions.add_parser("fetch", help="download published networks into the cache")
    action.add_argument("names", nargs="+", metavar="NAME", help="see `jaxstyle weights list`")
    action.set_defaults(run=_fetch)

    action = actions.add_parser("verify", help="check that a file is a whole network")
    _add_file(action)
    action.set_defaults(run=_verify)

    action = actions.add_parser("convert", help="write a file of any format as .safetensors")
    _add_file(action)
    action.add_argument("--out", required=True, metavar="FILE", help="the .safetensors to write")
    action.add_argument("--half", action="store_true", help="float16: half the size, rounded")
    action.set_defaults(run=_convert)


def _add_file(parser: Any) -> None:
    parser.add_argument("file", metavar="FILE", help="weights in any format that can be read")
    parser.add_argument("--name", required=True, metavar="NETWORK", help="vgg16, vgg19 or embedded")
    parser.add_argument(
        "--convention", default="", metavar="INPUT", help="caffe or torchvision, if known better"
    )


def _list(arguments: argparse.Namespace, interruption: Any) -> int:
    from jaxstyle.weights import catalog, loading

    own = loading.embedded_file()
    rows = [("embedded", own.stat().st_size, "", "CC BY 4.0", "comes with jaxstyle")]
    for name, entry in catalog.CATALOG.items():
        file = catalog.cached(name)
        where = "not fetched" if file is None else str(file)
        rows.append((name, entry.size, entry.convention, entry.license, where))
    print(f"{'name':18} {'size':>8}  {'input':12} {'license':13} where")
    for name, size, convention, license, where in rows:
        line = f"{name:18} {size / 1e6:5.1f} MB  {convention:12} {license:13} {where}"
        print(printable(line))
    print("vgg16 and vgg19: Oxford's training (Simonyan, Zisserman); *-torchvision: PyTorch's.")
    return 0


def _fetch(arguments: argparse.Namespace, interruption: Any) -> int:
    from jaxstyle.types import unknown_choice
    from jaxstyle.weights import catalog, loading

    for name in arguments.names:  # a mistake shows before an hour's download
        if name not in ("embedded", *catalog.CATALOG):
            raise unknown_choice("network", name, ("embedded", *catalog.CATALOG))
    for name in arguments.names:
        if name == "embedded":
            print(printable(f"embedded comes with jaxstyle: {loading.embedded_file()}"))
            continue
        report = _progress if sys.stderr.isatty() else None
        print(printable(f"{name} is in {catalog.fetch(name, report)}"), flush=True)
        entry = catalog.entry(name)
        print(f"  license: {entry.license}, {entry.attribution}", flush=True)
    return 0


def _progress(there: int, total: int) -> None:
    end = "\n" if there == total else ""
    text = f"\r{there / 1e6:.0f} of {total / 1e6:.0f} MB"
    print(text, end=end, file=sys.stderr, flush=True)


def _verify(arguments: argparse.Namespace, interruption: Any) -> int:
    import os
    import pathlib

    from jaxstyle.weights import catalog, checking

    file = pathlib.Path(os.path.expanduser(arguments.file))
    found = checking.examine(file, arguments.name, arguments.convention)
    for line in found.lines():
        print(printable(line))
    published = catalog.published_as(file)
    if published:
        print(f"published as: {published}, the same to the byte")
    return 0


def _convert(arguments: argparse.Namespace, interruption: Any) -> int:
    import os
    import pathlib

    from jaxstyle.weights import checking

    file, out = (pathlib.Path(os.path.expanduser(name)) for name in (arguments.file, arguments.out))
    found = checking.convert(file, out, arguments.name, arguments.convention, arguments.half)
    for line in found.lines():
        print(printable(line))
    print(printable(f"written to {out} ({out.stat().st_size / 1e6:.1f} MB); use it with"))
    print(
        printable(f"  --config.features.name={found.network.name} --config.features.weights={out}")
    )
    return 0
