"""Progress: what a terminal and a log file show, by a clock of our own."""

import io
import re

import pytest

from jaxstyle.reporting.progress import Progress, Speed, group_totals, groups_of

WEIGHTS = {"content/relu4_1": 1.0, "style/relu1_1": 0.5, "style/relu2_1": 0.25, "tv": 0.3}
METRICS = {
    "loss": 1.431,
    "content/relu4_1": 0.8,
    "style/relu1_1": 0.4,
    "style/relu2_1": 0.8,
    "tv": 0.02,
}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(stream) -> list[str]:
    return stream.getvalue().splitlines()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_groups_are_sums_of_weighted_terms():
    totals = group_totals(METRICS, groups_of(WEIGHTS))
    assert totals == pytest.approx({"loss": 1.431, "content": 0.8, "style": 0.4, "tv": 0.006})
    assert list(totals) == ["loss", "content", "style", "tv"]
    assert group_totals({}, groups_of({"tv": 1.0})) == {"tv": 0.0}


def test_speed_leaves_out_the_first_step_and_what_is_long_ago():
    clock = Clock()
    speed = Speed(clock)
    assert speed.steps_per_second is None
    clock.now += 60  # compilation
    speed.advance(1)
    assert speed.steps_per_second is None
    for step in range(2, 12):
        clock.now += 0.5
        speed.advance(step)
    assert speed.steps_per_second == pytest.approx(2.0)
    for step in range(12, 200):
        clock.now += 1.0
        speed.advance(step)
    assert speed.steps_per_second == pytest.approx(1.0)


def run(stream, *, start=0, steps=1300, seconds=0.5, log_every=10, until=None, **options):
    clock = Clock()
    with Progress(
        start=start,
        steps=steps,
        batch_size=4,
        groups=groups_of(WEIGHTS),
        stream=stream,
        clock=clock,
        **options,
    ) as progress:
        for step in range(start + 1, (until or steps) + 1):
            clock.now += seconds
            progress.advance(step)
            if step % log_every == 0 or step == steps:
                progress.metrics(step, METRICS)
    return progress


def test_without_a_terminal_there_is_a_line_now_and_then():
    stream = io.StringIO()
    run(stream, steps=105)
    lines = lines_of(stream)
    # Every 5 s there is news; a line is due every 10 s, at the first and at the last.
    steps = [int(re.match(r"step +(\d+)/105", line)[1]) for line in lines]
    assert steps == [10, 30, 50, 70, 90, 105]
    assert lines[0] == (
        "step  10/105  loss 1.431   content 0.8000   style 0.4000   tv 0.0060  "
        "8 images/s  0:00:48 left"
    )
    assert lines[-1].endswith("8 images/s  0:00:00 left")
    assert "\x1b" not in stream.getvalue()


def test_a_finished_step_gives_speed_and_time_left():
    progress = run(io.StringIO(), steps=7300, seconds=1.0, until=100)
    assert progress.images_per_second == pytest.approx(4.0)
    assert progress.seconds_left == pytest.approx(7200.0)


def test_terminal_of_80_columns_shows_two_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    run(stream, steps=40000, until=12345, start=12300, seconds=1.0, log_every=40)
    *_, bar, terms = plain(stream.getvalue()).replace("\r", "\n").strip().split("\n")
    assert bar.startswith("step 12345/40000 ━")
    assert bar.endswith("30%  4 images/s  7:40:55 left")
    assert len(bar) == 80
    assert terms.strip() == "loss 1.431   content 0.8000   style 0.4000   tv 0.0060"
    assert stream.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_terminal_tells_of_the_compilation_and_prints_sentences_above_the_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(start=0, steps=10, batch_size=4, stream=stream) as progress:
        assert "compiling ..." in plain(stream.getvalue())
        progress.say("a [sentence] with brackets")
    assert "a [sentence] with brackets\n" in plain(stream.getvalue()).replace("\r", "")
    progress.say("after the bar")
    assert plain(stream.getvalue()).endswith("\nafter the bar\n")


def test_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    run(stream, steps=10)
    assert "\x1b" not in stream.getvalue() and len(lines_of(stream)) == 1


def test_disabled_shows_sentences_alone():
    stream = io.StringIO()
    progress = run(stream, enabled=False, steps=50)
    assert stream.getvalue() == ""
    progress.say("stopped")
    assert stream.getvalue() == "stopped\n"
    assert progress.images_per_second == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.43149, "1.431"),
        (0.021, "0.0210"),
        (12.3456, "12.35"),
        (9999.4, "9999"),
        (12345.0, "1.23e+04"),
        (0.00051, "5.10e-04"),
        (0.0, "0.0000"),
        (-2.5, "-2.500"),
    ],
)
def test_numbers_are_short(value, shown):
    stream = io.StringIO()
    progress = Progress(start=0, steps=1, batch_size=1, stream=stream)
    progress.metrics(1, {"loss": value})
    assert stream.getvalue() == f"step 0/1  loss {shown}\n"
