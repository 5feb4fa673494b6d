"""A program that starts training runs and makes them fail at a chosen instant.

It imports everything once and forks for each run, before JAX starts: a process of its own for each
costs milliseconds instead of seconds. It reads jobs from standard input, one JSON object a line,
and answers each with one. A run tells what it is doing through a pipe: when it enters and leaves a
phase (data, step, log, save, finish, discard, restore, and run for all of it).
"""

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import time

import jax
import toy_run
from fault_kit import CANNOT, digest
from orbax.checkpoint import v1  # noqa: F401  (imported here, no run has to)

import experiments.train_feedforward  # noqa: F401
import launch
from jaxstyle import array_files
from jaxstyle.checkpoints import Checkpointer
from jaxstyle.data.pipeline import PhotoBatchIterator
from jaxstyle.io import models
from jaxstyle.reporting.metrics_file import MetricsFile
from jaxstyle.types import InputError

_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096

_pipe = -1  # of the run, to the server
_waits_in = ("", 0)  # phase and occurrence that the run does not leave: the server kills it there
_actions: list = []  # [phase, occurrence, name, argument...]
_entered: dict[str, int] = {}


# --- The server ---


def serve() -> None:
    """Answer jobs until standard input ends."""
    running: dict[int, dict] = {}
    for line in sys.stdin:
        job = json.loads(line)
        if "finish" in job:
            answer = _end(running.pop(job["finish"]))
        else:
            run = begin(job)
            if "until" in job:
                _follow(run, until=job["until"])
                running[run["pid"]] = run
                answer = {"pid": run["pid"]}
            else:
                answer = _end(run)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def begin(job: dict) -> dict:
    """Fork a run.

    Args:
      job: 'call' and 'arguments', a function below and its arguments; 'kill', `[phase, occurrence,
        seconds]` after which it is killed; 'at', actions of the run itself, `[phase, occurrence,
        action, argument...]`; 'mounts', see `_mount`.
    """
    pipes = {name: os.pipe() for name in ("marks", "out", "err")}
    pid = os.fork()
    if pid == 0:
        for read, _ in pipes.values():
            os.close(read)
        _become(job, {name: write for name, (_, write) in pipes.items()})
        sys.exit(globals()[job["call"]](*job["arguments"]))
    for _, write in pipes.values():
        os.close(write)
    streams = {name: os.fdopen(read) for name, (read, _) in pipes.items()}
    for name in ("out", "err"):  # read at the end; a flood of tracebacks must fit in
        fcntl.fcntl(streams[name], fcntl.F_SETPIPE_SZ, 1 << 20)
    return {"pid": pid, "marks": [], "streams": streams, "kill": job.get("kill")}


def _become(job: dict, pipes: dict[str, int]) -> None:
    """Make this process the run: streams, pipe, faults."""
    global _pipe, _waits_in, _actions
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(pipes["out"], 1)
    os.dup2(pipes["err"], 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    _pipe = pipes["marks"]
    _waits_in = tuple(job["kill"][:2]) if job.get("kill") else ("", 0)
    _actions = job.get("at", [])
    if job.get("mounts"):
        _mount(job["mounts"])


def _follow(run: dict, until: str = "") -> None:
    """Read what a run tells, kill it when it is time, and return at the end or `until` a phase."""
    for line in run["streams"]["marks"]:
        what, phase, when = line.split()
        run["marks"].append([what, phase, float(when)])
        if run["kill"] and what == "enter":
            wanted, occurrence, delay = run["kill"]
            if phase == wanted and _count(run, phase) == occurrence:
                time.sleep(delay)
                os.kill(run["pid"], signal.SIGKILL)
        if until and (what, phase) == ("enter", until):
            return


def _count(run: dict, phase: str) -> int:
    return sum(mark[:2] == ["enter", phase] for mark in run["marks"])


def _end(run: dict) -> dict:
    _follow(run)
    status = os.waitstatus_to_exitcode(os.waitpid(run["pid"], 0)[1])
    out, err = (run["streams"][name].read() for name in ("out", "err"))
    for stream in run["streams"].values():
        stream.close()
    return {"status": status, "out": out, "err": err, "marks": run["marks"], "pid": run["pid"]}


# --- The run ---


def toy(workdir: str, steps: str, *options: str) -> int:
    """Train the toy; options are `name=number` of `trainer.train`."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _mark_the_library()
    numbers = {name: int(value) for name, value in (option.split("=") for option in options)}
    step = toy_run.make_step()
    with phase("run"):
        try:
            outcome = toy_run.train(
                pathlib.Path(workdir),
                int(steps),
                step_fn=lambda *args: _in_step(step, *args),
                data=_Data(),
                **numbers,
            )
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 128 + outcome.signal if outcome.signal else 0


def refilled(workdir: str, steps: str) -> int:
    """Train the toy on a file system of this process's own, make room, go on, tell the result."""
    status = toy(workdir, steps)
    os.unlink(os.path.join(workdir, "filler"))
    status = {2: 0}.get(status, 1) or toy(workdir, steps)
    print(json.dumps(digest(toy_run.result_of(pathlib.Path(workdir), int(steps)))))
    return status


def launched(*arguments: str) -> int:
    """Do as `python launch.py` does, in the folder of the checkout."""
    _mark_the_library()
    sys.argv = ["launch.py", *arguments]
    return launch.main(sys.argv)


def _in_step(step, *args):
    with phase("step"):
        return jax.block_until_ready(step(*args))


class _Data:
    """The toy's batches, fetched in the phase 'data'."""

    def __iter__(self):
        self._data = iter(toy_run.batches())
        return self

    def __next__(self):
        with phase("data"):
            return next(self._data)

    def __getattr__(self, name):  # get_state, set_state, close
        return getattr(self._data, name)


def _mark_the_library() -> None:
    for owner, name, what in (
        (MetricsFile, "append", "log"),
        (array_files, "save", "save"),
        (Checkpointer, "_finish", "finish"),
        (Checkpointer, "_discard", "discard"),
        (Checkpointer, "restore_latest", "restore"),
        (PhotoBatchIterator, "__next__", "data"),
        (models, "save_model", "model"),
    ):
        setattr(owner, name, _marked(getattr(owner, name), what))


def _marked(function, what: str):
    @functools.wraps(function)
    def marked(*args, **kwargs):
        with phase(what):
            return function(*args, **kwargs)

    return marked


@contextlib.contextmanager
def phase(name: str):
    """Tell the server that the run is in a phase, and do what is to be done in it."""
    _entered[name] = _entered.get(name, 0) + 1
    here = (name, _entered[name])
    _tell("enter", name)
    for wanted, occurrence, action, *arguments in _actions:
        if (wanted, occurrence) == here:
            globals()[f"do_{action}"](*arguments)
    yield
    if here == _waits_in:
        _tell("wait", name)
        time.sleep(600)
    _tell("leave", name)


def _tell(what: str, name: str) -> None:
    os.write(_pipe, f"{what} {name} {time.monotonic():.6f}\n".encode())


# --- What a run does to itself ---


def do_limit(size: int) -> None:
    """From now on no file can become larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def do_pause(until: str) -> None:
    """Wait until a file is there."""
    while not os.path.exists(until):
        time.sleep(0.01)


def do_remove(path: str) -> None:
    """Delete a file or a folder."""
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def do_clock(seconds: float) -> None:
    """Set the wall clock."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def do_spoil(folder: str) -> None:
    """Of four photographs in a folder, delete one, cut one short, and turn one into text."""
    for index, path in enumerate(sorted(pathlib.Path(folder).iterdir())):
        if index % 4 == 0:
            path.unlink()
        elif index % 4 == 1:
            path.write_bytes(path.read_bytes()[:100])
        elif index % 4 == 2:
            path.write_text("I am no photograph.")


def do_fill(folder: str, leave: int) -> None:
    """Fill a file system but for so many bytes."""
    there = os.statvfs(folder)
    with open(os.path.join(folder, "filler"), "wb") as file:
        file.write(bytes(max(0, there.f_bavail * there.f_bsize - leave)))


def _mount(mounts: list) -> None:
    """Mount, for this process alone, `['tmpfs', folder, bytes]` or `['readonly', folder]`."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()

    def must(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    try:
        must(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        for kind, folder, *size in mounts:
            where = os.fsencode(folder)
            if kind == "tmpfs":
                must(libc.mount(b"tmpfs", where, b"tmpfs", 0, f"size={size[0]}".encode()))
            else:
                must(libc.mount(where, where, None, _MS_BIND, None))
                flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY
                must(libc.mount(None, where, None, flags, None))
    except OSError as error:
        print(f"this system mounts nothing for tests: {error.strerror}")
        sys.stdout.flush()
        os._exit(CANNOT)


if __name__ == "__main__":
    serve()
