"""Measure the time from the command to the first training step, cold and with the cache.

    python benchmarks/startup.py

Runs `configs/starry_fast.py` for two steps three times: without a cache, filling a fresh one, and
with it full. The first step is done when the run's first line of timings appears.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    """Print the three times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/starry_fast.py")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = pathlib.Path(folder) / "cache"
        for name, setting in (("no cache", "0"), ("fills cache", cache), ("with cache", cache)):
            first, whole = _run(args.config, pathlib.Path(folder) / name, str(setting))
            print(f"{name:12s} first step after {first:5.1f} s, whole command {whole:5.1f} s")


def _run(config: str, workdir: pathlib.Path, cache: str) -> tuple[float, float]:
    """Return seconds from the command to the first logged step, and to its end."""
    command = [sys.executable, str(ROOT / "launch.py"), "--config", str(ROOT / config)]
    changes = ["--config.steps=2", "--config.log_every=1", f"--workdir={workdir}"]
    environment = {**os.environ, "JAXSTYLE_COMPILATION_CACHE": cache}
    began_at, began = time.time(), time.monotonic()
    process = subprocess.Popen(
        [*command, *changes], stdout=subprocess.DEVNULL, cwd=ROOT, env=environment
    )
    first = None
    timings = workdir / "timings.jsonl"
    while process.poll() is None:
        if first is None and timings.exists() and timings.read_text().strip():
            first = timings.stat().st_mtime - began_at
        time.sleep(0.02)
    if process.returncode or first is None:
        raise SystemExit(f"the run ended with status {process.returncode}")
    return first, time.monotonic() - began


if __name__ == "__main__":
    main()
