"""Run an experiment: `python launch.py --config configs/starry_fast.py [--workdir DIR]`.

`--config FILE:VARIANT` chooses a variant, `--config.KEY=VALUE` changes a value. The same command
with the same work folder continues where it stopped. Without `--workdir` the folder's name is made
from the config's name and its changed values, so the same command finds the same folder.

`--sweep KEY=VALUES` runs it at many settings, and may be given several times: every combination is
computed, in one program where that is possible. VALUES are 1,10,100 or 0..3 or 1e-2..1e2:5log;
'a=1,2;b=3,4' go together. `--sweep NAME` takes `sweep_NAME()` of the config, 'default' `sweep()`.
`--sweep_dry_run` only tells what would be done.

Training uses all devices that JAX sees. On several machines the same command runs on each, under
SLURM, Open MPI or on a Cloud TPU as it is, elsewhere with `--coordinator_address=HOST:PORT
--num_processes=N --process_id=I`.
"""

import contextlib
import hashlib
import importlib.util
import json
import pathlib
import sys
import traceback

from jaxstyle import runtime

runtime.setup()

import jax  # noqa: E402  (JAX must not start before the process is set up)
from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from jaxstyle import distributed, workdir  # noqa: E402
from jaxstyle.commands.terminal import printable  # noqa: E402
from jaxstyle.types import InputError, unknown_choice  # noqa: E402

_ROOT = pathlib.Path(__file__).resolve().parent
_CONFIG = config_flags.DEFINE_config_file("config", None, "recipe, e.g. configs/starry_fast.py")
_WORKDIR = flags.DEFINE_string("workdir", "", "folder of the run; empty: one under runs/")
_SWEEP = flags.DEFINE_multi_string("sweep", [], "KEY=VALUES, or the name of a sweep of the config")
_DRY_RUN = flags.DEFINE_bool("sweep_dry_run", False, "tell cells, groups, memory, compilations")
_LANES = flags.DEFINE_integer("sweep_lanes", 0, "cells in one program at most; 0: the best")
_FORM = flags.DEFINE_string("sweep_form", "", "of lanes: vmap, map or loop; empty: the faster one")
_EXECUTOR = flags.DEFINE_string("executor", "local", "of a sweep: local or ray")
_SHARD = flags.DEFINE_string("shard", "", "of a sweep: I/N, share I of N counted from 0")
_RAY_ADDRESS = flags.DEFINE_string("ray_address", "", "auto or HOST:PORT; empty: this machine only")
_RAY_CPUS = flags.DEFINE_float("ray_cpus", 1.0, "that one launch takes of its machine")
_RAY_GPUS = flags.DEFINE_float("ray_gpus", 0.0, "that one launch takes of its machine")
_COORDINATOR = flags.DEFINE_string("coordinator_address", "", "HOST:PORT of the first process")
_PROCESSES = flags.DEFINE_integer("num_processes", 0, "that are one run; 0: the cluster tells")
_PROCESS = flags.DEFINE_integer("process_id", -1, "which of them this is; -1: the cluster tells")
# Experiments that several processes can share; of the others, a sweep's shards run in many.
_SHARED = ("train_feedforward", "train_many")


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
    for stream in (sys.stdout, sys.stderr):  # a name the terminal cannot show is no reason to stop
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        rest = flags.FLAGS(argv)
        return _run(rest[1:])
    except (InputError, flags.Error) as error:
        return _refuse(error)
    except (
        AttributeError,
        ImportError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        MemoryError,  # a number or a tuple that is nested without end
        RecursionError,
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
    message = message.removeprefix("ValueError: ") or type(error).__name__
    print(f"error: {printable(message)}", file=sys.stderr)
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
    _check_values(config)
    names = sorted(path.stem for path in (_ROOT / "experiments").glob("[!_]*.py"))
    if config.get("experiment") not in names:
        raise unknown_choice("experiment", str(config.get("experiment")), names)
    where = _WORKDIR.value or _default_workdir(config)
    told = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if _SWEEP.value:
        if told != ("", 0, -1):
            raise InputError("the processes of a sweep share it by --shard=I/N, each on its own.")
        return _run_sweep(config, given, where)
    of_sweeps = ("sweep_dry_run", "sweep_lanes", "sweep_form", "executor", "shard")
    for name in (*of_sweeps, "ray_address", "ray_cpus", "ray_gpus"):
        if flags.FLAGS[name].present:
            raise InputError(f"--{name} is for sweeps; add e.g. --sweep seed=0..3.")
    member = distributed.membership(*told)
    if member and config.experiment not in _SHARED:
        raise InputError(
            f"'{config.experiment}' runs in one process, and this is one of several; start one, "
            "or share a sweep among them with --sweep and --shard=I/N."
        )
    experiment = importlib.import_module(f"experiments.{config.experiment}")
    if member:
        distributed.join(member)
    return experiment.run(config, pathlib.Path(where))


def _check_values(config) -> None:
    """Refuse what Python can write and no setting is: complex numbers, bytes."""
    for key, value in workdir.flatten(config.to_dict()).items():
        try:
            json.dumps(value)
        except TypeError:
            raise InputError(
                f"--config.{key} is {value!r:.80}; give a number, a text, or a tuple of them."
            ) from None


def _run_sweep(config, given: str, where: str) -> int:
    if _EXECUTOR.value == "ray" and _RAY_GPUS.value:  # the workers' GPUs are not ours to take
        jax.config.update("jax_platforms", "cpu")
    sweep, planning = map(importlib.import_module, ("experiments.sweep", "experiments._planning"))
    texts = tuple(_SWEEP.value)
    request = planning.Request(
        texts=texts,
        named={text: _named_sweep(given, text) for text in texts if "=" not in text},
        dry_run=_DRY_RUN.value,
        lanes=_LANES.value,
        form=_FORM.value,
        executor=_EXECUTOR.value,
        shard=_SHARD.value,
        ray_address=_RAY_ADDRESS.value,
        ray_cpus=_RAY_CPUS.value,
        ray_gpus=_RAY_GPUS.value,
    )
    return sweep.run(config, where, request)


def _named_sweep(given: str, name: str) -> list:
    """Return what the function of a config's file returns, e.g. `sweep_ratio_by_layer()`."""
    path = given.partition(":")[0]
    spec = importlib.util.spec_from_file_location("config_of_sweep", path)
    if spec is None or spec.loader is None:
        raise InputError(f"the config '{path}' is no Python file, so it has no named sweeps.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = {"default" if n == "sweep" else n.removeprefix("sweep_"): n for n in vars(module)}
    names = [n for n, function in functions.items() if function.startswith("sweep")]
    if name not in names:
        if not names:
            raise InputError(f"'{name}' is not KEY=VALUES, and {path} has no named sweeps.")
        raise unknown_choice("sweep", name, names)
    return list(getattr(module, functions[name])())


def _default_workdir(config) -> str:
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    asked = [_SWEEP.value, _LANES.value, _FORM.value] if _SWEEP.value else []
    text = json.dumps([config.to_dict(), *asked] if asked else config.to_dict(), sort_keys=True)
    name = "-".join(filter(None, [pathlib.Path(path).stem, variant, "sweep" if asked else ""]))
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
    status = 1  # of an error that nobody expected
    try:
        status = main(sys.argv)
    except Exception:
        traceback.print_exc()
    distributed.leave(status)
    sys.exit(status)
