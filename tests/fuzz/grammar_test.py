"""What can be typed behind `--sweep`: values of the config's kinds, or a sentence."""

import math

import fuzz_kit
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle.sweeps import grammar, plan

SETTINGS = {
    "seed": 0, "objective.beta": 1.0, "flag": True, "style": "starry", "none": None,
    "objective.style_layers": ("relu1_1",), "scale": (1.0, 2.0),
}  # fmt: skip
_WORDS = [
    *SETTINGS, *"=,;:+()[]'\"", "..", "log", "lin", "1", "0", "-1", "3", "1e2", "1e-400", "1e999",
    "nan", "inf", "True", "false", "shallow", "all", "relu9_9", "config.", "0..3", "1e-1..1e2:4log",
    "9" * 30, "9" * 5000, "*", "?", "\udcff", "\0", "ü", " ", "\n", "(" * 300, "__import__('os')",
    "0x10", "1_0", "1j", "lambda: 0", "{}", "..:", "0..99999999",
]  # fmt: skip
_TEXTS = st.one_of(
    st.lists(st.sampled_from(_WORDS), max_size=12).map("".join),
    st.builds("{}={}".format, st.sampled_from(sorted(SETTINGS)),
              st.lists(st.sampled_from(_WORDS), max_size=6).map("".join)),
    st.text(max_size=30),
)  # fmt: skip


def _is_plain(value) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | str) or (isinstance(value, int) and abs(value) < 2**63)


@fuzz_kit.fuzzed(200)
@given(text=_TEXTS)
def test_any_text(text):
    try:
        axis = fuzz_kit.tried(grammar.parse, text, SETTINGS)
    except AssertionError as error:  # it repeats what was typed, which may have lines and be long
        assert len(text) > 500 or not text.isprintable(), error
        return
    if not isinstance(axis, grammar.Axis):
        return
    assert 1 <= len(axis.points) <= 10 * grammar.MOST_CELLS
    for number, point in enumerate(axis.points):
        for key, value in point.items():
            like = SETTINGS[key]
            assert like is None or type(value) is type(like), (key, value)
            assert _is_plain(value), value
        if number < 5:
            name = plan.cell_name(number, point)
            assert name.isascii() and "/" not in name and len(name) <= 80
    fuzz_kit.tried(grammar.cross, [axis])


@fuzz_kit.fuzzed(6)
@given(
    texts=st.lists(
        st.sampled_from(
            ["seed=0..9999", "seed=1", "flag=true,false", "none=1,2", "objective.beta=1..2:100"]
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_more_cells_than_are_allowed(texts):
    cells = fuzz_kit.tried(grammar.cross, [grammar.parse(text, SETTINGS) for text in texts])
    assert isinstance(cells, Exception) or len(cells) <= grammar.MOST_CELLS
