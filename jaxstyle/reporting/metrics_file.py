"""The metrics file: one JSON object per line, the same bytes however often the run was interrupted.

    {"step": 100, "loss": 1.4312, "content/relu4_1": 0.8125, "style/relu1_1": 0.2113, "tv": 0.0031}

Every value is a mean over the steps since the line before. Nothing that depends on the clock or the
machine belongs here; see `timings.jsonl` for that.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class MetricsFile:
    """Appends lines durably, and cuts the file back to the step a run resumes from.

    Args:
      path: the file; its folder must exist, the file need not.

    Example:
      >>> import tempfile, pathlib
      >>> metrics = MetricsFile(pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl")
      >>> metrics.append(10, {"loss": np.float32(0.1)})
      >>> metrics.path.read_text()
      '{"step": 10, "loss": 0.1}\\n'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one line and wait until it is on the disk.

        Args:
          step: the step the line belongs to, at least 1, larger than the last line's.
          values: finite scalars by name; `loss` comes first in the line, the rest by name. A
            float32 is written with the fewest digits that read back to the same float32.

        Raises:
          OSError: the file cannot be written.
          ValueError: a value is not finite (it would not be JSON).
        """
        names = sorted(values, key=lambda name: (name != "loss", name))
        record = {"step": step} | {name: _number(values[name]) for name in names}
        line = json.dumps(record, allow_nan=False) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(self.path)  # which only opening a file tells
            raise

    def cut_back(self, step: int) -> int:
        """Keep the lines up to `step`; drop later ones and whatever a kill left half-written.

        The lines kept are always a beginning of the file, so this is a single truncation and a
        second kill in the middle of it does no harm.

        Args:
          step: the step the run resumes from; 0 empties the file.

        Returns:
          The step of the last line kept, 0 when there is none.
        """
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        last, end = 0, 0
        for record, line_end in _whole_lines(content):
            if not last < record["step"] <= step:
                break
            last, end = record["step"], line_end
        if end < len(content):
            os.truncate(self.path, end)
        return last


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a metrics file as dicts, oldest first.

    A half-written last line (the run is going on, or was killed) is left out.

    Raises:
      FileNotFoundError: there is no such file.
    """
    return [record for record, _ in _whole_lines(pathlib.Path(path).read_bytes())]


def _whole_lines(content: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield (record, offset of its end) up to the first line that is not a record."""
    end = 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        if not line.endswith(b"\n"):
            return
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # not JSON, or not UTF-8
            return
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            return
        yield record, end


def _number(value: Any) -> float | int:
    """Return a Python number; a float32 becomes the shortest decimal that reads back to it."""
    scalar = np.asarray(value)[()]
    if isinstance(scalar, np.integer):
        return int(scalar)
    return float(str(scalar)) if isinstance(scalar, np.float32) else float(scalar)
