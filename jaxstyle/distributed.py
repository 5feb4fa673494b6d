"""Several processes that are one run: how they find each other and agree.

There is usually one on a machine, or one for each GPU. Each decodes its share of every batch; the
first one writes metrics and results, all of them write the checkpoint, into one folder that all
must see. `join` makes a process one of them: told by flags, or by what SLURM, Open MPI or a Cloud
TPU pod says in the environment.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxstyle import workdir
from jaxstyle.types import InputError

_SECONDS_TO_JOIN = 300
_SECONDS_WITHOUT_A_SIGN = 30  # then a process counts as gone
_SECONDS_TO_LEAVE = 24 * 3600  # the others wait while the first one writes pictures
_SECONDS_TO_SEE_A_FILE = 60  # network file systems show a new file to other machines late


@dataclasses.dataclass(frozen=True)
class Membership:
    """Which of the processes of a run this one is; what is None, the cluster's environment tells.

    Attributes:
      coordinator: `HOST:PORT` of the first process, where the others find it.
      processes: how many there are.
      process: which one this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def membership(
    coordinator: str = "",
    processes: int = 0,
    process: int = -1,
    *,
    environment: Mapping[str, str] | None = None,
) -> Membership | None:
    """Find out whether this process is one of several.

    Args:
      coordinator: `HOST:PORT`; '' when not given.
      processes: their number; 0 when not given.
      process: the index of this one; -1 when not given.
      environment: the variables that a cluster's launcher sets; None: of this process.

    Returns:
      The membership, or None for a process on its own.

    Raises:
      InputError: a number that cannot be, or some are given and others can be found nowhere.

    Example:
      >>> membership(environment={})
      >>> membership('10.0.0.1:1234', 4, 2, environment={})
      Membership(coordinator='10.0.0.1:1234', processes=4, process=2)
      >>> membership(environment={'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'a[1-2]',
      ...                         'SLURM_NTASKS': '2', 'SLURM_PROCID': '1', 'SLURM_LOCALID': '0'})
      Membership(coordinator=None, processes=None, process=None)
    """
    environment = os.environ if environment is None else environment
    if coordinator and not coordinator.rpartition(":")[2].isdigit():
        raise InputError(
            f"--coordinator_address={coordinator} must be HOST:PORT, e.g. 10.0.0.1:1234."
        )
    if processes < 0 or process < -1 or (processes and process >= processes):
        raise InputError(
            f"--process_id={process} with --num_processes={processes} cannot be; ids go from 0 to "
            "one below the number of processes."
        )
    found = _launcher(environment)
    if found is None and not (coordinator or processes or process >= 0):
        return None
    ranks = {"Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")}.get(found or "")
    if ranks and not (processes or process >= 0):  # also where JAX finds no address
        processes, process = (int(environment[name]) for name in ranks)
    if found is None and not (coordinator and processes and process >= 0):
        raise InputError(
            "a run of several processes needs --coordinator_address=HOST:PORT, --num_processes=N "
            "and --process_id=I, all three, unless SLURM, Open MPI or a Cloud TPU tells them."
        )
    if found == "Open MPI" and not coordinator and "OMPI_MCA_orte_hnp_uri" not in environment:
        raise InputError(
            "this Open MPI does not tell where the first process is; add "
            "--coordinator_address=HOST:PORT with its machine's name and a free port."
        )
    if processes == 1:
        return None
    return Membership(coordinator or None, processes or None, process if process >= 0 else None)


def _launcher(environment: Mapping[str, str]) -> str | None:
    """Return what started several of this process, as JAX finds it out."""
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
    if all(name in environment for name in slurm) and _number(environment["SLURM_NTASKS"]) > 1:
        return "SLURM"
    if _number(environment.get("OMPI_COMM_WORLD_SIZE", "")) > 1:
        return "Open MPI"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return "Cloud TPU"
    return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def join(member: Membership) -> None:
    """Wait for the other processes of the run; call it before the first computation.

    When a process is gone without a word, the others end too, within half a minute: what they
    compute together cannot go on without it. The same command, started everywhere again, continues.

    Args:
      member: from `membership`.

    Raises:
      InputError: the others did not come, or the coordinator cannot be reached.
    """
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is the trainer's
    try:
        jax.distributed.initialize(
            member.coordinator,
            member.processes,
            member.process,
            initialization_timeout=_SECONDS_TO_JOIN,
            heartbeat_timeout_seconds=_SECONDS_WITHOUT_A_SIGN,
            shutdown_timeout_seconds=_SECONDS_TO_LEAVE,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"the processes of the run did not find each other ({reason}); check that all were "
            "started, with one --coordinator_address that is free and can be reached."
        ) from error


def leave(status: int) -> None:
    """End this process after an error at once, if it is one of several.

    The orderly way out waits for all of them, and they wait for this one in the middle of a step.

    Args:
      status: the exit status; 0 does nothing, that process leaves the orderly way.
    """
    if status == 0 or not jax.distributed.is_initialized() or jax.process_count() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(2)  # the others end with it, and may have something to say
    os._exit(status)


class Group:
    """The processes of this run, of which this is one.

    Attributes:
      index: of this process, from 0.
      count: of processes.
    """

    def __init__(self) -> None:
        self.index, self.count = jax.process_index(), jax.process_count()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.index == 0

    def say(self, sentence: object) -> None:
        """Print a sentence once for all processes."""
        if self.first:
            print(sentence, flush=True)

    def from_first(self, action: Callable[[], Any]) -> Any:
        """Let the first process do something, and give every process what came out.

        Args:
          action: returns what JSON can hold. Its `InputError` is everyone's.

        Example:
          >>> Group().from_first(lambda: {"step": 3})
          {'step': 3}
        """
        if self.count == 1:
            return action()
        answer: dict[str, Any] = {}
        failure: BaseException | None = None
        if self.first:
            try:
                answer = {"value": action()}
            except InputError as error:
                answer, failure = {"error": str(error)}, error
            except BaseException as error:
                answer, failure = {"error": f"the first process failed: {error!r}"}, error
        answer = json.loads(self._broadcast(json.dumps(answer).encode()))
        if failure is not None:
            raise failure
        if "error" in answer:
            raise InputError(answer["error"])
        return answer["value"]

    def _broadcast(self, content: bytes) -> bytes:
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
        buffer = np.zeros(length, np.uint8)
        if self.first:
            buffer[:] = np.frombuffer(content, np.uint8)
        return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()

    def check_same(self, what: str, value: object) -> None:
        """Refuse to go on with processes that were started differently.

        Args:
          what: the name of the value, for the sentence.
          value: must have the same `repr` on all of them.

        Raises:
          InputError: on every process, if any of them differs from the first.
        """
        if self.count == 1:
            return
        sums = self.every(zlib.crc32(repr(value).encode()))
        other = np.flatnonzero(sums != sums[0])
        if other.size:
            raise InputError(
                f"process {other[0]} of the run was started with other {what} than process 0; give "
                "all of them the same command, but for --process_id."
            )

    def every(self, number: int) -> np.ndarray:
        """Return what each process says, a whole number below 2**32, in the order of processes.

        Example:
          >>> Group().every(7).tolist()
          [7]
        """
        if self.count == 1:
            return np.array([number], np.uint32)
        return np.asarray(multihost_utils.process_allgather(np.uint32(number)))


@contextlib.contextmanager
def claim(
    folder: str | os.PathLike[str], settings: Mapping[str, Any], group: Group
) -> Iterator[pathlib.Path]:
    """Take a folder for the run of all processes; see `workdir.claim`.

    Args:
      folder: of the run, on a file system that all processes share.
      settings: that decide the result.
      group: of processes.

    Yields:
      The folder.

    Raises:
      InputError: as `workdir.claim`; processes with other settings; a folder that is not shared.
    """
    group.check_same("settings", json.dumps(workdir.flatten(settings), sort_keys=True))
    with contextlib.ExitStack() as held:

        def take() -> list[str]:
            claimed = held.enter_context(workdir.claim(folder, settings))
            path = claimed.path if group.count == 1 else claimed.path.absolute()
            return [str(path), (path / workdir.CONFIG_FILE).read_text()]

        path, written = group.from_first(take)
        seen = group.every(_sees(pathlib.Path(path) / workdir.CONFIG_FILE, written))
        if not seen.all():
            raise InputError(
                f"process {np.argmin(seen)} of the run does not see the workdir {path} of process "
                "0; put --workdir on a file system that all machines share."
            )
        yield pathlib.Path(path)


def _sees(file: pathlib.Path, content: str) -> bool:
    """Whether a file that another machine wrote is here, at once or after a while."""
    deadline = time.monotonic() + _SECONDS_TO_SEE_A_FILE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if file.read_text() == content:
                return True
        time.sleep(0.5)
    return False
