"""Loss plots: sizes, and that every curve is there in its color."""

import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

from jaxstyle.reporting.plots import loss_plot
from jaxstyle.types import InputError


def write(path, count, **curves):
    with path.open("w") as file:
        for i in range(1, count + 1):
            values = {name.replace("__", "/"): curve(i) for name, curve in curves.items()}
            file.write(json.dumps({"step": 10 * i} | values) + "\n")


def draw(tmp_path, **options):
    loss_plot(tmp_path / "metrics.jsonl", tmp_path / "loss.png", **options)
    with Image.open(tmp_path / "loss.png") as image:
        return np.asarray(image.convert("RGB"))


def count(pixels, color) -> int:
    """Return how many pixels have exactly this color (a curve's core, inside its soft edge)."""
    return int(np.all(pixels == np.round(np.array(color[:3]) * 255), axis=-1).sum())


def test_every_curve_is_drawn_in_a_color_of_its_group(tmp_path):
    write(
        tmp_path / "metrics.jsonl",
        100,
        loss=lambda i: 3.0,
        content__relu4_1=lambda i: 1.0,
        style__relu1_1=lambda i: 0.3,
        style__relu2_1=lambda i: 0.1,
        tv=lambda i: 0.01,
    )
    pixels = draw(tmp_path, title="a title")
    assert pixels.shape == (900, 1600, 3)
    maps = matplotlib.colormaps
    blue, green = maps["Blues"](0.7), maps["Greens"](0.7)
    light, dark = maps["Oranges"](0.45), maps["Oranges"](0.95)
    # A flat curve is about a thousand pixels long.
    assert all(count(pixels, color) > 800 for color in (blue, light, dark, green, (0, 0, 0)))
    rows = [
        np.flatnonzero((pixels == np.round(np.array(color[:3]) * 255)).all(-1).sum(1) > 500).mean()
        for color in ((0, 0, 0), blue, light, dark, green)
    ]
    assert rows == sorted(rows)  # larger values lie higher
    ratios = np.diff(rows) / np.diff(-np.log([3.0, 1.0, 0.3, 0.1, 0.01]))
    np.testing.assert_allclose(ratios, ratios.mean(), rtol=0.03)  # the axis is logarithmic


def test_leaves_no_state_behind(tmp_path):
    write(tmp_path / "metrics.jsonl", 2, loss=lambda i: i)
    before = matplotlib.get_backend(auto_select=False), matplotlib.rcParams.copy()
    draw(tmp_path)
    assert (matplotlib.get_backend(auto_select=False), matplotlib.rcParams.copy()) == before


@pytest.mark.parametrize("curve", [lambda i: 0.0, lambda i: -1.0, lambda i: float(i == 2)])
def test_values_without_a_logarithm_are_left_out(tmp_path, curve):
    write(tmp_path / "metrics.jsonl", 3, loss=lambda i: i, tv=curve)
    assert draw(tmp_path).shape == (900, 1600, 3)


def test_one_line_is_a_visible_point(tmp_path):
    write(tmp_path / "metrics.jsonl", 1, loss=lambda i: 2.0)
    axes_only = draw(tmp_path)
    assert count(axes_only[100:800, 150:1300], (0, 0, 0)) > 20


def test_nothing_to_plot(tmp_path):
    with pytest.raises(InputError, match="metrics.jsonl cannot be read: No such file"):
        draw(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "lo')
    with pytest.raises(InputError, match="has no complete line yet"):
        draw(tmp_path)
