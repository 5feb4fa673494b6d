"""Sweeps to report on: a photograph in one tint per cell, and a browser to read reports with."""

import importlib.util
import itertools
import pathlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxstyle.sweeps.results import DONE, FAILED, NOT_FINITE, Result


def tint(place, count):
    """Return the factors that make the picture of a cell its own."""
    share = place / max(count - 1, 1)
    return np.array([1 - 0.6 * share, 0.8, 0.4 + 0.6 * share])


@pytest.fixture(scope="session")
def make_cells():
    """Return a function that makes the cells of a cross product, with pictures in a folder."""
    whole = Image.fromarray(skimage.data.chelsea())

    def make(folder, swept, *, size=(60, 40), not_finite=(), failed=(), suffix="png"):
        photo = np.asarray(whole.resize(size)) / 255
        cells = []
        products = list(itertools.product(*swept.values()))
        for index, values in enumerate(products):
            name = f"{index:04d}"
            place = pathlib.Path(folder) / "cells" / name / f"picture.{suffix}"
            place.parent.mkdir(parents=True)
            loss = 1.0 / (1 + index)
            metrics = {"loss": loss, "content/relu4_1": 0.25, "style/relu1_1": loss, "tv": 0.125}
            cell = {"values": dict(zip(swept, values, strict=True)), "steps": 30, "seconds": 1.5}
            if index in failed:
                cells.append(Result(index, name, status=FAILED, message="No memory.", **cell))
                continue
            pixels = np.rint(255 * photo * tint(index, len(products))).astype(np.uint8)
            Image.fromarray(pixels).save(place)
            status = NOT_FINITE if index in not_finite else DONE
            if index in not_finite:
                metrics["loss"] = float("nan")
            cells.append(Result(index, name, status=status, metrics=metrics, picture=place, **cell))
        return cells

    return make


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A real headless Chromium, where one is installed."""
    spec = importlib.util.spec_from_file_location(
        "browser", pathlib.Path(__file__).with_name("browser.py")
    )
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    program = driver.find_program()
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(driver.PROGRAMS)}")
    running = driver.Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()
