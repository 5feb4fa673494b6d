"""Text that fits: what is kept, and that it is never wider than the room."""

from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from jaxstyle.reporting.lettering import fit, line_height, wrap

FONT = ImageFont.load_default(12)
TEXTS = st.text(alphabet="ab1 ,+/_.\nWé", max_size=40)


@given(TEXTS, st.integers(30, 200), st.integers(1, 5))
def test_lines_fit_and_lose_nothing_where_there_is_room(text, width, lines):
    found = wrap(text, FONT, width, lines)
    assert len(found) <= lines
    assert all(FONT.getlength(line) <= width for line in found)
    if not any(line.endswith("…") for line in found):
        assert "".join("".join(found).split()) == "".join(text.split())


def test_words_are_broken_only_when_they_must_be():
    layers = "relu1_1+relu2_1"
    assert wrap(layers, FONT, FONT.getlength("relu1_1+") + 1, 9) == ["relu1_1+", "relu2_1"]
    assert wrap(layers, FONT, FONT.getlength("relu1_") + 1, 9) == ["relu1_", "1+", "relu2_", "1"]
    assert wrap(layers, FONT, 1000, 9) == [layers]
    assert wrap("a=1\nb=2", FONT, 1000, 9) == ["a=1", "b=2"]
    assert wrap("a=1\nb=2\nc=3", FONT, 1000, 2) == ["a=1", "b=2 c=3"]


def test_cut_text_says_so():
    assert fit("W" * 50, FONT, 60).endswith("…")
    assert fit("", FONT, 0) == ""
    assert line_height(ImageFont.load_default(24)) > line_height(FONT)
