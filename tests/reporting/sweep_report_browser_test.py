"""The report in a real browser: what it shows, and that it asks nothing of any network."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxstyle.reporting.sweep_report import write_report
from jaxstyle.sweeps.results import Result

SWEPT = {"o.beta": [1.0, 10.0, 100.0], "layers": [("a", "b"), ("c",)], "seed": [0, 1]}
SHOWN = "[...document.querySelectorAll('#table tbody tr')].map(row => +row.dataset.index)"
BOX = "(b => [b.x, b.y, b.width, b.height])(document.querySelector('{}').getBoundingClientRect())"
FITS = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def address(tmp_path_factory, make_cells):
    folder = tmp_path_factory.mktemp("sweep")
    cells = make_cells(folder, SWEPT, size=(300, 200), failed=(7,), not_finite=(5,))
    write_report(cells, list(SWEPT), folder / "report.html", title="<b>Cats</b>")
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    """Open a view of the report; what the console says at the end is a failure."""
    browser.screen(1200, 900)

    def opened(fragment=""):
        browser.open(f"{address}#{fragment}")
        return browser

    yield opened
    assert browser.complaints() == []
    inside = (address.rpartition("/")[0], "data:", "about:")
    assert all(request.startswith(inside) for request in browser.requests())


def test_all_cells_with_their_pictures(page):
    browser = page()
    assert browser.run(SHOWN) == list(range(12))
    assert browser.run("document.querySelector('h1').textContent") == "<b>Cats</b>"
    assert browser.run("document.querySelector('#count').value") == "12 cells"
    # Loaded, not merely placed.
    loaded = (
        "Promise.all([...document.images].filter(i => i.src)"
        ".map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert browser.run(loaded) == [256] * 11
    marks = "[...document.querySelectorAll('#table .mark')].map(mark => mark.textContent)"
    assert browser.run(marks)[4:8] == ["✓ done", "⚠ not finite", "✓ done", "✕ failed"]


def test_a_view_comes_from_the_address(page):
    browser = page("sort=-loss&is.o.beta=10&is.o.beta=100&status=done&status=not_finite")
    assert browser.run(SHOWN) == [4, 6, 8, 9, 10, 11, 5]  # no number comes last either way
    assert browser.run("document.querySelector('#count').value") == "7 of 12 cells"
    assert browser.run("document.querySelector('[aria-sort]').dataset.column") == "loss"
    pressed = "[...document.querySelectorAll('.chip[aria-pressed=true]')].map(c => c.textContent)"
    assert browser.run(pressed) == ["10", "100", "✓ done", "⚠ not finite"]
    browser = page("sort=loss")
    assert browser.run(SHOWN) == [11, 10, 9, 8, 6, 4, 3, 2, 1, 0, 5, 7]
    browser = page("q=beta%3D1+a%2Bb+nothing&sort=nonsense&zoom=99&compare=1")
    assert browser.run(SHOWN) == []
    assert browser.run("!document.querySelector('#nothing').hidden")


def test_sort_filter_and_find_by_hand(page):
    browser = page()
    browser.click("[data-column='o.beta'] button")
    browser.click("[data-column='o.beta'] button")
    assert browser.run(SHOWN) == [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3]
    browser.click("#filters fieldset:nth-of-type(3) .chip:nth-of-type(2)")  # seed 1
    assert browser.run(SHOWN) == [9, 11, 5, 7, 1, 3]
    browser.run("document.querySelector('#query').focus()")
    browser.type("MEMORY #7")
    assert browser.run(SHOWN) == [7]
    browser.run("new Promise(done => setTimeout(done, 300))")
    assert browser.run("location.hash") == "#sort=-o.beta&q=MEMORY+%237&is.seed=1"
    browser.click("#reset")
    assert len(browser.run(SHOWN)) == 12
    browser.run("new Promise(done => setTimeout(done, 300))")
    assert browser.run("location.hash") == "#sort=-o.beta"


def test_by_keyboard_alone(page):
    """From the top: to the column's heading with Tab, sort with Enter, choose and compare."""
    browser = page()
    for _ in range(60):
        browser.press("Tab")
        if browser.run("document.activeElement.closest('th')?.dataset.column") == "loss":
            break
    browser.press("Enter")
    assert browser.run(SHOWN)[:3] == [11, 10, 9]
    for _ in range(2):
        for _ in range(60):
            browser.press("Tab")
            if browser.run("document.activeElement.matches('tbody input:not(:checked)')"):
                break
        browser.press(" ")
        assert browser.run("document.activeElement.matches('tbody input:checked')")  # stays there
    assert browser.run("document.querySelector('#picked').textContent") == "#11 and #10"


def test_large_pictures_and_the_way_through_them(page):
    browser = page("sort=-o.beta&is.seed=1")
    order = browser.run(SHOWN)
    browser.click("#table tbody tr:nth-child(2) .open")
    title = "document.querySelector('#zoom-title').textContent"
    whole = (
        "(i => i.decode().then(() => i.naturalWidth))(document.querySelector('#zoom-stage img'))"
    )
    assert browser.run(title).startswith(f"#{order[1]} ")
    assert browser.run(whole) == 300  # the file beside the page
    browser.press("ArrowRight")
    assert browser.run(title).startswith(f"#{order[2]} ")
    browser.press("ArrowRight")
    assert browser.run(title).startswith("#7 ")
    assert "No memory." in browser.run("document.querySelector('#zoom-facts').textContent")
    for _ in range(4):
        browser.press("ArrowLeft")
    assert browser.run(title).startswith(f"#{order[-1]} ")
    browser.press("Escape")
    assert not browser.run("document.querySelector('#zoom').open")
    assert browser.run("document.activeElement.matches('tr:nth-child(2) .open')")


def test_comparison_by_mouse_and_keyboard(page):
    browser = page()
    browser.click("tr[data-index='1'] input")
    assert browser.run("document.querySelector('#compare-picked').hidden")
    browser.click("tr[data-index='8'] input")
    browser.click("#compare-picked")
    left, top, width, height = browser.run(BOX.format("#pair"))
    at = "+document.querySelector('#slider').value"
    assert browser.run(at) == 50
    browser.mouse("mousePressed", left + 0.5 * width, top + 0.5 * height, 1)
    browser.mouse("mouseMoved", left + 0.25 * width, top + 0.5 * height, 1)
    browser.mouse("mouseReleased", left + 0.25 * width, top + 0.5 * height)
    assert browser.run(at) == 25
    divider = browser.run(BOX.format("#divider"))
    assert abs(divider[0] - (left + 0.25 * width)) < 2
    browser.mouse("mouseMoved", left + 0.9 * width, top + 0.5 * height)
    assert browser.run(at) == 25  # not held any more
    browser.run("document.querySelector('#slider').focus()")
    browser.press("ArrowRight")
    assert browser.run(at) == 26
    tags = "[...document.querySelectorAll('.tag')].map(tag => tag.textContent)"
    assert browser.run(tags) == ["#1 beta=1, seed=1", "#8 beta=100, seed=0"]
    browser.click("#swap")
    assert browser.run(tags) == ["#8 beta=100, seed=0", "#1 beta=1, seed=1"]
    assert browser.run(
        "[...document.querySelectorAll('#differences tr.differs th')].map(h => h.textContent)"
    ) == ["beta", "seed", "loss", "style", "style/relu1_1", "name"]
    browser.press("Escape")
    assert not browser.run("document.querySelector('#compare').open")


def test_each_side_of_the_line_is_its_own_picture(page):
    """The colors on the screen, not what the page believes."""
    browser = page("compare=0,11&at=50")
    browser.run("Promise.all([...document.querySelectorAll('.side img')].map(i => i.decode()))")
    left, top, width, height = browser.run(BOX.format("#pair"))
    # The first cell is the reddest and the last one the bluest, see `tint` in conftest.py.
    shot = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"), float)
    middle = slice(int(top + 0.4 * height), int(top + 0.6 * height))
    red = shot[middle, int(left + 0.4 * width) : int(left + 0.45 * width)].mean((0, 1))
    blue = shot[middle, int(left + 0.55 * width) : int(left + 0.6 * width)].mean((0, 1))
    assert red[0] > 4 * red[2] and blue[2] > 1.1 * blue[0]


def test_pictures_of_other_shapes_end_at_the_line_too(browser, tmp_path):
    cells = []
    for index, (size, color) in enumerate((((300, 100), "red"), ((100, 300), "blue"))):
        Image.new("RGB", size, color).save(tmp_path / f"{index}.png")
        cells.append(Result(index, color, {"n": index}, picture=tmp_path / f"{index}.png"))
    write_report(cells, ["n"], tmp_path / "report.html", title="Shapes")
    browser.screen(1200, 900)
    browser.open((tmp_path / "report.html").as_uri() + "#compare=0,1")
    browser.run("Promise.all([...document.querySelectorAll('.side img')].map(i => i.decode()))")
    left, top, width, height = browser.run(BOX.format("#pair"))
    shot = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))
    row = shot[int(top + 0.6 * height), int(left) : int(left + width)]
    red, blue = (np.flatnonzero((row == color).all(-1)) for color in ((255, 0, 0), (0, 0, 255)))
    assert red[0] < 0.15 * width and 0.45 * width < red[-1] < 0.5 * width
    assert 0.5 * width < blue[0] < 0.55 * width and blue[-1] < 0.7 * width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_fits_the_window_and_the_colors_asked_for(page, browser, width, scheme):
    page()
    browser.screen(width, 800, scheme=scheme, mobile=width < 600)
    for fragment in ("", "view=pictures", "view=table&terms=1", "compare=0,3", "zoom=7"):
        page(fragment)
        assert browser.run(FITS), fragment
        paper = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    page()
    first = browser.run("document.querySelector('[data-view][aria-pressed=true]').dataset.view")
    assert first == ("pictures" if width < 600 else "table")


def test_alone_it_shows_the_small_pictures(browser, address, tmp_path):
    folder = address.removeprefix("file://").rpartition("/")[0]
    shutil.copy(f"{folder}/report.html", tmp_path / "moved.html")
    browser.open((tmp_path / "moved.html").as_uri() + "#zoom=3")
    shown = (
        "new Promise(done => setInterval(() => {"
        "const i = document.querySelector('#zoom-stage img');"
        "if (i.src.startsWith('data:') && i.complete) done(i.naturalWidth); }, 20))"
    )
    assert browser.run(shown) == 256
    assert "not beside this page" in browser.run("document.querySelector('#zoom-note').textContent")


def test_the_browser_refuses_the_network(browser, address):
    """Even if something in the page asked for it."""
    browser.open(address)
    refused = (
        "new Promise(done => {{ addEventListener('securitypolicyviolation',"
        "e => done(e.blockedURI)); {} }})"
    )
    ask = "new Image().src = 'http://127.0.0.1:9/x.png';"
    assert browser.run(refused.format(ask)) == "http://127.0.0.1:9/x.png"
    ask = "fetch('http://127.0.0.1:9/data').catch(() => null);"
    assert browser.run(refused.format(ask)) == "http://127.0.0.1:9/data"


def test_two_hundred_cells(browser, tmp_path, make_cells):
    swept = {"beta": [10.0**i for i in range(-5, 5)], "n": list("abcde"), "seed": [0, 1, 2, 3]}
    cells = make_cells(tmp_path, swept)
    write_report(cells, list(swept), tmp_path / "report.html", title="Many")
    browser.screen(1200, 900)
    browser.open((tmp_path / "report.html").as_uri() + "#is.seed=3&is.n=b&sort=loss&view=pictures")
    cards = "[...document.querySelectorAll('.card')].map(card => +card.dataset.index)"
    assert browser.run(cards) == [cell.index for cell in cells[::-1] if cell.index % 20 == 7]
    browser.click("#reset")
    assert len(browser.run(cards)) == 200
    assert browser.complaints() == []
