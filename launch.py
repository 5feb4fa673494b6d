"""Run an experiment: `python launch.py --config configs/starry_fast.py [--workdir DIR]`.

`--config FILE:VARIANT` chooses a variant, `--config.KEY=VALUE` changes a value. The same command
with the same work folder continues where it stopped. Without `--workdir` the folder's name is made
from the config's name and its changed values, so the same command finds the same folder.
"""

import hashlib
import importlib
import json
import pathlib
import sys

from jaxstyle import runtime

runtime.setup()

from absl import flags  # noqa: E402  (JAX must not start before the process is set up)
from ml_collections import config_flags  # noqa: E402

from jaxstyle.types import InputError, unknown_choice  # noqa: E402

_ROOT = pathlib.Path(__file__).resolve().parent
_CONFIG = config_flags.DEFINE_config_file("config", None, "recipe, e.g. configs/starry_fast.py")
_WORKDIR = flags.DEFINE_string("workdir", "", "folder of the run; empty: one under runs/")


def main(argv: list[str]) -> int:
    """Run the experiment that the flags name.

    Args:
      argv: the command line, program name first; it must be `sys.argv`, where ml_collections looks
        for overrides.

    Returns:
      The exit status: 0 done, 2 for something the user can correct, 128 + signal when interrupted.
    """
    if {"-h", "--help"} & set(argv):
        recipes = sorted(p.name for p in (_ROOT / "configs").glob("*.py") if p.stem != "common")
        print(f"{__doc__}\nRecipes in configs/: {', '.join(recipes)}; each file says what it does.")
        return 0
    try:
        rest = flags.FLAGS(argv)
        return _run(rest[1:])
    except (InputError, flags.Error) as error:
        return _refuse(error)
    except (
        AttributeError,
        ImportError,
        KeyError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        if not _while_parsing(error):
            raise
        return _refuse(error)


def _refuse(error: BaseException) -> int:
    text, cause = str(error), error.args[0] if error.args else None
    if isinstance(cause, KeyError):  # an override's key, then perhaps a line with a similar one
        text = "the config has no key " + "; ".join(str(cause.args[0]).splitlines())
    elif isinstance(error, KeyError):
        text = str(cause)  # without the quotes that it puts around a message
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # ml_collections puts a whole traceback into the message; what it means is in its last line.
    message = lines[-1] if "Traceback" in text else " ".join(lines)
    print(f"error: {message.removeprefix('ValueError: ')}", file=sys.stderr)
    return 2


def _run(rest: list[str]) -> int:
    if rest:
        raise InputError(f"'{rest[0]}' is not a flag; write --config=FILE and --config.KEY=VALUE.")
    flag = flags.FLAGS["config"]
    given = config_flags.get_config_filename(flag) if flag.present else ""
    if not given:
        raise InputError("no config was given; try --config configs/starry_fast.py.")
    if not pathlib.Path(given.partition(":")[0]).is_file():
        raise InputError(f"there is no config file '{given.partition(':')[0]}'; check the path.")
    config = _CONFIG.value
    names = sorted(path.stem for path in (_ROOT / "experiments").glob("[!_]*.py"))
    if config.get("experiment") not in names:
        raise unknown_choice("experiment", str(config.get("experiment")), names)
    experiment = importlib.import_module(f"experiments.{config.experiment}")
    return experiment.run(config, pathlib.Path(_WORKDIR.value or _default_workdir(config)))


def _default_workdir(config) -> str:
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    text = json.dumps(config.to_dict(), sort_keys=True)
    name = "-".join(filter(None, [pathlib.Path(path).stem, variant]))
    return f"runs/{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _while_parsing(error: BaseException) -> bool:
    """Whether an error comes from a config file or an override, not from a running experiment."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is _run.__code__:
            return False
        trace = trace.tb_next
    return True


if __name__ == "__main__":
    sys.path.insert(0, str(_ROOT))
    sys.exit(main(sys.argv))
