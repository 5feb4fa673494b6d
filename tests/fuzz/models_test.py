"""Model folders from anywhere: a card that lies and weights that do not fit are refused."""

import json

import fuzz_kit
import fuzz_seeds
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle import networks
from jaxstyle.io import models
from jaxstyle.methods.feedforward import StyleModel
from jaxstyle.types import InputError

CONFIG = networks.TransformerConfig(widths=(2, 2), blocks=1, outer_kernels=(3, 3))
SHAPES = jax.eval_shape(lambda: networks.init(jax.random.key(0), CONFIG))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The files of a model."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), SHAPES)
    model = StyleModel(zeros, CONFIG)
    models.save_model(folder, model, {"style": {"title": "\udcff.jpg"}})
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_name_that_is_no_utf8_is_kept(tmp_path, whole):
    whole[models.CARD].decode("utf-8")
    card = models.load_card(_put(tmp_path / "model", whole))
    assert card["style"]["title"] == "\udcff.jpg"


def test_damaged_files(tmp_path, whole):
    @fuzz_kit.fuzzed(80)
    @given(name=st.sampled_from([models.CARD, models.WEIGHTS]), changes=fuzz_kit.edits())
    def look(name, changes):
        damaged = fuzz_kit.damaged(whole[name], changes)
        fuzz_kit.tried(models.load_model, _put(tmp_path / "model", whole | {name: damaged}))

    look()


@pytest.mark.parametrize(
    "described",
    [
        {"blocks": 10**6},
        {"blocks": True},
        {"blocks": -1},
        {"widths": [10**9] * 3},
        {"widths": [2] * 100_000},
        {"widths": {"a": 1}},
        {"widths": [2**70]},
        {"decoder_widths": [10**9, 10**9]},
        {"outer_kernels": [10**9 + 1, 9]},
        {"norm": []},
        {"norm": {}},
        {"padding": None},
        {"norm_epsilon": 10**400},
        {"value_range": -1},
        {"input_mean": ["a", "b", "c"]},
        {"network": ["transformer"]},
        {"unknown": 1},
    ],
    ids=lambda described: str(described)[:40],
)
def test_impossible_architectures(tmp_path, whole, described):
    card = json.loads(whole[models.CARD])
    card["architecture"] |= described
    folder = _put(tmp_path / "model", whole | {models.CARD: json.dumps(card).encode()})
    refusal = fuzz_kit.tried(models.load_model, folder)
    assert isinstance(refusal, InputError)


@pytest.mark.parametrize("kind", ["F64", "F16", "BF16", "I32", "BOOL", "F8_E4M3"])
def test_weights_of_other_kinds(tmp_path, whole, kind):
    sizes = {"F64": 8, "F16": 2, "BF16": 2, "I32": 4, "BOOL": 1, "F8_E4M3": 1}
    header, at = {}, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(SHAPES):
        name = "/".join(entry.key for entry in path)
        size = int(np.prod(leaf.shape)) * sizes[kind]
        header[name] = {"dtype": kind, "shape": leaf.shape, "data_offsets": [at, at + size]}
        at += size
    content = fuzz_seeds.safetensors_file(header, bytes(at))
    fuzz_kit.tried(models.load_model, _put(tmp_path / "model", whole | {models.WEIGHTS: content}))
