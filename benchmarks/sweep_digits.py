"""The example sweep as a user runs it, from nothing: how long it takes, how large the page is, what its fronts are.

    python benchmarks/sweep_digits.py > benchmarks/sweep_digits.json     # some 5 minutes, on a machine that is quiet
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgekit.profile import device_name

COMMAND = ("edgekit", "sweep", "examples/sweep_digits.toml")


def main() -> None:
    """Run the command into a new folder; print what came of it as JSON."""
    with tempfile.TemporaryDirectory() as work:
        started = time.monotonic()
        command = [sys.executable, "-m", *COMMAND, "--out", str(Path(work) / "out"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall_s = time.monotonic() - started
        if done.returncode:
            sys.exit(done.stderr)
        told = json.loads(done.stdout)
        page_bytes = Path(told["page"]).stat().st_size
    cells = told["cells"]
    rows = [row(c) for c in cells if c["candidate"]]
    print(json.dumps({
        "command": " ".join(COMMAND), "machine": f"{device_name()}, load {os.getloadavg()[0]:.1f} at the end", "wall_s": round(wall_s, 1),
        "page_bytes": page_bytes, "cells": dict(Counter(c["state"] for c in cells)), "fronts": told["fronts"],
        "front_by_brute_force": brute_force(rows), "candidates": rows,
    }, indent=1))  # fmt: skip


def row(cell: dict[str, Any]) -> dict[str, Any]:
    """What a candidate is and costs."""
    c = cell["candidate"]
    return {k: c[k] for k in ("name", "target", "steps", "precision", "quality", "latency_ms", "energy_mj", "verdict")}


def brute_force(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the candidates that no other is at least as good as and certainly faster than, by trying all pairs."""
    timed = [r for r in rows if r["latency_ms"] and r["quality"] is not None]

    def beats(a: dict[str, Any], b: dict[str, Any]) -> bool:
        better, high, low = a["quality"] - b["quality"], a["latency_ms"]["high"], b["latency_ms"]["low"]
        return bool(better >= 0 and high <= low and (better > 0 or high < low))

    return sorted(b["name"] for b in timed if not any(beats(a, b) for a in timed if a is not b))


if __name__ == "__main__":
    main()
