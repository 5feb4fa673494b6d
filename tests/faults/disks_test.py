"""Full, read-only and vanishing disks: one sentence, exit status 2, and the run goes on after."""

import json

import pytest
from fault_kit import CANNOT, TINY, contents, digest, load_toy, refused

toy = load_toy()
STEPS = 12


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert server.run("toy", workdir, STEPS).status == 0
    return toy.result_of(workdir, STEPS)


def skip_if_impossible(ended) -> None:
    if ended.status == CANNOT:
        pytest.skip(ended.out.strip())


def steps_saved(workdir) -> list[int]:
    folders = (workdir / "checkpoints").iterdir()
    return sorted(int(path.name) for path in folders if path.name.isdigit())


@pytest.mark.parametrize(
    "phase, occurrence, size, sentence, saved",
    [
        ("save", 2, 0, "checkpoint of step 8 cannot be written .*: File too large; make room", [4]),
        ("save", 2, 100, "checkpoint of step 8 cannot be written .*: File too large", [4]),
        ("finish", 2, 10, "checkpoint of step 8 cannot be written .*: File too large", [4]),
        ("log", 2, 100, "metrics.jsonl cannot be read or written: File too large", [4, 8]),
    ],
)
def test_no_room_for_a_file(
    server, undisturbed, tmp_path, phase, occurrence, size, sentence, saved
):
    ended = server.run("toy", tmp_path, STEPS, at=[[phase, occurrence, "limit", size]])
    refused(ended, sentence)
    assert steps_saved(tmp_path) == saved
    ended = server.run("toy", tmp_path, STEPS)  # there is room again
    assert (ended.status, ended.err) == (0, "")
    assert f"continuing from step {saved[-1]} of {STEPS}" in ended.out
    assert toy.result_of(tmp_path, STEPS) == undisturbed


@pytest.mark.parametrize("leave", [0, 9000])
def test_full_file_system(server, undisturbed, tmp_path, leave):
    """A small one of its own, filled while the second checkpoint is written, and emptied after."""
    ended = server.run(
        "refilled",
        tmp_path,
        STEPS,
        mounts=[["tmpfs", str(tmp_path), 2_000_000]],
        at=[["save", 2, "fill", str(tmp_path), leave]],
    )
    skip_if_impossible(ended)
    assert ended.status == 0, ended
    refused(ended._replace(status=2), "checkpoint of step 8 .*: No space left on device; make room")
    told, _, found = ended.out.partition("\n")
    assert told == f"continuing from step 4 of {STEPS}"
    assert json.loads(found) == digest(undisturbed)


def test_no_room_for_the_model(server, model, tmp_path):
    workdir = tmp_path / "run"
    ended = server.run("launched", *TINY, f"--workdir={workdir}", at=[["model", 1, "limit", 50]])
    refused(ended, "File too large")
    assert not (workdir / "model").exists()
    ended = server.run("launched", *TINY, f"--workdir={workdir}")
    assert (ended.status, ended.err) == (0, "")
    assert contents(workdir / "model") == model


@pytest.mark.parametrize("begun", [False, True])
def test_read_only_workdir(server, tmp_path, begun):
    workdir = tmp_path / "run"
    workdir.mkdir()
    if begun:
        (workdir / "checkpoints").mkdir()
        (workdir / "config.json").write_text("{}")
    mounts = [["readonly", str(workdir)]]
    ended = server.run("launched", *TINY, f"--workdir={workdir}", mounts=mounts)
    skip_if_impossible(ended)
    refused(ended, "workdir .* cannot be used: Read-only file system; choose another --workdir")


@pytest.mark.parametrize("phase, occurrence", [("step", 6), ("save", 2), ("finish", 2)])
def test_workdir_that_is_deleted_under_the_run(server, tmp_path, phase, occurrence):
    workdir = tmp_path / "run"
    workdir.mkdir()
    ended = server.run("toy", workdir, STEPS, at=[[phase, occurrence, "remove", str(workdir)]])
    refused(ended, f"{workdir}/checkpoints was deleted under the run; the same command starts anew")
