"""The command line: `python -m jaxstyle COMMAND ...`, also installed as `jaxstyle`.

A command is a function that adds a sub-parser and one that runs it; `_COMMANDS` lists the first.
JAX is imported by the running function, after the process is set up: `--help` needs neither.

Exit status: 0 all done, 1 some pictures failed (named at the end), 2 wrong usage, 130 interrupted.
"""

import argparse
import contextlib
import importlib.metadata
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxstyle.commands import importing, judging, paintings, preparing, weights
from jaxstyle.commands.terminal import printable as _line

if TYPE_CHECKING:
    from jaxstyle.io.inputs import Missed
    from jaxstyle.io.stylize import Outcome

_EXAMPLES = """\
examples:
  jaxstyle stylize photo.jpg --model starry --out painted.jpg
  jaxstyle stylize photos/ 'more/**/*.png' --model runs/mine/model --out painted/ --strength 0.7
  jaxstyle stylize photos/ --model starry,scream,runs/mine/model --out painted/
  jaxstyle stylize photos/ --model runs/many/models --out painted/

Several models, or a folder of them, paint every picture in every style: results are in OUT/MODEL/,
and OUT/contact_sheet.png shows the first 40 pictures in all styles.
Inputs are never overwritten; results of an earlier run are. Size, color profile and transparency
are kept (JPEG has no transparency: such a picture is put on white); EXIF orientation is applied.
Pictures of one size share a compiled program: the first of each size takes longer.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      argv: the arguments after the program's name; those of this process by default.

    Returns:
      The exit status, see the module's docstring. Nothing a user can cause raises.

    Example:
      >>> main(['models'])  # doctest: +SKIP
      0
    """
    for stream in (sys.stdout, sys.stderr):  # a name the terminal cannot show is no reason to stop
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        arguments = _parser().parse_args(_spelled_out(sys.argv[1:] if argv is None else argv))
        return _run(arguments)
    except SystemExit as stop:  # argparse, after --help or a mistake
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        _complain(": ".join(["interrupted", *map(str, stop.args)]))
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `| head`
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    from jaxstyle import runtime

    runtime.setup()
    from jaxstyle.types import InputError

    try:
        with _Interruption() as interruption:
            return arguments.run(arguments, interruption)
    except InputError as error:
        _complain(f"error: {error}")
        return 2


class _Interruption:
    """Remembers Ctrl-C, as its exception is lost where it strikes in JAX's garbage collection."""

    def __enter__(self) -> "_Interruption":
        self._came = False
        self._handler, self._hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
        if threading.current_thread() is not threading.main_thread():
            self._handler = None
        if self._handler is signal.default_int_handler:  # elsewhere someone has a better plan
            signal.signal(signal.SIGINT, self._strike)
            sys.unraisablehook = self._silence
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handler)
            sys.unraisablehook = self._hook

    def check(self) -> None:
        """Raise the exception that was lost."""
        if self._came:
            raise KeyboardInterrupt

    def _strike(self, *_: object) -> None:
        self._came = True
        raise KeyboardInterrupt

    def _silence(self, lost: Any) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            self._hook(lost)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaxstyle", description="Neural style transfer in JAX.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser


def _spelled_out(argv: Sequence[str]) -> list[str]:
    """Write `--preserve-color` in full, as argparse would take the next input for its value."""
    end = argv.index("--") if "--" in argv else len(argv)
    flags = ["--preserve-color=luminance" if a == "--preserve-color" else a for a in argv[:end]]
    return [*flags, *argv[end:]]


def _version() -> str:
    try:
        return f"jaxstyle {importlib.metadata.version('jaxstyle')}"
    except importlib.metadata.PackageNotFoundError:
        return "jaxstyle (not installed)"


def _add_stylize(commands: Any) -> None:
    parser = commands.add_parser(
        "stylize",
        help="paint pictures in a trained style",
        description="Paint pictures in the style of a trained model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="IN", help="picture, folder (with all inside) or pattern")
    add(
        "--model",
        required=True,
        metavar="DIR|NAME",
        help="model folder, or see `jaxstyle models`; several: a,b,c, or a folder of model folders",
    )
    add("--out", required=True, help="folder for the results; or a file, for one picture")
    add("--strength", type=float, default=1.0, help="0 (the photo) to 1 (full style, the default)")
    add(
        "--preserve-color",
        nargs="?",
        default=False,
        metavar="HOW",
        help="keep the photo's colors: those of every place under the painted brightness, or with "
        "--preserve-color=match or =histogram those of the photo as a whole",
    )
    add("--parity", action="store_true", help="exactly the network's output, with its frame if any")
    add(
        "--precision",
        default="auto",
        metavar="DTYPE",
        help="float32 or bfloat16, what the network computes in (default: what the device is best "
        "at); pictures look the same",
    )
    add("--batch", type=int, default=8, help="pictures of one size at a time, at most (default 8)")
    add("--suffix", default="", help="put behind each name: _starry makes photo_starry.jpg")
    add("--format", metavar="EXT", help="png, jpg, webp, tif, ... (default: as each picture)")
    add("--skip-existing", action="store_true", help="leave out pictures whose result exists")
    add(
        "--max-megapixels",
        type=_megapixels,
        default=200.0,
        metavar="N",
        help="refuse larger pictures (default 200)",
    )
    parser.set_defaults(run=_stylize)


def _stylize(arguments: argparse.Namespace, interruption: _Interruption) -> int:
    import pathlib

    from jaxstyle.commands import styles
    from jaxstyle.io.inputs import find_pictures
    from jaxstyle.io.model_lists import find_models
    from jaxstyle.io.models import load_model
    from jaxstyle.io.outputs import plan_outputs
    from jaxstyle.io.stylize import stylize_files, stylize_in_styles
    from jaxstyle.types import InputError

    models = {name: load_model(at)[0] for name, at in find_models(arguments.model).items()}
    out = pathlib.Path(os.path.expanduser(arguments.out))
    found, missed = find_pictures(arguments.inputs, besides=out)
    if not found:
        raise InputError(" ".join(miss.error for miss in missed))
    naming = {"suffix": arguments.suffix, "format": arguments.format}
    if len(models) == 1:
        jobs = {name: plan_outputs(found, out, **naming) for name in models}
    else:
        jobs = styles.plan_styles(found, out, list(models), **naming)
    wanted = {
        name: [job for job in own if not (arguments.skip_existing and job.target.exists())]
        for name, own in jobs.items()
    }
    total = sum(map(len, wanted.values()))
    options: dict[str, Any] = {
        "strength": arguments.strength,
        "preserve_color": arguments.preserve_color,
        "parity": arguments.parity,
        "precision": arguments.precision,
        "batch": arguments.batch,
        "max_pixels": round(arguments.max_megapixels * 1e6),
    }
    with warnings.catch_warnings():
        # Pillow warns of odd metadata; what matters becomes an error of the picture.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        with _Report(total + len(missed), missed, interruption) as report:
            if len(models) == 1:
                (model,), (own,) = models.values(), wanted.values()
                stylize_files(model, own, **options, report=report)
            else:
                stylize_in_styles(models, wanted, **options, report=report)
        if len(models) > 1:
            shown = styles.write_sheet(jobs, out, max_pixels=options["max_pixels"])
            share = f"{shown} of {len(found)}" if shown < len(found) else str(shown)
            print(_line(f"{share} in {len(models)} styles side by side: {out / styles.SHEET}"))
    return report.end(arguments.out, skipped=sum(map(len, jobs.values())) - total)


def _megapixels(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


class _Report:
    """Tells how the pictures come along: a bar on a terminal, a line per picture elsewhere."""

    def __init__(self, total: int, missed: "Sequence[Missed]", interruption: _Interruption):
        self._total = total
        self._done = 0
        self._failed: list[str] = []
        self._told: set[tuple[str, str]] = set()
        self._repeated = 0
        self._start = time.monotonic()
        self._bar: Any = None
        self._missed = missed
        self._interruption = interruption

    def __enter__(self) -> "_Report":
        if sys.stdout.isatty() and sys.stderr.isatty():
            self._bar = _bar()
            self._bar.add_task("stylizing", total=self._total)
            self._bar.start()
        for miss in self._missed:
            self._fail(miss.given, miss.error)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is KeyboardInterrupt:
            raise KeyboardInterrupt(f"{self._done} of {self._total} pictures are done")

    def __call__(self, outcome: "Outcome") -> None:
        """Show one outcome."""
        self._interruption.check()
        job = outcome.job
        if outcome.error is not None:
            self._fail_once(str(job.source), outcome.error)
            return
        self._done += 1
        if self._bar is None:
            self._say(f"{job.source} -> {job.target}")
        else:
            self._bar.advance(0)
        if job.numbered:
            self._say(f"note: '{job.target}' is numbered, as another result has the name")
        if outcome.flattened:
            self._say(f"note: '{job.target}' cannot hold transparency; it was put on white")

    def end(self, out: str, skipped: int) -> int:
        """Say where the results are and what failed; return the exit status."""
        seconds = time.monotonic() - self._start
        there = f", {skipped} were there already" if skipped else ""
        done = "1 picture is" if self._done == 1 else f"{self._done} pictures are"
        print(_line(f"{done} in {out} ({seconds:.1f} s{there})"), flush=True)
        if self._failed:
            _complain(f"{len(self._failed) + self._repeated} of {self._total} failed:")
            for name in self._failed:
                _complain(f"  {name}")
        return 1 if self._failed else 0

    def _fail_once(self, name: str, error: str) -> None:
        """What is wrong with a picture is so in every style; count that, but say it once."""
        if (name, error) not in self._told:
            self._told.add((name, error))
            self._fail(name, error)
            return
        self._repeated += 1
        if self._bar is not None:
            self._bar.advance(0)

    def _fail(self, name: str, error: str) -> None:
        self._failed.append(name)
        if self._bar is None:
            _complain(f"failed: {error}")
        else:
            self._bar.advance(0)
            self._say(f"failed: {error}")

    def _say(self, text: str) -> None:
        if self._bar is None:
            print(_line(text), flush=True)
        else:
            self._bar.console.print(_line(text), markup=False, highlight=False, soft_wrap=True)


def _bar() -> Any:
    from rich import console, progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )


def _complain(text: str) -> None:
    print(_line(text), file=sys.stderr, flush=True)


def _add_models(commands: Any) -> None:
    parser = commands.add_parser("models", help="list the models that come with jaxstyle")
    parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace, interruption: _Interruption) -> int:
    from jaxstyle.io.models import load_card, shipped_models

    names = shipped_models()
    for name in names:
        card = load_card(name)
        parameters = card.get("weights", {}).get("parameters", 0)
        print(f"{name:20} {parameters / 1e6:5.2f} M parameters  {card.get('license', '')}")
    if not names:
        print("no models come with this version; train one and give its folder to --model.")
    return 0


_COMMANDS = (
    _add_stylize,
    _add_models,
    importing.add,
    judging.add,
    paintings.add,
    preparing.add,
    weights.add,
)
