"""Tasks one after the other in this process."""

import signal
import sys

import pytest

from jaxstyle.sweeps.executors import Ended, Task, Total, run_local
from jaxstyle.types import InputError

MODULE = "executors_test_work"


@pytest.fixture
def work(monkeypatch):
    """Give a function an import path."""

    def named(function):
        module = type(sys)(MODULE)
        module.work = function
        monkeypatch.setitem(sys.modules, MODULE, module)
        return f"{MODULE}:work"

    return named


def tasks(*numbers, steps=2):
    return [Task(f"task {n}", steps, {"number": n}) for n in numbers]


def run(tasks, work, **options):
    ended = []
    stopped = run_local(tasks, work, on_done=ended.append, progress=False, **options)
    return stopped, ended


def test_in_order_and_each_once(work):
    seen = []

    def square(payload, report):
        seen.append(payload["number"])
        return {"square": payload["number"] ** 2}

    given = tasks(3, 1, 2)
    stopped, ended = run(given, work(square))
    assert stopped is None and seen == [3, 1, 2]
    assert ended == [Ended(task, {"square": task.payload["number"] ** 2}) for task in given]


def test_done_is_told_before_the_next_begins(work):
    events = []
    name = work(lambda payload, report: events.append("work") or {})
    run_local(tasks(1, 2), name, on_done=lambda _: events.append("done"), progress=False)
    assert events == ["work", "done", "work", "done"]


def test_no_tasks(work):
    assert run([], work(None)) == (None, [])


def test_what_fails_does_not_keep_the_others_from_being_done(work):
    def fragile(payload, report):
        if payload["number"] == 1:
            raise InputError("beta is -1; give 0 or more.")
        if payload["number"] == 2:
            raise ZeroDivisionError("division by zero.\nmore")
        if payload["number"] == 3:
            raise AssertionError
        if payload["number"] == 4:
            return {"a set": {1}}
        return {"fine": True}

    stopped, ended = run(tasks(0, 1, 2, 3, 4, 5), work(fragile))
    assert stopped is None
    assert [each.failure for each in ended] == [
        "",
        "beta is -1; give 0 or more.",
        "the work ended with ZeroDivisionError: division by zero.",
        "the work ended with AssertionError.",
        "the work ended with TypeError: Object of type set is not JSON serializable.",
        "",
    ]
    assert [each.outcome for each in ended] == [{"fine": True}, {}, {}, {}, {}, {"fine": True}]
    assert [("Traceback" in each.trace) for each in ended] == [False, False, *[True] * 3, False]


def test_payload_and_outcome_are_what_json_makes_of_them(work):
    """As if they had been to another machine."""
    payload = {"pair": (1, 2)}
    seen = []

    def look(payload, report):
        seen.append(payload)
        payload["pair"].append(3)
        return {"pair": tuple(payload["pair"])}

    _, (ended,) = run([Task("a", 1, payload)], work(look))
    assert seen == [{"pair": [1, 2, 3]}] and ended.outcome == {"pair": [1, 2, 3]}
    assert payload == {"pair": (1, 2)}


def test_a_signal_stops_and_the_task_has_not_ended(work):
    def stops(payload, report):
        return {"signal": signal.SIGTERM} if payload["number"] == 2 else {}

    stopped, ended = run(tasks(1, 2, 3), work(stops))
    assert stopped == signal.SIGTERM
    assert [each.task.name for each in ended] == ["task 1"]


def test_ctrl_c_outside_of_what_the_work_guards(work):
    def interrupted(payload, report):
        signal.raise_signal(signal.SIGINT)

    assert run(tasks(1, 2), work(interrupted)) == (signal.SIGINT, [])


def test_two_of_one_name_are_refused(work):
    with pytest.raises(InputError, match="two tasks have one name"):
        run(tasks(1, 1), work(None))


def test_work_that_does_not_exist():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        run(tasks(1), "no_such_module:work")
    with pytest.raises(AttributeError, match="no_such_function"):
        run(tasks(1), "math:no_such_function")


def test_one_bar_counts_the_steps_of_all(work, capsys):
    def reports(payload, report):
        for step in (1, 2, 3, 4, 99):
            report(step)
        return {}

    given = [Task("a", 4, {}), Task("b", 4, {})]
    run_local(given, work(reports), on_done=lambda _: None, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 1/8") and lines[-1].startswith("step 8/8")
    assert len(lines) == 2  # the others come within ten seconds


def test_total_goes_back_when_a_task_begins_anew(capsys):
    given = [Task("a", 10, {}), Task("b", 10, {})]
    with Total(given, True) as total:
        total.at("a", 10)
        total.at("a", 0)
        total.at("b", 99)
        total.end("a")
        total.end("a")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["10/20", "20/20"]


def test_nothing_is_shown_on_wish(work, capsys):
    run(tasks(1), work(lambda payload, report: report(1) or {}))
    assert capsys.readouterr().out == ""
