"""How long one inference takes, in a fresh process: load, first run, warm-up and steady state apart.

    |-- load --|- first run -|- warm-up: until the median stands -|-- steady state: every sample kept --|

One inference at a time, batch 1, on buffers bound once. A sample during which the scheduler took the core away
(involuntary context switch of this thread) is marked; p50 / min above 1.5 makes the whole run NOISY.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import edgekit
from edgekit import registry
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.measurement import Measurement, Verdict
from edgekit.parts import Meter, Runtime

WINDOW = 20  # samples in a warm-up window
STEADY = 0.05  # warm-up ends when three windows' medians lie within this share
NOISY_RATIO = 1.5  # p50 / min above it: other work on the cores decides the figures
NOISY_SHARE = 0.1  # of samples preempted
CHILD_LIMIT_S = 600


def profile(bundle: Bundle, runtime: str, threads: int = 1, seconds: float = 1.0) -> Measurement:
    """Measure in a child process. threads 1 = one thread pinned to one core, 0 = all cores, not pinned."""
    registry.find(Runtime, runtime)
    command = [
        sys.executable,
        "-m",
        "edgekit.profile",
        str(bundle.folder.absolute()),
        runtime,
        str(threads),
        str(seconds),
    ]
    root = str(Path(edgekit.__file__).parent.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p),
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHILD_LIMIT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise EdgekitError(
            f"profiling {bundle.label} on {runtime} took more than {CHILD_LIMIT_S} s and was stopped"
        ) from None
    if done.returncode:
        last = next(iter(reversed(done.stderr.strip().splitlines())), f"exit code {done.returncode}")
        raise EdgekitError(f"profiling {bundle.label} on {runtime} failed: {last}")
    return Measurement.from_json(json.loads(done.stdout.splitlines()[-1]))


def measure_here(bundle: Bundle, name: str, threads: int, seconds: float) -> Measurement:
    """The measurement itself; pins this process to one core when threads is 1."""
    runtime = registry.find(Runtime, name)
    pinned = threads == 1 and hasattr(os, "sched_setaffinity")
    if pinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    inputs, batch = _inputs(bundle, runtime)
    with ExitStack() as stack:
        start = time.perf_counter_ns()
        session = stack.enter_context(runtime.open(bundle, threads=threads))
        load_ms = (time.perf_counter_ns() - start) / 1e6
        once = session.bind(inputs)
        first_ms, _ = _sample(once)
        warm_up = 0 if runtime.simulates else _warm_up(once, seconds)
        samples, preempted = _steady(once, seconds, runs=2 if runtime.simulates else 0)
    times = np.array(samples) / batch
    calm = times[~np.array(preempted)]
    verdict, reasons = _verdict(times, preempted, runtime)
    energy, energy_reason = _energy()
    return Measurement(
        runtime=runtime.version(), device=device_name(), threads=threads, pinned=pinned, load_ms=load_ms,
        first_run_ms=first_ms / batch, warm_up_runs=warm_up,
        latency_p50_ms=float(np.percentile(times, 50)), latency_p90_ms=float(np.percentile(times, 90)),
        latency_min_ms=float(times.min()), samples=len(times), preempted_samples=int(sum(preempted)),
        latency_undisturbed_p50_ms=float(np.percentile(calm, 50)) if len(calm) else None,
        memory_peak_mb=_peak_mb(), verdict=verdict, reasons=tuple(reasons), energy_mj=energy, energy_reason=energy_reason,
        samples_ms=tuple(float(f"{t:.6g}") for t in times),
    )  # fmt: skip


def _inputs(bundle: Bundle, runtime: Runtime) -> tuple[dict[str, np.ndarray], int]:
    """Golden inputs, one sample where the batch is free; all of them on a simulator. (inputs, samples in them)"""
    inputs = dict(bundle.golden().inputs)
    free = [t.name for t in bundle.manifest.signature.inputs if t.shape and t.shape[0] == "batch"]
    batch = len(inputs[free[0]]) if free else 1
    if not runtime.simulates:
        inputs, batch = {n: v[:1] if n in free else v for n, v in inputs.items()}, 1
    return inputs, batch


def _sample(once: Callable[[], None]) -> tuple[float, bool]:
    """Milliseconds of one call, and whether the core was taken away meanwhile."""
    switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    start = time.perf_counter_ns()
    once()
    took = time.perf_counter_ns() - start
    return took / 1e6, resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw != switches


def _warm_up(once: Callable[[], None], seconds: float) -> int:
    medians: list[float] = []
    end = time.monotonic() + max(seconds, 0.2)
    while time.monotonic() < end:
        medians.append(statistics.median(_sample(once)[0] for _ in range(WINDOW)))
        last = medians[-3:]
        if len(last) == 3 and max(last) / min(last) < 1 + STEADY:
            break
    return len(medians) * WINDOW


def _steady(once: Callable[[], None], seconds: float, runs: int) -> tuple[list[float], list[bool]]:
    """`runs` samples, or with 0: at least 100 and for `seconds`, at most 20,000."""
    taken: list[tuple[float, bool]] = []
    end = time.monotonic() + seconds
    while len(taken) < runs if runs else (len(taken) < 100 or time.monotonic() < end) and len(taken) < 20_000:
        taken.append(_sample(once))
    return [t for t, _ in taken], [p for _, p in taken]


def _verdict(times: np.ndarray, preempted: list[bool], runtime: Runtime) -> tuple[Verdict, list[str]]:
    if runtime.simulates:
        return "SIMULATED", [
            f"wall time of a simulator of {runtime.simulates} on this CPU, a batch divided by its size"
        ]
    reasons = []
    ratio = float(np.percentile(times, 50) / times.min())
    if ratio > NOISY_RATIO:
        reasons.append(f"p50 is {ratio:.2f} times the minimum (limit {NOISY_RATIO})")
    if sum(preempted) > NOISY_SHARE * len(preempted):
        reasons.append(f"{sum(preempted)} of {len(preempted)} samples were preempted")
    return ("NOISY" if reasons else "VALID"), reasons


def _energy() -> tuple[float | None, str]:
    """None and the reasons of all meters: this version reads no counter during a profile."""
    reasons = [registry.load(Meter, name).available() for name in registry.names(Meter)]
    return None, "; ".join(r for r in reasons if r) or "no meter"


def _peak_mb() -> float:
    """Peak resident memory of this process. VmHWM starts anew at exec; ru_maxrss would still hold the parent's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return own / 1024


def device_name() -> str:
    """Processor model and number of cores of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def main(arguments: list[str]) -> int:
    """The child's side: BUNDLE RUNTIME THREADS SECONDS, one JSON line on stdout."""
    folder, runtime, threads, seconds = arguments
    try:
        found = measure_here(open_bundle(folder), runtime, int(threads), float(seconds))
    except EdgekitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found.to_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
