"""From the rows of several processes to one Measurement: figures, raw and undisturbed, and whether they can be trusted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit import conditions as machine
from edgekit import quantiles
from edgekit.measurement import Conditions, Energy, Load, Measurement, PowerTrace, ScenarioName, Verdict
from edgekit.process_run import ProcessRun

LEAST_PROCESSES = 5
LEAST_SAMPLES = quantiles.floor(90)  # fewer say nothing beyond the middle
NOISY_RATIO = 1.5  # p50 / min above it: other work on the cores decides the figures
NOISY_SHARE = 0.1  # of samples preempted
NOISY_PRESSURE = 0.2  # share of the time in which some task waited for a CPU; a quiet machine stays below 0.05
NOISY_STEAL = 0.05  # share of the time that the hypervisor took
OVERLOADED = 0.9  # answered / offered in an open loop: below it, and below what chance does, the queue grows
NOISY_SPREAD = 0.1  # half of the interval between processes / p50


@dataclass(frozen=True)
class Setup:
    """What was timed where. simulates: the device that the runtime is a simulator of."""

    runtime: str  # with version
    device: str
    target: str
    threads: int
    scenario: ScenarioName = "single"
    simulates: str = ""


@dataclass(frozen=True)
class Metered:
    """What a meter said, or why there is none."""

    energy: Energy | None = None
    power: PowerTrace | None = None
    reason: str = "no meter"


def summarise(
    runs: Sequence[ProcessRun], conditions: Conditions, setup: Setup, metered: Metered = Metered(), watch_failed: str = ""
) -> Measurement:
    """One measurement of the same bundle in fresh processes. Latency is that of a query.

    On a simulator a query is a batch of golden inputs, and its time is divided by their number. watch_failed: why the
    conditions do not cover the whole run; then no run is called VALID.
    """
    facts = [r.facts for r in runs]
    per = facts[0].samples_per_query if setup.simulates else 1
    each = [r.wall_ns / 1e6 / per for r in runs]
    times, preempted = np.concatenate(each), np.concatenate([r.preempted for r in runs])
    calm = times[~preempted]
    p50s = [float(np.percentile(x, 50)) for x in each]
    p50, low, high = quantiles.between(p50s)
    load = _load(runs, setup.scenario, 1 if setup.simulates else facts[0].samples_per_query)
    verdict, reasons = _judge(runs, times, preempted, (p50, low, high), conditions, load, watch_failed)
    if setup.simulates:
        verdict, reasons = "SIMULATED", [f"wall time of a simulator of {setup.simulates} on this CPU, a batch divided by its size"]
    return Measurement(
        runtime=setup.runtime, device=setup.device, threads=setup.threads, pinned=facts[0].pinned_to is not None,
        load_ms=float(np.median([f.load_ms for f in facts])), first_run_ms=float(np.median([f.first_run_ms for f in facts])) / per,
        warm_up_runs=int(np.median([f.warm_up_runs for f in facts])),
        latency_p50_ms=p50, latency_p90_ms=float(np.median([np.percentile(x, 90) for x in each])), latency_min_ms=float(times.min()),
        samples=len(times), preempted_samples=int(preempted.sum()),
        latency_undisturbed_p50_ms=_calm_p50(runs, per), memory_peak_mb=max(f.memory_peak_mb for f in facts),
        verdict=verdict, reasons=tuple(reasons),
        energy_mj=metered.energy.gross_mj if metered.energy else None, energy_reason="" if metered.energy else metered.reason,
        target=setup.target, latency_p50_low_ms=low, latency_p50_high_ms=high, process_p50_ms=tuple(p50s),
        percentiles=quantiles.percentiles(times), percentiles_undisturbed=quantiles.percentiles(calm) if len(calm) else (),
        histogram=quantiles.histogram(times, preempted), load=load, conditions=conditions, energy=metered.energy, power=metered.power,
        latency_engine_p50_ms=_engine_p50(runs), overhead_us=float(np.median([f.overhead_ns for f in facts])) / 1e3,
    )  # fmt: skip


def table(runs: Sequence[ProcessRun], conditions: Conditions, start_ns: int) -> dict[str, np.ndarray]:
    """Every sample with what the machine did at that time: process, start_ns (from the start of the measurement), wall_ns,
    cpu_ns (int64), preempted (uint8), pressure, clock_mhz, temperature_c (float32, NaN where unknown)."""
    start = np.concatenate([r.start_ns for r in runs]) - start_ns
    return {
        "process": np.concatenate([np.full(len(r.wall_ns), i, np.int64) for i, r in enumerate(runs)]),
        "start_ns": start,
        "wall_ns": np.concatenate([r.wall_ns for r in runs]),
        "cpu_ns": np.concatenate([r.cpu_ns for r in runs]),
        "preempted": np.concatenate([r.preempted for r in runs]).astype(np.uint8),
        **machine.at(conditions, start / 1e9),
    }


def _calm_p50(runs: Sequence[ProcessRun], per: int) -> float | None:
    """Median over processes of the p50 of samples that were not preempted; None where a process has none."""
    calm = [r.wall_ns[~r.preempted] for r in runs]
    if not all(len(c) for c in calm):
        return None
    return float(np.median([np.percentile(c, 50) for c in calm])) / 1e6 / per


def _engine_p50(runs: Sequence[ProcessRun]) -> float | None:
    """Median over processes of the p50 by the engine's own clock; None where one process has no such column."""
    clocks = [r.engine_ns for r in runs if r.engine_ns is not None]
    return float(np.median([np.percentile(c, 50) for c in clocks])) / 1e6 if len(clocks) == len(runs) else None


def _load(runs: Sequence[ProcessRun], scenario: ScenarioName, in_query: int) -> Load:
    spans_s = [(r.start_ns[-1] + r.wall_ns[-1] - r.start_ns[0]) / 1e9 for r in runs]
    queries = sum(len(r.wall_ns) for r in runs)
    period_ns, offered = runs[0].facts.period_ns, [r.facts.offered_per_s for r in runs]
    busy = sum(int((r.wall_ns if r.busy_ns is None else r.busy_ns).sum()) for r in runs)
    events = runs[0].facts.events_per_query
    return Load(
        scenario, in_query, throughput_per_s=queries * in_query / sum(spans_s) if sum(spans_s) > 0 else None,
        different_inputs=runs[0].facts.different_inputs, events_per_query=events or None,
        events_per_s=events * queries / (busy / 1e9) if events and busy else None,
        offered_per_s=float(np.median(offered)) if any(offered) else None,
        period_ms=period_ns / 1e6 if period_ns else None,
        deadline_misses=sum(int((r.wall_ns > period_ns).sum()) for r in runs) if period_ns else None,
        real_time_factor=busy / (queries * period_ns) if period_ns else None,
    )  # fmt: skip


def _judge(
    runs: Sequence[ProcessRun], times: np.ndarray, preempted: np.ndarray, p50: tuple[float, float | None, float | None],
    conditions: Conditions, load: Load, watch_failed: str,
) -> tuple[Verdict, list[str]]:  # fmt: skip
    """THROTTLED before NOISY before TOO-SHORT; the reasons of all of them."""
    throttled, noisy, short = [], [], []
    if conditions.throttle_events:
        throttled.append(f"{conditions.throttle_events} thermal or over-current events while it was timed")
    middle, low, high = p50
    open_loop = load.scenario in ("poisson", "stream")  # there, waiting is part of the latency
    ratio = float(np.percentile(times, 50) / times.min()) if times.min() > 0 else 1.0
    if ratio > NOISY_RATIO and not open_loop and load.different_inputs == 1:
        noisy.append(f"p50 is {ratio:.2f} times the minimum (limit {NOISY_RATIO})")
    if preempted.mean() > NOISY_SHARE:
        noisy.append(f"{int(preempted.sum())} of {len(preempted)} samples were preempted")
    if (conditions.cpu_pressure or 0) > NOISY_PRESSURE:
        noisy.append(f"some task waited for a CPU {100 * (conditions.cpu_pressure or 0):.0f} % of the time (limit {100 * NOISY_PRESSURE:.0f} %)")
    if (conditions.steal or 0) > NOISY_STEAL:
        noisy.append(f"the hypervisor took {100 * (conditions.steal or 0):.0f} % of the time (limit {100 * NOISY_STEAL:.0f} %)")
    if low is not None and high is not None and (high - low) / 2 > NOISY_SPREAD * middle:
        noisy.append(f"processes disagree: p50 {low:.4g} to {high:.4g} ms (95 %, limit +-{100 * NOISY_SPREAD:.0f} %)")
    if watch_failed:
        noisy.append(f"the state of the machine is not known to the end: {watch_failed}")
    if len(runs) < LEAST_PROCESSES:
        short.append(f"{len(runs)} processes were timed, {LEAST_PROCESSES} are needed for an interval between them")
    if len(times) < LEAST_SAMPLES:
        short.append(f"{len(times)} samples, {LEAST_SAMPLES} are needed for a p90")
    restless = sum(not r.facts.steady for r in runs)
    if restless > len(runs) / 2:
        short.append(f"no steady state: the warm-up's median still moved in {restless} of {len(runs)} processes")
    offered = load.offered_per_s or (1e3 / load.period_ms if load.period_ms else 0.0)
    answered = (load.throughput_per_s or 0.0) / load.samples_per_query
    if open_loop and answered < min(OVERLOADED, 1 - 3 / len(times) ** 0.5) * offered:
        short.append(f"overloaded: {offered:,.4g} queries a second came and {answered:,.4g} were answered: the queue grows, and latency with it")
    order: tuple[tuple[Verdict, list[str]], ...] = (("THROTTLED", throttled), ("NOISY", noisy), ("TOO-SHORT", short))
    verdict: Verdict = next((v for v, told in order if told), "VALID")
    return verdict, list(itertools.chain(throttled, noisy, short))
