"""What a report of a sweep has to know of a cell, wherever it was computed."""

import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

DONE, NOT_FINITE, FAILED = "done", "not_finite", "failed"


class Cell(Protocol):
    """One cell of a sweep, as it ended; `jaxstyle.sweeps.results.Result` is one."""

    @property
    def index(self) -> int:
        """The cell's number, from 0; each has its own."""
        ...

    @property
    def name(self) -> str:
        """The name of its folder."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """What was swept, by key: number, string, boolean or a tuple of those."""
        ...

    @property
    def status(self) -> str:
        """'done', 'not_finite' or 'failed'."""
        ...

    @property
    def message(self) -> str:
        """A sentence, or ''."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """At the last step: 'loss', and the terms unweighted."""
        ...

    @property
    def steps(self) -> int:
        """The steps taken."""
        ...

    @property
    def seconds(self) -> float:
        """The time it took."""
        ...

    @property
    def picture(self) -> pathlib.Path | None:
        """The file, or None."""
        ...
