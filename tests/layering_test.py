"""The floors of the house, read from the imports; and what each floor may touch.

A file imports only from floors below its own. Below the edge (floors 0 to 4) everything is arrays
in, arrays out: no files, no logging, no flags, no processes.
"""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

FLOORS = {
    0: {"types", "policy", "ops", "images", "statistics"},
    1: {"features", "networks"},
    2: {"losses", "metrics"},
    3: {"optimize", "training"},
    4: {"methods"},
    5: {
        "weights", "io", "data", "checkpoints", "workdir", "runtime", "distributed", "placement",
        "array_files", "whole_files",
        "trainer",
        "painter", "signals",
        "sweeps", "reporting", "export", "serving", "cli", "commands", "assets", "__main__",
        "__init__",
    },
    6: {"experiments"},
    7: {"launch"},
}  # fmt: skip
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
EDGE = 5
BASE = ("types", "policy")  # of floor 0, what its rooms share

# What is not ours and not Python's: by floor, and what a room has besides.
ALLOWED = {0: {"jax", "numpy"}, 1: {"jax", "numpy"}, 2: {"jax", "numpy"}, 4: {"jax", "numpy"}}
ALLOWED[3] = {"jax", "numpy", "optax"}
ALSO_ALLOWED = {"networks": {"flax"}}

# At the edge and above: who adapts which outside thing.
ADAPTERS = {
    "flax": {"networks"},
    "orbax": {"array_files"},
    "grain": {"data"},
    "array_record": {"data"},
    "absl": {"data", "launch"},  # in data: Grain's worker processes read absl's flags
    "PIL": {"io", "data", "reporting", "experiments"},
    "h5py": {"weights"},
    "pooch": {"weights", "io"},
    "safetensors": {"weights", "io"},
    "matplotlib": {"reporting"},
    "rich": {"reporting", "cli"},
    "ray": {"sweeps"},
    "fsspec": {"sweeps"},
    "ml_collections": {"experiments", "configs", "launch"},
    "argparse": {"cli", "commands", "experiments"},
}

# Python's own that do nothing but compute.
PURE = {
    "abc", "collections", "contextlib", "contextvars", "copy", "dataclasses", "difflib", "enum",
    "functools", "itertools", "math", "numbers", "operator", "re", "typing",
}  # fmt: skip


def _files(*folders):
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


SOURCES = [*_files("jaxstyle", "configs", "experiments"), ROOT / "launch.py"]
LIBRARY = _files("jaxstyle")
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _room(path):
    """`jaxstyle/ops/padding.py` -> ops, `jaxstyle/types.py` -> types, `launch.py` -> launch."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "jaxstyle" else parts[0]


def _imports(path):
    """Full names of the modules a file imports, anywhere in it."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}: write imports in full"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def _below_the_edge():
    return [path for path in LIBRARY if FLOOR[_room(path)] < EDGE]


def _dotted(node):
    """`jax.config.update` of an attribute chain, '' for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


# --- Floors ---


def test_every_file_has_a_floor():
    for path in SOURCES:
        assert _room(path) in FLOOR or _room(path) == "configs", _name(path)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_come_from_floors_below(path):
    room = _room(path)
    for name in _imports(path):
        top, *rest = name.split(".")
        if top == "jaxstyle":
            assert room != "configs", f"{_name(path)} imports {name}: configs hold values only"
            other = rest[0]
            if other in (room, *BASE):
                continue
            below = FLOOR[other] < FLOOR[room] or FLOOR[other] == FLOOR[room] == EDGE
            assert below, f"{_name(path)} (floor {FLOOR[room]}) imports {name} ({FLOOR[other]})"
        elif top in ("configs", "experiments", "launch", "tests", "benchmarks"):
            # What several configs, or experiments, share.
            shared = {"configs": "configs.common", "experiments": "experiments._"}
            assert name.startswith(shared.get(room, "nothing")), (_name(path), name)


def test_rooms_at_the_edge_form_no_circle():
    """They may use each other, in one direction."""
    uses = {room: set() for room in FLOORS[EDGE]}
    for path in LIBRARY:
        if FLOOR[_room(path)] == EDGE:
            named = {name.split(".")[1] for name in _imports(path) if name.startswith("jaxstyle.")}
            uses[_room(path)] |= named & FLOORS[EDGE] - {_room(path)}
    while uses:
        free = {room for room, used in uses.items() if not used & uses.keys()}
        assert free, f"a circle among {sorted(uses)}"
        uses = {room: used for room, used in uses.items() if room not in free}


@pytest.mark.parametrize("path", _below_the_edge(), ids=_name)
def test_below_the_edge_only_arrays_are_known(path):
    room = _room(path)
    allowed = {"jaxstyle"} | PURE | ALLOWED[FLOOR[room]] | ALSO_ALLOWED.get(room, set())
    for name in _imports(path):
        assert name.split(".")[0] in allowed, f"{_name(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_outside_libraries_stay_in_their_rooms(path):
    for name in _imports(path):
        top = name.split(".")[0]
        if top in ADAPTERS:
            assert _room(path) in ADAPTERS[top], f"{_name(path)} imports {name}"


# --- What a file does ---

WORLD = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}
ARRAY_FILES = {"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "save", "savez", "savetxt"}


@pytest.mark.parametrize("path", _below_the_edge(), ids=_name)
def test_below_the_edge_nothing_touches_the_world(path):
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        top, _, rest = name.partition(".")
        assert name not in WORLD, f"{_name(path)}:{node.lineno} calls {name}"
        touches = top in ("np", "numpy", "jnp") and rest in ARRAY_FILES
        touches |= name.startswith(
            ("jax.debug.", "jax.config.", "jax.profiler.", "jax.distributed.")
        )
        assert not touches, f"{_name(path)}:{node.lineno} calls {name}"


CONVOLUTIONS = re.compile(
    r"conv_(general|with_general)\w*|conv_transpose|reduce_window\w*|select_and_\w+|Conv(Transpose|Local|\d+D)?"
    r"|(max|min|avg)_pool|convolve2?d?|correlate"
)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_only_ops_convolves(path):
    """XLA's own convolution gradients are what `ops` is there to replace."""
    if _room(path) == "ops":
        return
    for node in ast.walk(TREES[path]):
        names = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
            if _dotted(node) in ("lax.conv", "jax.lax.conv"):
                names = ["conv_general_dilated"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("jax", "flax")):
            names = [alias.name for alias in node.names]
        for name in names:
            assert not CONVOLUTIONS.fullmatch(name), f"{_name(path)}:{node.lineno} uses {name}"


def _at_import(tree):
    """Nodes that run when a module is imported: all but the insides of functions."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults]
            waiting += [default for default in node.args.kw_defaults if default]
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


# What may be called of JAX while a module is imported: wrappers that compute nothing.
WRAPPERS = {
    "jax.jit", "jax.custom_vjp", "jax.custom_jvp", "jax.vmap", "jax.grad", "jax.checkpoint",
    "jax.tree_util.register_dataclass", "jax.tree_util.Partial", "jax.make_user_context",
}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in SOURCES if _room(p) != "launch"], ids=_name)
def test_import_computes_nothing_and_sets_nothing(path):
    for node in _at_import(TREES[path]):
        name = _dotted(node)
        set_up = name.startswith(("jax.config", "os.environ", "os.putenv", "jax.devices"))
        assert not set_up, f"{_name(path)}:{node.lineno} touches {name} at import"
        if isinstance(node, ast.Call):
            called = _dotted(node.func)
            computes = called.split(".")[0] in ("jax", "jnp", "lax") and called not in WRAPPERS
            assert not computes, f"{_name(path)}:{node.lineno} calls {called} at import"


def test_importing_everything_changes_nothing():
    """In a fresh process: no backend, no setting, no variable, no connection, no output."""
    modules = [
        _name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in SOURCES
        if _room(path) not in ("launch", "__main__")
    ]
    outside = ["jax.numpy", "optax", "flax.linen", "grain", "orbax.checkpoint", "PIL.Image", "h5py"]
    outside += ["matplotlib.figure", "rich.live", "ml_collections.config_flags", "scipy.ndimage"]
    code = f"""
import importlib, json, os, socket
for name in {outside}:
    importlib.import_module(name)
import jax
from orbax.checkpoint import v1
def state():
    return dict(os.environ), {{name: repr(value) for name, value in jax.config.values.items()}}
before = state()
def refuse(*_, **__):
    raise AssertionError("a connection at import")
socket.socket.connect = refuse
for name in {modules}:
    importlib.import_module(name)
assert state() == before
jax.config.update("jax_num_cpu_devices", 3)  # refused once a backend has started
print(json.dumps(jax.device_count()))
"""
    environment = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS",)}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 3  # and nothing else was printed


def test_a_light_import():
    """`import jaxstyle` costs nothing: what it offers is imported when first used."""
    code = "import sys, jaxstyle; print(sorted({'jax', 'numpy', 'flax'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_everything_public_can_be_reached():
    import jaxstyle

    for name in jaxstyle.__all__:
        assert getattr(jaxstyle, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'stylise'"):
        _ = jaxstyle.stylise


# --- Names, sizes, signatures ---


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_have_a_name_and_a_size(path):
    assert path.stem not in ("utils", "util", "misc", "helpers", "helper", "common_utils")
    if path.is_relative_to(ROOT / "jaxstyle"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def _public_functions(path):
    """Functions and methods that others may call, with the name of their class."""
    for node in TREES[path].body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                public = isinstance(member, ast.FunctionDef) and not member.name.startswith("_")
                # A protocol's `...` only declares; its class has the description.
                if public and ast.unparse(member.body[0]) != "...":
                    yield f"{node.name}.{member.name}", member


@pytest.mark.parametrize("path", LIBRARY, ids=_name)
def test_public_functions_say_what_they_take(path):
    assert ast.get_docstring(TREES[path]), f"{_name(path)} has no docstring"
    for name, function in _public_functions(path):
        where = f"{_name(path)}: {name}"
        text = ast.get_docstring(function) or ""
        assert text, f"{where} has no docstring"
        assert function.returns is not None, f"{where} does not say what it returns"
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        parameters += [extra for extra in (given.vararg, given.kwarg) if extra]
        if "." in name and parameters and parameters[0].arg in ("self", "cls"):
            parameters = parameters[1:]
        for parameter in parameters:
            assert parameter.annotation, f"{where}: {parameter.arg} has no annotation"
            if "Args:" in text:
                described = re.search(rf"\b{parameter.arg}\b[^\n]*:", text)
                assert described, f"{where}: Args leaves out {parameter.arg}"
