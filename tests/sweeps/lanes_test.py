"""Several pictures in one program: the numbers of single runs, whatever happens to some of them."""

import dataclasses
import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle import optimize, painter
from jaxstyle.reporting.metrics_file import MetricsFile, read_metrics
from jaxstyle.sweeps import lanes
from jaxstyle.types import InputError

RNG = np.random.default_rng(3)
SOLVERS = {
    "adam": optimize.solver("adam", learning_rate=0.05, parameters="pixels", average=0.5),
    "lbfgs": optimize.solver("lbfgs", learning_rate=1.0, memory=3, parameters="pixels"),
}
FIRSTS = jnp.float32(RNG.uniform(0.2, 0.8, (5, 4, 5, 3)))
TARGETS = jnp.float32(RNG.uniform(0.2, 0.8, (5, 4, 5, 3)))
CURVATURE = jnp.float32(RNG.uniform(0.5, 3.0, (4, 5, 3)))


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Compile fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def bowl(image, context):
    """A quadratic, NaN within a distance of the target."""
    curvature, (target, radius) = context
    distance = jnp.sum(curvature * (image - target) ** 2) / 2
    value = jnp.where(jnp.max(jnp.abs(image - target)) < radius, jnp.nan, distance)
    return value, {"bowl": value, "far": jnp.max(jnp.abs(image - target))}


def measured(solver, state, context):
    total, terms = bowl(optimize.picture(state, solver), context)
    return {"loss": total, **terms}


@functools.cache
def single_programs(solver):
    advance = functools.partial(optimize.advance, loss=bowl, solver=solver)
    return (
        jax.jit(advance, static_argnames="steps", donate_argnums=0),
        jax.jit(functools.partial(measured, solver)),
        jax.jit(lambda state: optimize.picture(state, solver)),
    )


def single(solver, lane, radius):
    """The work of a run of its own."""
    advance, measure, picture = single_programs(solver)
    context = (CURVATURE, (TARGETS[lane], jnp.float32(radius)))
    return painter.Work(
        advance=lambda state, steps: advance(state, context, steps=steps),
        measure=lambda state: measure(state, context),
        picture=picture,
        start=lambda: optimize.start(FIRSTS[lane], solver),
    )


@functools.cache
def programs(solver, form):
    def advance(state, shared, own, steps):
        def one(shared, lane):
            context = (shared, lane[1])
            return optimize.advance(lane[0], context, loss=bowl, solver=solver, steps=steps)

        return lanes.in_form(form, one)(shared, (state, own))

    measure = lanes.in_form(form, lambda shared, a: measured(solver, a[0], (shared, a[1])))
    return (
        jax.jit(advance, static_argnames="steps", donate_argnums=0),
        jax.jit(measure),
        jax.jit(jax.vmap(lambda state: optimize.picture(state, solver))),
    )


def several(solver, form, numbers, radii):
    """The work of some lanes."""
    advance, measure, picture = programs(solver, form)
    own = lanes.stacked([(TARGETS[n], jnp.float32(r)) for n, r in zip(numbers, radii, strict=True)])

    def start():
        return lanes.stacked([optimize.start(FIRSTS[number], solver) for number in numbers])

    return lanes.Work(
        advance=lambda state, step, steps: advance(state, CURVATURE, own, steps=steps),
        measure=lambda state: measure(CURVATURE, (state, own)),
        picture=picture,
        start=start,
    )


STEPS, CHUNK, SAVE = 11, 2, 4


def folders_in(folder, count):
    made = [folder / str(number) for number in range(count)]
    for each in made:
        each.mkdir(parents=True)
    return made


def paint(work, folder, count, *, before=0, report=lambda done: None, steps=STEPS):
    """Paint lanes; return the outcome and the bytes of every lane's metrics."""
    folders = [folder / str(number) for number in range(count)]
    if not folder.exists():
        folders_in(folder, count)
    outcome = lanes.paint_lanes(
        work,
        folders,
        steps=steps,
        chunk=CHUNK,
        save_every=SAVE,
        part=painter.Part(folder / "launch", before, before + steps),
        report=report,
    )
    return outcome, [metrics_in(each) for each in folders]


def metrics_in(folder):
    file = folder / painter.METRICS_FILE
    return file.read_bytes() if file.exists() else b""


def paint_alone(work, folder, *, before=0):
    folder.mkdir(parents=True)
    outcome = painter.paint(
        work,
        workdir=folder,
        steps=STEPS,
        chunk=CHUNK,
        save_every=SAVE,
        progress=False,
        part=painter.Part(folder, before, before + STEPS),
    )
    return outcome, metrics_in(folder)


def lane_of(state, lane):
    return jax.tree.map(lambda leaf: leaf[lane], state)


def same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(one), jax.tree.leaves(other))


# The forms.


@pytest.mark.parametrize("form", lanes.FORMS)
def test_a_form_computes_each_lane_with_what_is_shared(form):
    def function(shared, own):
        picture, (scale, number) = own
        return {"a": shared["w"] @ picture * scale, "b": (number + 1, 3)}

    shared = {"w": jnp.float32(RNG.normal(size=(2, 4)))}
    count = 1 if form == "loop" else 3
    pictures = jnp.float32(RNG.normal(size=(count, 4, 5)))
    own = (pictures, (jnp.arange(1.0, count + 1), jnp.arange(count)))
    found = lanes.in_form(form, function)(shared, own)
    expected = np.stack([np.asarray(shared["w"]) @ p * (i + 1) for i, p in enumerate(pictures)])
    assert found["a"].shape == (count, 2, 5)
    np.testing.assert_allclose(found["a"], expected, rtol=1e-5, atol=1e-6)
    assert found["b"][0].tolist() == [i + 1 for i in range(count)]
    assert np.asarray(found["b"][1]).tolist() == [3] * count


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="unknown form 'vamp'; did you mean 'vmap'"):
        lanes.in_form("vamp", lambda shared, own: own)


def test_stacked_pytrees_come_apart_again():
    trees = [{"a": np.float32([i, 1]), "b": (i, jnp.int32(-i))} for i in range(3)]
    whole = lanes.stacked(trees)
    assert whole["a"].shape == (3, 2) and whole["b"][1].dtype == jnp.int32
    for number, tree in enumerate(trees):
        same_bits(lane_of(whole, number), tree)


@pytest.mark.parametrize(
    ("backend", "side", "how", "form", "lanes_"),
    [
        ("cpu", 64, {}, "vmap", 8),
        ("cpu", 192, {}, "vmap", 8),
        ("cpu", 193, {}, "map", 8),
        ("cpu", 512, {}, "map", 8),
        ("cpu", 513, {}, "loop", 1),
        ("cpu", 256, {"quasi_newton": True}, "vmap", 8),
        ("cpu", 257, {"quasi_newton": True}, "loop", 1),
        ("gpu", 2048, {"quasi_newton": True}, "vmap", 64),
        ("gpu", 64, {}, "vmap", 64),
        ("gpu", 2048, {}, "vmap", 64),
        ("tpu", 2048, {}, "vmap", 64),
        ("cpu", 64, {"searches": True}, "loop", 1),
        ("gpu", 64, {"searches": True}, "loop", 1),
        ("cpu", 64, {"strips": True}, "loop", 1),
        ("gpu", 64, {"strips": True}, "loop", 1),
    ],
)
def test_the_form_is_that_of_the_faster_program(backend, side, how, form, lanes_):
    choice = lanes.choose(backend, side * side, **how)
    assert (choice.form, choice.lanes) == (form, lanes_)
    assert choice.form in lanes.FORMS and choice.why


# Lanes are single runs.


@pytest.mark.parametrize(
    ("form", "name", "before"),
    [
        ("loop", "adam", 0),
        ("map", "lbfgs", 30),
        ("map", "adam", 0),
        ("vmap", "lbfgs", 0),
        ("vmap", "adam", 30),
    ],
)
def test_a_lane_leaves_what_a_run_of_its_own_leaves(tmp_path, form, name, before):
    solver = SOLVERS[name]
    numbers = [2] if form == "loop" else [0, 1, 2]
    work = several(solver, form, numbers, [0.0] * len(numbers))
    reported = []
    outcome, metrics = paint(
        work, tmp_path / "lanes", len(numbers), before=before, report=reported.append
    )
    assert reported == [before + step for step in (2, 4, 6, 8, 10, 11)]
    assert outcome.steps == [before + STEPS] * len(numbers) and outcome.signal is None
    assert outcome.statuses == [optimize.RUNNING] * len(numbers)
    pictures = work.picture(outcome.state)
    for lane, number in enumerate(numbers):
        alone, lines = paint_alone(
            single(solver, number, 0.0), tmp_path / f"alone{number}", before=before
        )
        if form == "loop":  # the program of a single run
            same_bits(lane_of(outcome.state, lane), alone.state)
            assert metrics[lane] == lines and lines.count(b"\n") == 6
        else:
            tolerance = {"rtol": 2e-4, "atol": 1e-5} if form == "vmap" else {"rtol": 1e-6}
            np.testing.assert_allclose(
                outcome.state.numbers[lane], alone.state.numbers, **tolerance
            )
            records = read_metrics(tmp_path / "lanes" / str(lane) / painter.METRICS_FILE)
            wanted = read_metrics(tmp_path / f"alone{number}" / painter.METRICS_FILE)
            assert [list(record) for record in records] == [list(record) for record in wanted]
            for record, want in zip(records, wanted, strict=True):
                tolerance = {"rtol": 1e-3, "atol": 1e-6} if form == "vmap" else {"rtol": 1e-6}
                np.testing.assert_allclose(list(record.values()), list(want.values()), **tolerance)
        np.testing.assert_allclose(
            pictures[lane], single(solver, number, 0.0).picture(alone.state), atol=2e-4
        )
        last = read_metrics(tmp_path / "lanes" / str(lane) / painter.METRICS_FILE)[-1]
        assert last.pop("step") == before + STEPS and outcome.metrics[lane] == last
        assert list(last) == ["loss", "bowl", "far"]


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("form", ["map", "vmap"])
def test_a_lane_that_goes_bad_stays_at_its_last_good_picture(tmp_path, form, name):
    """Lane 0 from the first step on, 1 on the way, 2 never."""
    solver, radii = SOLVERS[name], [9.0, 0.15, 0.0]
    work = several(solver, form, [0, 1, 2], radii)
    outcome, metrics = paint(work, tmp_path / "lanes", 3)
    bad = optimize.NOT_FINITE
    assert outcome.statuses == [bad, bad, optimize.RUNNING]
    assert outcome.steps[0] == 0 and 0 < outcome.steps[1] < STEPS - 1
    assert outcome.steps[2] == STEPS
    assert metrics[0] == b"" and outcome.metrics[0] == {}
    pictures = np.asarray(work.picture(outcome.state))
    np.testing.assert_array_equal(pictures[0], FIRSTS[0])
    assert np.isfinite(pictures).all()
    far = np.abs(np.asarray(outcome.state.numbers[1] - TARGETS[1])).max()
    assert 0.15 <= far < np.abs(np.asarray(FIRSTS[1] - TARGETS[1])).max()
    for lane, radius in enumerate(radii):
        alone, lines = paint_alone(single(solver, lane, radius), tmp_path / f"alone{lane}")
        assert (alone.step, alone.status) == (outcome.steps[lane], outcome.statuses[lane])
        np.testing.assert_allclose(
            outcome.state.numbers[lane], alone.state.numbers, rtol=2e-4, atol=1e-5
        )
        if form == "map":
            same_bits(lane_of(outcome.state, lane), alone.state)
            assert metrics[lane] == lines
        assert metrics[lane].count(b"\n") == lines.count(b"\n")


def test_a_lane_that_is_led_back_to_its_beginning_has_no_line(tmp_path):
    """Its second step is bad, so the first is not taken either; the loss before it was fine."""
    near = float(jnp.max(jnp.abs(FIRSTS[1] - TARGETS[1]))) - 0.02
    work = several(SOLVERS["adam"], "map", [0, 1, 2], [0.0, near, 0.0])
    outcome, metrics = paint(work, tmp_path / "lanes", 3)
    assert outcome.statuses[1] == optimize.NOT_FINITE and outcome.steps[1] == 0
    assert np.isfinite(work.measure(outcome.state)["loss"]).all()
    _, lines = paint_alone(single(SOLVERS["adam"], 1, near), tmp_path / "alone")
    assert metrics[1] == lines == b"" and outcome.metrics[1] == {}
    np.testing.assert_array_equal(work.picture(outcome.state)[1], FIRSTS[1])


def test_when_all_lanes_are_bad_nothing_more_is_computed(tmp_path):
    solver, reported = SOLVERS["adam"], []
    work = several(solver, "map", [0, 1], [9.0, 9.0])
    outcome, metrics = paint(work, tmp_path / "lanes", 2, report=reported.append)
    assert outcome.statuses == [optimize.NOT_FINITE] * 2 and outcome.steps == [0, 0]
    assert reported == [CHUNK] and metrics == [b"", b""]

    def fail(*_):
        raise AssertionError("computed again")

    again, _ = paint(work._replace(advance=fail), tmp_path / "lanes", 2)
    assert again.statuses == outcome.statuses


def test_a_lane_that_converged_waits_for_the_others(tmp_path):
    solver = optimize.solver("adam", learning_rate=0.05, parameters="pixels", tolerance=0.1)
    far = several(solver, "map", [0, 1], [0.0, 0.0])
    near = jax.tree.map(jnp.copy, far.start())
    near = dataclasses.replace(near, numbers=near.numbers.at[0].set(TARGETS[0]))
    work = far._replace(start=lambda: jax.tree.map(jnp.copy, near))
    outcome, metrics = paint(work, tmp_path / "lanes", 2)
    assert outcome.statuses[0] == optimize.CONVERGED
    assert outcome.steps[0] == CHUNK < outcome.steps[1]
    assert [metrics[0].count(b"\n"), outcome.steps[1] // CHUNK] == [1, metrics[1].count(b"\n")]
    alone, lines = paint_alone(single(solver, 1, 0.0), tmp_path / "alone")
    same_bits(lane_of(outcome.state, 1), alone.state)
    assert metrics[1] == lines and outcome.statuses[1] == alone.status


@pytest.mark.parametrize("form", ["map", "vmap"])
def test_lanes_beyond_the_cells_are_painted_for_nothing(tmp_path, form):
    solver = SOLVERS["adam"]
    work = several(solver, form, [0, 1, 1], [0.0] * 3)
    outcome, metrics = paint(work, tmp_path / "two", 2)
    assert len(outcome.metrics) == 2 and len(outcome.steps) == len(outcome.statuses) == 3
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["0", "1", "launch"]
    whole, wanted = paint(work, tmp_path / "three", 3)
    same_bits(outcome.state, whole.state)
    assert metrics == wanted[:2] and wanted[1] == wanted[2]


# Interruptions.


@pytest.mark.parametrize(
    ("number", "stop", "before"),
    [(signal.SIGINT, 2, 0), (signal.SIGTERM, 4, 30), (signal.SIGTERM, 10, 0)],
)
def test_stopped_and_started_again_lanes_end_with_the_same_bits(tmp_path, number, stop, before):
    solver = SOLVERS["lbfgs"]
    work = several(solver, "vmap", [0, 1, 2], [0.15, 0.0, 9.0])
    whole, wanted = paint(work, tmp_path / "whole", 3, before=before)
    assert optimize.NOT_FINITE in whole.statuses and optimize.RUNNING in whole.statuses

    def stopping(done):
        if done == before + stop:
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    half, metrics = paint(work, tmp_path / "parts", 3, before=before, report=stopping)
    assert half.signal == number and max(half.steps) == before + stop
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert all(w.startswith(m) for w, m in zip(wanted[1:], metrics[1:], strict=True))
    assert painter.Part(tmp_path / "parts" / "launch", before, before + STEPS).begun
    later = []
    again, metrics = paint(work, tmp_path / "parts", 3, before=before, report=later.append)
    assert later == [before + step for step in (2, 4, 6, 8, 10, 11) if step > stop]
    same_bits(again.state, whole.state)
    assert metrics == wanted
    assert dataclasses.replace(again, state=None) == dataclasses.replace(whole, state=None)


def test_a_signal_saves_what_is_done_so_far(tmp_path):
    """Not only what `save_every` had saved."""
    work = several(SOLVERS["adam"], "map", [0], [0.0])
    paint(work, tmp_path / "run", 1, report=lambda done: os.kill(os.getpid(), signal.SIGTERM))
    (checkpoint,) = (tmp_path / "run" / "launch" / "checkpoints").iterdir()
    assert int(checkpoint.name) == CHUNK


def test_killed_after_any_line_lanes_end_with_the_same_bits(tmp_path, monkeypatch):
    """Some lanes then have lines that the checkpoint does not know of."""
    work = several(SOLVERS["lbfgs"], "map", [0, 1, 2], [0.15, 0.0, 0.1])
    whole, wanted = paint(work, tmp_path / "whole", 3)
    total = sum(lines.count(b"\n") for lines in wanted)
    append = MetricsFile.append
    for kill in range(1, total, 5):
        written = []

        def appending(self, step, values, kill=kill, written=written):
            append(self, step, values)
            written.append(step)
            if len(written) == kill:
                raise KeyError("killed")

        with monkeypatch.context() as patch, pytest.raises(KeyError, match="killed"):
            patch.setattr(MetricsFile, "append", appending)
            paint(work, tmp_path / f"run{kill}", 3)
        again, metrics = paint(work, tmp_path / f"run{kill}", 3)
        same_bits(again.state, whole.state)
        assert metrics == wanted


def test_a_kill_loses_the_steps_since_the_save_before(tmp_path):
    work, reported = several(SOLVERS["adam"], "map", [0, 1, 2], [0.0] * 3), []

    def killed(done):
        if done == 2 * SAVE:
            raise KeyError("killed")

    with pytest.raises(KeyError, match="killed"):
        paint(work, tmp_path / "run", 3, report=killed)
    paint(work, tmp_path / "run", 3, report=reported.append)
    assert reported == [6, 8, 10, 11]


def test_what_is_finished_is_not_computed_again(tmp_path):
    work = several(SOLVERS["adam"], "map", [0, 1], [0.0, 0.0])
    whole, metrics = paint(work, tmp_path / "run", 2)

    def fail(*_):
        raise AssertionError("computed again")

    again, same = paint(work._replace(advance=fail, measure=fail), tmp_path / "run", 2)
    same_bits(again.state, whole.state)
    assert same == metrics and again.metrics == whole.metrics


def test_a_folder_that_is_not_there_is_told_of(tmp_path):
    work = several(SOLVERS["adam"], "map", [0], [0.0])
    with pytest.raises(InputError, match=r"metrics\.jsonl cannot be read or written: No such file"):
        lanes.paint_lanes(
            work,
            [tmp_path / "nowhere"],
            steps=2,
            chunk=2,
            save_every=2,
            part=painter.Part(tmp_path, 0, 2),
        )
