"""The report as a file: what is in it, and that nothing in it can become markup."""

import base64
import hashlib
import html.parser
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.reporting.sweep_report import _page, write_report
from jaxstyle.sweeps.results import Result
from jaxstyle.types import InputError

EVIL = "</script><script>alert(1)</script><!-- \"'& é中 \u2028 %%SCRIPT%%"


class Reader(html.parser.HTMLParser):
    """Collects the elements, their attributes, and the text of scripts, styles and headings."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._inside = [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = len(self.elements) - 1

    def handle_data(self, text):
        self.texts.append((self.elements[self._inside] if self.elements else None, text))

    def text_of(self, tag, **attributes):
        return "".join(
            text
            for element, text in self.texts
            if element and element[0] == tag and attributes.items() <= element[1].items()
        ).strip()


def report_of(folder, cells, keys, **options):
    write_report(cells, keys, folder / "report.html", **{"title": "A sweep"} | options)
    reader = Reader((folder / "report.html").read_text("utf-8"))
    return reader, json.loads(reader.text_of("script", id="data"))


def test_data_are_the_cells(tmp_path, make_cells):
    swept = {"o.beta": [10.0, 1 / 3], "layers": [("a", "b"), ("c",)]}
    cells = make_cells(tmp_path, swept, failed=(2,), not_finite=(1,))
    _, data = report_of(tmp_path, cells[::-1], list(swept), details={"steps": 30})
    assert data["details"] == [["steps", "30"]]
    assert [key["name"] for key in data["keys"]] == ["beta", "layers"]
    assert data["keys"][0]["labels"] == ["0.333", "10"]
    assert data["keys"][0]["texts"] == ["0.3333333333333333", "10"]
    assert data["keys"][1]["labels"] == ["a+b", "c"] and not data["keys"][1]["numeric"]
    assert [cell["index"] for cell in data["cells"]] == [0, 1, 2, 3]
    names = [metric["name"] for metric in data["metrics"]]
    assert names == ["loss", "content", "style", "tv", "content/relu4_1", "style/relu1_1"]
    for cell, found in zip(cells, data["cells"], strict=True):
        assert (found["status"], found["message"]) == (cell.status, cell.message)
        texts = [
            key["labels"][place] for key, place in zip(data["keys"], found["values"], strict=True)
        ]
        assert texts == [
            {10.0: "10", 1 / 3: "0.333"}[cell.values["o.beta"]],
            "+".join(cell.values["layers"]),
        ]
    assert data["cells"][1]["metrics"][0] == "NaN" and data["cells"][2]["metrics"] == [None] * 6
    assert data["cells"][3]["metrics"] == [0.25, 0.25, 0.25, 0.125, 0.25, 0.25]
    assert data["cells"][2]["thumb"] is data["cells"][2]["picture"] is None


def test_pictures_are_inside_in_small_and_linked_whole(tmp_path, make_cells):
    cells = make_cells(tmp_path / "x y #1", {"seed": [0, 1]}, size=(300, 200))
    style = np.full((30, 60, 3), 0.5, np.float32)
    _, data = report_of(tmp_path, cells, ["seed"], given={"style": style})
    found = data["cells"][1]
    assert found["picture"] == "x%20y%20%231/cells/0001/picture.png"
    assert found["thumb"].startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(found["thumb"].partition(",")[2]))) as small:
        assert small.size == (found["width"], found["height"]) == (256, 171)
        with Image.open(cells[1].picture) as whole:
            np.testing.assert_allclose(
                np.asarray(small).mean((0, 1)), np.asarray(whole).mean((0, 1)), atol=3
            )
    assert data["given"][0]["label"] == "style" and data["given"][0]["src"].startswith("data:")


def test_nothing_becomes_markup(tmp_path):
    cell = Result(0, EVIL, {EVIL: EVIL}, status="failed", message=EVIL, metrics={EVIL: 1.0})
    plain = [Result(0, "a", {"k": 1}, status="failed")]
    bare, _ = report_of(tmp_path, plain, ["k"])
    full, data = report_of(
        tmp_path, [cell], [EVIL], title=EVIL, details={EVIL: EVIL},
        given={EVIL: np.zeros((4, 4), np.uint8)},
    )  # fmt: skip
    assert [tag for tag, _ in full.elements] == [tag for tag, _ in bare.elements]
    assert full.text_of("title") == full.text_of("h1") == EVIL
    assert data["cells"][0]["message"] == data["cells"][0]["name"] == data["details"][0][1] == EVIL
    assert data["keys"][0]["key"] == EVIL and data["keys"][0]["labels"] == [EVIL]


@settings(deadline=None, max_examples=30)
@given(st.text(alphabet="<>/!-&\"' scriptSCRIPT%\u2028é\udcff", max_size=40))
def test_any_title_and_any_data(text):
    reader = Reader(_page(text, {"a": text}))
    assert json.loads(reader.text_of("script", id="data")) == {"a": text}
    assert "".join(reader.text_of("title").split()) == "".join(text.split())
    assert sum(tag == "script" for tag, _ in reader.elements) == 2


def test_policy_allows_this_page_and_no_network(tmp_path):
    reader, _ = report_of(tmp_path, [Result(0, "a", {"k": 1})], ["k"])
    policy = next(
        attributes["content"]
        for tag, attributes in reader.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "http" not in policy and "unsafe" not in policy and "*" not in policy
    text = (tmp_path / "report.html").read_text("utf-8")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"(https?:)?//\w", text.replace("// ", ""))  # no address anywhere
    for _, attributes in reader.elements:
        assert not {"src", "href", "action", "style"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)


def test_keys_may_be_called_like_columns(tmp_path):
    cells = [Result(i, f"{i}", {"steps": i, "loss": i}, metrics={"loss": 1.0}) for i in range(2)]
    _, data = report_of(tmp_path, cells, ["steps", "loss"])
    assert [key["id"] for key in data["keys"]] == ["swept steps", "swept loss"]


def test_two_hundred_cells_stay_small(tmp_path, make_cells):
    cells = make_cells(tmp_path, {"beta": list(range(50)), "seed": [0, 1, 2, 3]}, size=(150, 100))
    _, data = report_of(tmp_path, cells, ["beta", "seed"])
    assert len(data["cells"]) == 200 and data["cells"][0]["width"] == 192
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_what_is_no_report(tmp_path):
    with pytest.raises(InputError, match="at least one cell"):
        report_of(tmp_path, [], ["k"])
    with pytest.raises(InputError, match=r"is \[2\]"):
        report_of(tmp_path, [Result(0, "a", {})], [], given={"style": np.zeros(2)})
