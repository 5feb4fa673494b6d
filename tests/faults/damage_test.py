"""A damaged newest checkpoint costs the steps since the one before it, and a sentence."""

import shutil

import pytest
from fault_kit import load_toy

toy = load_toy()
STEPS = 12
ARRAYS = "checkpoints/00000012/arrays"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, checkpoints of steps 8 and 12 in it, and its result."""
    workdir = tmp_path_factory.mktemp("finished")
    toy.train(workdir)
    return workdir, toy.result_of(workdir, STEPS)


def largest(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


def truncated(workdir):
    path = largest(workdir / ARRAYS)
    path.write_bytes(path.read_bytes()[:-1])


def flipped(workdir):
    path = largest(workdir / ARRAYS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def one_file_deleted(workdir):
    largest(workdir / ARRAYS).unlink()


def emptied(workdir):
    shutil.rmtree(workdir / "checkpoints/00000012")
    (workdir / "checkpoints/00000012").mkdir()


def record_of_the_one_before(workdir):
    folder = workdir / "checkpoints"
    shutil.copy(folder / "00000008/record.json", folder / "00000012/record.json")


def one_file_more(workdir):
    (workdir / ARRAYS / "more").write_bytes(b"?")


DAMAGE = {
    truncated: "is damaged",
    flipped: "is damaged",
    one_file_deleted: "is missing",
    emptied: "No such file or directory",
    record_of_the_one_before: "record.json is damaged",
    one_file_more: "more is damaged",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_the_run_falls_back_says_so_and_ends_with_the_same_bits(finished, tmp_path, capfd, damage):
    workdir, expected = tmp_path / "run", finished[1]
    shutil.copytree(finished[0], workdir)
    damage(workdir)
    outcome = toy.train(workdir)
    assert outcome.resumed_from == 8
    assert toy.result_of(workdir, STEPS) == expected
    out, err = capfd.readouterr()
    told = out.splitlines()
    assert len(told) == 2 and err == ""
    assert f"{workdir / 'checkpoints/00000012'} cannot be read" in told[0]
    assert DAMAGE[damage] in told[0] and "the run continues from step 8" in told[0]
    assert told[1] == f"continuing from step 8 of {STEPS}"
    assert not list((workdir / "checkpoints").glob("*.unreadable"))  # the run has passed it


def test_a_newest_checkpoint_that_is_gone_costs_the_same(finished, tmp_path, capfd):
    workdir, expected = tmp_path / "run", finished[1]
    shutil.copytree(finished[0], workdir)
    shutil.rmtree(workdir / "checkpoints/00000012")
    assert toy.train(workdir).resumed_from == 8
    assert toy.result_of(workdir, STEPS) == expected
    assert capfd.readouterr() == (f"continuing from step 8 of {STEPS}\n", "")
