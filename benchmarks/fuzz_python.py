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
FEW = {"intake": 2000}  # unless --executions says otherwise
WHY_FEWER = {"intake": "each model that passes the checks begins a process with ONNX Runtime; the checks themselves are the target onnx"}
PIECE = 10_000  # executions after which the row is written: what was done is kept


def added(old: dict[str, Any] | None, new: fuzz_python.Found, name: str, seed: int, cpu_s: float) -> dict[str, Any]:
    """A row, of what was there and what came to it."""
    old = old or {
        "executions": 0, "taken": 0, "cpu_seconds": 0.0, "slowest_s": 0.0, "slowest": "", "sentences": {}, "seeds": [], "findings": [], "counts": {},
    }  # fmt: skip
    executions, taken = old["executions"] + new.executions, old["taken"] + new.taken
    slowest_s, slowest = max((old["slowest_s"], old["slowest"]), (round(new.slowest[0], 2), f"--seed {seed} --first {new.slowest[1]}"))
    sentences = {s: old["sentences"].get(s, 0) + new.sentences.get(s, 0) for s in (*old["sentences"], *new.sentences)}
    findings = [f"{kind}, {new.kinds[kind]} times, --seed {seed} --first {number}" for kind, (number, _, _) in new.crashes.items()]
    return {
        "target": name, "executions": executions, "cpu_seconds": round(old["cpu_seconds"] + cpu_s, 1), "taken": taken,
        "taken_share": round(taken / executions, 4), "slowest_s": slowest_s, "slowest": slowest, "seeds": sorted({*old["seeds"], seed}),
        "findings": [*old["findings"], *findings],
        "distinct_sentences": len(sentences), "sentences": sentences,
        "counts": {n: old["counts"].get(n, 0) + new.counts.get(n, 0) for n in {**old["counts"], **new.counts}}, "why_fewer": WHY_FEWER.get(name, ""),
    }  # fmt: skip


def rows() -> dict[str, dict[str, Any]]:
    """What is there, with all its sentences."""
    return {r["target"]: r for r in json.loads(OUT.read_text())["rows"]} if OUT.is_file() else {}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, help="of each target; 100,000 where nothing is said, of intake 2,000")
    parser.add_argument("--targets", nargs="+", choices=fuzz_python.TARGETS, default=list(fuzz_python.TARGETS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--more", action="store_true", help="add to the rows that are there instead of replacing them")
    asked = parser.parse_args(words)
    broken = 0
    for name in asked.targets:
        row, left, first = rows().get(name) if asked.more else None, asked.executions or FEW.get(name, 100_000), 0
        seed = max([asked.seed, *(s + 1 for s in (row or {}).get("seeds", []))])
        while left:
            begun, count = sum(os.times()[:4]), min(PIECE, left)
            found = fuzz_python.fuzz(name, count, seed, first)
            row = added(row, found, name, seed, sum(os.times()[:4]) - begun)  # with the processes that it began
            left, first, broken = left - count, first + count, broken + len(found.crashes)
            made = {**rows(), name: row}
            listed = [made[n] for n in fuzz_python.TARGETS if n in made]
            told = {"command": "python benchmarks/fuzz_python.py", "python": platform.python_version(), "rows": listed}
            OUT.write_text(json.dumps(told, indent=1) + "\n")
            for kind, (number, _, trace) in found.crashes.items():
                print(f"{name}: {kind}, --seed {seed} --first {number}\n{trace}", flush=True)
        print(f"{name}: {row['executions']:,} executions in {row['cpu_seconds']:.0f} CPU-s, slowest {row['slowest_s']} s", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
