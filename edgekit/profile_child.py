"""The timed process: opens a bundle once, runs it, and reports Facts and a row a sample; started fresh by edgekit/profile.py.

    |-- load --|- first run -|- warm-up: until the median stands still -|-- steady state: every sample kept --|

With `energy`: |-- idle --|-- back to back --|-- idle --|, with the times of the three, so that a meter can be read outside.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import registry, scenarios
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime, Session
from edgekit.process_run import Facts, ProcessRun, Request
from edgekit.recipe import fill
from edgekit.scenarios import Samples
from edgekit.stream import cut

WINDOW = 20  # samples in a warm-up window; fewer where a run takes long
WINDOW_S = 0.05
STEADY = 0.05  # warm-up ends when three windows' medians, and the clock, lie within this share
CAP_S = 1.0  # longest warm-up, or the share of the steady state where that is longer
SIMULATED_RUNS = 2  # of a simulator: its wall time says nothing of a device
NULL_RUNS = 400
TURNS = 4096  # draws of inputs until they come in the same order again
PR_SET_PDEATHSIG = 1  # prctl(2): a killed parent leaves no process behind that is still timed


def work(folder: str, request: Request, share: int, samples: Path) -> dict[str, Any]:
    """Time one process's share of `request`; the facts. The samples go to a file. Pins itself when threads is 1."""
    bundle, runtime = open_bundle(folder).of_task(request.task), registry.find(Runtime, request.runtime)
    core = pin() if request.threads == 1 else None
    with ExitStack() as stack:
        start = time.monotonic_ns()
        session = stack.enter_context(runtime.open(bundle, threads=request.threads))
        load_ms = (time.monotonic_ns() - start) / 1e6
        if not runtime.simulates and (told := session.time_itself(request, samples)) is not None:
            return told
        once, in_query = bind(bundle, session, runtime, request)
        first = Samples()
        first.take(once)
        if runtime.simulates:
            warm_up, steady, taken = 0, True, scenarios.back_to_back(once, 0.0, SIMULATED_RUNS)
        else:
            gc.collect()
            gc.disable()  # a collection in the middle of a sample would be charged to the model
            warm_up, steady = warm(once, max(CAP_S, request.seconds / request.processes), core)
            taken = steady_state(once, bundle, request, share)
            gc.enable()
        period = scenarios.period_of(bundle, request.rate_hz) if request.scenario == "stream" else 0
        facts = Facts(
            engine=runtime.version(), load_ms=load_ms, first_run_ms=first.wall_ns[0] / 1e6, warm_up_runs=warm_up, steady=steady,
            memory_peak_mb=peak_mb(), overhead_ns=overhead_ns(), samples_per_query=in_query, period_ns=period,
            different_inputs=getattr(once, "different_inputs", 1), events_per_query=getattr(once, "events_per_query", 0.0),
            offered_per_s=rate_of(taken, request), pinned_to=core,
        )  # fmt: skip
    columns = {n: np.array(getattr(taken, n), np.int64) for n in ("start_ns", "wall_ns", "cpu_ns", "busy_ns", "engine_ns") if getattr(taken, n)}
    ProcessRun(facts, **columns, preempted=np.array(taken.preempted, bool)).save(samples)
    return {"facts": facts.__dict__}


def work_for_meter(folder: str, request: Request) -> dict[str, Any]:
    """Idle, back to back for `energy_seconds`, idle: the three spans in monotonic ns and the number of inferences."""
    bundle, runtime = open_bundle(folder).of_task(request.task), registry.find(Runtime, request.runtime)
    core = pin() if request.threads == 1 else None
    with ExitStack() as stack:
        session = stack.enter_context(runtime.open(bundle, threads=request.threads))
        if (told := session.time_itself(request, None)) is not None:
            return told
        once, in_query = bind(bundle, session, runtime, request)
        warm(once, CAP_S, core)
        rest = request.energy_seconds / 3
        edges = [time.monotonic_ns()]
        time.sleep(rest)
        edges.append(time.monotonic_ns())
        queries, end = 0, edges[-1] + int(request.energy_seconds * 1e9)
        while time.monotonic_ns() < end or queries < 1:
            once()
            queries += 1
        edges.append(time.monotonic_ns())
        time.sleep(rest)
        edges.append(time.monotonic_ns())
    return {"edges_ns": edges, "inferences": queries * in_query}


def pin() -> int | None:
    """Pin this process to the last core that it may use; None where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def bind(bundle: Bundle, session: Session, runtime: Runtime, request: Request) -> tuple[Callable[[], None], int]:
    """(a function that answers one query of golden inputs on bound buffers, how many samples it answers).

    Samples go in one batch where the batch is a free dimension, else one after the other.
    """
    inputs = dict(bundle.golden().inputs)
    free = [t.name for t in bundle.manifest.signature.inputs if t.shape and t.shape[0] == "batch"]
    if runtime.simulates:
        return session.bind(inputs), len(inputs[free[0]]) if free else 1
    wanted = scenarios.samples_per_query(bundle, request)
    if runtime.data_dependent and wanted == 1:
        return in_turn([session.bind(one) for one in golden_samples(bundle)]), 1
    if free:
        inputs = {n: np.resize(v, (wanted, *v.shape[1:])) if n in free else v for n, v in inputs.items()}
        return session.bind(inputs), wanted
    single = session.bind(inputs)
    if wanted == 1:
        return single, 1

    def one_after_the_other() -> None:
        for _ in range(wanted):
            single()

    return one_after_the_other, wanted


def in_turn(each: Sequence[Callable[[], None]]) -> Callable[[], None]:
    """A function that runs the next of them, in an order without a pattern that a processor could learn."""
    order = itertools.cycle([each[i] for i in np.random.default_rng(0).integers(0, len(each), TURNS)])

    def once() -> None:
        next(order)()

    once.different_inputs = len(each)  # type: ignore[attr-defined]
    once.events_per_query = float(np.mean([getattr(x, "events", 0) for x in each]))  # type: ignore[attr-defined]
    return once


def golden_samples(bundle: Bundle) -> list[dict[str, np.ndarray]]:
    """Golden inputs one by one; of a stream, chunk by chunk."""
    inputs, stream = bundle.golden().inputs, bundle.manifest.program.stream
    rows = [{n: v[i : i + 1] for n, v in inputs.items()} for i in range(min(len(v) for v in inputs.values()))]
    if stream is None:
        return rows
    feeds = {n: (f.axis, f.hop or 1) for n, f in stream.feeds.items()}
    chunks = []
    for row in rows:
        for t in range(min(row[n].shape[axis] // hop for n, (axis, hop) in feeds.items())):
            chunk = {n: cut(row[n], axis, t * hop, (t + 1) * hop) for n, (axis, hop) in feeds.items()}
            chunks.append({**row, **chunk})
    return chunks


def warm(once: Callable[[], None], cap_s: float, core: int | None) -> tuple[int, bool]:
    """(runs, whether it ended because three windows' medians and the clock stood still)."""
    clock = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")
    medians: list[float] = []
    clocks: list[float] = []
    runs, window = 0, WINDOW
    end = time.monotonic() + cap_s
    while time.monotonic() < end:
        taken = Samples()
        while len(taken) < window:
            taken.take(once)
        runs += window
        medians.append(statistics.median(taken.wall_ns))
        clocks.append(_clock(clock))
        window = max(3, min(WINDOW, int(WINDOW_S * 1e9 / max(medians[-1], 1))))
        if len(medians) >= 3 and all(max(x[-3:]) <= min(x[-3:]) * (1 + STEADY) for x in (medians, clocks)):
            return runs, True
    return runs, False


def steady_state(once: Callable[[], None], bundle: Bundle, request: Request, share: int) -> Samples:
    """The samples of this process: its share of the seconds."""
    seconds = request.seconds / request.processes
    if request.scenario == "stream":
        return scenarios.scheduled(once, scenarios.regular(scenarios.period_of(bundle, request.rate_hz)), seconds)
    if request.scenario == "poisson":
        rate = request.rate_hz or scenarios.LOAD * 1e9 / statistics.median(scenarios.back_to_back(once, 0.1).wall_ns)
        return scenarios.scheduled(once, scenarios.poisson(rate, seed=share), seconds)
    return scenarios.back_to_back(once, seconds)


def rate_of(taken: Samples, request: Request) -> float:
    """Arrivals a second that were scheduled; 0 in closed loops."""
    if request.scenario != "poisson" or len(taken) < 2:
        return 0.0
    return request.rate_hz or (len(taken) - 1) / ((taken.start_ns[-1] - taken.start_ns[0]) / 1e9)


def overhead_ns() -> float:
    """What the timing itself adds to a sample: p50 of a model that does nothing, by the same loop."""
    taken = Samples()
    for _ in range(NULL_RUNS):
        taken.take(_nothing)
    return float(statistics.median(taken.wall_ns))


def peak_mb() -> float:
    """Peak resident memory of this process. VmHWM starts anew at exec; ru_maxrss would still hold the parent's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return own / 1024


def _nothing() -> None:
    return None


def _clock(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 1.0  # no clock to watch here


def main(arguments: list[str]) -> int:
    """BUNDLE REQUEST-as-JSON SHARE SAMPLES-FILE, or BUNDLE REQUEST-as-JSON energy; one JSON line on stdout."""
    with suppress(OSError, AttributeError):  # where there is no prctl, the process ends when its work is done
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    folder, text, share, *rest = arguments
    try:
        request: Request = fill(Request, json.loads(text), "request")
        found = work_for_meter(folder, request) if share == "energy" else work(folder, request, int(share), Path(rest[0]))
    except EdgekitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
