"""Plots of a sweep: the points, the medians, and which axes are logarithmic."""

import math
import statistics

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxstyle.reporting.sweep_plots import _scale_x, group_sums, points_of, sweep_plots
from jaxstyle.sweeps.results import Result
from jaxstyle.types import InputError


def cells_of(*pairs, **extra):
    return [
        Result(i, f"{i}", values, metrics=metrics, **extra)
        for i, (values, metrics) in enumerate(pairs)
    ]


CELLS = cells_of(
    *(
        (
            {"beta": beta, "layers": layers, "on": on},
            {"loss": beta + i + 5 * i * j, "style/a": 2.0 * i},
        )
        for beta in (100.0, 1.0, 10.0)
        for i, layers in enumerate([("relu2_1",), ("relu1_1", "relu2_1")])
        for j, on in enumerate([True, False])
    )
)


def test_points_and_medians():
    points = points_of(CELLS, "beta", "loss")
    expected = sorted((cell.values["beta"], cell.metrics["loss"]) for cell in CELLS)
    assert sorted(zip(points.x, points.y, strict=True)) == expected
    assert points.middle_x.tolist() == [1.0, 10.0, 100.0] and points.numeric
    for x, y in zip(points.middle_x, points.middle_y, strict=True):
        assert y == statistics.median(loss for beta, loss in expected if beta == x)


def test_categories_have_places_in_order_of_appearance():
    points = points_of(CELLS, "layers", "style")
    assert not points.numeric and points.labels == ("relu2_1", "relu1_1+relu2_1")
    assert sorted(zip(points.x, points.y, strict=True)) == [(0, 0.0)] * 6 + [(1, 2.0)] * 6
    assert points_of(CELLS, "on", "loss").labels == ("true", "false")


def test_cells_without_a_finite_value_are_left_out_and_counted():
    cells = cells_of(
        ({"beta": 1}, {"loss": 2.0}),
        ({"beta": 2}, {"loss": math.nan}),
        ({"beta": 3}, {"loss": math.inf}),
        ({"beta": 4}, {}),
        ({}, {"loss": 1.0}),
    )
    points = points_of(cells, "beta", "loss")
    assert points.x.tolist() == points.middle_x.tolist() == [1.0] and points.missing == 4
    assert points.values == (1, 2, 3, 4)


def test_groups_are_sums_of_what_is_before_the_slash():
    metrics = {"style/a": 1.0, "loss": 9.0, "style/b": 2.0, "content/a": 4.0, "tv": 8.0}
    assert group_sums(metrics) == {"style": 3.0, "loss": 9.0, "content": 4.0, "tv": 8.0}


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 19.0], "linear"),
        ([1.0, 20.0], "log"),
        ([0.01, 0.1, 1.0], "log"),
        ([0.0, 0.01, 1.0], "symlog"),
        ([0.0, 1.0, 2.0], "linear"),
        ([-1.0, 100.0], "linear"),
        (["a", "b"], "linear"),
    ],
)
def test_scale(values, scale):
    axes = Figure().subplots()
    points = points_of(cells_of(*(({"k": v}, {"loss": 1.0}) for v in values)), "k", "loss")
    _scale_x(axes, points)
    assert axes.get_xscale() == scale


def draw(tmp_path, cells, keys):
    sweep_plots(cells, keys, tmp_path / "parameters.png")
    with Image.open(tmp_path / "parameters.png") as image:
        return np.asarray(image.convert("RGB"))


def test_a_column_per_key_and_a_row_per_quantity(tmp_path):
    one = draw(tmp_path, CELLS, ["beta"])
    three = draw(tmp_path, CELLS, ["beta", "layers", "on"])
    assert three.shape[0] == one.shape[0] and three.shape[1] > 1.5 * one.shape[1]
    more = cells_of(*((c.values, {**c.metrics, "tv": 0.5, "x/y": 1.0}) for c in CELLS))
    assert draw(tmp_path, more, ["beta"]).shape[0] > 1.6 * one.shape[0]
    red = (np.abs(one.astype(int) - (0xD9, 0x48, 0x0F)) < 8).all(-1)  # the style's line
    assert red.any() and not red[: one.shape[0] // 2].any()


def test_names_are_no_mathematics(tmp_path):
    cells = cells_of(*(({"$x^$": f"$_{i}"}, {"loss": float(i), "$a$/b": 1.0}) for i in range(2)))
    draw(tmp_path, cells, ["$x^$"])


def test_nothing_finite_is_still_a_picture(tmp_path):
    cells = [Result(i, f"{i}", {"a": i, "b": "x"}, status="failed") for i in range(3)]
    assert draw(tmp_path, cells, ["a", "b"]).std() > 0


def test_nothing_to_plot(tmp_path):
    with pytest.raises(InputError, match="at least one cell and one swept key"):
        draw(tmp_path, [], ["a"])
    with pytest.raises(InputError, match="at least one cell and one swept key"):
        draw(tmp_path, CELLS, [])
