"""Lanes through several scales: what became of each is told as for a run of its own."""

import json

import numpy as np
from PIL import Image

from configs import gatys
from experiments import _launches, _planning, paint_picture, sweep
from jaxstyle.sweeps import results


def test_a_lane_that_goes_bad_in_a_small_size_is_told_of_at_its_own_step(
    toy, changed, pictures, tmp_path, capsys
):
    _launches.forget()
    base = changed(
        gatys.get_config("smoke"),
        {
            "content": str(pictures / "content.png"),
            "style": str(pictures / "style.png"),
            "size": "64",
            "steps": 4,
            "scales.smallest": 32,
            "scales.ratio": 2.0,
            "objective.content_layers": ("relu2_1",),
            "objective.style_layers": ("relu1_1",),
            "solver.optimizer": "adam",
            "solver.parameters": "pixels",
        },
    )
    bad = 3e19  # the squares of features overflow
    request = _planning.Request((f"solver.learning_rate=0.02,{bad}",))
    assert sweep.run(base, str(tmp_path / "sweep"), request) == 1
    fine, failed = (
        results.read_result(folder) for folder in sorted((tmp_path / "sweep/cells").iterdir())
    )
    assert (fine.status, fine.steps) == (results.DONE, 8)
    capsys.readouterr()
    alone = changed(base, {"solver.learning_rate": bad})
    assert paint_picture.run(alone, tmp_path / "alone") == 1
    sentence = "the loss became NaN or infinite in step 1; the picture before it is kept"
    assert sentence in capsys.readouterr().out
    with Image.open(tmp_path / "alone" / "picture.png") as picture:
        assert json.loads(picture.text["jaxstyle"])["step"] == 0
    assert (failed.status, failed.message) == (results.NOT_FINITE, f"{sentence}.")
    assert failed.steps == 0 and failed.metrics == {}
    with Image.open(failed.picture) as picture:
        assert json.loads(picture.text["jaxstyle"])["step"] == 0
        assert np.asarray(picture).std() > 5
