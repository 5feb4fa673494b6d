"""Ctrl-C and SIGTERM as a wish that a loop grants between two steps."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Notes the first Ctrl-C or SIGTERM inside a `with`; the next one ends the process at once.

    Does nothing outside the main thread (Python delivers signals there), and leaves alone a signal
    that the process was started to ignore.

    Attributes:
      signal: the number of the signal noted, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)  # by the kernel, so also amid a compilation
        if sys.stdout.isatty():  # the bar hides the cursor, and may not get to bring it back
            os.write(sys.stdout.fileno(), b"\x1b[?25h")
