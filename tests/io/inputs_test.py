import os
import pathlib

import pytest

from jaxstyle.io.inputs import find_pictures


@pytest.fixture
def tree(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder of (empty) files; only their names matter here."""
    names = """photos/b.jpg photos/A.PNG photos/notes.txt photos/trip/c.jpeg photos/trip/deep/d.webp
        photos/.hidden.jpg photos/.thumbnails/e.jpg photos/phone.heic more/b.jpg [1].jpg x.raw"""
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*inputs, **options):
    found, missed = find_pictures(inputs, **options)
    return [(item.path.as_posix(), item.relative.as_posix()) for item in found], missed


PHOTOS = [
    ("photos/A.PNG", "A.PNG"),
    ("photos/b.jpg", "b.jpg"),
    ("photos/phone.heic", "phone.heic"),
    ("photos/trip/c.jpeg", "trip/c.jpeg"),
    ("photos/trip/deep/d.webp", "trip/deep/d.webp"),
]


@pytest.mark.parametrize("text", ["photos", "photos/", "photos/**", "./photos"])
def test_folders_are_searched_through_and_through(tree, text):
    assert find(text) == (PHOTOS, [])


def test_the_current_folder_is_a_folder(tree):
    os.chdir("photos")
    assert [relative for _, relative in find(".")[0]] == [relative for _, relative in PHOTOS]


def test_a_file_is_taken_whatever_its_suffix(tree):
    assert find("x.raw", "photos/notes.txt") == (
        [("x.raw", "x.raw"), ("photos/notes.txt", "notes.txt")],
        [],
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["b.jpg"]),
        ("photos/?.*", ["A.PNG", "b.jpg"]),
        ("*/b.jpg", ["more/b.jpg", "photos/b.jpg"]),
        ("photos/**/*.webp", ["trip/deep/d.webp"]),
        ("photos/t*", ["trip/c.jpeg", "trip/deep/d.webp"]),
        ("**/c.*", ["photos/trip/c.jpeg"]),
    ],
)
def test_patterns_keep_the_folders_below_their_fixed_part(tree, pattern, expected):
    found, missed = find(pattern)
    assert ([relative for _, relative in found], missed) == (expected, [])


def test_an_absolute_pattern_works(tree):
    assert [r for _, r in find(f"{tree}/photos/trip/*")[0]] == ["c.jpeg", "deep/d.webp"]


def test_a_file_named_like_a_pattern_is_that_file(tree):
    assert find("[1].jpg")[0] == [("[1].jpg", "[1].jpg")]


def test_each_file_comes_once_by_its_first_mention(tree):
    os.symlink("photos/b.jpg", "link.jpg")
    found, missed = find("link.jpg", "photos/trip", "photos", "photos/*.jpg", "./photos/b.jpg")
    assert [path for path, _ in found] == [
        "link.jpg",
        "photos/trip/c.jpeg",
        "photos/trip/deep/d.webp",
        "photos/A.PNG",
        "photos/phone.heic",
    ]
    assert missed == []


def test_links_that_go_in_circles_end(tree):
    os.symlink("..", "photos/trip/up")
    assert find("photos") == (PHOTOS, [])


@pytest.mark.parametrize("text", ["photos", "photos/**", "photos/**/*.*"])
def test_results_of_an_earlier_run_are_not_inputs(tree, text):
    out = tree / "photos" / "out"
    (out / "trip").mkdir(parents=True)
    (out / "trip" / "c.jpeg").touch()
    (tree / "photos" / "outside.jpg").touch()
    found, _ = find(text, besides=pathlib.Path("photos/out"))
    assert [path for path, _ in found if "/out/" in path] == []
    assert "photos/outside.jpg" in [path for path, _ in found]
    # But who names one, or a folder above which the results lie, means it.
    assert len(find("photos/out/trip/c.jpeg", besides=out)[0]) == 1
    assert len(find("photos/out/trip", besides=out)[0]) == 1
    assert len(find(text, besides=tree / "photos")[0]) > len(PHOTOS)


def test_what_leads_to_nothing_is_told_and_the_rest_is_found(tree):
    (tree / "empty").mkdir()
    found, missed = find("nothing.jpg", "empty", "*.tiff", "x.raw")
    assert [path for path, _ in found] == ["x.raw"]
    assert [miss.given for miss in missed] == ["nothing.jpg", "empty", "*.tiff"]
    assert "there is no file or folder 'nothing.jpg'" in missed[0].error
    assert "the folder 'empty' leads to no pictures (.jpg," in missed[1].error
    assert "the pattern '*.tiff' leads to no pictures" in missed[2].error


def test_a_dangling_link_is_left_to_the_reader(tree):
    os.symlink("nowhere.jpg", "dangling.jpg")
    assert find("dangling.jpg")[0] == [("dangling.jpg", "dangling.jpg")]


def test_a_folder_that_cannot_be_searched_is_told(tree, monkeypatch):
    scan = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("trip"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found, missed = find("photos")
    assert [relative for _, relative in found] == ["A.PNG", "b.jpg", "phone.heic"]
    assert [miss.error for miss in missed] == [
        "'photos/trip' cannot be searched: Permission denied."
    ]
