"""`python -m jaxstyle import FILE --out DIR`: networks that other projects trained."""

import argparse
from typing import Any

from jaxstyle.commands.terminal import printable

_EXAMPLES = """\
examples:
  jaxstyle import candy.pth --out models/candy
  jaxstyle import wave.npz --architecture lengstrom --out models/wave --license 'research only'
  jaxstyle import magenta.npz --style 19 --out models/style19
  jaxstyle stylize photo.jpg --model models/candy --out painted.jpg

architectures: fast_neural_style (pytorch/examples), lengstrom (fast-style-transfer), magenta
(image_stylization). Nothing in a file is executed.
"""


def add(commands: Any) -> None:
    """Add the sub-parser.

    Args:
      commands: what `argparse.ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "import",
        help="turn a trained network of another project into a model folder",
        description="Turn a trained network of another project into a model folder for `stylize`.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("file", metavar="FILE", help="trained network: .npz, or .pth of a state_dict")
    option("--architecture", default="auto", metavar="NAME", help="see below (default: auto)")
    option("--out", required=True, metavar="DIR", help="the model folder to write")
    option("--name", default="", help="what the model's card calls the style")
    option("--license", default="", metavar="TEXT", help="license of the network, for its card")
    option("--style", type=int, metavar="INDEX", help="which style of a network of several, from 0")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, interruption: Any) -> int:
    from jaxstyle.io import foreign

    found = foreign.import_model(
        arguments.file,
        arguments.out,
        arguments.architecture,
        name=arguments.name,
        license=arguments.license,
        style=arguments.style,
    )
    print(printable(f"a {found} network is in {arguments.out}; paint with it:"))
    print(printable(f"  jaxstyle stylize photo.jpg --model {arguments.out} --out painted.jpg"))
    if not arguments.license:
        print(f"its card says of the license: {foreign.NOT_STATED} (--license TEXT).")
    return 0
