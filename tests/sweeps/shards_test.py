"""Shares of a sweep: every launch in one, none in two, and about as much in each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle.sweeps.shards import shard_of, share
from jaxstyle.types import InputError

STEPS = st.lists(st.integers(0, 3000), max_size=60)


@pytest.mark.parametrize(
    ("text", "shard"),
    [("0/1", (0, 1)), ("0/4", (0, 4)), ("3/4", (3, 4)), ("12/100", (12, 100)), (" 1 / 2 ", (1, 2))],
)
def test_a_share_is_counted_from_zero(text, shard):
    assert shard_of(text) == shard


def test_no_shard_is_everything():
    assert shard_of("") == (0, 1)
    assert share([5, 6, 7], shard_of("")) == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    ["1", "/", "1/", "/4", "a/b", "-1/4", "1/-4", "1.0/4", "0/4/4", "²/4", "0x1/4", "1_0/40"],
)
def test_another_grammar_is_refused(text):
    with pytest.raises(InputError, match=r"^--shard is .*; write I/N, .* --shard=0/4\.$"):
        shard_of(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4/4", r"0/4 to 3/4 exist \(a SLURM array of 4 is --array=0-3\)"),
        ("9/2", r"0/2 to 1/2 exist"),
        ("1/1", r"the only one is 0/1"),
        ("0/0", r"there is none of 0"),
    ],
)
def test_a_share_beyond_the_last_is_refused_with_those_that_exist(text, told):
    with pytest.raises(InputError, match=rf"shares are counted from 0, so {told}"):
        shard_of(text)


@given(STEPS, st.integers(1, 9))
def test_every_launch_is_in_exactly_one_share(steps, count):
    shares = [share(steps, (index, count)) for index in range(count)]
    assert sorted(sum(shares, [])) == list(range(len(steps)))
    assert all(each == sorted(each) for each in shares)


@given(STEPS.filter(bool), st.integers(1, 9))
def test_shares_differ_by_at_most_one_launch(steps, count):
    loads = [sum(steps[p] for p in share(steps, (index, count))) for index in range(count)]
    assert max(loads) - min(loads) <= max(steps) + steps.count(0)


@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 100))
def test_equal_launches_are_dealt_out_evenly(launches, count, steps):
    sizes = [len(share([steps] * launches, (index, count))) for index in range(count)]
    assert max(sizes) - min(sizes) <= 1


def test_long_launches_do_not_meet():
    shares = [share([900, 10, 10, 900, 10, 10], (index, 2)) for index in range(2)]
    assert sorted(map(len, shares)) == [3, 3]
    assert {0, 3} not in map(set, shares)
