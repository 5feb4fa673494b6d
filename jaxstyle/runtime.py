"""Process set-up: what a front door does once, before the first JAX computation.

Nothing here happens at import. `setup` is called by `launch.py`, `python -m jaxstyle`, the
benchmarks and the tests; a library user may call it, or not.

Four measures, each with an off switch:

* Allocator: glibc keeps freed memory instead of giving it back after every step, so that a step
  does not fault its pages in again (1.1-1.6x faster steps on a CPU). The process keeps its peak
  memory. Off: `JAXSTYLE_ALLOCATOR=0`.
* XLA's options for a CPU, where it was tried with them. Off: `JAXSTYLE_XLA_OPTIONS=0`.
  Float32 convolutions go to Eigen rather than YNNPACK, 1.5-5x faster on explicitly padded pictures.
  Fused loops are written by the older of XLA's two code generators: programs compile in two thirds
  of the time, to the same bits, run 2-6% faster and take less memory. See `compiler_options`.
* Compilation cache: compiled programs are kept in the user's cache folder, and the second start
  compiles nothing. Off: `JAXSTYLE_COMPILATION_CACHE=0`; elsewhere: a folder instead of the 0.
* Garbage collection: Python looks for unused cycles after every 100 000 new objects rather than
  every 700, of which importing and tracing make a million: a run begins half a second sooner. Off:
  `JAXSTYLE_GARBAGE_COLLECTION=0`.
"""

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

import psutil

# M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX of glibc's <malloc.h>.
_MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-8, 1))
# M_MMAP_THRESHOLD, the largest that glibc takes, and M_MMAP_MAX, its default.
_MALLOPT_LARGE = ((-3, 2**25), (-4, 65536))

_NEW_OBJECTS = 100_000

_CONTROL_GROUP = pathlib.Path("/sys/fs/cgroup")

# An option XLA does not know aborts the process, so these are set only where they were tried: with
# a jaxlib from one version on and below another. XLA's older code generator ended with 0.10.
_EMITTERS, _LEVEL = "xla_cpu_use_fusion_emitters", "xla_backend_optimization_level"
_CONVOLUTIONS = "xla_cpu_experimental_ynn_fusion_type"
_CPU_OPTIONS = {
    _CONVOLUTIONS: ("-individual_convolution", (0, 10), (0, 12)),
    _EMITTERS: ("false", (0, 10), (0, 11)),
}


def setup(
    *,
    allocator: bool = True,
    xla_options: bool = True,
    compilation_cache: bool = True,
    garbage_collection: bool = True,
) -> None:
    """Prepare this process for running JAX well; call it before the first computation.

    Args:
      allocator: keep freed memory in the process (Linux with glibc; nothing elsewhere).
      xla_options: choose what is faster on a CPU.
      compilation_cache: keep compiled programs between runs.
      garbage_collection: look for unused cycles less often.

    Each is also switched off by its environment variable (see the module's table), so a user can
    do it without touching a program.

    Example:
      >>> setup(compilation_cache=False)
    """
    if allocator and _wanted("JAXSTYLE_ALLOCATOR"):
        keep_freed_memory()
    if xla_options and _wanted("JAXSTYLE_XLA_OPTIONS"):
        choose_cpu_options()
    if compilation_cache and _wanted("JAXSTYLE_COMPILATION_CACHE"):
        keep_compiled_programs(cache_folder())
    if garbage_collection and _wanted("JAXSTYLE_GARBAGE_COLLECTION"):
        collect_less_often()


def collect_less_often() -> None:
    """Let Python's garbage collector wait for more new objects."""
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


def keep_freed_memory() -> bool:
    """Tell glibc to reuse large blocks instead of returning them to the system.

    XLA's CPU client allocates its working memory anew for every call; with glibc's defaults each
    call maps it, faults in every page and unmaps it.

    Returns:
      Whether the allocator took all three settings (False where there is no glibc).
    """
    return _mallopt(_MALLOPT)


def return_large_blocks() -> bool:
    """From now on give blocks of 32 MB and more back when they are freed; keep only smaller ones.

    For programs of many steps: what a program works in is then one block a call, and faulting its
    pages in takes 1-3% of twenty steps' time. Kept, it becomes a hole between smaller blocks
    sooner or later, the next call does not fit in, and the process holds two of it.

    Returns:
      Whether the allocator took both settings (False where there is no glibc, and where
      `JAXSTYLE_ALLOCATOR=0` leaves it alone).

    Example:
      >>> in_force = return_large_blocks()
    """
    return _wanted("JAXSTYLE_ALLOCATOR") and _mallopt(_MALLOPT_LARGE)


def _mallopt(settings: Iterable[tuple[int, int]]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others
        return False
    return all(mallopt(name, value) == 1 for name, value in settings)


def choose_cpu_options() -> bool:
    """Add to `XLA_FLAGS` what makes convolutions, and compilation, faster on a CPU.

    Returns:
      Whether the faster convolutions, or what the user has chosen instead, are in force for a JAX
      that starts after this call.
    """
    flags, version = os.environ.get("XLA_FLAGS", ""), _version("jaxlib")
    for name, (value, lowest, beyond) in _CPU_OPTIONS.items():
        if name not in flags and lowest <= version < beyond:
            flags = f"{flags} --{name}={value}".strip()
    if flags:
        os.environ["XLA_FLAGS"] = flags
    return _CONVOLUTIONS in flags


def compiler_options(dtype: Any = "float32") -> dict[str, Any]:
    """Return what a program is to be compiled with on a CPU, by what it computes in.

    In float32 LLVM need not try hard: at its first level programs compile in three quarters of the
    time, compute the same bits and take as long. In bfloat16 XLA's older code generator converts
    element by element, and a picture takes twice as long: those programs get the newer one back.

    Args:
      dtype: of the program's convolutions, its name, or 'auto', which is float32 on a CPU.

    Returns:
      For `jax.jit` and `Lowered.compile`; empty where `setup` has not chosen XLA's options, or
      JAX is told to compile without most optimizations.

    Example:
      >>> compiler_options("float32") in ({}, {"xla_backend_optimization_level": 1})
      True
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "")
    least = jax.config.read("jax_disable_most_optimizations")
    if _CONVOLUTIONS not in flags or least or jax.default_backend() != "cpu":
        return {}
    if str(dtype) != "bfloat16":
        return {_LEVEL: 1}
    return {_EMITTERS: True} if _EMITTERS in flags else {}


def cache_folder() -> pathlib.Path | None:
    """Return the folder for compiled programs, None where there is no place for one.

    It is `JAXSTYLE_COMPILATION_CACHE`, else JAX's own `JAX_COMPILATION_CACHE_DIR`, else
    `jaxstyle/compiled` in the user's cache folder.

    Returns:
      The folder, which need not exist yet.
    """
    chosen = os.environ.get("JAXSTYLE_COMPILATION_CACHE", "")
    if chosen in ("", "1"):
        chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    try:
        if chosen:
            return pathlib.Path(chosen).expanduser()
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        return None
    return pathlib.Path(base) / "jaxstyle" / "compiled"


def keep_compiled_programs(folder: pathlib.Path | None) -> bool:
    """Let JAX store compiled programs in `folder` and find them at the next start.

    The folder holds executable code: keep it as private as the programs you run.

    Args:
      folder: made if it does not exist; None for no cache.

    Returns:
      Whether the folder can be written; the run goes on without a cache where it cannot.
    """
    if folder is None:
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    if not os.access(folder, os.W_OK):
        return False
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return True


def free_memory() -> int:
    """Return the bytes this process can still take before the system ends it.

    What glibc keeps of freed memory (see `keep_freed_memory`) is given back first, so that it
    counts as free. A container's own limit counts too (control groups, version 2).

    Example:
      >>> free_memory() > 0
      True
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # musl and others
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no such limit, or 'max'
        limit = int((_CONTROL_GROUP / "memory.max").read_text())
        used = int((_CONTROL_GROUP / "memory.current").read_text())
        stat = (_CONTROL_GROUP / "memory.stat").read_text()
        cached = re.search(r"^inactive_file (\d+)", stat, re.MULTILINE)
        free = min(free, limit - used + int(cached[1] if cached else 0))
    return max(0, free)


def free_device_memory() -> int | None:
    """Return the bytes a program can still take where JAX computes: of a GPU, its own memory.

    Returns:
      None where the device does not tell.
    """
    import jax

    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return free_memory()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def needed_memory(program: Any) -> int:
    """Return the bytes a compiled program takes while it runs, 0 where that cannot be told.

    Args:
      program: `jax.stages.Compiled`, what `.lower(...).compile()` returns.
    """
    needs = program.memory_analysis()
    if needs is None:
        return 0
    return int(
        needs.argument_size_in_bytes
        + needs.temp_size_in_bytes
        + needs.output_size_in_bytes
        - needs.alias_size_in_bytes
    )


def _wanted(variable: str) -> bool:
    return os.environ.get(variable, "1") != "0"


def _version(package: str) -> tuple[int, int]:
    """Major and minor version; (0, 0) where it cannot be told, which nothing was tried with."""
    match = re.match(r"(\d+)\.(\d+)", importlib.metadata.version(package))
    return (int(match[1]), int(match[2])) if match else (0, 0)
