"""Process set-up, seen from processes of their own."""

import ctypes
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import jaxlib
import psutil
import pytest

from jaxstyle import runtime

SWITCHES = ("ALLOCATOR", "XLA_OPTIONS", "COMPILATION_CACHE", "GARBAGE_COLLECTION")
CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
EMITTERS = "--xla_cpu_use_fusion_emitters=false"


def _run(code, repository, **environment):
    """What a fresh process prints as JSON. It starts without settings of this one."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAXSTYLE_", "JAX_", "XLA_", "XDG_"))
    }
    kept |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(repository)} | environment
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import json, os, sys\n" + code],
        env=kept,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- Switches ---

COUNTING = """
from jaxstyle import runtime
done = []
runtime.keep_freed_memory = lambda: done.append("ALLOCATOR")
runtime.choose_cpu_options = lambda: done.append("XLA_OPTIONS")
runtime.keep_compiled_programs = lambda folder: done.append("COMPILATION_CACHE")
runtime.collect_less_often = lambda: done.append("GARBAGE_COLLECTION")
runtime.setup({})
print(json.dumps([done, "jax" in sys.modules]))
"""


def test_everything_is_on_by_default_and_jax_does_not_start(repository):
    assert _run(COUNTING.format(""), repository) == [list(SWITCHES), False]


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_measure_is_switched_off_by_argument_and_by_variable(monkeypatch, switch):
    done = []
    monkeypatch.setattr(runtime, "keep_freed_memory", lambda: done.append("ALLOCATOR"))
    monkeypatch.setattr(runtime, "choose_cpu_options", lambda: done.append("XLA_OPTIONS"))
    monkeypatch.setattr(
        runtime, "keep_compiled_programs", lambda folder: done.append("COMPILATION_CACHE")
    )
    monkeypatch.setattr(runtime, "collect_less_often", lambda: done.append("GARBAGE_COLLECTION"))
    for name in SWITCHES:
        monkeypatch.delenv(f"JAXSTYLE_{name}", raising=False)
    rest = [name for name in SWITCHES if name != switch]
    runtime.setup(**{switch.lower(): False})
    assert done == rest
    done.clear()
    monkeypatch.setenv(f"JAXSTYLE_{switch}", "0")
    runtime.setup()
    assert done == rest


def test_import_changes_nothing(repository):
    code = """
before = dict(os.environ)
import jaxstyle
from jaxstyle import runtime
print(json.dumps([dict(os.environ) == before, "jax" in sys.modules]))
"""
    assert _run(code, repository) == [True, False]


# --- Allocator ---


class _Libc:
    def __init__(self, result=1):
        self.calls, self.result = [], result

    def mallopt(self, name, value):
        self.calls.append((name, value))
        return self.result


def test_allocator_asks_glibc_for_three_settings(monkeypatch):
    libc = _Libc()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    assert runtime.keep_freed_memory()
    # <malloc.h>: M_MMAP_MAX, M_TRIM_THRESHOLD (an int), M_ARENA_MAX
    assert libc.calls == [(-4, 0), (-1, 2147483647), (-8, 1)]


def test_allocator_elsewhere_is_left_alone(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", absent)  # no libc.so.6
    assert not runtime.keep_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # no mallopt in it
    assert not runtime.keep_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Libc(result=0))  # refused
    assert not runtime.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Libc())
    assert not runtime.keep_freed_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again_without_page_faults(repository):
    code = """
import resource
from jaxstyle import runtime
on = runtime.keep_freed_memory() if WANTED else True
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        block = bytearray(b"x") * 64_000_000  # more than glibc keeps of itself
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(json.dumps([on, faults()]))
"""
    on, kept = _run(code.replace("WANTED", "True"), repository)
    if not on:
        pytest.skip("this C library has no such settings")
    _, returned = _run(code.replace("WANTED", "False"), repository)
    assert kept < 0.1 * returned


def test_large_blocks_are_given_back_where_that_is_wished(monkeypatch):
    libc = _Libc()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    assert runtime.return_large_blocks()
    # <malloc.h>: M_MMAP_THRESHOLD, M_MMAP_MAX
    assert libc.calls == [(-3, 33554432), (-4, 65536)]
    monkeypatch.setenv("JAXSTYLE_ALLOCATOR", "0")
    assert not runtime.return_large_blocks() and len(libc.calls) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_large_block_does_not_stay_with_the_process(repository):
    code = """
import psutil
from jaxstyle import runtime
on = runtime.keep_freed_memory() and (not WANTED or runtime.return_large_blocks())
block, above = bytearray(b"x") * 200_000_000, bytearray(b"x") * 100_000  # nothing to trim
del block
print(json.dumps([on, psutil.Process().memory_info().rss]))
"""
    on, returned = _run(code.replace("WANTED", "True"), repository)
    if not on:
        pytest.skip("this C library has no such settings")
    _, kept = _run(code.replace("WANTED", "False"), repository)
    assert returned < kept - 150e6


# --- Garbage collection ---


def test_garbage_is_collected_less_often(repository):
    code = """
import gc
from jaxstyle import runtime
before = gc.get_threshold()
runtime.setup()
print(json.dumps([before, gc.get_threshold(), gc.isenabled()]))
"""
    before, after, enabled = _run(code, repository)
    assert enabled and after[0] > 10 * before[0] and after[1:] == before[1:]


# --- Options of XLA ---


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ("0.10.2", None, f"{CONVOLUTIONS} {EMITTERS}"),
        ("0.11.0.dev20260101", "", CONVOLUTIONS),
        ("0.10.2", "--xla_a=1", f"--xla_a=1 {CONVOLUTIONS} {EMITTERS}"),
        # Chosen by the user: kept as it is.
        (
            "0.10.2",
            "--xla_cpu_experimental_ynn_fusion_type=+individual_convolution",
            f"--xla_cpu_experimental_ynn_fusion_type=+individual_convolution {EMITTERS}",
        ),
        (
            "0.10.2",
            "--xla_cpu_use_fusion_emitters=true",
            f"--xla_cpu_use_fusion_emitters=true {CONVOLUTIONS}",
        ),
        # Not tried with: an unknown option would end the process.
        ("0.9.9", "--xla_a=1", "--xla_a=1"),
        ("0.12.0", "--xla_a=1", "--xla_a=1"),
        ("1.0.0", "", ""),
        ("unknown", "", ""),
    ],
)
def test_options_are_appended_once_where_it_was_tried(monkeypatch, version, flags, expected):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: version)
    if flags is None:
        monkeypatch.delenv("XLA_FLAGS", raising=False)
    else:
        monkeypatch.setenv("XLA_FLAGS", flags)
    for _ in range(2):
        assert runtime.choose_cpu_options() == ("ynn" in expected)
        assert os.environ.get("XLA_FLAGS", "") == expected


def test_options_are_in_force(repository):
    """In one process: JAX accepts them, keeps other flags, and what is compiled has changed.

    YNNPACK's convolutions are fusions in the compiled program, Eigen's are plain convolutions. The
    newer code generator makes a fusion even of a lone operation.
    """
    code = """
from jaxstyle import runtime
runtime.setup(xla_options=WANTED, compilation_cache=False)
import jax
from jax import lax
x, kernel = jax.ShapeDtypeStruct((1, 128, 128, 64), "f"), jax.ShapeDtypeStruct((3, 3, 64, 64), "f")
convolve = lambda x, k: lax.conv_general_dilated(
    x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
text = jax.jit(convolve).lower(x, kernel).compile().as_text()
lone = jax.jit(lambda x: x + x).lower(x)
options = [runtime.compiler_options(dtype) for dtype in ("float32", "bfloat16")]
fused = ["wrapped" in lone.compile(own).as_text() for own in options]
print(json.dumps([jax.device_count(), "ynn_fusion" in text, *fused, *options]))
"""
    flags = "--xla_force_host_platform_device_count=2"
    ours = _run(code.replace("WANTED", "True"), repository, XLA_FLAGS=flags)
    both = tuple(map(int, jaxlib.__version__.split(".")[:2])) < (0, 11)  # code generators
    options = {"xla_backend_optimization_level": 1}, {"xla_cpu_use_fusion_emitters": True}
    assert ours == [2, False, not both, True, options[0], options[1] if both else {}]
    theirs = _run(code.replace("WANTED", "False"), repository, XLA_FLAGS=flags)
    assert theirs == [2, True, True, True, {}, {}]


# --- Compilation cache ---


@pytest.fixture
def clean(monkeypatch, tmp_path):
    for name in ("JAXSTYLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_cache_folder(clean, tmp_path):
    assert runtime.cache_folder() == tmp_path / ".cache" / "jaxstyle" / "compiled"
    clean.setenv("XDG_CACHE_HOME", "/somewhere")
    assert runtime.cache_folder() == pathlib.Path("/somewhere/jaxstyle/compiled")
    clean.setenv("JAX_COMPILATION_CACHE_DIR", "/of/jax")
    assert runtime.cache_folder() == pathlib.Path("/of/jax")
    clean.setenv("JAXSTYLE_COMPILATION_CACHE", "1")
    assert runtime.cache_folder() == pathlib.Path("/of/jax")
    clean.setenv("JAXSTYLE_COMPILATION_CACHE", "~/mine")
    assert runtime.cache_folder() == tmp_path / "mine"


def test_a_user_without_a_home_has_no_cache(clean):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    clean.setattr(pathlib.Path, "home", homeless)
    assert runtime.cache_folder() is None
    assert not runtime.keep_compiled_programs(None)


PROGRAM = """
from jaxstyle import runtime
runtime.setup()
import jax
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/", 1)[-1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # however fast this machine is
result = jax.jit(lambda x: x * 2 + 1)(3.0)
print(json.dumps([jax.config.jax_compilation_cache_dir, float(result), events.count("cache_hits")]))
"""


def test_a_second_process_finds_the_programs_of_the_first(repository, tmp_path):
    folder = tmp_path / "new" / "cache"
    runs = []
    for _ in range(2):
        runs.append(_run(PROGRAM, repository, JAXSTYLE_COMPILATION_CACHE=str(folder)))
        # Beside the programs lie records of when they were used last.
        runs[-1].append(sorted(file.name for file in folder.glob("*-cache")))
    (where, result, hits, files), (_, again, more_hits, more_files) = runs
    assert (where, result, again) == (str(folder), 7.0, 7.0)
    assert files and files == more_files
    assert hits == 0 and more_hits == len(files)


def test_a_folder_that_cannot_be_made_or_written_does_not_stop_anyone(repository, tmp_path):
    (tmp_path / "file").touch()
    environment = {"JAXSTYLE_COMPILATION_CACHE": str(tmp_path / "file" / "cache")}
    assert _run(PROGRAM, repository, **environment) == [None, 7.0, 0]


def test_a_read_only_folder_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert not runtime.keep_compiled_programs(tmp_path)


# --- Free memory ---


def test_free_memory_is_what_the_system_has(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "_CONTROL_GROUP", tmp_path)  # no limit
    free, installed = runtime.free_memory(), psutil.virtual_memory().total
    assert 0 < free < installed


@pytest.mark.parametrize(
    ("limit", "stat", "expected"),
    [
        ("5000\n", "anon 7\ninactive_file 300\n", 5000 - 1000 + 300),
        ("5000\n", "", 4000),
        ("900\n", "", 0),
    ],
)
def test_a_container_has_what_its_limit_leaves(monkeypatch, tmp_path, limit, stat, expected):
    monkeypatch.setattr(runtime, "_CONTROL_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text(stat)
    assert runtime.free_memory() == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert runtime.free_memory() > 2**20


HELD = """
from jaxstyle import runtime
import pathlib
runtime._CONTROL_GROUP = pathlib.Path("/nowhere")
runtime.keep_freed_memory()
import psutil
def resident():
    return psutil.Process().memory_info().rss
start = resident()
blocks = [b"1" * 2**20 for _ in range(400)]
blocks.clear()
held = resident() - start
runtime.free_memory()
print(json.dumps([held, resident() - start]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_the_process_keeps_counts_as_free(repository):
    held, after = _run(HELD, repository)
    assert held > 350 * 2**20 and after < 50 * 2**20
