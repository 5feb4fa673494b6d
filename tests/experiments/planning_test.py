"""Which cells of a sweep share a program, how many at a time, and what is refused beforehand."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from configs import gatys
from experiments import _lanes, _launches, _planning, sweep
from jaxstyle import runtime
from jaxstyle.sweeps import lanes, plan
from jaxstyle.types import InputError

pytestmark = pytest.mark.usefixtures("toy", "forgotten")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def forgotten():
    """Begin and end without programs and pictures of other tests."""
    _launches.forget()
    yield
    _launches.forget()


@pytest.fixture
def base(changed, pictures, monkeypatch):
    """A recipe of four steps of Adam, in the folder of the pictures."""
    monkeypatch.chdir(pictures)
    return changed(
        gatys.get_config("smoke"),
        {
            "content": "content.png",
            "style": "style.png",
            "size": "32",
            "objective.content_layers": ("relu2_1",),
            "objective.style_layers": ("relu1_1", "relu2_1"),
            "solver.optimizer": "adam",
            "solver.learning_rate": 0.02,
        },
    )


@dataclasses.dataclass
class Machine:
    """What programs take, and what is free."""

    lane: int = 100
    free: float = 1e9
    compiled: list = dataclasses.field(default_factory=list)

    def group_of(self, wide, sample, steps):
        def program(form, count):
            self.compiled.append((form, count))
            return types.SimpleNamespace(bytes=self.lane * count)

        return types.SimpleNamespace(program=program, params={})


@pytest.fixture
def machine(monkeypatch):
    """Programs that are not compiled, on a machine whose memory is known."""
    machine = Machine()
    monkeypatch.setattr(_launches, "group_of", machine.group_of)
    monkeypatch.setattr(runtime, "needed_memory", lambda program: program.bytes)
    monkeypatch.setattr(runtime, "free_memory", lambda: machine.free)
    return machine


def groups_of(config, *texts, shards=1, **request):
    asked = _planning.Request(texts, **request)
    return _planning.groups_of(config, _planning.cells_of(config, asked), asked, shards)


def only(groups):
    (group,) = groups
    return group


# Which cells share a program.

TRACED = [
    "objective.alpha=0.1,1",
    "objective.beta=1,10;objective.tv=0,1",
    "objective.style_layers=relu1_1,relu1_1+relu2_1,relu1_2",
    "objective.content_layers=relu1_2,relu2_1",
    "objective.content_layer_weights=(),(1.0,)",
    "objective.style_layer_weights=(1.0,1.0),(1.0,3.0)",
    "objective.weighting=equal,geometric",
    "solver.learning_rate=0.01,0.1",
    "seed=0..2",
    "start=content,noise,style,gray,red.png",
    "style=style.png,red.png,red_and_blue.png",
    "style_scale=0.6,1",
    "content=content.png,gray.png",
    "color.style='',cholesky,luminance",
    "color.result='',match,style",
]
STATIC = [
    ("size=32,40", 2),
    ("content=content.png,red.png,blue.png", 2),  # another aspect
    ("objective.style_statistic=gram,moments,wasserstein", 3),
    ("objective.content_layers=(),relu1_1,relu2_1", 2),
    ("objective.style_layers=(),relu1_1,relu2_1", 2),
    ("objective.content_normalize=scale_free,mean", 2),
    ("objective.chain=0,1,2", 3),
    ("objective.shift=0,-1", 2),
    ("solver.optimizer=adam,lbfgs", 2),
    ("solver.schedule=constant,cosine", 2),
    ("solver.parameters=pixels,sigmoid", 2),
    ("steps=4,6", 2),
    ("margin=0..2", 3),
    ("features.pooling='',average", 2),
    ("scales.smallest=0,24", 2),
    ("mask_mode=simple,inside", 2),
]


def test_every_traced_key_is_tried(base):
    tried = {part.partition("=")[0] for text in TRACED for part in text.split(";")}
    own = {"style_weights", "masks", "style_masks"}  # of several styles, below
    assert tried | own == set(_lanes.TRACED)


@pytest.mark.parametrize("text", TRACED)
def test_what_is_traced_shares_a_program(base, machine, text):
    group = only(groups_of(base, text))
    assert group.cells == list(range(len(group.cells))) and len(group.cells) > 1
    assert group.form == lanes.VMAP


@pytest.mark.parametrize(("text", "count"), STATIC)
def test_what_is_static_makes_another_program(base, machine, text, count):
    groups = groups_of(base, text, "seed=0,1")
    assert len(groups) == count
    assert sorted(index for group in groups for index in group.cells) == list(
        range(sum(len(group.cells) for group in groups))
    )
    for group in groups:  # the seeds stay together
        assert all(index ^ 1 in group.cells for index in group.cells)


STYLES = {"style": ("red_and_blue.png", "blue.png"), "masks": ("left.png", "rest")}
OF_STYLES = (
    "style_weights=(),1+3",
    "masks=left.png+rest,rest+left.png",
    "style_masks=(),left_of_style.png+''",
)


def test_several_styles_share_their_weights_and_masks(base, changed, machine):
    assert len(only(groups_of(changed(base, STYLES), *OF_STYLES)).cells) == 8


def test_what_patches_are_taken_of_decides_where_they_are_counted(base, changed, machine):
    text = "style=style.png,red.png,blue.png"
    assert [group.cells for group in groups_of(base, text)] == [[0, 1, 2]]
    base = changed(base, {"objective.style_statistic": "patches"})
    assert [group.cells for group in groups_of(base, text)] == [[0], [1, 2]]
    assert len(groups_of(base, "style_scale=0.6,1")) == 2


def test_which_layers_are_chained_is_in_the_program(base, changed, machine):
    text = "objective.style_layers=relu1_1+relu2_1,relu1_2+relu2_1"
    assert len(groups_of(base, text)) == 1
    base = changed(base, {"objective.chain": 0.5})
    assert len(groups_of(base, text)) == 2
    assert len(groups_of(base, "objective.beta=1,2")) == 1


def test_programs_are_those_of_all_that_is_swept(base, machine):
    texts = ("size=32,40", "objective.beta=1,2", "solver.optimizer=adam,lbfgs")
    groups = groups_of(base, *texts)
    assert [group.cells for group in groups] == [[0, 2], [1, 3], [4, 6], [5, 7]]


OF_ONE = (
    "style=style.png,red_and_blue.png;style_scale=1,0.7",
    "start=noise,content;seed=1,2",
    "objective.style_layers=relu1_1,relu2_1;objective.content_layers=relu1_2,relu2_1",
)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({}, OF_ONE),
        ({"objective.style_statistic": "wasserstein"}, OF_ONE),
        ({"objective.style_statistic": "sliced"}, OF_ONE),
        (STYLES, OF_STYLES),
    ],
    ids=["gram", "wasserstein", "sliced", "regions"],
)
def test_cells_that_share_a_program_can_be_painted_by_it(base, changed, change, texts):
    """Whatever differs between lanes, one call paints them."""
    base = changed(base, {"save_every": 1, **change})
    request = _planning.Request(texts)
    cells = _planning.cells_of(base, request)
    pieces = _planning.pieces_of(base, cells)
    first, losses = pieces[0].scales[-1].scene.content.shape, []
    groups = _planning.groups_of(base, cells, request, 1)
    for group in groups:
        assert group.form == lanes.VMAP and group.bytes > 0
        own = [pieces[index] for index in group.cells]
        wide = _lanes.together([piece.config for piece in own])
        lanes_of = [_lanes.Cell(piece.config, piece.scales[-1].scene) for piece in own]
        work = _launches.group_of(wide, lanes_of[0], base.steps).work(lanes_of, group.form)
        state, history = work.advance(work.start(), 0, 1)
        assert work.picture(state).shape == (len(own), *first)
        losses += np.asarray(history)[:, 0].tolist()
    assert np.isfinite(losses).all() and len(set(losses)) == len(cells) == 8
    parted = {"sliced"} & set(change.values())  # as many values are sorted as a style has
    assert len(groups) == (2 if parted else 1)


# How many at a time.


def test_lanes_are_those_of_the_rule(base, machine):
    group = only(groups_of(base, "seed=0..9"))
    assert (group.form, group.lanes) == ("vmap", 5) == ("vmap", plan.lane_count(10, 8))
    assert group.bytes == 500 and machine.compiled[0] == ("vmap", 5)
    assert group.why == lanes.choose("cpu", 24 * 32).why
    assert only(groups_of(base, "seed=0..2")).lanes == 3


@pytest.mark.parametrize(("shards", "most"), [(1, 8), (2, 4), (3, 3), (4, 2), (8, 1), (99, 1)])
def test_every_shard_gets_something(base, machine, shards, most):
    group = only(groups_of(base, "seed=0..7", shards=shards))
    assert group.lanes == plan.lane_count(8, most) <= most


def test_what_is_asked_for_is_done(base, machine):
    for asked, got in ((1, 1), (3, 3), (4, 3), (9, 9), (50, 9)):
        group = only(groups_of(base, "seed=0..8", lanes=asked, shards=4))
        assert (group.lanes, group.form, group.why) == (got, "vmap", "as asked")
    group = only(groups_of(base, "seed=0..7", form="map"))
    assert (group.lanes, group.form, group.why) == (8, "map", "as asked")
    group = only(groups_of(base, "seed=0..7", form="loop", lanes=4))
    assert (group.lanes, group.form) == (1, "loop")


@pytest.mark.parametrize(
    "change",
    [{"solver.optimizer": "lbfgs", "solver.line_search": "zoom"}, {"features.rows": 64}],
    ids=str,
)
def test_what_lanes_would_slow_down_is_done_one_by_one(base, changed, machine, change):
    base = changed(base, change)
    group = only(groups_of(base, "seed=0..7"))
    assert (group.form, group.lanes) == ("loop", 1)
    group = only(groups_of(base, "seed=0..7", form="vmap"))  # who asks gets it
    assert (group.form, group.lanes) == ("vmap", 1)


@pytest.mark.parametrize(
    ("free", "lanes_", "why"),
    [
        (1000, 8, "faster together"),  # 800 of 0.8 * 1000
        (999, 4, "what the memory holds"),  # 7 fit; of 4 to 7, no other wastes so little
        (500, 4, "what the memory holds"),
        (450, 2, "what the memory holds"),
        (130, 1, "what the memory holds"),
        (101, 1, "what the memory holds"),  # all that is free but no more
    ],
)
def test_lanes_are_what_the_memory_holds(base, machine, free, lanes_, why):
    machine.free = free
    group = only(groups_of(base, "seed=0..7"))
    assert (group.lanes, group.bytes) == (lanes_, 100 * lanes_)
    assert why in group.why


def test_what_cannot_fit_is_refused(base, machine):
    machine.free = 99
    with pytest.raises(InputError, match=r"32x24 pixels need .* GB are free; .* features.rows=64"):
        groups_of(base, "seed=0..7")
    machine.free = 500
    with pytest.raises(InputError, match="need"):
        groups_of(base, "seed=0..7", lanes=8)
    assert only(groups_of(base, "seed=0..7", lanes=4)).lanes == 4


def test_another_machines_memory_is_not_looked_at(base, machine):
    machine.free = 1
    group = only(groups_of(base, "seed=0..7", executor="ray", ray_cpus=1e9))
    assert (group.form, group.lanes, group.bytes) == ("vmap", 8, 0)
    group = only(groups_of(base, "seed=0..31", executor="ray", ray_gpus=1.0))
    assert (group.lanes, group.why) == (4, "one program on the gpu")  # eight tasks
    assert machine.compiled == []


def test_other_experiments_run_each_cell_by_itself(base, changed, machine):
    with base.unlocked():
        base.experiment = "paint_grid"
    groups = groups_of(base, "seed=0..2")
    assert [(group.cells, group.form, group.lanes) for group in groups] == [
        ([number], _launches.ALONE, 1) for number in range(3)
    ]
    assert machine.compiled == []


# Cells.


def test_cells_are_all_combinations_of_flags_and_named_sweeps(base):
    named = {"mine": [{"seed": 5, "start": "noise"}, {"seed": 6, "start": "gray"}]}
    request = _planning.Request(("objective.beta=1,2", "mine"), named)
    assert _planning.cells_of(base, request) == [
        {"objective.beta": 1.0, "seed": 5, "start": "noise"},
        {"objective.beta": 1.0, "seed": 6, "start": "gray"},
        {"objective.beta": 2.0, "seed": 5, "start": "noise"},
        {"objective.beta": 2.0, "seed": 6, "start": "gray"},
    ]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"texts": ("experiment=paint_grid,dream",)}, "the experiment cannot be swept"),
        ({"texts": ("seed=1", "seed=2")}, "seed is swept twice"),
        ({"texts": ("seed=1,x",)}, "'x' is not a whole number"),
        ({"executor": "rya"}, "unknown executor 'rya'; did you mean 'ray'"),
        ({"form": "vamp"}, "did you mean 'vmap'"),
        ({"lanes": -1}, "--sweep_lanes is -1; give 1 or more, or 0 to leave it open."),
        ({"shard": "3/2"}, "3/2"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_is_refused(base, tmp_path, request_, sentence):
    request = _planning.Request(**{"texts": ("seed=1,2",), **request_})
    with pytest.raises(InputError) as caught:
        sweep.run(base, str(tmp_path / "sweep"), request)
    assert sentence in str(caught.value)
    assert not (tmp_path / "sweep").exists()


BAD = {
    "content=content.png,nowhere.png": "nowhere.png",
    "style=style.png,stary": "stary",
    "size=32,20": "at least 16 each way",
    "objective.beta=1,-1": "-1",
    "objective.beta=1,1e39": "",
    "objective.style_statistic=gram,garm": "did you mean 'gram'",
    "objective.style_layers=relu1_1,relu9_1": "relu9_1",
    "objective.content_layers=relu1_1,relu9_1": "relu9_1",
    "solver.learning_rate=0.1,-1": "the learning rate is -1.0",
    "solver.optimizer=adam,admm": "did you mean 'adam'",
    "margin=0,-1": "margin is -1",
    "steps=4,0": "steps is 0",
    "start=content,nosie": "did you mean 'noise'",
    "start=content,nowhere.png": "nowhere.png",
    "color.style='',coleskhy": "did you mean 'cholesky'",
    "masks='',red.png": "",
    "seed=1,4294967296": "",
    "features.rows=0,-1": "features.rows is -1",
    "features.dtype=float32,float61": "float61",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_cell_is_named_before_a_folder_is_made(base, tmp_path, text):
    request = _planning.Request((text,))
    with pytest.raises(InputError) as caught:
        sweep.run(base, str(tmp_path / "sweep"), request)
    name = plan.cell_name(1, _planning.cells_of(base, request)[1])
    assert str(caught.value).startswith(f"cell {name}: ")
    assert BAD[text] in str(caught.value)
    assert not (tmp_path / "sweep").exists()


# Dry runs.


def test_a_dry_run_tells_and_computes_nothing(base, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.setattr(lanes, "paint_lanes", fail)
    monkeypatch.setattr(_lanes.Group, "work", fail)
    monkeypatch.setattr(sweep, "open_store", fail)
    request = _planning.Request(("size=32,40", "objective.beta=0.5,1,2"), dry_run=True)
    assert sweep.run(base, str(tmp_path / "sweep"), request) == 0
    assert not (tmp_path / "sweep").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "6 cells:",
        "     0  size=32, objective.beta=0.5",
        "     1  size=32, objective.beta=1",
    ]
    for number in (1, 2):
        assert lines[6 + number].startswith(f"group {number}: 3 cells in 1 launch of 3 lanes, vmap")
        assert lines[6 + number].endswith(" GB")
    assert lines[9].startswith("2 programs to compile, ")
    assert lines[9].endswith(" GB at most; nothing was computed") and len(lines) == 10


def test_a_dry_run_counts_the_programs_of_scales_and_last_steps(base, changed, machine, capsys):
    base = changed(base, {"size": "64", "scales.smallest": 32, "scales.ratio": 2.0})
    base = changed(base, {"steps": 5, "save_every": 3})
    assert sweep.run(base, "", _planning.Request(("seed=0..24",), dry_run=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "25 cells:" and lines[20:22] == ["    19  seed=19", "  ... and 5 more"]
    assert lines[22].startswith("group 1: 25 cells in 5 launches of 5 lanes, vmap (faster")
    assert lines[23].startswith("4 programs to compile, ")  # two sizes, 3 steps and the last 2


def test_a_dry_run_of_other_experiments(base, changed, capsys):
    with base.unlocked():
        base.experiment = "paint_grid"
    assert sweep.run(base, "", _planning.Request(("seed=0,1",), dry_run=True)) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "group 1: 1 cell, a run of its own",
        "group 2: 1 cell, a run of its own",
        "each cell compiles as a run of `paint_grid` does; nothing was computed",
    ]
