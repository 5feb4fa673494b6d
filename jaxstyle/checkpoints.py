"""Checkpoints of a run: its state and where its data stands, saved and read back to the bit.

    WORKDIR/checkpoints/00000200/    one folder per checkpoint, named by its step
        arrays/                      the state, as Orbax writes it
        record.json                  the caller's notes; dtype and shape of every array
        files.json                   size and CRC-32 of every file above

A checkpoint appears whole, by a rename, or not at all. Its files are compared with `files.json`
before anything is read from them: TensorStore takes many a damaged file for a good one.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import jax

from jaxstyle import array_files
from jaxstyle.array_files import system_error
from jaxstyle.distributed import Group
from jaxstyle.types import InputError

FOLDER = "checkpoints"

State = TypeVar("State")

_ARRAYS, _RECORD, _FILES = "arrays", "record.json", "files.json"
_DRAFT = ".draft"  # on its way in
_DISCARDED = ".discarded"  # on its way out
_UNREADABLE = ".unreadable"  # kept for its owner, never used again


class Restored(NamedTuple, Generic[State]):
    """A checkpoint that was read back.

    Attributes:
      step: the step after which it was saved.
      state: the state, bit for bit.
      notes: what the caller saved beside it.
    """

    step: int
    state: State
    notes: dict[str, Any]


class Checkpointer:
    """Saves the state of one run and finds the latest one again.

    Only one process may use a folder at a time (see `jaxstyle.workdir.claim`).

    Args:
      workdir: the folder of the run; `checkpoints/` is made inside.
      keep: how many of the latest checkpoints stay, at least 1. Two or more let a run survive a
        damaged one.
      say: takes a sentence for the user.
      group: the processes of the run, all of which call every method, with states that lie on the
        devices of all of them; None for a process on its own.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> checkpointer = Checkpointer(tempfile.mkdtemp())
      >>> checkpointer.save(10, {"w": jnp.ones(3)}, {"position": 40})
      >>> step, state, notes = checkpointer.restore_latest({"w": jnp.zeros(3)})
      >>> step, state["w"].tolist(), notes
      (10, [1.0, 1.0, 1.0], {'position': 40})
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        keep: int = 2,
        say: Callable[[str], None] = print,
        group: Group | None = None,
    ):
        if keep < 1:
            raise InputError(f"keep is {keep}; at least one checkpoint must stay.")
        self.folder = pathlib.Path(workdir).absolute() / FOLDER
        self._keep = keep
        self._say = say
        self._group = group or Group()
        self._group.from_first(self._open)

    def _open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder} cannot be made: {error.strerror}.") from error
        self._remove_leftovers()

    def save(self, step: int, state: Any, notes: Mapping[str, Any]) -> None:
        """Save a checkpoint and drop those beyond the latest `keep`.

        Returns when it is on the disk. Killed at any instant, it leaves the checkpoints that were
        there readable.

        Args:
          step: steps done so far; a checkpoint of the same step is replaced.
          state: a pytree of arrays; typed PRNG keys and optimizer states may be among them.
          notes: values JSON can hold, e.g. the position of the data iterator.

        Raises:
          InputError: it cannot be written (disk full, no permission).
          ValueError: it is nothing Orbax can save, e.g. an array of zero size.
        """
        target = self.folder / f"{step:08d}"
        draft = target.with_name(target.name + _DRAFT)
        with self._explained(step):
            self._group.from_first(lambda: self._begin(step, draft))
            array_files.save(draft / _ARRAYS, state)
            self._group.from_first(lambda: self._finish(step, draft, target, state, notes))

    def _begin(self, step: int, draft: pathlib.Path) -> None:
        with self._explained(step):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            (draft / _RECORD).touch()

    def _finish(
        self, step: int, draft: pathlib.Path, target: pathlib.Path, state: Any, notes: Any
    ) -> None:
        """Write what is not Orbax's, `files.json` last, and give the checkpoint its name."""
        with self._explained(step):
            record = {"notes": dict(notes), "leaves": _leaves(state)}
            with (draft / _RECORD).open("r+") as file:  # gone if someone deleted the folder:
                file.write(json.dumps(record))  # Orbax would just make it again
            (draft / _FILES).write_text(json.dumps(_file_sums(draft)))
            if target.exists():
                self._discard(target)
            draft.rename(target)
        self._drop_old(step)

    @contextlib.contextmanager
    def _explained(self, step: int) -> Iterator[None]:
        """Turn what the system refuses while a checkpoint is written into a sentence."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = system_error(error)
            if reason is not None and self._is_gone(error):
                raise InputError(
                    f"the checkpoint of step {step} cannot be written: {self.folder} was deleted "
                    "under the run; the same command starts anew."
                ) from error
            if self._group.first:
                self._remove_leftovers()
            if reason is None:
                raise
            raise InputError(
                f"the checkpoint of step {step} cannot be written to {self.folder}: {reason}; make "
                "room there or choose another --workdir (earlier checkpoints are intact)."
            ) from error

    def _is_gone(self, error: Exception) -> bool:
        """Whether the folder was deleted, if Orbax did not make it again in the meantime."""
        missing = pathlib.Path(getattr(error, "filename", None) or "").name == _RECORD
        return missing or not self.folder.exists()

    def restore_latest(self, like: State) -> Restored[State] | None:
        """Read back the latest checkpoint.

        One that is damaged is named in a sentence and set aside (renamed to `*.unreadable`), and
        the one before it is taken.

        Args:
          like: a state of the same structure, shapes and dtypes, on the devices where the restored
            one is to be; it is only looked at.

        Returns:
          The checkpoint, or None when there is none.

        Raises:
          InputError: there are checkpoints and all are damaged, or one has other arrays than
            `like`; the first array that disagrees is named.
        """
        failed: dict[str, str] = {}  # why, by name; known to the first process
        while True:
            found = self._group.from_first(lambda: self._readable(failed, like))
            if found is None:
                return None
            name, notes = found
            try:
                state, reason = array_files.load(self.folder / name / _ARRAYS, like), ""
            except Exception as error:  # past the checksums, whatever Orbax may trip over
                reason = _reason(error)
            if self._group.every(not reason).all():
                self._group.from_first(functools.partial(self._set_aside, failed, int(name)))
                return Restored(int(name), state, notes)
            failed[name] = reason or "another process cannot read it"

    def _readable(self, failed: dict[str, str], like: Any) -> tuple[str, dict[str, Any]] | None:
        """Return the name and the notes of the latest checkpoint whose files are in order."""
        for path in reversed(_checkpoints(self.folder)):
            if path.name in failed:
                continue
            try:
                record = _verified_record(path)
                _compare(path, record["leaves"], _leaves(like), dtypes=True)
                return path.name, record["notes"]
            except InputError:
                raise
            except Exception as error:  # files that are missing, damaged or no JSON
                failed[path.name] = _reason(error)
        if failed:
            raise InputError(
                f"no checkpoint in {self.folder} can be read (the latest: {failed[max(failed)]}); "
                "delete that folder to start over, or choose another --workdir."
            )
        return None

    def _set_aside(self, failed: Mapping[str, str], step: int) -> None:
        """Rename what could not be read: a later start must not take it for this run's future."""
        for name, reason in sorted(failed.items(), reverse=True):
            path = self.folder / name
            aside = path.with_name(path.name + _UNREADABLE)
            if aside.exists():
                self._discard(aside)
            path.rename(aside)
            self._say(
                f"checkpoint {path} cannot be read ({reason}); it is now {aside.name}, and the run "
                f"continues from step {step}"
            )

    def _drop_old(self, step: int) -> None:
        """Keep the latest checkpoints; unreadable ones go once the run has passed them."""
        for path in _checkpoints(self.folder)[: -self._keep]:
            self._discard(path)
        for path in self.folder.glob(f"[0-9]*{_UNREADABLE}"):
            if path.stem.isdigit() and int(path.stem) <= step:
                self._discard(path)

    def _discard(self, path: pathlib.Path) -> None:
        """Delete a folder; killed half-way, it no longer looks like a checkpoint."""
        doomed = path.with_name(path.name + _DISCARDED)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Delete what a kill in the middle of a save or a deletion left behind."""
        for path in self.folder.iterdir():
            if path.suffix in (_DISCARDED, _DRAFT):
                shutil.rmtree(path, ignore_errors=True)


def newest_step(workdir: str | os.PathLike[str]) -> int:
    """Return the step of the newest finished checkpoint of a run, readable or not; 0 without one.

    Args:
      workdir: the folder of the run.

    Example:
      >>> import tempfile
      >>> newest_step(tempfile.mkdtemp())
      0
    """
    return max((int(path.name) for path in _checkpoints(pathlib.Path(workdir) / FOLDER)), default=0)


def load_params(where: str | os.PathLike[str], like: State) -> State:
    """Read the parameters of another run, for a warm start.

    Args:
      where: the other run's workdir, its `checkpoints` folder, or one checkpoint in it.
      like: parameters of the network to start; structure and shapes must agree, and the result has
        their dtypes and devices.

    Returns:
      The parameters saved as `params` in the latest checkpoint there that can be read.

    Raises:
      InputError: there is no checkpoint, none can be read, or a parameter is missing or has another
        shape; the first such parameter is named.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> run = tempfile.mkdtemp()
      >>> Checkpointer(run).save(1, {"params": {"w": jnp.ones(2)}, "step": jnp.int32(1)}, {})
      >>> load_params(run, {"w": jnp.zeros(2)})["w"].tolist()
      [1.0, 1.0]
    """
    root = pathlib.Path(os.path.expanduser(where)).absolute()
    found = _checkpoints(root / FOLDER) or _checkpoints(root) or [root] * _is_checkpoint(root)
    if not found:
        raise InputError(
            f"{root} holds no checkpoint to start from; give the --workdir of a run that saved one."
        )
    reason = ""
    for path in reversed(found):
        try:
            stored = _verified_record(path)["leaves"]
            params = {name: what for name, what in stored.items() if name.startswith("params/")}
            _compare(path, params, _leaves({"params": like}), dtypes=False)
            return array_files.load(path / _ARRAYS, {"params": like})["params"]
        except InputError:
            raise
        except Exception as error:  # see restore_latest
            reason = reason or _reason(error)
    raise InputError(
        f"no checkpoint in {root} can be read ({reason}); give another run's --workdir."
    )


def _checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the finished checkpoints in a folder, oldest first."""
    if not os.path.isdir(folder):
        return []
    return sorted(filter(_is_checkpoint, folder.iterdir()), key=lambda path: int(path.name))


def _is_checkpoint(path: pathlib.Path) -> bool:
    return re.fullmatch(r"\d{8,}", path.name) is not None and os.path.isdir(path)


def _verified_record(path: pathlib.Path) -> dict[str, Any]:
    """Return the record of a checkpoint whose files are as they were written."""
    expected = json.loads((path / _FILES).read_bytes())
    found = _file_sums(path)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"{name} is missing")
        if found[name] != expected.get(name):
            raise ValueError(f"{name} is damaged")
    return json.loads((path / _RECORD).read_bytes())


def _file_sums(folder: pathlib.Path) -> dict[str, list[int]]:
    """Return size and CRC-32 of every file below a folder but `files.json`, by relative path."""
    sums = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file != folder / _FILES:
            content = file.read_bytes()
            sums[file.relative_to(folder).as_posix()] = [len(content), zlib.crc32(content)]
    return sums


def _leaves(tree: Any) -> dict[str, list[Any]]:
    """Return dtype and shape of every array, by its path, e.g. `params/conv1/kernel`."""
    return {
        jax.tree_util.keystr(where, simple=True, separator="/"): [str(leaf.dtype), list(leaf.shape)]
        for where, leaf in jax.tree.leaves_with_path(tree)
    }


def _compare(
    path: pathlib.Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], *, dtypes: bool
) -> None:
    """Refuse arrays that are not the wanted ones; the first that disagrees is named."""
    advice = "it was saved by another network or recipe; use its settings, or another folder."
    for name in [*wanted, *stored]:
        if name not in stored:
            raise InputError(f"{path} has no '{name}': {advice}")
        if name not in wanted:
            raise InputError(f"{path} has '{name}', which is unknown here: {advice}")
        (stored_dtype, stored_shape), (dtype, shape) = stored[name], wanted[name]
        if stored_shape != shape or (dtypes and stored_dtype != dtype):
            raise InputError(
                f"'{name}' is {_described(stored_dtype, stored_shape)} in {path} and "
                f"{_described(dtype, shape)} here: {advice}"
            )


def _described(dtype: str, shape: list[int]) -> str:
    return f"{dtype} {'x'.join(map(str, shape))}" if shape else f"a {dtype} scalar"


def _reason(error: BaseException) -> str:
    """Return what went wrong in one line, short enough for a sentence."""
    if reason := system_error(error):
        return reason
    lines = str(error).strip().splitlines()
    return (lines[0][:160] if lines else type(error).__name__).rstrip(".;: ")
