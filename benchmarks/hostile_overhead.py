"""What the checks of files cost who uses edgekit with files of their own: the same command with the checks on and off, in turns.

    python benchmarks/hostile_overhead.py [--pairs 7] [--only NAME ...] [--checkpoint RUN_FOLDER]

Trains the digits SNN of `make demo` once, then deploys it; and exports a user's own ONNX model of 12 layers. "Off" replaces every check by
nothing, in every process of the command (benchmarks/hostile_off/sitecustomize.py lists them), and syncs nothing. CPU seconds are those of
the command and all its processes; "lean" leaves out the profiling, whose seconds are asked for and would hide what the checks take.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "hostile_overhead.json"
RECIPE = ROOT / "examples" / "iir_snn_digits.toml"
LAYERS, WIDTH = 12, 256


def timed(words: Sequence[str], checks: str, profiling: str, work: Path) -> dict[str, float]:
    """CPU seconds (of all processes) and wall-clock seconds of one command line of edgekit."""
    path = os.pathsep.join((str(ROOT / "benchmarks" / "hostile_off"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "EDGEKIT_CHECKS": checks, "EDGEKIT_PROFILING": profiling, "EDGEKIT_CACHE": str(work / "cache")}
    environment |= {"OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    with (work / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-m", "edgekit", *words], env=environment, cwd=work, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"edgekit {' '.join(words)} ended with {process.returncode}:\n{(work / 'said').read_text()[-3000:]}")
    return {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.monotonic() - begun}


def compared(
    words: Sequence[str], profiling: str, pairs: int, work: Path, out: Path, others: Sequence[tuple[str, Sequence[str]]] = ()
) -> dict[str, Any]:  # fmt: skip
    """Pairs of the command with the checks on and off (and with other options), after one of each that is not counted."""
    ways: list[tuple[str, str, Sequence[str]]] = [("on", "on", words), ("off", "off", words), *((name, "on", w) for name, w in others)]
    seen: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in ways}
    for i in range(pairs + 1):
        for name, checks, asked in ways if i % 2 else ways[::-1]:  # each is first as often as last
            shutil.rmtree(out, ignore_errors=True)
            found = timed(asked, checks, profiling, work)
            if i:
                seen[name].append(found)
    rows: dict[str, Any] = {"pairs": pairs}
    for name, runs in seen.items():
        rows[name] = {k: round(statistics.median(r[k] for r in runs), 3) for k in ("cpu_s", "wall_s")}
        if name != "off":
            for k in ("cpu_s", "wall_s"):
                ratios = sorted(a[k] / b[k] for a, b in zip(runs, seen["off"], strict=True))
                rows[name][f"{k}_over_off"] = {"median": round(statistics.median(ratios), 4), "min": round(ratios[0], 4), "max": round(ratios[-1], 4)}
    return rows


def own_model(path: Path) -> None:
    """12 layers of a product and a ReLU, as ONNX."""
    import numpy as np
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for i in range(LAYERS):
        weights.append(numpy_helper.from_array(rng.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32), f"w{i}"))
        nodes += [helper.make_node("MatMul", [at, f"w{i}"], [f"m{i}"]), helper.make_node("Relu", [f"m{i}"], [f"r{i}" if i + 1 < LAYERS else "y"])]
        at = f"r{i}"
    info = [helper.make_tensor_value_info(n, 1, ["batch", WIDTH]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="names of rows; the others stay as they are")
    parser.add_argument("--checkpoint", type=Path, help="a run folder of the digits SNN that is trained already")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="edgekit-overhead-") as temporary:
        work = Path(temporary)
        run = (asked.checkpoint or work / "digits").absolute()
        if not (run / "train" / "result.json").is_file():
            timed(["train", str(RECIPE), "--out", str(run)], "on", "on", work)
        own_model(work / "m.onnx")
        out = work / "out"
        deploy = ["deploy", str(run), "--out", str(out)]
        export = ["export", str(work / "m.onnx"), "--out", str(out)]
        cases: dict[str, tuple[list[str], str]] = {
            "digits, onnx, lean": ([*deploy, "--formats", "onnx"], "off"),
            "own model of 12 layers": (export, "on"),
            "digits, default formats, lean": (deploy, "off"),
            "digits, onnx, as users have it": ([*deploy, "--formats", "onnx"], "on"),
            "digits, default formats, as users have it": (deploy, "on"),
        }
        for name, (command, profiling) in cases.items():
            if asked.only and name not in asked.only:
                continue
            others = [("trust", [*command, "--trust"])] if command is export else []
            said = " ".join(command).replace(str(run), "RUN").replace(str(work), "WORK") + ("" if profiling == "on" else ", without profiling")
            row = {"name": name, "command": f"edgekit {said}", **compared(command, profiling, asked.pairs, work, out, others)}
            old = [r for r in json.loads(OUT.read_text())["rows"] if r["name"] != name] if OUT.is_file() else []
            rows = sorted([*old, row], key=lambda r: list(cases).index(r["name"]))
            OUT.write_text(json.dumps({"command": "python benchmarks/hostile_overhead.py", "python": platform.python_version(),
                                       "threads": 1, "allowed": "on over off <= 1.15 for the digits", "rows": rows}, indent=1) + "\n")  # fmt: skip
            print(name, json.dumps(row["on"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
