"""Tasks on a real Ray cluster of two machines, some of whose workers are killed.

Nothing here waits for a time to pass: files and pipes tell when something has happened.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from jaxstyle.sweeps import ray_cluster, ray_executor
from jaxstyle.sweeps.executors import Task, run_local
from jaxstyle.sweeps.ray_executor import run_ray
from jaxstyle.types import InputError

# Not imported here: Ray reads what it is to say when it is imported, and `run_ray` does that.
if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed (pip install 'jaxstyle[sweep]')", allow_module_level=True)

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = "tests.sweeps.toy_work:work"
PATIENCE = 300.0

DO = ["nothing", "be killed once", "die", "refuse", "fail", "nothing", "nothing"]


@pytest.fixture(scope="module")
def environment():
    """Variables of processes whose Ray keeps to itself; sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="jr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield os.environ | {
            "RAY_TMPDIR": folder,
            "HOME": folder,
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",  # they lack the driver's packages
            "PYTHONPATH": str(ROOT),
            "JAXSTYLE_COMPILATION_CACHE": "0",
        }


@pytest.fixture(scope="module")
def cluster(environment):
    """The process of `two_machines.py`, with `address`."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "two_machines.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.address = process.stdout.readline().strip()
        assert process.address, process.stderr.read()
        yield process
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def variables(environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_TMPDIR", "HOME", "RAY_AUTH_MODE", "JAXSTYLE_COMPILATION_CACHE"):
            patch.setenv(name, environment[name])
        patch.syspath_prepend(ROOT)
        yield


def tasks_in(folder, do):
    return [
        Task(
            f"{number} {what}",
            3,
            {
                "folder": str(folder / str(number)),
                "number": number,
                "do": what,
                "steps": 3,
                "pair": (1, 2),
            },
        )
        for number, what in enumerate(do)
    ]


def wait_for(path):
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


@dataclasses.dataclass
class Ran:
    ended: dict
    shown: str
    folder: pathlib.Path
    signal: int | None = None


def run(cluster, tasks, folder, *, meanwhile=None):
    """Run the tasks on the cluster while something happens in another thread."""
    ended = []
    thread = threading.Thread(target=meanwhile) if meanwhile else None
    if thread:
        thread.start()
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        number = run_ray(
            tasks, WORK, address=cluster.address, cpus=1, on_done=ended.append, source=ROOT
        )
    if thread:
        thread.join()
    assert len({each.task.name for each in ended}) == len(ended)
    return Ran({each.task.name: each for each in ended}, shown.getvalue(), folder, number)


@pytest.fixture(scope="module")
def ran(cluster, tmp_path_factory):
    """All that can happen, in one run."""
    folder = tmp_path_factory.mktemp("ray")
    tasks = tasks_in(folder, DO)
    victim = pathlib.Path(tasks[1].payload["folder"])

    def kill():
        wait_for(victim / "waits")
        os.kill(int((victim / "call0").read_text()), signal.SIGKILL)

    return run(cluster, tasks, folder, meanwhile=kill)


def test_every_task_ends_once(ran):
    assert ran.signal is None
    assert set(ran.ended) == {f"{number} {what}" for number, what in enumerate(DO)}


def test_what_was_not_killed_is_equal_to_the_local_run(ran, tmp_path):
    kept = [what if what not in ("die", "be killed once") else "nothing" for what in DO]
    local = []
    run_local(tasks_in(tmp_path, kept), WORK, on_done=local.append, progress=False)
    for expected in local:
        number = expected.task.payload["number"]
        if DO[number] == "die":
            continue
        ended = ran.ended[f"{number} {DO[number]}"]
        assert (ended.outcome, ended.failure) == (expected.outcome, expected.failure)
        here, there = tmp_path / str(number), ran.folder / str(number)
        for file in here.glob("result*"):
            assert (there / file.name).read_bytes() == file.read_bytes()
        assert len([*here.glob("result*")]) == len([*there.glob("result*")])


def test_a_worker_that_was_killed_is_replaced(ran):
    folder = ran.folder / "1"
    calls = [file.read_text() for file in sorted(folder.glob("call*"))]
    assert len(calls) == 2 and calls[0] != calls[1]
    assert ran.ended["1 be killed once"].outcome == {"square": 1, "seen": [1, 2]}
    said = "1 be killed once: its worker was lost (the process crashed or was killed); it begins"
    assert said in ran.shown


def test_a_task_that_always_kills_its_worker_fails(ran):
    ended = ran.ended["2 die"]
    assert len([*(ran.folder / "2").glob("call*")]) == 3
    assert ended.failure == (
        "its worker was lost 3 times (at last: the process crashed or was killed)."
    )
    assert ended.outcome == {}


def test_errors_come_back_as_sentences(ran):
    assert ran.ended["3 refuse"].failure == "beta is -1; give 0 or more."
    assert ran.ended["3 refuse"].trace == ""
    assert ran.ended["4 fail"].failure == (
        "the work ended with ZeroDivisionError: division by zero."
    )
    assert "toy_work.py" in ran.ended["4 fail"].trace


def test_one_bar_and_nothing_of_rays(ran):
    *_, last = [line for line in ran.shown.splitlines() if line.startswith("step")]
    assert last.startswith("step 21/21")
    assert "raylet" not in ran.shown


def test_work_that_a_machine_does_not_have_fails_with_a_sentence():
    ended = ray_executor._in_worker("no_such_module:work", Task("a", 1, {}), 1, None)
    assert ended.failure == (
        "the work ended with ModuleNotFoundError: No module named 'no_such_module'."
    )


def test_a_machine_that_is_lost(cluster, tmp_path):
    """Its task goes to the other machine."""
    tasks = tasks_in(tmp_path, ["be killed once", "be killed once"])

    def lose():
        for number in ("0", "1"):
            wait_for(tmp_path / number / "waits")
        cluster.stdin.write("lose\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "lost\n"
        # Of the two tasks one is left, on the first machine.
        for number in ("0", "1"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / number / "call0").read_text()), signal.SIGKILL)

    ran = run(cluster, tasks, tmp_path, meanwhile=lose)
    assert [ran.ended[task.name].outcome.get("square") for task in tasks] == [0, 1]
    assert ran.shown.count("its worker was lost") == 2


def test_a_signal_lets_the_workers_save(environment, tmp_path):
    """With a cluster of its own, which is gone afterwards."""
    code = f"""
import pathlib, signal
from jaxstyle.sweeps import executors, ray_executor
signal.signal(signal.SIGINT, signal.default_int_handler)
root = pathlib.Path({str(tmp_path)!r})
task = executors.Task("a", 1, {{"folder": str(root / "a")}})
number = ray_executor.run_ray(
    [task], "toy_work:until_stopped", cpus=0.5, on_done=print, source=pathlib.Path({str(HERE)!r})
)
print("stopped by", number, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_for(tmp_path / "a" / "begun")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (tmp_path / "a" / "saved").exists()
    assert out.splitlines()[-1] == f"stopped by {int(signal.SIGTERM)} True", (out, err)
    assert "stopping: running work saves" in out and "lost" not in out
    assert err == ""
    assert process.returncode == 0


# --- What is refused before anything starts ---


def refusal(**options):
    with pytest.raises(InputError) as caught:
        run_ray([Task("a", 1, {})], WORK, on_done=print, progress=False, **options)
    return str(caught.value)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'jaxstyle[sweep]'; or use --executor=local." in refusal()


@pytest.mark.parametrize("address", ["ray://host:10001", "host", ":1", "host:", "host:port"])
def test_addresses_of_another_kind(address):
    assert f"--ray_address is '{address}'; on a machine of the cluster" in refusal(address=address)


def test_nobody_answers():
    sentence = refusal(address="127.0.0.1:1")
    assert sentence.startswith("no Ray cluster answers at 127.0.0.1:1 (")


@pytest.mark.parametrize(
    ("error", "auto", "told"),
    [
        (ConnectionError("Could not find"), True, "at auto cannot be used: none runs here; start"),
        (ConnectionError("Failed to connect."), False, "Failed to connect (one that asks for a t"),
        (RuntimeError("Version mismatch: ...\nRay: 2"), False, "cannot be used: Version mismatch"),
        (
            ValueError("Package size is 600MiB"),
            True,
            "auto cannot be used: Package size is 600MiB.",
        ),
        (OSError("No space left"), None, "Ray cannot be started on this machine: No space left."),
    ],
)
def test_a_cluster_that_cannot_be_used(monkeypatch, error, auto, told):
    import ray

    def fail(**_):
        raise error

    monkeypatch.setattr(ray, "init", fail)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = {True: "auto", False: f"127.0.0.1:{server.getsockname()[1]}", None: ""}[auto]
        before = dict(os.environ)
        assert told in refusal(address=address)
        assert dict(os.environ) == before


def test_a_process_that_uses_ray_already(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("not ours to end"))
    assert refusal() == "Ray runs in this process already; call ray.shutdown() before."


def test_what_workers_have_in_their_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("JAX", "XLA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    variables = ray_cluster._worker_variables
    assert variables(0) == {"XLA_FLAGS": "--a=1", "JAX_PLATFORMS": "cpu"}
    assert variables(1) == {"XLA_FLAGS": "--a=1"}
    assert variables(0.5)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # of a driver that leaves the GPU to its workers
    assert variables(1)["JAX_PLATFORMS"] is None
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    assert variables(0)["JAX_PLATFORMS"] == "tpu"


def test_only_code_is_shipped(tmp_path):
    for name in ("jaxstyle/ops", "experiments", "runs/a", ".venv", "my [photos]"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("jaxstyle/a.py", "experiments/b.py", ".venv/c.py", "launch.py", "pyproject.toml"):
        (tmp_path / name).touch()
    for name in ("photo.jpg", ".env", "runs/a/config.json", "jaxstyle/ops/weights.npz"):
        (tmp_path / name).touch()
    assert ray_cluster._not_code(tmp_path) == [
        "__pycache__", "/.env", "/.venv", "/my\\ \\[photos\\]", "/photo.jpg", "/runs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cpus", "gpus", "told"),
    [
        (0, 0, "a task takes more than 0 CPUs"),
        (1, -1, "0 GPUs or more"),
        (float("nan"), 0, "--ray_cpus is nan"),
        (1.5, 0, "--ray_cpus is 1.5; above 1 give a whole number."),
        (1, 2.5, "--ray_gpus is 2.5; above 1 give a whole number."),
    ],
)
def test_amounts_that_cannot_be(cpus, gpus, told):
    assert told in refusal(cpus=cpus, gpus=gpus)


class Machines:
    """What `missing` asks of Ray."""

    def __init__(self, *machines):
        self._machines = machines

    def nodes(self):
        return [{"Alive": alive, "Resources": has} for alive, has in self._machines]


def test_room_is_on_one_machine_that_is_there():
    small, large = {"CPU": 2.0, "GPU": 1.0}, {"CPU": 8.0}
    ray = Machines((True, small), (True, large), (False, {"CPU": 64.0, "GPU": 8.0}))
    assert ray_cluster.missing(ray, ray_cluster.Resources(8, 0)) == ""
    assert ray_cluster.missing(ray, ray_cluster.Resources(2, 1)) == ""
    assert ray_cluster.missing(ray, ray_cluster.Resources(4, 1)) == (
        "a task takes 4 CPUs and 1 GPUs, and a machine here has at most 8 and 1"
    )
    assert "at most 0 and 0" in ray_cluster.missing(Machines(), ray_cluster.Resources(1, 0))
