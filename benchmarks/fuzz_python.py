"""Fuzz what Python reads of strangers, a target after the other; one row a target in benchmarks/fuzz_python.json.

    python benchmarks/fuzz_python.py [--executions 100000] [--more] [--targets wire npz] [--seed 1]

Each target of tests/fuzz_python.py has its seeds in the code; input number i of a target depends on --seed and i alone, so that
`python tests/fuzz_python.py TARGET --seed S --first I --executions 1` runs one again. --more adds to a row, with the next seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]  # before this folder, whose fuzz_python is this file

import fuzz_python  # noqa: E402 - the checkout's own, put on the path above

OUT = ROOT / "benchmarks" / "fuzz_python.json"
FEW = {"intake": 2200, "nir": 10_000}  # unless --executions says otherwise
WHY_FEWER = {
    "intake": "each model that passes the checks begins a process with ONNX Runtime; the checks themselves are the target onnx",
    "nir": "each file goes to the process with limits and back, 6 ms: a crash of HDF5 there is one sentence",
}
PIECE = 10_000  # executions after which the row is written: what was done is kept
MOST_SAID = 8  # sentences of a row
NOTHING: dict[str, Any] = {
    "executions": 0, "taken": 0, "cpu_seconds": 0.0, "slowest_s": 0.0, "slowest": "", "distinct_sentences": 0, "seeds": [], "findings": [],
    "counts": {},
}  # fmt: skip


def row(old: dict[str, Any], new: fuzz_python.Found, name: str, seed: int, cpu_s: float) -> dict[str, Any]:
    """What was there and what came to it. Sentences are counted without names and numbers; of two runs, the larger number of them counts."""
    executions, taken = old["executions"] + new.executions, old["taken"] + new.taken
    slowest_s, slowest = max((old["slowest_s"], old["slowest"]), (round(new.slowest[0], 2), f"--seed {seed} --first {new.slowest[1]}"))
    findings = [f"{kind}, {new.kinds[kind]} times, --seed {seed} --first {number}" for kind, (number, _, _) in new.crashes.items()]
    return {
        "target": name, "executions": executions, "cpu_seconds": round(old["cpu_seconds"] + cpu_s, 1), "taken": taken,
        "taken_share": round(taken / executions, 4), "slowest_s": slowest_s, "slowest": slowest, "seeds": sorted({*old["seeds"], seed}),
        "findings": [*old["findings"], *findings], "distinct_sentences": max(old["distinct_sentences"], len(new.sentences)),
        "most_said": dict(new.sentences.most_common(MOST_SAID)),
        "counts": {n: old["counts"].get(n, 0) + new.counts.get(n, 0) for n in {**old["counts"], **new.counts}}, "why_fewer": WHY_FEWER.get(name, ""),
    }  # fmt: skip


def together(a: fuzz_python.Found, b: fuzz_python.Found) -> fuzz_python.Found:
    """Two pieces of one run."""
    counts = {n: a.counts.get(n, 0) + b.counts.get(n, 0) for n in {**a.counts, **b.counts}}
    return fuzz_python.Found(a.executions + b.executions, a.taken + b.taken, max(a.slowest, b.slowest), {**b.crashes, **a.crashes}, a.kinds + b.kinds,
                             a.sentences + b.sentences, counts)  # fmt: skip


def rows() -> dict[str, dict[str, Any]]:
    """What is there."""
    return {r["target"]: r for r in json.loads(OUT.read_text())["rows"]} if OUT.is_file() else {}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, help="of each target; 100,000 where nothing is said, fewer of FEW")
    parser.add_argument("--targets", nargs="+", choices=fuzz_python.TARGETS, default=list(fuzz_python.TARGETS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--more", action="store_true", help="add to the rows that are there instead of replacing them")
    asked = parser.parse_args(words)
    broken = 0
    for name in asked.targets:
        old = rows().get(name, NOTHING) if asked.more else NOTHING
        seed = max([asked.seed, *(s + 1 for s in old["seeds"])])
        begun, whole, left = sum(os.times()[:4]), fuzz_python.Found(), asked.executions or FEW.get(name, 100_000)
        while left:
            found = fuzz_python.fuzz(name, min(PIECE, left), seed, whole.executions)
            whole, left = together(whole, found), left - found.executions
            made = {**rows(), name: row(old, whole, name, seed, sum(os.times()[:4]) - begun)}  # with the processes that it began
            listed = [made[n] for n in fuzz_python.TARGETS if n in made]
            told = {"command": "python benchmarks/fuzz_python.py", "python": platform.python_version(), "rows": listed}
            OUT.write_text(json.dumps(told, indent=1) + "\n")
            for kind, (number, _, trace) in found.crashes.items():
                print(f"{name}: {kind}, --seed {seed} --first {number}\n{trace}", flush=True)
        broken += len(whole.crashes)
        told = made[name]
        print(f"{name}: {told['executions']:,} executions in {told['cpu_seconds']:.0f} CPU-s, slowest {told['slowest_s']} s", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
