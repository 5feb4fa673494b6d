"""A process that joins a Ray cluster, or starts one, and leaves everything as it was.

What workers need of this process's environment goes with it: settings of JAX and jaxstyle, and
which of them may use a GPU. Ray is imported when it is asked for; it is an extra of the package.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from typing import Any, final

from jaxstyle.types import InputError

_SECONDS_TO_ANSWER = 10.0
_STORE_BYTES = 100_000_000  # Ray's object store: outcomes are small (the least is 75 MiB)
# No report to Ray's makers; no tip about GPUs; and what is said here of lost workers Ray would say
# at length. It reads these when it is imported.
_QUIET: dict[str, str | None] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": (
        "worker died or was killed|killed due to memory pressure|has been marked dead"
    ),
    "RAY_AUTH_MODE": None,  # left as it is, and put back: Ray sets it
}


@final
@dataclasses.dataclass(frozen=True)
class Resources:
    """What a task takes of its machine.

    Attributes:
      cpus: more than 0.
      gpus: 0 or more; a half lets two tasks share one.

    Raises:
      InputError: another number.
    """

    cpus: float
    gpus: float

    def __post_init__(self) -> None:
        if not self.cpus > 0 or not self.gpus >= 0:
            raise InputError(
                f"--ray_cpus is {self.cpus:g} and --ray_gpus is {self.gpus:g}; a task takes more "
                "than 0 CPUs, and 0 GPUs or more."
            )
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            if amount > 1 and amount != round(amount):
                raise InputError(f"--ray_{name} is {amount:g}; above 1 give a whole number.")


def missing(ray: Any, resources: Resources) -> str:
    """Return what to say when no machine can take a task, where Ray would wait in silence.

    Args:
      ray: the module, connected.
      resources: of the task.

    Returns:
      The beginning of a sentence, '' when some machine can take it.
    """
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    if any(all(each.get(kind, 0) >= wanted[kind] for kind in wanted) for each in machines):
        return ""
    most = {kind: max((each.get(kind, 0) for each in machines), default=0) for kind in wanted}
    return (
        f"a task takes {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs, and a machine here has "
        f"at most {most['CPU']:g} and {most['GPU']:g}"
    )


@contextlib.contextmanager
def connected(address: str, source: pathlib.Path | None, gpus: float) -> Iterator[Any]:
    """Connect to a cluster or start one, and leave or end it afterwards.

    Args:
      address: 'auto' or 'HOST:PORT'; '' starts one on this machine.
      source: the folder whose Python packages the workers get.
      gpus: that one worker has; without one it computes on the CPU.

    Yields:
      The module `ray`.

    Raises:
      InputError: Ray is not installed, runs in this process already, or cannot be reached.
    """
    _check_address(address)
    quiet = {name: os.environ.get(name, value) for name, value in _QUIET.items()}
    with _variables(quiet), _sigterm_kept():
        ray = _import_ray()
        if ray.is_initialized():
            raise InputError("Ray runs in this process already; call ray.shutdown() before.")
        try:
            _connect(ray, address, source, _worker_variables(gpus))
            yield ray
        finally:
            ray.shutdown()


def _connect(
    ray: Any, address: str, source: pathlib.Path | None, variables: Mapping[str, str | None]
) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        place = f"the Ray cluster at {address} cannot be used"
        environment: dict[str, Any] = {"env_vars": {n: v for n, v in variables.items() if v}}
        if source is not None:
            environment |= {"working_dir": str(source.absolute()), "excludes": _not_code(source)}
        settings |= {"address": address, "runtime_env": environment}
        variables = {}
    else:
        place = "Ray cannot be started on this machine"
        settings |= {"address": "local", "object_store_memory": _STORE_BYTES}
        settings |= {"include_dashboard": False}
        if source is not None:
            paths = [str(source.absolute()), os.environ.get("PYTHONPATH", "")]
            variables = {**variables, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        with _variables(variables):  # what is started here inherits them
            ray.init(**settings)
    except ConnectionError as error:
        why = (
            "none runs here; start or join one with `ray start`, or leave the address out"
            if address == "auto"
            else f"{_first_line(error)} (one that asks for a token needs RAY_AUTH_MODE=token here)"
        )
        raise InputError(f"{place}: {why}.") from error
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(f"{place}: {_first_line(error)}.") from error


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(
            "the package ray is not installed: pip install 'jaxstyle[sweep]'; or use "
            "--executor=local."
        ) from None
    return ray


def _not_code(source: pathlib.Path) -> list[str]:
    """Return what lies beside the packages, as patterns: runs, pictures, environments, history."""

    def is_code(path: pathlib.Path) -> bool:
        if path.is_dir():
            return not path.name.startswith(".") and any(path.glob("*.py"))
        return path.suffix in (".py", ".toml")

    names = sorted(path.name for path in source.iterdir() if not is_code(path))
    return ["__pycache__", *("/" + re.sub(r"([*?\[\]\\ ])", r"\\\1", name) for name in names)]


def _worker_variables(gpus: float) -> dict[str, str | None]:
    """Return what workers have in their environment, None for what they must not have."""
    variables: dict[str, str | None] = {
        name: value for name, value in os.environ.items() if name.startswith(("JAX", "XLA_"))
    }
    if gpus == 0:
        variables.setdefault("JAX_PLATFORMS", "cpu")  # leave the GPUs to others
    elif variables.get("JAX_PLATFORMS") == "cpu":
        variables["JAX_PLATFORMS"] = None
    if 0 < gpus < 1:
        variables.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * gpus:.3f}")
    return variables


def _check_address(address: str) -> None:
    """Refuse what Ray would try to reach for minutes."""
    if address in ("", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise InputError(
            f"--ray_address is '{address}'; on a machine of the cluster write auto or HOST:PORT, "
            "or leave it out to start Ray on this machine."
        )
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}); `ray start --head` prints the address."
        ) from error


@contextlib.contextmanager
def _variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables for a while; None takes one away."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put back the handler that Ray replaces by one of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where Ray left it alone
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
