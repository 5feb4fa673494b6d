"""Downloads from a server on this machine that fails in all the ways that servers do."""

import contextlib
import errno
import hashlib
import http.server
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxstyle.weights import fetching

CONTENT = random.Random(0).randbytes(300_000)
HASH = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT in the manner that the path names."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, manner = self.server, self.path.strip("/")
        span = self.headers.get("Range")
        server.asked.append((manner, span))
        if "-once" in manner and len(server.asked) > 1:
            manner = "plain"
        if manner == "dies" and len(server.asked) > 1:
            manner = "status-500"
        if manner.startswith("status"):
            return self._send(int(manner.split("-")[1]), b"sorry", None)
        if manner in ("redirect", "circle"):
            return self._send(302, b"", {"Location": "/circle" if manner == "circle" else "/plain"})
        if manner == "page":
            return self._send(200, b"<html>log in</html>", {"Content-Type": "text/html"})
        if manner == "disguised":  # a page that says it is a file, of unknown length
            return self._send(200, b"\n<html>" + bytes(50), None, length=False)
        if manner == "other":
            return self._send(200, CONTENT[::-1], None)
        if manner == "short":
            return self._send(200, CONTENT[:1000], None)
        if manner == "deaf-once":  # all of it again, but without its end and its length
            return self._send(200, CONTENT[:-500], None, length=False)
        if manner == "endless":
            return self._send(200, CONTENT * 2, None, length=False)
        if manner == "slow":
            server.started.set()
            time.sleep(0.5)
        start = int(span[6:-1]) if span and manner != "deaf" else 0
        if start >= SIZE:
            return self._send(416, b"", None)
        code = 206 if start else 200
        headers = {"Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}"} if start else None
        body = CONTENT[start:]
        if manner in ("truncates", "dies"):  # a third of it, and the line goes dead
            self._send(code, body[: SIZE // 3], headers, length=len(body))
            return None
        return self._send(code, body, headers)

    def _send(self, code, body, headers, length=True):
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(body) if length is True else length))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "_PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    served.asked, served.started = [], threading.Event()
    served.url = f"http://127.0.0.1:{served.server_address[1]}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def fetch(server, manner, folder, known_hash=HASH, report=None):
    target = folder / "cache" / "vgg.h5"
    return fetching.fetch(f"{server.url}/{manner}", target, known_hash, SIZE, report)


def failure(server, manner, folder, known_hash=HASH) -> str:
    with pytest.raises(fetching.Failure) as error:
        fetch(server, manner, folder, known_hash)
    assert not (folder / "cache" / "vgg.h5").exists()
    return str(error.value)


def left(folder):
    return sorted(p.name for p in (folder / "cache").iterdir() if not p.name.endswith(".lock"))


@pytest.mark.parametrize("manner", ["plain", "redirect", "status-503-once", "truncates"])
def test_the_file_comes_whole(server, tmp_path, manner):
    told = []
    file = fetch(server, manner, tmp_path, report=lambda *numbers: told.append(numbers))
    assert file.read_bytes() == CONTENT and left(tmp_path) == ["vgg.h5"]
    assert told[-1] == (SIZE, SIZE) and told == sorted(told)


def test_what_is_there_is_not_fetched_again(server, tmp_path, monkeypatch):
    file = fetch(server, "plain", tmp_path)
    monkeypatch.setitem(sys.modules, "pooch", None)  # nor is the client imported
    assert fetch(server, "plain", tmp_path) == file
    assert len(server.asked) == 1


def test_a_damaged_file_in_the_cache_is_replaced(server, tmp_path):
    file = fetch(server, "plain", tmp_path)
    file.write_bytes(CONTENT[:-1])
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT


def test_broken_off_and_resumed(server, tmp_path):
    """Within a call, each attempt asks for the rest, behind the last whole piece."""
    fetch(server, "truncates", tmp_path)
    starts = [0]
    while starts[-1] + min(SIZE // 3, SIZE - starts[-1]) < SIZE:
        starts.append(starts[-1] + SIZE // 3 // fetching._PIECE * fetching._PIECE)
    spans = [None, *(f"bytes={start}-" for start in starts[1:])]
    assert [span for _, span in server.asked] == spans and len(spans) == 4


def test_broken_off_for_good_and_resumed_by_the_next_call(server, tmp_path):
    there = SIZE // 3 // fetching._PIECE * fetching._PIECE
    assert failure(server, "dies", tmp_path) == (
        f"the server answers with an error (HTTP 500) after {there} of {SIZE} bytes, which are kept"
    )
    assert len(server.asked) == 1 + fetching._ATTEMPTS
    assert left(tmp_path) == ["vgg.h5.part"]
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("plain", f"bytes={there}-")
    assert left(tmp_path) == ["vgg.h5"]


def _part(tmp_path, content):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "vgg.h5.part").write_bytes(content)


def test_a_server_that_cannot_resume_sends_all(server, tmp_path):
    _part(tmp_path, CONTENT[:1000])
    assert fetch(server, "deaf", tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_server_that_sends_all_but_the_end(server, tmp_path):
    _part(tmp_path, CONTENT[:1000])
    assert fetch(server, "deaf-once", tmp_path).read_bytes() == CONTENT
    assert [span for _, span in server.asked] == ["bytes=1000-", f"bytes={SIZE - 500}-"]


@pytest.mark.parametrize("length", [1000, SIZE - 1, SIZE, SIZE + 1])
def test_a_beginning_of_another_file_is_noticed(server, tmp_path, length):
    _part(tmp_path, bytes(length))
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT
    assert left(tmp_path) == ["vgg.h5"]


FAILURES = {
    "status-404": "it is not there (HTTP 404)",
    "status-403": "it is forbidden (HTTP 403)",
    "status-500": "the server answers with an error (HTTP 500)",
    "status-429": "the server answers with an error (HTTP 429)",
    "circle": "the server redirects in a circle",
    "page": "the server answers with a web page and not the file",
    "disguised": "the server answers with a web page and not the file",
    "short": f"the server has 1000 bytes, but the published file has {SIZE}",
    "endless": f"the server sends more than the {SIZE} bytes of the published file",
    "other": "what came is not the published file (its sha256 hash is wrong)",
}


@pytest.mark.parametrize("manner", FAILURES)
def test_what_goes_wrong_is_said_and_leaves_nothing_wrong(server, tmp_path, manner):
    assert failure(server, manner, tmp_path) == FAILURES[manner]
    # And the next call is not misled by what this one left.
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT
    assert left(tmp_path) == ["vgg.h5"]


def test_only_what_may_pass_is_tried_again(server, tmp_path):
    failure(server, "status-404", tmp_path)
    assert len(server.asked) == 1
    failure(server, "status-500", tmp_path)
    assert len(server.asked) == 1 + fetching._ATTEMPTS


def test_no_server(server, tmp_path):
    url, target = "http://127.0.0.1:9/vgg.h5", tmp_path / "cache" / "vgg.h5"
    with pytest.raises(fetching.Failure) as error:
        fetching.fetch(url, target, HASH, SIZE)
    assert str(error.value) == "there is no connection to the server"
    assert error.value.remedy == "try again later, "
    with pytest.raises(fetching.Failure, match="this is no address"):
        fetching.fetch("http://[", target, HASH, SIZE)


def test_a_full_disk_is_seen_beforehand(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=SIZE - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(fetching.Failure) as error:
        fetch(server, "plain", tmp_path)
    assert f"there is no room for it in {tmp_path / 'cache'}" in str(error.value)
    assert "free some space or set XDG_CACHE_HOME" in error.value.remedy


def test_a_disk_that_fills_up(server, tmp_path):
    """What has come is kept, and the next call goes on behind it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(fetching.Failure, match="there is no room for it in .*too large"):
            fetch(server, "plain", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left(tmp_path) == ["vgg.h5.part"]
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=200000-"


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(fetching.Failure) as error:
        fetch(server, "plain", tmp_path)
    assert f"the folder {tmp_path / 'cache'} cannot be written" in str(error.value)
    assert "set XDG_CACHE_HOME to a folder that can be written" in error.value.remedy
    (tmp_path / "cache").unlink()

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "mkdir", read_only)
    with pytest.raises(fetching.Failure, match=r"cannot be written \(Read-only file system\)"):
        fetch(server, "plain", tmp_path)
    assert not server.asked


def test_a_folder_without_permission(server, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the administrator may write everywhere")
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(fetching.Failure, match=r"cannot be written \(Permission denied\)"):
        fetch(server, "plain", tmp_path)


def test_a_file_in_a_folder_that_cannot_be_written_is_used(server, tmp_path, monkeypatch):
    file = fetch(server, "plain", tmp_path)
    monkeypatch.setattr(pathlib.Path, "mkdir", None)
    assert fetch(server, "plain", tmp_path) == file


def _in_process(url, target, results):
    fetching.fetch(url, target, HASH, SIZE)
    results.put(hashlib.sha256(target.read_bytes()).hexdigest())


def test_two_processes_at_once_download_once(server, tmp_path, capfd):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    target = tmp_path / "cache" / "vgg.h5"
    arguments = (f"{server.url}/slow", target, results)
    both = [_process(context, arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert [results.get() for _ in both] == [HASH[7:]] * 2
    assert len(server.asked) == 1
    assert left(tmp_path) == ["vgg.h5"]


def _process(context, arguments):
    return context.Process(target=_in_process, args=arguments)


def test_without_locks_each_has_its_own_part(server, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    failure(server, "dies", tmp_path)
    assert left(tmp_path) == []
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT


def test_killed_while_downloading(server, tmp_path):
    """The lock goes with the process; what it had stored is used."""
    code = (
        "import pathlib, sys; from jaxstyle.weights import fetching; "
        "fetching.fetch(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))"
    )
    target = tmp_path / "cache" / "vgg.h5"
    root = pathlib.Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"{server.url}/slow", str(target), HASH, str(SIZE)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
    )
    assert server.started.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not target.exists()
    assert fetch(server, "plain", tmp_path).read_bytes() == CONTENT
    assert left(tmp_path) == ["vgg.h5"]
