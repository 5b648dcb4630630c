"""A module of edgekit, run in a fresh process of this Python: what it said last, or in one sentence how it failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edgekit
from edgekit.errors import EdgekitError


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment (or `base`), in which the same edgekit is found."""
    found = dict(os.environ if base is None else base)
    root = str(Path(edgekit.__file__).parent.parent)
    return {**found, "PYTHONPATH": os.pathsep.join(p for p in (root, found.get("PYTHONPATH", "")) if p)}


def ask(module: str, arguments: Sequence[str], what: str, limit_s: float, base: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module arguments`; the JSON object that is its last line.

    EdgekitError, beginning with `what`, when it takes longer than limit_s, fails (with its own last line) or is ended by a signal.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment(base), check=False)
    except subprocess.TimeoutExpired:
        raise EdgekitError(f"{what} took more than {limit_s:.0f} s and was stopped; try when the machine is less busy") from None
    if done.returncode < 0:
        raise EdgekitError(f"{what} failed: its process was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), f"exit code {done.returncode}")
        raise EdgekitError(f"{what} failed: {last}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
