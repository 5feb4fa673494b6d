"""The examples in docstrings run and show what they say."""

import doctest
import importlib
import pathlib

import jax
import pytest

from jaxstyle import policy

LIBRARY = pathlib.Path(__file__).resolve().parent.parent / "jaxstyle"


def _modules():
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not name.endswith("__main__") and ">>>" in path.read_text(encoding="utf-8"):
            yield name


MODULES = list(_modules())


def test_examples_are_found():
    """An empty list would pass every test below."""
    assert len(MODULES) >= 20


@pytest.fixture
def quick():
    """Compile little and fast, not well: an example is run once, on next to nothing."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with policy.formulation("plain"):
        yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "")  # put back after `runtime`'s examples
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
    if not runner.tries:
        pytest.skip("its examples need a picture or a model of the reader's (doctest: +SKIP)")
