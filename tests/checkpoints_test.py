"""Checkpoints: every bit comes back, damage is noticed, and a kill leaves what was there."""

import dataclasses
import functools
import json
import pathlib
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

from jaxstyle import array_files
from jaxstyle.checkpoints import Checkpointer, load_params
from jaxstyle.types import InputError


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "opt_state", "extra"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class ToyState:
    step: jax.Array
    params: dict
    opt_state: object
    extra: dict


def make_state(seed: int, width: int = 5) -> ToyState:
    """A state of every kind of leaf, its bits decided by the seed."""
    keys = jax.random.split(jax.random.key(seed), 4)
    params = {
        "conv": {"kernel": jax.random.normal(keys[0], (3, 3, 2, width)), "bias": jnp.zeros(width)},
        "scale": [jax.random.normal(keys[1], ()), jnp.float32(-0.0)],
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    extra = {
        "key": keys[2],
        "keys": jax.random.split(keys[3], 2),
        "half": jax.random.normal(keys[3], (7,), jnp.bfloat16),
        "best": jnp.float32(jnp.inf),
        "tiny": jnp.float32(1e-42),
        "seen": jnp.arange(3, dtype=jnp.uint8) + seed,
        "done": jnp.bool_(seed % 2),
    }
    return ToyState(jnp.int32(seed), params, optimizer.init(params), extra)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert jax.random.key_impl(x) == jax.random.key_impl(y)
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    """A workdir with checkpoints of steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpointer = Checkpointer(workdir)
    for step in (1, 2):
        checkpointer.save(step, make_state(step), {"position": step * 10})
    return workdir


@pytest.fixture
def copied(two_saved, tmp_path):
    return shutil.copytree(two_saved, tmp_path / "run")


def test_every_bit_comes_back(two_saved):
    like = make_state(0)
    step, state, notes = Checkpointer(two_saved).restore_latest(like)
    assert step == 2 and notes == {"position": 20}
    assert_same_bits(state, make_state(2))
    for leaf, model in zip(jax.tree.leaves(state), jax.tree.leaves(like), strict=True):
        assert leaf.committed == model.committed is False
    assert_same_bits(like, make_state(0))


def test_restored_leaves_are_on_the_devices_asked_for(two_saved):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    other = jax.devices()[3]
    for place in (spread, other):
        state = Checkpointer(two_saved).restore_latest(jax.device_put(make_state(0), place)).state
        assert_same_bits(state, make_state(2))
        devices = set(jax.devices()) if place is spread else {other}
        assert all(leaf.devices() == devices and leaf.committed for leaf in jax.tree.leaves(state))


def test_notes_come_back_as_json(tmp_path):
    notes = {"none": None, "list": [1, [2.5, "é"]], "empty": {}, "large": 2**70, "1": False}
    Checkpointer(tmp_path).save(3, {"w": jnp.ones(2)}, notes)
    assert Checkpointer(tmp_path).restore_latest({"w": jnp.zeros(2)}).notes == notes


def test_nothing_saved_gives_none(tmp_path):
    assert Checkpointer(tmp_path / "new").restore_latest({"w": jnp.zeros(1)}) is None


@pytest.mark.parametrize("keep", [1, 3])
def test_latest_are_kept(tmp_path, keep):
    checkpointer = Checkpointer(tmp_path, keep=keep)
    for step in (2, 9, 10, 100):
        checkpointer.save(step, {"w": jnp.ones(2) * step}, {})
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["00000002", "00000009", "00000010", "00000100"][-keep:]
    with pytest.raises(InputError, match="keep is 0"):
        Checkpointer(tmp_path, keep=0)


def test_same_step_is_replaced(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    for value in (1.0, 2.0):
        checkpointer.save(5, {"w": jnp.full(2, value)}, {"value": value})
    step, state, notes = checkpointer.restore_latest({"w": jnp.zeros(2)})
    assert (step, state["w"].tolist(), notes) == (5, [2.0, 2.0], {"value": 2.0})


def damages(file: pathlib.Path):
    """Yield a name and the content a damaged file has; None where it is gone."""
    content = file.read_bytes()
    yield "gone", None
    yield "longer", content + b"\0"
    if content:
        middle = len(content) // 2
        yield "empty", b""
        yield "cut", content[:middle]
        yield "bit", content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_damage_to_any_file_is_noticed(copied, monkeypatch):
    latest = copied / "checkpoints" / "00000002"
    loads = []
    monkeypatch.setattr(
        array_files, "load", lambda path, like: loads.append(path.parent.name) or like
    )  # whatever passes the checks would be loaded
    files = [file for file in sorted(latest.rglob("*")) if file.is_file()]
    assert len(files) >= 8
    for file in files:
        content = file.read_bytes()
        for what, damaged in damages(file):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            said = []
            restored = Checkpointer(copied, say=said.append).restore_latest(make_state(0))
            assert (restored.step, loads.pop()) == (1, "00000001"), (file, what)
            assert len(said) == 1 and str(latest) in said[0] and "continues from step 1" in said[0]
            latest.with_name("00000002.unreadable").rename(latest)
            file.write_bytes(content)
    assert not loads


def test_fallback_restores_the_older_one_and_forgets_the_damaged_one_later(copied):
    (copied / "checkpoints/00000002/files.json").unlink()
    said = []
    checkpointer = Checkpointer(copied, say=said.append)
    step, state, notes = checkpointer.restore_latest(make_state(0))
    assert step == 1 and notes == {"position": 10}
    assert_same_bits(state, make_state(1))
    (sentence,) = said
    assert "00000002 cannot be read (No such file or directory)" in sentence
    assert "\n" not in sentence

    def names():
        return sorted(path.name for path in (copied / "checkpoints").iterdir())

    assert names() == ["00000001", "00000002.unreadable"]
    # The set-aside one is not read again, even if it could be.
    assert Checkpointer(copied, say=said.append).restore_latest(make_state(0)).step == 1
    assert len(said) == 1
    checkpointer.save(2, make_state(2), {})
    assert names() == ["00000001", "00000002"]
    assert_same_bits(checkpointer.restore_latest(make_state(0)).state, make_state(2))


def test_all_damaged_is_an_error_and_touches_nothing(copied):
    for step in (1, 2):
        (copied / f"checkpoints/0000000{step}/record.json").write_text("{")
    message = r"no checkpoint in .* can be read \(the latest: record.json is damaged\); delete"
    with pytest.raises(InputError, match=message):
        Checkpointer(copied).restore_latest(make_state(0))
    assert sorted(path.name for path in (copied / "checkpoints").iterdir()) == [
        "00000001",
        "00000002",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: make_state(0, width=6), r"'params/conv/bias' is float32 5 in .* float32 6 here"),
        (
            lambda s: dataclasses.replace(s, step=jnp.float32(0)),
            r"'step' is a int32 scalar in .* and a float32 scalar here",
        ),
        (
            lambda s: dataclasses.replace(s, extra=s.extra | {"more": jnp.ones(2)}),
            r"has no 'extra/more'",
        ),
        (
            lambda s: dataclasses.replace(s, extra={}),
            r"has 'extra/best', which is unknown here",
        ),
    ],
)
def test_another_state_is_refused_by_name(copied, change, message):
    with pytest.raises(InputError, match=message) as caught:
        Checkpointer(copied).restore_latest(change(make_state(0)))
    assert "\n" not in str(caught.value)
    assert (copied / "checkpoints/00000002").is_dir()


def test_leftovers_of_a_kill_are_removed(copied):
    folder = copied / "checkpoints"
    shutil.copytree(folder / "00000002", folder / "00000003.draft")
    shutil.copytree(folder / "00000002", folder / "00000000.discarded")
    (folder / "00000000.discarded" / "record.json").unlink()
    (folder / "mine.txt").write_text("not ours")
    assert Checkpointer(copied).restore_latest(make_state(0)).step == 2
    assert sorted(p.name for p in folder.iterdir()) == ["00000001", "00000002", "mine.txt"]


def test_failed_save_says_so_in_one_line_and_keeps_what_was_there(copied, capfd, caplog):
    large = {"w": jax.random.normal(jax.random.key(0), (100_000,))}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # bytes per file
    try:
        message = "checkpoint of step 3 cannot be written to .*: File too large; make room there"
        with pytest.raises(InputError, match=message):
            Checkpointer(copied).save(3, large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr() == ("", "") and not caplog.records
    assert sorted(path.name for path in (copied / "checkpoints").iterdir()) == [
        "00000001",
        "00000002",
    ]
    assert Checkpointer(copied).restore_latest(make_state(0)).step == 2


def test_what_the_user_did_not_cause_is_not_put_on_the_disk(copied, monkeypatch):
    def fail(path, state):
        raise ValueError("a bug")

    monkeypatch.setattr(ocp, "save", fail)
    with pytest.raises(ValueError, match="a bug") as caught:
        Checkpointer(copied).save(3, make_state(3), {})
    assert not isinstance(caught.value, InputError)
    assert not (copied / "checkpoints/00000003.draft").exists()


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/checkpoints cannot be made: Not a directory"):
        Checkpointer(tmp_path / "file")


@pytest.mark.parametrize("where", [".", "checkpoints", "checkpoints/00000002"])
def test_load_params_takes_the_parameters_alone(two_saved, where):
    like = make_state(0).params
    params = load_params(two_saved / where, like)
    assert_same_bits(params, make_state(2).params)
    assert not any(leaf.committed for leaf in jax.tree.leaves(params))


def test_load_params_of_one_checkpoint_and_in_another_precision(two_saved):
    like = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), make_state(0).params)
    params = load_params(two_saved / "checkpoints/00000001", like)
    expected = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), make_state(1).params)
    assert_same_bits(params, expected)


def test_load_params_goes_past_a_damaged_checkpoint_and_leaves_it(copied):
    (copied / "checkpoints/00000002/record.json").unlink()
    assert_same_bits(load_params(copied, make_state(0).params), make_state(1).params)
    assert (copied / "checkpoints/00000002").is_dir()
    (copied / "checkpoints/00000001/record.json").unlink()
    with pytest.raises(InputError, match=r"can be read \(record.json is missing\)"):
        load_params(copied, make_state(0).params)


def test_load_params_names_the_first_that_disagrees(two_saved):
    params = make_state(0).params
    wider = make_state(0, width=6).params
    with pytest.raises(
        InputError, match="'params/conv/bias' is float32 5 in .* and float32 6 here"
    ):
        load_params(two_saved, wider)
    with pytest.raises(InputError, match="has no 'params/deconv'"):
        load_params(two_saved, params | {"deconv": jnp.ones(1)})
    with pytest.raises(InputError, match="has 'params/conv/bias', which is unknown here"):
        load_params(two_saved, {"scale": params["scale"]})


def test_load_params_of_nothing(tmp_path):
    for where in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no checkpoint to start from; give"):
            load_params(where, {})


def test_record_tells_what_is_inside(two_saved):
    record = json.loads((two_saved / "checkpoints/00000002/record.json").read_text())
    assert record["leaves"]["params/conv/kernel"] == ["float32", [3, 3, 2, 5]]
    assert record["leaves"]["extra/keys"] == ["key<fry>", [2]]
    assert record["notes"] == {"position": 20}
