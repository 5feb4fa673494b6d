"""Lets the tests of this folder import `fault_kit`, and starts the server of faulty runs."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from fault_kit import TINY, Server, contents


@pytest.fixture(scope="session")
def server(repository, tmp_path_factory):
    """Starts runs and makes them fail; one for all files, because its imports take seconds."""
    running = Server(repository, tmp_path_factory.mktemp("compiled"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def model(server, tmp_path_factory) -> dict[str, bytes]:
    """The files of the model that an undisturbed run of the recipe writes."""
    workdir = tmp_path_factory.mktemp("recipe") / "run"
    ended = server.run("launched", *TINY, f"--workdir={workdir}")
    assert (ended.status, ended.err) == (0, "")
    return contents(workdir / "model")
