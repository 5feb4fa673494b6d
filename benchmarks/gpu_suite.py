"""Everything a GPU has to show, in one call of at most nine minutes: correctness first, then speed.

    python benchmarks/gpu_suite.py --out results/      # on the machine with the GPU
    python benchmarks/gpu_suite.py --tiny              # that it runs at all, on a CPU

Writes `gpu_suite.json` and `gpu_suite.md`. Each part is a process of its own with a limit of its
own, so that one that fails or hangs costs only itself; what no time is left for is named.

| part | what it shows | goal on an H200 |
|---|---|---|
| correct | the GPU's numbers against the CPU's, from features to training | all within tolerance |
| matmul | the rate of bfloat16 matrix products, which the others are compared with | |
| train | a step of `starry_fast.py:full`: VGG-16, full widths, 256 px; its 40 000 steps | < 5 min |
| train_torch | the same in PyTorch: channels-last, bfloat16 autocast, compiled | 1.2x or more |
| stylize | 512 px, batch 8 | < 1.5 ms a frame |
| sweep | 16 pictures in one program against one by one | 3x or more |
| data | a step with photographs from disk against one with a batch at hand | no slower |

PyTorch is compared with where it is installed. Loss networks have random weights: the work is the
same, and nothing has to be downloaded.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(ROOT))

import gpu_parts  # noqa: E402

LIMIT = 530.0  # seconds, of all parts
# Seconds each part may take; in this order, those with goals before those for information.
PARTS = {
    "golden": 90,
    "correct": 110,
    "matmul": 40,
    "train": 150,
    "stylize": 60,
    "sweep": 110,
    "train_torch": 150,
    "data": 60,
}
GOALS = {
    "train, 40 000 steps of batch 4": "< 5 min",
    "stylize, 512 px, batch 8, bfloat16": "< 1.5 ms a frame",
    "sweep of 16": ">= 3 x",
    "train against PyTorch": ">= 1.2 x",
    "train, share of the matmul rate": ">= 45 %",
}


def main() -> None:
    """Run the parts, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="gpu_suite_results", help="folder for the results")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the suite itself")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = pathlib.Path(args.out)
    if args.part:
        rows = getattr(gpu_parts, args.part)(folder, args.tiny)
        (folder / f"{args.part}.json").write_text(json.dumps(rows))
        return
    folder.mkdir(parents=True, exist_ok=True)
    began, rows, trouble = time.monotonic(), {}, {}
    for part in args.parts:
        left = LIMIT - (time.monotonic() - began)
        problem = _run(part, folder, args.tiny, min(PARTS[part], left))
        seconds = time.monotonic() - began
        if problem:
            trouble[part] = problem
            print(f"{seconds:5.0f} s  {part}: {problem}", flush=True)
            continue
        rows[part] = json.loads((folder / f"{part}.json").read_text())
        print(f"{seconds:5.0f} s  {part}", flush=True)
        for row in rows[part]:
            print(f"         {_told(row)}", flush=True)
    rows["summary"] = [] if args.tiny else _summary(rows)
    report = {"machine": _machine(folder), "rows": rows, "trouble": trouble, "tiny": args.tiny}
    (folder / "gpu_suite.json").write_text(json.dumps(report, indent=1))
    (folder / "gpu_suite.md").write_text(_markdown(report))
    print(f"\n{_markdown(report)}\nwritten to {folder}/gpu_suite.json and gpu_suite.md")
    wrong = [row for row in rows.get("correct", []) if not row["ok"]]
    if wrong or "correct" in trouble:
        sys.exit("error: the device's numbers are not right, so its speed means nothing.")


def _run(part: str, folder: pathlib.Path, tiny: bool, limit: float) -> str:
    """Run one part; return what went wrong, '' if nothing."""
    if limit < 10:
        return "no time was left"
    command = [sys.executable, __file__, "--part", part, "--out", str(folder)]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if part == "golden":
        environment["JAX_PLATFORMS"] = "cpu"
    try:
        done = subprocess.run(
            command + ["--tiny"] * tiny,
            env=environment,
            timeout=limit,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {limit:.0f} s"
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return lines[-1][:300] if lines else f"exit {done.returncode}"
    return ""


def _summary(rows: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the figures that have a goal."""

    def find(part: str, start: str) -> dict[str, Any]:
        return next((row for row in rows.get(part, []) if row["name"].startswith(start)), {})

    found: dict[str, tuple[float, str]] = {}
    train = find("train", "bfloat16, batch 4")
    if train:
        found["train, 40 000 steps of batch 4"] = train["min for 40 000 steps"], "min"
    largest = max((row["TFLOP/s"] for row in rows.get("train", [])), default=0.0)
    if largest and rows.get("matmul"):
        share = 100 * largest / rows["matmul"][0]["TFLOP/s"]
        found["train, share of the matmul rate"] = share, "%"
    rivals = [r["ms"] for r in rows.get("train_torch", []) if "batch 4," in r["name"]]
    if train and rivals:
        found["train against PyTorch"] = min(rivals) / train["ms"], "x"
    frame = find("stylize", "512 px, batch 8, bfloat16")
    if frame:
        found["stylize, 512 px, batch 8, bfloat16"] = frame["ms a frame"], "ms a frame"
    if rows.get("sweep"):
        found["sweep of 16"] = max(row["times faster"] for row in rows["sweep"]), "x"
    return [
        {"name": name, unit: value, "goal": GOALS[name]} for name, (value, unit) in found.items()
    ]


def _machine(folder: pathlib.Path) -> dict[str, str]:
    """Return device and versions, asked for in a process of its own: it would keep the device."""
    program = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind, sep='|')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    platform_name, _, kind = done.stdout.strip().rpartition("\n")[2].partition("|")
    versions = {}
    for package in ("jax", "jaxlib", "flax", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return {
        "device": f"{kind} ({platform_name})",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        **versions,
    }


def _told(row: Mapping[str, Any]) -> str:
    numbers = [
        f"{value:.4g} {unit}" if isinstance(value, float) else f"{unit}: {value}"
        for unit, value in row.items()
        if unit != "name"
    ]
    return f"{row['name']}: {', '.join(numbers)}"


def _markdown(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"{machine['device']}, jax {machine['jax']}, Python {machine['python']}, PyTorch "
        f"{machine['torch']}, {machine['date']}"
        + (" (tiny sizes: the numbers mean nothing)" if report["tiny"] else ""),
        "",
    ]
    for part in ("summary", *PARTS):
        rows = report["rows"].get(part, [])
        if not rows:
            continue
        units = list(dict.fromkeys(unit for row in rows for unit in row if unit != "name"))
        lines += [f"| {part} | {' | '.join(units)} |", "|---" * (len(units) + 1) + "|"]
        for row in rows:
            cells = [row.get(unit, "") for unit in units]
            texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
            lines.append(f"| {row['name']} | {' | '.join(texts)} |")
        lines.append("")
    lines += [f"Not measured: {part} ({why})." for part, why in report["trouble"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
