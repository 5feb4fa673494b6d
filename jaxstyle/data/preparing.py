"""Make packs: photographs decoded, turned upright, converted to sRGB and reduced once.

    OUT.unfinished/plan.json   what the pack is to be; a stop leaves this folder, not half an OUT
    OUT.unfinished/pack/       finished shards, each put in place by a rename
    OUT                        all of it, put in place by a rename

The bytes of a pack are a function of the photographs, the settings and the version of Pillow alone:
however many threads worked, and however often the work was stopped, at whatever instant.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from PIL import Image

from jaxstyle.data import decode, files, packs, photos, pipeline, shards
from jaxstyle.types import InputError
from jaxstyle.whole_files import replace_file
from jaxstyle.workdir import claimed

SIZE = 384  # crops of 256 pixels at scales up to 1.5
QUALITY = 95
RAW = "raw"

_PER_SHARD = 512
_MOST_SHARDS = 256  # files that training keeps open
_AHEAD = 4  # photographs in work or waiting, per thread
_OURS = re.compile(rf"{re.escape(packs.MANIFEST)}|photos-\d+-of-\d+{re.escape(packs.SUFFIX)}")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare_photos` made.

    Attributes:
      path: the pack.
      photos: photographs in it.
      reduced: how many of them were larger than asked.
      bytes: size of its files.
      left_out: photographs that could not be read: reason by name.
      found: photographs that an earlier, stopped call had finished; all of them for a pack that was
        whole already.
    """

    path: pathlib.Path
    photos: int
    reduced: int
    bytes: int
    left_out: Mapping[str, str]
    found: int


def prepare_photos(
    where: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = SIZE,
    quality: int | str = QUALITY,
    workers: int | None = None,
    overwrite: bool = False,
    report: Callable[[int, int], None] | None = None,
    per_shard: int = _PER_SHARD,
) -> Prepared:
    """Pack photographs for training, once and for all runs.

    Each is decoded, turned as its EXIF orientation says, converted from its color profile to sRGB,
    reduced (Lanczos, never enlarged) to a shorter side of `size`, and stored in ArrayRecord files
    under its name. One that cannot be read, or is smaller than 64 pixels, is left out. Stopped at
    any instant, the same call goes on with the shards that are not finished.

    Args:
      where: a folder, a `.zip` or `'skimage'`; see `open_photos`.
      out: a folder to make, or one file if it ends in `.array_record`. A whole pack there, of the
        same photographs (by names and sizes of files) and settings, is left alone.
      size: shorter side in pixels, at least 64. Crops of `c` pixels at scales up to `s` need
        `c * s`: 384 for 256 pixels and the usual 1.5.
      quality: of the JPEGs, 1 to 100, without chroma subsampling; or `'raw'` for the pixels as they
        are, six times as large on disk and in half the time of a crop or less.
      workers: threads that decode, reduce and encode; None: one per core, at most 8.
      overwrite: replace a pack that is at `out`, once the new one is whole.
      report: called with the photographs done and all there are, from the calling thread; what it
        raises stops the work.
      per_shard: photographs per file of a folder; more if the files would be over 256.

    Returns:
      What was made.

    Raises:
      InputError: nothing to read at `where`, a value out of its range, `out` holds something else,
        another process prepares it, a file cannot be written, or no photograph can be used.

    Example:
      >>> folder = tempfile.mkdtemp()
      >>> made = prepare_photos('skimage', f'{folder}/pack', size=96)
      >>> made.photos, photos.open_photos(made.path)[1].shape
      (6, (96, 96, 3))
    """
    encoding = _encoding(quality)
    if size < photos.MINIMUM:
        raise InputError(f"size {size} must be at least {photos.MINIMUM}.")
    if workers is not None and workers < 1:
        raise InputError(f"workers {workers} must be at least 1.")
    packs.array_record()  # says so where there is none
    source = photos.find_files(where)
    if isinstance(source, packs.PackFiles):
        raise InputError(f"'{where}' is a pack already; give the photographs it was made from.")
    target = _target(out)
    recipe = _recipe(source, size, encoding)
    try:
        work = target.with_name(target.name + packs.UNFINISHED)
        if not overwrite and (there := _finished(target, recipe)) is not None:
            if work.is_dir():  # stopped when only this was left to do
                with claimed(work) as mine:
                    if mine:
                        shutil.rmtree(work)
            return there
        _check_parent(target)
        with claimed(work) as mine:
            if not mine:
                raise InputError(f"another process prepares '{target}' now; wait for it to end.")
            job = _Job(source, work, size, encoding, recipe, max(per_shard, 1))
            found = job.run(workers or pipeline.default_threads(), report or (lambda *_: None))
            made = job.put_in_place(target, found)
            shutil.rmtree(work)
            return made
    except OSError as error:
        raise InputError(
            f"the pack '{target}' cannot be written: {error.strerror or error}; the same command "
            "goes on where this one stopped."
        ) from error


class _Job:
    """The making of one pack in its folder of work, which no other process uses."""

    def __init__(
        self,
        source: Any,
        work: pathlib.Path,
        size: int,
        encoding: str,
        recipe: str,
        per_shard: int,
    ):
        self._source, self._work = source, work
        self._blank = packs.Index(size, encoding, recipe, (), {})
        count = len(source.names)
        per_shard = max(per_shard, math.ceil(count / _MOST_SHARDS))
        self._slices = [range(at, min(at + per_shard, count)) for at in range(0, count, per_shard)]
        self._folder = work / "pack"
        self._begin({"recipe": recipe, "per_shard": per_shard})

    def run(self, workers: int, report: Callable[[int, int], None]) -> int:
        """Write the shards that are missing; return how many photographs were there."""
        missing = [k for k in range(len(self._slices)) if not self._is_whole(self._shard(k))]
        total = len(self._source.names)
        done = found = total - sum(len(self._slices[k]) for k in missing)
        report(done, total)
        wanted = itertools.chain.from_iterable(self._slices[k] for k in missing)
        with contextlib.closing(self._packed(wanted, workers)) as stream:
            for k in missing:
                with shards.Writer(self._shard(k), self._blank) as writer:
                    for packed in itertools.islice(stream, len(self._slices[k])):
                        writer.add(packed)
                        done += 1
                        report(done, total)
        return found

    def put_in_place(self, target: pathlib.Path, found: int) -> Prepared:
        """Make the shards a pack, at `target`; an old one there goes when this one is whole."""
        there = [self._shard(k) for k in range(len(self._slices))]
        parts = [packs.read_index(shard) for shard in there]
        index = packs.merge(parts)
        if not index.entries:
            name, reason = next(iter(index.left_out.items()))
            shutil.rmtree(self._work)
            raise InputError(
                f"none of the {len(index.left_out)} photographs can be used; '{name}': {reason}."
            )
        if target.suffix.lower() == packs.SUFFIX:
            joined = self._work / "joined"
            shards.join(there, parts, joined)
            os.replace(joined, target)
        else:
            told = [
                {"file": shard.name, "photos": len(part.entries), "bytes": shard.stat().st_size}
                for shard, part in zip(there, parts, strict=True)
            ]
            replace_file(self._folder / packs.MANIFEST, packs.manifest(index, told))
            _target(target)  # for somebody may have put files there meanwhile
            if target.exists():
                shutil.rmtree(self._work / "old", ignore_errors=True)
                os.rename(target, self._work / "old")
            os.rename(self._folder, target)
        shards.sync(target.parent)
        return _prepared(target, index, found)

    def _begin(self, plan: dict[str, Any]) -> None:
        """Start anew, unless what is here was begun by the same plan."""
        file = self._work / "plan.json"
        try:
            same = json.loads(file.read_bytes()) == plan
        except (OSError, ValueError):
            same = False
        if not same:
            file.unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)
            replace_file(file, json.dumps(plan).encode())
        self._folder.mkdir(exist_ok=True)

    def _is_whole(self, shard: pathlib.Path) -> bool:
        try:
            return shard.exists() and packs.read_index(shard).recipe == self._blank.recipe
        except InputError:  # a disk that lost what it had promised to hold
            return False

    def _shard(self, k: int) -> pathlib.Path:
        return self._folder / packs.shard_name(k, len(self._slices))

    def _packed(self, indices: Iterable[int], workers: int) -> Generator[shards.Packed]:
        """Yield the records of photographs in order, made by threads a little ahead."""
        pool = concurrent.futures.ThreadPoolExecutor(workers)
        waiting: collections.deque[concurrent.futures.Future[shards.Packed]] = collections.deque()
        try:
            for index in indices:
                waiting.append(pool.submit(_pack_one, self._source, index, self._blank))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _pack_one(source: files.PhotoFiles, index: int, blank: packs.Index) -> shards.Packed:
    name = source.names[index]
    try:
        data = source.read(index)
        # Decoding at less than twice the size would leave the reduction to the JPEG's own.
        picture, _ = decode.decode(
            data, shorter_side=2 * blank.size, minimum=photos.MINIMUM, profile=True
        )
        small = reduced(picture, blank.size)
        if max(small.size) > 65500:
            raise ValueError(f"{max(small.size)} pixels long, a JPEG has at most 65500")
    except Exception as error:  # a broken file makes decoders raise nearly anything
        return shards.Packed(name, b"", None, decode.reason(error))
    was_larger = small is not picture
    data = _encoded(small, blank.encoding)
    return shards.Packed(name, data, packs.Entry(name, *small.size, was_larger, packs.digest(data)))


def reduced(picture: Image.Image, size: int) -> Image.Image:
    """Return a picture with a shorter side of at most `size` pixels, as a pack holds it.

    Example:
      >>> reduced(Image.new('RGB', (60, 40)), 20).size, reduced(Image.new('RGB', (9, 5)), 20).size
      ((30, 20), (9, 5))
    """
    shorter = min(picture.size)
    if shorter <= size:
        return picture
    width, height = (max(size, round(side * size / shorter)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _encoded(picture: Image.Image, encoding: str) -> bytes:
    if encoding == "raw":
        return b"P6 %d %d 255\n" % picture.size + picture.tobytes()
    picture.info.clear()  # dates and places stay behind
    # A file of the system's: for one in memory Pillow holds Python's lock all through encoding.
    with tempfile.TemporaryFile() as file:
        picture.save(file, "JPEG", quality=int(encoding.split()[1]), subsampling=0)
        file.seek(0)
        return file.read()


def _encoding(quality: int | str) -> str:
    if quality == RAW:
        return RAW
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise InputError(f"quality {quality} must be from 1 to 100, or '{RAW}'.")
    return f"JPEG {quality}"


def _recipe(source: Any, size: int, encoding: str) -> str:
    """Hash what decides the pack; photographs count by their names and sizes, none is read."""
    listed = [packs.VERSION, size, encoding, list(zip(source.names, source.sizes(), strict=True))]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def _target(out: str | os.PathLike[str]) -> pathlib.Path:
    """Return where the pack goes, after looking at what is there."""
    if not os.fspath(out):
        raise InputError("--out is empty; name a folder, or a file ending in .array_record.")
    target = pathlib.Path(out).expanduser().absolute()
    if target.suffix.lower() == packs.SUFFIX:
        if target.is_dir():
            raise InputError(
                f"'{target}' is a folder; a name that ends in {packs.SUFFIX} is one file."
            )
    elif target.exists() and not target.is_dir():
        raise InputError(
            f"'{target}' is a file; give a folder, or a name that ends in {packs.SUFFIX}."
        )
    elif target.is_dir() and not all(_OURS.fullmatch(name) for name in os.listdir(target)):
        raise InputError(f"'{target}' holds other files than a pack's; name a new folder.")
    elif target.is_dir() and os.path.ismount(target):
        raise InputError(f"'{target}' is where a disk is mounted; name a folder on it.")
    return target


def _check_parent(target: pathlib.Path) -> None:
    for part in target.parents:
        if part.exists():
            if not part.is_dir():
                raise InputError(f"'{target}' cannot be made: '{part}' is a file.")
            return


def _finished(target: pathlib.Path, recipe: str) -> Prepared | None:
    """Return the pack at `target` if it is the wanted one, None if there is nothing."""
    if not target.exists() or (target.is_dir() and not os.listdir(target)):
        return None
    try:
        if target.is_dir():
            index, _ = packs.read_manifest(target)
        else:
            index = packs.read_index(target)
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}; --overwrite replaces it.") from error
    if index.recipe != recipe:
        raise InputError(
            f"the pack '{target}' was made from other photographs or with other settings (shorter "
            f"side {index.size}, {index.encoding}); --overwrite replaces it."
        )
    return _prepared(target, index, len(index.entries) + len(index.left_out))


def _prepared(target: pathlib.Path, index: packs.Index, found: int) -> Prepared:
    own = target.iterdir() if target.is_dir() else [target]
    reduced = sum(entry.reduced for entry in index.entries)
    size = sum(file.stat().st_size for file in own)
    return Prepared(target, len(index.entries), reduced, size, index.left_out, found)
