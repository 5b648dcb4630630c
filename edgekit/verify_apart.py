"""Verify in a process of its own: an engine that refuses a model, or dies of it, is one row of the table and hides no other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from edgekit import registry
from edgekit.bundle import Bundle
from edgekit.parts import Runtime
from edgekit.verify import Verification

LIMIT_S = 1800


def verify_apart(bundle: Bundle, runtime: str, score_limit: int) -> Verification:
    """What `edgekit verify BUNDLE --runtime NAME` finds; it stores the evidence itself."""
    command = [sys.executable, "-m", "edgekit", "verify", str(bundle.folder), "--runtime", runtime,
               "--score-limit", str(score_limit), "--json"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return _refused(runtime, f"it took more than {LIMIT_S} s and was stopped")
    if done.returncode < 0:
        return _refused(runtime, f"{runtime} was ended by {signal.Signals(-done.returncode).name} while it ran this bundle")
    if done.returncode > 1 or not done.stdout.startswith("{"):
        return _refused(runtime, (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("error: "))
    found = json.loads(done.stdout)
    return Verification.from_json({k: v for k, v in found.items() if k not in ("bundle", "label")})


def _refused(runtime: str, why: str) -> Verification:
    """Nothing was compared, and that is a failure."""
    return Verification(
        runtime=registry.find(Runtime, runtime).version(), output_max_abs=None, output_mean_abs=None, spikes_compared=0,
        spike_flips=None, spike_flips_near=None, images_with_flips=0, exact_mismatches=None, score=None, score_reference=None,
        score_samples=0, failures=(why,),
    )  # fmt: skip
