"""What `--sweep` may say, what comes of it, and what is refused in which words."""

import itertools
import math
import string

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxstyle.sweeps.grammar import LAYER_SETS, MOST_CELLS, Axis, cross, named, parse, told
from jaxstyle.types import InputError

SETTINGS = {
    "seed": 0,
    "steps": 300,
    "objective.beta": 5.0,
    "objective.tv": 1.0,
    "seamless": False,
    "style": "starry",
    "start": "content",
    "masks": (),
    "objective.style_layers": ("relu1_1", "relu2_1"),
    "objective.content_layers": ("relu4_2",),
    "objective.style_layer_weights": (),
    "deep.layers": (),
    "anything": None,
}
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
KEYS = (("k", 1), ("l", -1))
INTS = st.integers(-(2**63) + 1, 2**63 - 1)
LAYERS = st.lists(
    st.from_regex(r"(relu|conv)[1-5]_[1-4]|pool[1-5]", fullmatch=True), min_size=1, unique=True
).map(tuple)


def values_of(text):
    """The values of a sweep of one key."""
    axis = parse(text, SETTINGS)
    return [point[axis.keys[0]] for point in axis.points]


def sentence_of(*texts):
    with pytest.raises(InputError) as caught:
        cross([parse(text, SETTINGS) for text in texts])
    return str(caught.value)


def same(found, wanted):
    assert found == wanted and [type(value) for value in found] == [type(v) for v in wanted]


# What is said is what is read.


@given(st.lists(INTS, min_size=1, unique=True))
def test_whole_numbers_are_read_as_they_are_told(numbers):
    same(values_of("seed=" + ",".join(map(told, numbers))), numbers)


@given(st.lists(FLOATS, min_size=1, unique=True))
@example([1e20, 1e-5, 0.1 + 0.2, 5e-324])
def test_numbers_are_read_as_they_are_told(numbers):
    same(values_of("objective.beta=" + ",".join(map(told, numbers))), numbers)


@given(st.permutations([True, False]))
def test_truths_are_read_as_they_are_told(truths):
    same(values_of("seamless=" + ",".join(map(told, truths))), list(truths))


@given(st.lists(st.text(), min_size=1, unique=True), st.sampled_from("'\""))
@example(["a,b;c", "(", "*.jpg", "[1]", "0..3", " spaces ", ""], '"')
@example(["it's"], '"')
def test_quoted_text_is_read_as_it_is(texts, quote):
    texts = list(dict.fromkeys(text.replace(quote, "") for text in texts))
    same(values_of("style=" + ",".join(f"{quote}{text}{quote}" for text in texts)), texts)


@given(LAYERS)
def test_layers_are_read_as_they_are_told(layers):
    same(values_of(f"objective.style_layers={told(layers)}"), [layers])
    same(values_of(f"objective.content_layers={layers!r}"), [layers])  # or as Python has it


@given(st.lists(FLOATS).map(tuple))
@example((1e20, 2.0))
def test_tuples_of_numbers_are_read_as_they_are_told(numbers):
    same(values_of(f"objective.style_layer_weights={told(numbers)}"), [numbers])


def test_plain_words():
    same(values_of("objective.beta=1, 10 ,1e-3,-0.5"), [1.0, 10.0, 1e-3, -0.5])
    same(values_of("seed=1_000,0x10,-3"), [1000, 16, -3])
    same(values_of("seamless=true,0"), [True, False])
    same(values_of("seamless=1,False"), [True, False])
    same(values_of("style=the wave (1).jpg,b=c,0..3"), ["the wave (1).jpg", "b=c", "0..3"])
    same(values_of("style='a' and b,c 'd'"), ["'a' and b", "c 'd'"])
    same(values_of("config.seed=4"), [4])
    same(values_of(" seed = 4 "), [4])
    same(values_of("masks='',rest,a.png+''"), [("",), ("rest",), ("a.png", "")])
    same(values_of("anything=1,2.5,word"), [1, 2.5, "word"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10.0, "10"),
        (1e-5, "1e-05"),
        (1e20, "1e20"),
        (0.1 + 0.2, "0.30000000000000004"),
        (3, "3"),
        (False, "false"),
        ("starry", "starry"),
        (("relu1_1", 2.0), "relu1_1+2"),
        ((), "()"),
    ],
)
def test_values_are_told_as_short_as_can_be(value, words):
    assert told(value) == words


# Sets of layers.


@pytest.mark.parametrize("kind", LAYER_SETS)
def test_sets_of_layers_have_names(kind):
    key = f"objective.{kind}_layers"
    for name, layers in LAYER_SETS[kind].items():
        same(values_of(f"{key}={name}"), [layers])
    first, second = LAYER_SETS[kind]["shallow"], LAYER_SETS[kind]["deep"]
    assert values_of(f"{key}=deep+conv1_1+shallow+deep") == [(*second, "conv1_1", *first)]


def test_names_of_sets_are_for_keys_of_layers_alone():
    same(values_of("deep.layers=deep"), [("deep",)])
    same(values_of("masks=deep+deep"), [("deep", "deep")])
    same(values_of("style=deep"), ["deep"])


# Ranges.


@given(INTS, st.integers(0, 30))
@example(2**53 + 1, 2)
def test_whole_numbers_from_one_to_another(low, length):
    high = min(low + length, 2**63 - 1)
    same(values_of(f"seed={low}..{high}"), list(range(low, high + 1)))


@given(FLOATS, FLOATS, st.integers(2, 50))
@example(-1.7e308, 1.7e308, 3)
def test_numbers_at_equal_distances(low, high, count):
    try:
        values = values_of(f"objective.beta={low!r}..{high!r}:{count}")
    except InputError as error:  # the ends are too close for the digits of a number
        scale = max(abs(low), abs(high))
        assert "there are not" in str(error) or low == high
        assert abs(high - low) <= scale * 1e-9 or scale < 1e-300
        return
    assert len(values) == count and (values[0], values[-1]) == (low, high)
    exact = [low * (1 - i / (count - 1)) + high * (i / (count - 1)) for i in range(count)]
    for value, wanted in zip(values, exact, strict=True):
        # Twelve digits, and what cancels of the ends.
        error = 1e-11 * abs(wanted) + 1e-15 * max(abs(low), abs(high)) + 5e-324
        assert abs(value - wanted) <= error


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.integers(2, 50))
@example(1e-300, 1e300, 5)
def test_numbers_at_equal_ratios(low, high, count):
    if abs(math.log(high) - math.log(low)) < 1e-6:
        return
    values = values_of(f"objective.beta={low!r}..{high!r}:{count}log")
    assert len(values) == count and (values[0], values[-1]) == (low, high)
    steps = np.diff(np.log(values))
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-4, atol=1e-11)


def test_ranges_are_told_without_dust():
    same(values_of("objective.tv=0..2:5"), [0.0, 0.5, 1.0, 1.5, 2.0])
    same(values_of("objective.tv=1..0:11"), [i / 10 for i in range(10, -1, -1)])
    same(values_of("objective.beta=1e-1..1e2:4log"), [0.1, 1.0, 10.0, 100.0])
    same(values_of("objective.beta=1e-1..1e2:4lin"), [0.1, 33.4, 66.7, 100.0])
    same(values_of("objective.beta=0.5,1..3:3"), [0.5, 1.0, 2.0, 3.0])
    same(values_of("steps=10..1000:3log,7"), [10, 100, 1000, 7])
    same(values_of("steps=1e1..1e3:3LOG"), [10, 100, 1000])
    same(values_of("steps=1..10:4"), [1, 4, 7, 10])
    same(values_of("seed=-1..1"), [-1, 0, 1])


# Files.


def test_patterns_stand_for_the_files_they_find(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "art" / "sub" / "sub").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "c,1.jpg", "c.png", "sub/sub/d.jpg"):
        (tmp_path / "art" / name).touch()
    assert values_of("style=art/*.jpg,starry") == [
        "art/a.jpg",
        "art/b.jpg",
        "art/c,1.jpg",
        "starry",
    ]
    assert values_of("style=art/[bc].*") == ["art/b.jpg", "art/c.png"]
    assert values_of("style=art/?.png") == ["art/c.png"]
    assert values_of("style=art/**/d.jpg") == ["art/sub/sub/d.jpg"]
    assert values_of("style='art/*.jpg'") == ["art/*.jpg"]
    assert sentence_of("style=art/*.gif") == (
        "--sweep style=art/*.gif: no file is found; check the pattern."
    )


# Together, and crossed.


@given(st.lists(st.tuples(INTS, FLOATS), min_size=1, unique=True))
def test_parts_go_together(rows):
    seeds, betas = (",".join(map(told, column)) for column in zip(*rows, strict=True))
    axis = parse(f"seed={seeds}; objective.beta={betas}", SETTINGS)
    assert axis.keys == ("seed", "objective.beta")
    assert axis.points == tuple({"seed": a, "objective.beta": b} for a, b in rows)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_axes_are_crossed_and_the_last_varies_fastest(lengths):
    axes = [
        Axis(f"k{number}", tuple({f"k{number}": i, f"l{number}": -i} for i in range(length)))
        for number, length in enumerate(lengths)
    ]
    cells = cross(axes)
    assert len(cells) == math.prod(lengths)
    for cell, numbers in zip(cells, itertools.product(*map(range, lengths)), strict=True):
        wanted = [(f"{letter}{k}", s * i) for k, i in enumerate(numbers) for letter, s in KEYS]
        assert list(cell.items()) == wanted


def test_ten_thousand_cells_are_the_most():
    half = [parse(f"{key}=0..99", SETTINGS) for key in ("seed", "steps")]
    assert len(cross(half)) == MOST_CELLS == len(cross([parse("seed=0..9999", SETTINGS)]))
    assert sentence_of("seed=0..100", "steps=0..99") == (
        "that is 10100 cells; a sweep has at most 10000."
    )


# Sweeps of a config.


def test_a_sweep_of_a_config_is_read_as_the_flag_is():
    points = [{"seed": 1, "objective.style_layers": ["relu1_1"]}, {"seed": 1, "masks": ()}]
    points[1] = {"objective.style_layers": ("relu1_1", "relu2_1"), "seed": np.int32(1)}
    axis = named("layers", iter(points), SETTINGS)
    assert axis.text == "layers" and axis.keys == ("seed", "objective.style_layers")
    same([p["seed"] for p in axis.points], [1, 1])
    same([p["objective.style_layers"] for p in axis.points], [("relu1_1",), ("relu1_1", "relu2_1")])
    betas = [{"objective.beta": beta} for beta in np.geomspace(1, 100, 3)]
    same([p["objective.beta"] for p in named("b", betas, SETTINGS).points], [1.0, 10.0, 100.0])
    same([named("b", [{"objective.tv": 2}], SETTINGS).points[0]["objective.tv"]], [2.0])


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([], "the sweep 'mine' has no values; let it return at least one dict."),
        ([{}, {}], "the sweep 'mine' has no values; let it return at least one dict."),
        ([{"seed": 1}, {"steps": 1}], "the dicts of the sweep 'mine' have different keys"),
        ([{"seed": 1}, {"seed": 1, "steps": 1}], "have different keys; give all the same."),
        ([{"seed": 1}, {}], "have different keys; give all the same."),
        ([{"objective.bet": 1.0}], "no key objective.bet to sweep; did you mean objective.beta?"),
        ([{"seed": 1.0}], "--sweep seed: '1.0' is not a whole number; the config has 0."),
        ([{"seed": True}], "--sweep seed: 'True' is not a whole number; the config has 0."),
        ([{"objective.beta": "1"}], "'1' is not a number; the config has 5."),
        ([{"objective.beta": np.float32("nan")}], "nan is not a finite number."),
        ([{"style": ("a", "b")}], "is not text; the config has starry."),
        ([{"masks": ("a", None)}], "--sweep masks: 'None' is neither a number nor text."),
        ([{"seed": 2}, {"seed": 2}], "'mine' has seed=2 twice; give each once."),
        ([{"seed": 2, "steps": 3}, {"steps": 3, "seed": 2}], "has steps=3, seed=2 twice"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_sweep_of_a_config_is_said(points, sentence):
    with pytest.raises(InputError) as caught:
        named("mine", points, SETTINGS)
    assert sentence in str(caught.value)


# Refusals.

REFUSED = {
    "seed": "--sweep 'seed': 'seed' is not KEY=VALUES; write e.g. objective.beta=1,10.",
    "=1": "--sweep '=1': '=1' is not KEY=VALUES",
    "seed=1;2": "--sweep 'seed=1;2': '2' is not KEY=VALUES",
    "objective.bta=1": "the config has no key objective.bta to sweep; did you mean objective.beta?",
    "zzzzzzz=1": "the config has no key zzzzzzz to sweep; see the config's file for its keys.",
    "seed=1;seed=2": "--sweep 'seed=1;seed=2' names seed twice; give all its values at once.",
    "seed=1,2;steps=3": "seed has 2, steps has 1 values; joined by ';' they must be as many.",
    "seed=": "--sweep '': a value is missing; write e.g. objective.beta=1,10.",
    "seed=1,,2": "--sweep '1,,2': a value is missing",
    "seed=1;": "--sweep 'seed=1;': a value is missing",
    "": "a value is missing",
    "style='a": "a quote or bracket is not closed.",
    "style=a)": "a quote or bracket is not closed.",
    "masks=('a'": "a quote or bracket is not closed.",
    "seed=1,2,0x1": "--sweep 'seed=1,2,0x1' has seed=1 twice; give each once.",
    "seed=1,1;steps=2,2": "has seed=1, steps=2 twice; give each once.",
    "objective.tv=0..1:3,0.5": "has objective.tv=0.5 twice",
    "seed=1.5": "--sweep seed: '1.5' is not a whole number; the config has 0.",
    "seed=true": "'true' is not a whole number",
    "objective.beta=strong": "--sweep objective.beta: 'strong' is not a number; the config has 5.",
    "objective.beta=True": "'True' is not a number",
    "objective.beta=nan": "--sweep objective.beta: nan is not a finite number.",
    "objective.beta=-inf": "-inf is not a finite number.",
    "objective.beta=1" + 400 * "0": "--sweep objective.beta: a number has too many digits.",
    "seed=9223372036854775808": "--sweep seed: a number has too many digits.",
    "seed=0x" + 5000 * "f": "--sweep seed: a number has too many digits.",
    "seamless=yes": "--sweep seamless: 'yes' is not true or false; the config has false.",
    "seamless=0..1": "'0..1' is not true or false",
    "objective.style_layers=(1)": "is not a tuple such as ('relu1_1', 'relu2_1') or",
    "objective.style_layers=({},)": "'{}' is neither a number nor text.",
    "objective.style_layer_weights=1+nan": "nan is not a finite number.",
    "objective.style_layer_weights=(1e999,)": "inf is not a finite number.",
    "anything={1}": "--sweep anything: '{1}' is neither a number nor text.",
    "objective.beta=0..3": "say how many numbers, e.g. 0..3:5 or :5log.",
    "seed=0.5..3": "--sweep seed: '0.5' is not a whole number; the config has 0.",
    "seed=3..1": "--sweep seed=3..1: give the lower end first, and at most 10000 numbers.",
    "seed=0..10000": "give the lower end first, and at most 10000 numbers.",
    "seed=0..x": "--sweep seed: 'x' is not a",
    "seed=0..": "--sweep seed=0..: write a range as 0..3, 1..9:5 or 1e-2..1e2:5log.",
    "seed=..3": "write a range as",
    "seed=0..3:": "write a range as",
    "seed=0..3:2ln": "write a range as",
    "seed=0..3:" + 5000 * "9": "write a range as",
    "objective.tv=1..9:1": "give two ends and 2 to 10000 numbers, e.g. 1..9:5.",
    "objective.tv=1..9:10001": "give two ends and 2 to 10000 numbers",
    "objective.tv=1..1:3": "give two ends and 2 to 10000 numbers",
    "objective.tv=0..1:3log": "both ends of a log range must be above 0.",
    "objective.tv=1..-1:3log": "both ends of a log range must be above 0.",
    "objective.tv=1..inf:3": "--sweep objective.tv: inf is not a finite number.",
    "seed=1..4:5": "there are not 5 whole numbers in between; ask for fewer.",
    "objective.tv=1..1.00000000000001:9": "there are not 9 numbers in between; ask for fewer.",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_is_wrong_is_said(text):
    assert REFUSED[text] in sentence_of(text)


def test_a_key_is_swept_once():
    assert sentence_of("seed=1", "steps=1;seed=2") == (
        "seed is swept twice; give all its values in one --sweep."
    )


# Whatever is typed.

SIGNS = st.text(st.sampled_from("0123456789.:,;=+-()[]{}'\"*?elogin x_\\"), max_size=40)
ANYTHING = st.one_of(SIGNS, st.text(st.characters(exclude_characters="/"), max_size=60))


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(SETTINGS)), ANYTHING)
@example("seed", "{[1]}")
@example("objective.beta", "{[]:1}")
@example("anything", "\ud800,\x00")
@example("masks", "(\ud800)")
@example("style", "\x00*")
@example("seed", "1e-300..1e300:3log")
def test_anything_gives_values_of_the_configs_type_or_a_sentence(key, text):
    try:
        axis = parse(f"{key}={text}", SETTINGS)
    except InputError as error:
        assert str(error).endswith((".", "?")) and "Traceback" not in str(error)
        return
    assert axis.points
    for value in (value for point in axis.points for value in point.values()):
        like = SETTINGS[key]
        assert type(value) is type(like) or like is None
        for item in value if isinstance(value, tuple) else (value,):
            assert isinstance(item, bool | int | float | str)
            assert not isinstance(item, float) or math.isfinite(item)


@given(st.text(max_size=60))
def test_any_text_at_all_gives_an_axis_or_a_sentence(text):
    try:
        assert parse(text, SETTINGS).points
    except InputError as error:
        assert str(error)


@pytest.mark.parametrize(
    "key", ["seed", "objective.beta", "seamless", "masks", "anything", "style"]
)
def test_nothing_that_is_typed_is_executed(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("__import__('os').mkdir('made')", "(__import__('os').mkdir('made'),)"):
        try:
            (value,) = values_of(f"{key}={text}")
        except InputError:
            continue
        assert value in (text, (text,))  # as text, where text is asked for
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "seed=" + "." * 100_000 + ":",
        "seed=" + "(" * 100_000,
        "seed=" + "-" * 100_000 + "1",
        "seed=" + "9" * 100_000,
        "objective.beta=" + "1" * 100_000 + "..2:3",
        "seed=0..9:" + "9" * 100_000,
        "masks=(" + "(" * 5000 + ")" * 5000 + ")",
        "x" * 100_000 + "=1",
        "seed=" + ",".join(f"{i}..{i + 9999}" for i in range(0, 200_000, 10_000)) + ",0",
    ],
    ids=lambda text: text[:20],
)
def test_long_nonsense_is_refused_and_not_pondered(text):
    assert sentence_of(text)


def test_every_printable_sign_may_be_in_a_quoted_text():
    text = string.printable.replace("'", "")
    same(values_of(f"style='{text}'"), [text])
