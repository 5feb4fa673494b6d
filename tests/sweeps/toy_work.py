"""Work that takes no time, and in which everything may happen, for the tests of the executors.

The payload's `do` says what. Every call leaves its process id in the payload's folder, in a file
named by how many there were before.
"""

import os
import pathlib
import signal
import time

from jaxstyle.signals import StopSignals
from jaxstyle.types import InputError

_PATIENCE = 300.0  # seconds in which whatever a test waits for has happened


def work(payload, report):
    folder = pathlib.Path(payload["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    before = len(list(folder.glob("call*")))
    (folder / f"call{before}").write_text(str(os.getpid()))
    for step in range(payload["steps"]):
        report(step + 1)
    _do(payload["do"], folder, before)
    (folder / "result.txt").write_text(str(payload["number"] ** 2))
    return {"square": payload["number"] ** 2, "seen": payload["pair"]}


def _do(what, folder, before):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "be killed once" and before == 0:
        (folder / "waits").touch()
        time.sleep(_PATIENCE)
    if what == "refuse":
        raise InputError("beta is -1; give 0 or more.")
    if what == "fail":
        raise ZeroDivisionError("division by zero\nin the second line")


def until_stopped(payload, report):
    """Work until a signal comes, then save; as `jaxstyle.painter` does."""
    folder = pathlib.Path(payload["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    with StopSignals() as stop:
        (folder / "begun").touch()
        began = time.monotonic()
        while stop.signal is None and time.monotonic() < began + _PATIENCE:
            time.sleep(0.02)
    time.sleep(0.5)  # what saving takes
    (folder / "saved").touch()
    return {"signal": stop.signal}
