"""What became of a cell: one file beside its picture, written last.

    WORKDIR/cells/0003_beta=10_seed=1/result.json

A cell that has the file is finished, and is never computed again. It appears whole, by a rename.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, final

from jaxstyle.types import InputError
from jaxstyle.whole_files import json_bytes, replace_file

RESULT_FILE = "result.json"
DONE, NOT_FINITE, FAILED = "done", "not_finite", "failed"


@final
@dataclasses.dataclass(frozen=True)
class Result:
    """One cell of a sweep, as it ended.

    Attributes:
      index: of the cell, from 0.
      name: of its folder.
      values: what was swept: number, string, boolean or a tuple of those, by the config's key.
      status: 'done', 'not_finite' (the loss became NaN or infinite; the last good picture is kept)
        or 'failed' (the message says why; the next start tries again).
      message: a sentence, or ''.
      metrics: at the last step: 'loss', and the terms unweighted.
      steps: taken.
      seconds: of the work, divided by the cells that were computed together.
      picture: the file, or None.
    """

    index: int
    name: str
    values: Mapping[str, Any]
    status: str = DONE
    message: str = ""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    picture: pathlib.Path | None = None


def write_result(folder: str | os.PathLike[str], result: Result) -> None:
    """Mark a cell as finished.

    Args:
      folder: of the cell; the picture lies in it.
      result: what became of it.

    Example:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp()
      >>> write_result(folder, Result(0, "0000_seed=1", {"seed": 1}, metrics={"loss": 0.5}))
      >>> read_result(folder).metrics
      {'loss': 0.5}
    """
    record = dataclasses.asdict(result)
    record["picture"] = None if result.picture is None else pathlib.Path(result.picture).name
    replace_file(pathlib.Path(folder) / RESULT_FILE, json_bytes(record))


def read_result(folder: str | os.PathLike[str]) -> Result | None:
    """Return what became of a cell, None while it is not finished.

    Args:
      folder: of the cell.

    Raises:
      InputError: the file is there but cannot be read or is no result.
    """
    file = pathlib.Path(folder) / RESULT_FILE
    try:
        record = json.loads(file.read_bytes())
        picture = record["picture"]
        values = {key: frozen(value) for key, value in record["values"].items()}
        record |= {"values": values, "picture": picture and file.parent / picture}
        result = Result(**record)
        _check(result, picture)
        return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read ({error}); delete that file to compute the cell again."
        ) from error


def _check(result: Result, picture: Any) -> None:
    """Raise ValueError for what `write_result` did not write."""
    counts, texts = (result.index, result.steps), (result.name, result.message)
    numbers = (result.seconds, *result.metrics.values())
    if not (
        all(type(count) is int and count >= 0 for count in counts)
        and all(isinstance(text, str) for text in texts)
        and all(type(number) in (int, float) for number in numbers)
        and result.status in (DONE, NOT_FINITE, FAILED)
    ):
        raise ValueError("a value of another kind than belongs there")
    if picture is not None and pathlib.PurePath(picture).name != picture:
        raise ValueError("a picture that is not in the cell's folder")


def frozen(value: Any) -> Any:
    """Return what came from JSON as configs have it: tuples for lists, at any depth.

    Example:
      >>> frozen({"layers": ["relu1_1", "relu2_1"]})
      {'layers': ('relu1_1', 'relu2_1')}
    """
    if isinstance(value, Mapping):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value
