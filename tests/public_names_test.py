import os
import subprocess
import sys
import types

import pytest

import jaxstyle
from jaxstyle.io.images import read
from jaxstyle.methods.feedforward import StyleModel, stylize
from jaxstyle.types import InputError

ROOMS = {"features", "losses", "metrics", "networks", "ops"}


@pytest.mark.parametrize("name", jaxstyle.__all__)
def test_every_public_name_is_there(name):
    value = getattr(jaxstyle, name)
    assert isinstance(value, types.ModuleType) == (name in ROOMS)
    assert value.__name__ == (f"jaxstyle.{name}" if name in ROOMS else name)
    assert value.__doc__
    assert name in dir(jaxstyle)


def test_names_are_the_ones_the_rooms_define():
    assert jaxstyle.stylize is stylize
    assert jaxstyle.StyleModel is StyleModel
    assert jaxstyle.read is read
    assert jaxstyle.InputError is InputError


def test_star_import_gives_just_the_public_names():
    scope: dict[str, object] = {}
    exec("from jaxstyle import *", scope)
    assert set(scope) - {"__builtins__"} == set(jaxstyle.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jaxstyle' has no attribute 'stylise'"):
        jaxstyle.stylise  # noqa: B018
    assert not hasattr(jaxstyle, "Stylize")


def test_importing_the_package_starts_nothing(repository):
    """A front door prepares the process between this import and JAX's."""
    program = (
        "import sys, jaxstyle, jaxstyle.runtime, jaxstyle.types as t\n"
        "print(sorted({'numpy', 'PIL', 'flax', 'orbax', 'grain'} & set(sys.modules)))"
    )
    lazy = "import sys, jaxstyle; print('jax' in sys.modules)"
    for code, expected in ((lazy, "False\n"), (program, None)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            check=True,
        )
        if expected is not None:
            assert done.stdout == expected
