"""Paintings by name: fetched once, whole or not at all; offline, one sentence helps on."""

import contextlib
import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import threading
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from jaxstyle.io import images, paintings
from jaxstyle.io.painting_catalog import PAINTINGS
from jaxstyle.io.paintings import painting_file
from jaxstyle.types import InputError

FETCHED = [name for name in PAINTINGS if name != paintings.EMBEDDED]


def jpeg():
    file = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(values).save(file, "JPEG")
    return file.getvalue()


PICTURE = jpeg()


class Server(http.server.ThreadingHTTPServer):
    """Answers by path; remembers who asked for what."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.answers = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        status, headers, body = self.server.answers.get(self.path, (404, {}, b"no such file"))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("JAXSTYLE_PAINTINGS_URL", f"{server.url}/mirror/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        server.answers["/mirror/scream.jpg"] = (200, {}, PICTURE)
        yield server
        server.shutdown()
        thread.join()


def cached(tmp_path):
    folder = tmp_path / "cache" / "jaxstyle" / "paintings"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


# --- Names ---


def test_the_embedded_painting_needs_nothing(server):
    assert images.read(painting_file("starry")).pixels.shape == (800, 1024, 3)
    assert not server.asked


def test_paths_stay_paths(server, tmp_path):
    for path in ("missing.jpg", "folder/scream", tmp_path / "starry", "scream.jpg"):
        assert os.fspath(painting_file(path)) == os.fspath(path)
    assert not server.asked


def test_a_file_of_that_name_goes_first(server, tmp_path):
    (tmp_path / "scream").write_bytes(PICTURE)
    assert painting_file("scream").read_bytes() == PICTURE and not server.asked


@pytest.mark.parametrize("given", ["scraem", "starrynight"])
def test_an_unknown_word_names_the_nearest(server, given):
    with pytest.raises(InputError) as error:
        painting_file(given)
    assert {"scraem": "'scream'", "starrynight": "'starry-night'"}[given] in str(error.value)
    assert "A path to a picture works too" in str(error.value)
    assert not server.asked


@pytest.mark.parametrize("given", ["great-wave", "Great_Wave", "great wave"])
def test_spellings(server, given):
    server.answers["/mirror/great-wave.jpg"] = (200, {}, PICTURE)
    assert painting_file(given).name == "great-wave.jpg"


# --- Fetching ---


def test_fetched_once_and_kept(server, tmp_path):
    first, second = painting_file("scream"), painting_file("scream")
    assert first == second == tmp_path / "cache/jaxstyle/paintings/scream.jpg"
    assert first.read_bytes() == PICTURE
    ((path, agent),) = server.asked
    assert path == "/mirror/scream.jpg"
    assert re.match(r"jaxstyle/\S+ \(", agent)
    assert cached(tmp_path) == ["scream.jpg"]


def test_redirects_are_followed(server):
    server.answers["/mirror/kiss.jpg"] = (302, {"Location": "/thumb/1280px-kiss.jpg"}, b"")
    server.answers["/thumb/1280px-kiss.jpg"] = (200, {}, PICTURE)
    assert painting_file("kiss").read_bytes() == PICTURE
    assert len(server.asked) == 2 and len({agent for _, agent in server.asked}) == 1


PAGE = b"\n<!DOCTYPE html><html><body>Too many requests</body></html>"
FAILURES = {
    "page": ((200, {}, PAGE), "the answer is a web page"),
    "text": ((200, {}, b"hello"), "the answer is no whole picture"),
    "empty": ((200, {}, b""), "the answer is no whole picture"),
    "half": ((200, {}, PICTURE[: len(PICTURE) // 2]), "the answer is no whole picture"),
    "cut off": ((200, {"Content-Length": "99999"}, PICTURE), ""),
    "missing": ((404, {}, b"no"), "404 Client Error"),
    "refused": ((429, {}, PAGE), "429 Client Error"),
    "broken": ((500, {}, b"no"), "500 Server Error"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_leave_nothing_behind(server, tmp_path, case):
    server.answers["/mirror/scream.jpg"], reason = FAILURES[case]
    with pytest.raises(InputError) as error:
        painting_file("scream")
    message = str(error.value)
    assert message.startswith(f"the painting 'scream' could not be fetched from {server.url}/mir")
    assert reason in message
    assert "give a picture file instead" in message and "'starry', which needs no" in message
    assert "\n" not in message and len(message) < 500
    assert cached(tmp_path) == []
    server.answers["/mirror/scream.jpg"] = (200, {}, PICTURE)
    assert painting_file("scream").is_file()  # and the next attempt succeeds


def test_an_answer_without_end(server, tmp_path, monkeypatch):
    monkeypatch.setattr(paintings, "_LARGEST", 1_000_000)
    server.answers["/mirror/scream.jpg"] = (200, {}, PICTURE + bytes(1_100_000))
    with pytest.raises(InputError, match="the answer has more than 1 MB"):
        painting_file("scream")
    assert cached(tmp_path) == []


def test_without_network(server, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_PAINTINGS_URL", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match="could not be fetched from http://127.0.0.1:9/scream"):
        painting_file("scream")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("right", [True, False])
def test_a_known_hash_is_checked(server, tmp_path, monkeypatch, right):
    digest = hashlib.sha256(PICTURE if right else b"x").hexdigest()
    changed = PAINTINGS["scream"]._replace(known_hash=f"sha256:{digest}")
    monkeypatch.setitem(PAINTINGS, "scream", changed)
    if right:
        assert painting_file("scream").is_file()
    else:
        with pytest.raises(InputError, match="does not match the known hash"):
            painting_file("scream")
        assert cached(tmp_path) == []


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    with pytest.raises(InputError, match="could not be fetched"):
        painting_file("scream")


def test_processes_share_the_cache(server, tmp_path, repository):
    code = "from jaxstyle.io.paintings import painting_file as f; print(f('scream'))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(repository)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    files = {run.communicate(timeout=120)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert files == {str(tmp_path / "cache/jaxstyle/paintings/scream.jpg")}
    assert cached(tmp_path) == ["scream.jpg"]


def test_without_a_mirror_it_is_wikimedia_that_is_asked(server, monkeypatch):
    monkeypatch.delenv("JAXSTYLE_PAINTINGS_URL")
    monkeypatch.setitem(PAINTINGS, "kiss", PAINTINGS["kiss"]._replace(url=f"{server.url}/k?w=1"))
    server.answers["/k?w=1"] = (200, {}, PICTURE)
    assert painting_file("kiss").name == "kiss.jpg"


# --- The table ---

# Where Wikimedia keeps a file: the first digits of the MD5 of its name, as public links show them.
FOLDERS = {
    "almond-blossom": "68", "composition-vii": "b4", "grande-jatte": "7d", "great-wave": "a5",
    "impression-sunrise": "54", "kiss": "40", "scream": "c5", "shipwreck": "a0",
    "starry-night": "ea", "udnie": "82", "woman-with-hat": "fb",
}  # fmt: skip


@pytest.mark.parametrize("name", FETCHED)
def test_addresses(name):
    parts = urllib.parse.urlsplit(PAINTINGS[name].url)
    assert parts.scheme == "https" and parts.netloc.endswith((".wikimedia.org", ".wikipedia.org"))
    assert parts.query == "width=1280"
    place, _, file = urllib.parse.unquote(parts.path).rpartition("/")
    assert place == "/wiki/Special:FilePath"
    assert hashlib.md5(file.encode()).hexdigest().startswith(FOLDERS[name])


@pytest.mark.parametrize("name", PAINTINGS)
def test_every_painting_says_whose_it_is(name):
    painting = PAINTINGS[name]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert painting.title and re.search(r"\d{4}", painting.year)
    if name != "starry":
        died = int(re.search(r"\(d\. (\d{4})\)$", painting.painter)[1])
        assert died < 1956  # 70 years ago
        assert ("more than 100 years" in painting.license) == (died < 1925)


def test_listing(server):
    painting_file("scream")
    lines = {line.split()[0]: line for line in paintings.listing()}
    assert list(lines) == list(PAINTINGS)
    assert "comes along" in lines["starry"]
    assert [name for name, line in lines.items() if " fetched " in line] == ["scream"]
    assert "Edvard Munch" in lines["scream"] and "1893" in lines["scream"]
