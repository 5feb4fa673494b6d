import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxstyle.io.images import WRITABLE_SUFFIXES
from jaxstyle.io.inputs import Found
from jaxstyle.io.outputs import plan_outputs
from jaxstyle.types import InputError


def pictures(*names: str) -> list[Found]:
    """Files below in/, with what is behind a colon as their place."""
    pairs = [name.split(":") if ":" in name else (name, name) for name in names]
    return [Found(pathlib.Path("in", path), pathlib.PurePath(place)) for path, place in pairs]


def plan(*names: str, out: str = "out", **options) -> list[str]:
    return [job.target.as_posix() for job in plan_outputs(pictures(*names), out, **options)]


def test_names_folders_and_suffixes_are_kept():
    assert plan("a.jpg", "x/b.PNG", "x/y/c.tiff") == ["out/a.jpg", "out/x/b.PNG", "out/x/y/c.tiff"]


def test_what_cannot_be_written_alike_becomes_png():
    assert plan("a.gif", "b.avif", "c.raw", "d", "e.tar.gz") == [
        "out/a.png",
        "out/b.png",
        "out/c.raw.png",
        "out/d.png",
        "out/e.tar.gz.png",
    ]


def test_a_suffix_and_a_format_can_be_chosen():
    assert plan("a.jpg", "x/b.gif", suffix="_starry") == ["out/a_starry.jpg", "out/x/b_starry.png"]
    assert plan("a.jpg", "b.png", format="webp") == ["out/a.webp", "out/b.webp"]
    assert plan("a.jpg", format=".TIF", suffix="-1") == ["out/a-1.tif"]


def test_names_that_meet_are_numbered():
    names = ("1/a.jpg:a.jpg", "2/a.jpg:a.jpg", "3/A.JPG:A.JPG", "a.gif", "a.png", "a-2.jpg")
    jobs = plan_outputs(pictures(*names), "out")
    assert [(job.target.name, job.numbered) for job in jobs] == [
        ("a.jpg", False),
        ("a-2.jpg", True),
        ("A-3.JPG", True),
        ("a.png", False),
        ("a-2.png", True),
        ("a-2-2.jpg", True),
    ]


def test_names_that_some_file_systems_take_for_one_are_numbered():
    composed, decomposed = "\u00e9.jpg", "e\u0301.jpg"
    jobs = plan_outputs(pictures(composed, decomposed), "out")
    assert [job.numbered for job in jobs] == [False, True]


@given(
    st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["", "x/", "X/"]),
            st.sampled_from(["a", "A", "a-2", "a-3", "é"]),
            st.sampled_from([".jpg", ".JPG", ".png", ".gif", ".raw", ""]),
        ),
        max_size=12,
    ),
    st.sampled_from(["", "-2", "_s"]),
    st.sampled_from([None, "png", "jpg"]),
)
def test_no_two_results_share_a_name_and_each_can_be_written(names, suffix, format):
    found = [Found(pathlib.Path(f"in/{i}"), pathlib.PurePath(n)) for i, n in enumerate(names)]
    jobs = plan_outputs(found, "out", suffix=suffix, format=format)
    assert [job.source for job in jobs] == [item.path for item in found]
    assert len({job.target.as_posix().casefold() for job in jobs}) == len(jobs)
    for job, item in zip(jobs, found, strict=True):
        assert job.target.suffix.lower() in WRITABLE_SUFFIXES
        assert job.target.parent == pathlib.Path("out") / item.relative.parent


def test_a_single_picture_can_have_a_file_as_its_output(tmp_path):
    assert plan("a.gif", out="x/painted.PNG") == ["x/painted.PNG"]
    (tmp_path / "folder.png").mkdir()
    assert plan("a.jpg", out=f"{tmp_path}/folder.png") == [f"{tmp_path}/folder.png/a.jpg"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a.jpg", "b.jpg"], {"out": "c.jpg"}, "'c.jpg' is one file for 2 pictures"),
        (["a.jpg"], {"out": "c.gif"}, "unknown output format '.gif'"),
        (["a.jpg"], {"out": "c.jpg", "format": "png"}, "names the file"),
        (["a.jpg"], {"out": "c.jpg", "suffix": "_s"}, "names the file"),
        (["a.jpg"], {"format": "jpgg"}, "unknown output format 'jpgg'; did you mean 'jpg'"),
    ],
)
def test_an_output_that_does_not_fit_is_refused(names, options, message):
    with pytest.raises(InputError, match=message):
        plan(*names, **options)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match="exists and is no folder"):
        plan("a.jpg", out=f"{tmp_path}/taken")


@pytest.mark.parametrize("way", ["same folder", "other input", "link", "hard link", "file", "case"])
def test_an_input_is_never_overwritten(tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("in").mkdir()
    pathlib.Path("out").mkdir()
    pathlib.Path("in/a.jpg").touch()
    found, out = pictures("a.jpg"), "out"
    if way == "same folder":
        out = "./in"
    elif way == "file":
        out = "in/../in/a.jpg"
    elif way == "other input":
        pathlib.Path("out/a.jpg").touch()
        found.append(Found(pathlib.Path("out/a.jpg"), pathlib.PurePath("b.jpg")))
    elif way == "link":
        os.symlink("../in/a.jpg", "out/a.jpg")
    elif way == "hard link":
        os.link("in/a.jpg", "out/a.jpg")
    elif way == "case":
        os.symlink("in", "IN")
        out = "IN"
    with pytest.raises(InputError, match="would overwrite the input '(in|out)/a.jpg'.*--suffix"):
        plan_outputs(found, out)


def test_with_a_suffix_results_may_lie_beside_the_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("in").mkdir()
    pathlib.Path("in/a.jpg").touch()
    assert plan("a.jpg", out="in", suffix="_s") == ["in/a_s.jpg"]
