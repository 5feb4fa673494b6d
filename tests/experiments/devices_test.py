"""Runs whose picture is divided among devices: as on one, and to be continued on one."""

import json
import shutil
import types

import jax
import numpy as np
import pytest
from PIL import Image

from configs import gatys as recipe
from experiments import _lanes, _memory, _work, paint_picture
from jaxstyle import runtime
from jaxstyle.types import InputError


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def _config(pictures, changed, devices, **changes):
    config = recipe.get_config("smoke")
    own = {
        "content": str(pictures / "content.png"),
        "style": str(pictures / "style.png"),
        "size": "88",  # 66 rows and the margins: 70, which four devices do not share evenly
        "objective.content_layers": ("relu1_2",),
        "objective.style_layers": ("relu1_1", "relu2_1"),
        "solver.memory": 3,
        "features.devices": devices,
    }
    return changed(config, own | changes)


def _seen(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return np.asarray(Image.open(folder / "picture.png"), int), lines


def _alike(folder, other):
    (picture, lines), (theirs, others) = _seen(folder), _seen(other)
    assert picture.shape == theirs.shape == (66, 88, 3)
    assert np.abs(picture - theirs).max() <= 1
    assert [line["step"] for line in lines] == [line["step"] for line in others] == [2, 4]
    for line, wanted in zip(lines, others, strict=True):
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_four_devices_paint_what_one_does_and_one_continues(toy, pictures, changed, tmp_path):
    four, one = tmp_path / "four", tmp_path / "one"
    assert paint_picture.run(_config(pictures, changed, 4), four) == 0
    assert paint_picture.run(_config(pictures, changed, 1), one) == 0
    _alike(four, one)
    shutil.rmtree(four / "checkpoints" / "00000004")
    (four / "picture.png").unlink()
    assert paint_picture.run(_config(pictures, changed, 1), four) == 0  # from step 2
    _alike(four, one)


@pytest.mark.parametrize(
    ("changes", "regions", "message"),
    [
        ({"features.rows": 64}, (), "computed in strips cannot be divided"),
        ({"objective.style_statistic": "patches"}, (), "asked for 'patches' cannot be divided"),
        ({"objective.style_statistic": "sliced"}, (), "asked for 'sliced' cannot be divided"),
        ({"objective.chain": 1.0}, (), "asked for chains of layers cannot be divided"),
        ({}, ("sky", "ground"), "matched in regions cannot be divided"),
        ({"features.devices": 99}, (), "features.devices is 99, but there are "),
        ({"features.devices": 4, "size": "60"}, (), "too few for 4 devices"),
    ],
)
def test_what_cannot_be_divided_is_refused(pictures, changed, changes, regions, message):
    config = _config(pictures, changed, 4, **changes)
    height = 49 if "size" in changes else 70
    with pytest.raises(InputError) as raised:
        _work.rows_of(config, types.SimpleNamespace(regions=regions), height)
    assert message in str(raised.value)
    assert "set" in str(raised.value) or "give" in str(raised.value)


def test_a_sweep_paints_on_one_device(pictures, changed):
    config = _config(pictures, changed, 4)
    with pytest.raises(InputError, match="a sweep paints on one device; set features.devices to 1"):
        _lanes.Group(config, None, None, 4)


def test_virtual_devices_share_one_memory(monkeypatch):
    monkeypatch.setattr(runtime, "needed_memory", lambda program: 3_000_000_000)
    monkeypatch.setattr(runtime, "free_memory", lambda: 10_000_000_000)
    _memory.check(None, (64, 64, 3), {}, devices=3)
    with pytest.raises(InputError, match=r"need 12.0 GB, but 10.0 GB are free"):
        _memory.check(None, (64, 64, 3), {}, devices=4)
