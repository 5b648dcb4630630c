"""The candidates of a deployed model: each bundle on each engine that was timed, and on each target that is only estimated."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from edgekit.candidate import Candidate, Quantity
from edgekit.estimate import Estimate
from edgekit.measurement import Measurement
from edgekit.prices import PROFILES
from edgekit.report.data import BundleRow, VerificationRow
from edgekit.report.numbers import engine

TRUST = ("VALID", "TOO-SHORT", "NOISY", "THROTTLED")  # a figure further back is taken only where there is none before it


def of_bundles(bundles: Sequence[BundleRow]) -> tuple[Candidate, ...]:
    """Every candidate of a run folder; a name appears once.

    Quality is the bundle's score over the most samples. Latency is the best p50 that was measured of a single inference;
    a simulator has none. Energy is what a meter read, else an estimate for the same target.
    """
    found: dict[str, Candidate] = {}
    for c in (c for b in bundles for c in (*_measured(b), *_imported(b), *_estimated(b))):
        name = next(n for i in itertools.count(1) if (n := c.name if i == 1 else f"{c.name} ({i})") not in found)
        found[name] = dataclasses.replace(c, name=name)
    return tuple(found.values())


def _measured(bundle: BundleRow) -> Iterator[Candidate]:
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for m in bundle.measurements:
        groups.setdefault((engine(m.runtime), m.target), []).append(m)
    for (name, target), ms in groups.items():
        real = sorted((m for m in ms if m.verdict in TRUST and m.load.scenario == "single"), key=_trust)
        if not real and all(m.verdict == "SIMULATED" for m in ms):
            yield from _simulated(bundle, name, ms)
            continue
        energy, why = _energy(bundle, real or ms, target)
        if not real:
            why = (f"timed as {', '.join(dict.fromkeys(m.load.scenario for m in ms))} only, not one inference at a time", *why)
        yield _with(_base(bundle, target, ms[0].device, name), _latency(real[0]) if real else None, energy, why, (real or ms)[0])


def _trust(m: Measurement) -> tuple[int, float]:
    return TRUST.index(m.verdict), m.latency_p50_ms


def _latency(m: Measurement) -> Quantity:
    """p50 with its interval between processes; where there is none, that of the samples; else p50 alone, which is said."""
    low, high = m.latency_p50_low_ms, m.latency_p50_high_ms
    said = [f"p50 of {m.processes} processes" if m.processes else "p50"]
    if low is None or high is None:
        middle = next((p for p in m.percentiles if p.percent == 50), None)
        low, high = (middle.low_ms, middle.high_ms) if middle else (None, None)
        said.append("no interval between processes")
    if m.threads is not None:
        said.append("all cores" if m.threads == 0 else f"{m.threads} thread" + "s" * (m.threads > 1))
    said += [m.verdict] if m.verdict != "VALID" else []
    p50 = m.latency_p50_ms
    return Quantity(p50, min(p50, low or p50), max(p50, high or p50), m.kind, ", ".join(said))


def _energy(bundle: BundleRow, ms: Sequence[Measurement], target: str) -> tuple[Quantity | None, tuple[str, ...]]:
    """A meter's figure of the first measurement that has one, else an estimate; and why it is missing."""
    for m in ms:
        e = m.energy
        if e is not None:
            return Quantity(e.gross_mj, e.gross_mj_low, e.gross_mj_high, e.kind, f"gross, {e.meter}: {e.scope}"), ()
        if m.energy_mj is not None:  # imported: the tool gave one figure
            return Quantity(m.energy_mj, m.energy_mj, m.energy_mj, m.kind, "gross, as imported"), ()
    took = ms[0].latency_p50_ms if ms[0].load.scenario == "single" else None
    for estimate in bundle.device_estimates:
        if estimate.target == target and (own := estimate.energy(took)):
            return own, ()
    return None, (f"no energy: {ms[0].energy_reason or 'not measured'}, and no estimate",)


def _simulated(bundle: BundleRow, name: str, ms: Sequence[Measurement]) -> Iterator[Candidate]:
    """A simulated chip has answers and perhaps a published price, and no latency at all."""
    note = f"{name} simulates the device: its times say nothing of it"
    chips = [e for e in bundle.estimates if _is_chip(e)]
    if any(e.energy_mj is not None for e in bundle.device_estimates):
        chips = []  # the same chips, as targets with their figures
    for e in chips:
        why = () if _priced(e) else (e.reason or "no energy estimate",)
        yield _with(_base(bundle, e.profile, e.label, f"{name} (simulated)"), None, _priced(e), (note, *why), ms[0])
    if not chips:
        yield _with(_base(bundle, "simulated", ms[0].device, f"{name} (simulated)"), None, None, (note,), ms[0])


def _imported(bundle: BundleRow) -> Iterator[Candidate]:
    for m in bundle.imported:
        target = m.target if m.target != "host" else m.device  # a tool that names no target of edgekit's
        energy, why = _energy(bundle, [m], target)
        yield _with(_base(bundle, target, m.device, engine(m.runtime)), _latency(m), energy, (*m.reasons, *why), m)


def _estimated(bundle: BundleRow) -> Iterator[Candidate]:
    """Targets that did not run the bundle."""
    ran = {m.target for m in (*bundle.measurements, *bundle.imported) if m.verdict != "SIMULATED"}
    for e in bundle.device_estimates:
        if e.target in ran:
            continue
        low, mid, high = e.latency_ms_low, e.latency_ms, e.latency_ms_high
        latency = None if low is None or mid is None or high is None else Quantity(mid, low, high, e.kind, e.method)
        why = [r for r in (e.latency_reason if latency is None else "", e.energy_reason if e.energy_mj is None else "") if r]
        base = dataclasses.replace(_base(bundle, e.target, e.target, ""), precision=e.precision)
        yield _with(base, latency, e.energy(), (*why, *e.notes))


def _base(bundle: BundleRow, target: str, device: str, runtime: str) -> Candidate:
    """A candidate with its score and without costs."""
    checks = [v for v in bundle.verifications if v.passed and v.score is not None]
    own = runtime.removesuffix(" (simulated)")
    scored = max(checks, key=lambda v: (v.score_samples, engine(v.runtime) == own), default=None)
    return Candidate(
        name=" ".join(filter(None, (bundle.model, f"{bundle.label} on {target}" + (f", {runtime}" if runtime else "")))),
        model=bundle.model or bundle.label, target=target, device=device, runtime=runtime, format=bundle.label.partition(":")[0],
        precision=bundle.precision, steps=bundle.steps, quality=scored.score if scored else None, latency_ms=None, energy_mj=None,
        bytes_total=bundle.bytes_total, notes=_on_score(scored, bundle),
    )  # fmt: skip


def _with(
    base: Candidate, latency: Quantity | None, energy: Quantity | None, notes: Sequence[str], measurement: Measurement | None = None
) -> Candidate:
    memory, verdict = (measurement.memory_peak_mb, measurement.verdict) if measurement else (None, "")
    return dataclasses.replace(
        base, latency_ms=latency, energy_mj=energy, memory_mb=memory, verdict=verdict, notes=(*base.notes, *notes)
    )


def _on_score(scored: VerificationRow | None, bundle: BundleRow) -> tuple[str, ...]:
    if scored is None:
        failed = any(not v.passed for v in bundle.verifications)
        return ("no score: its answers are wrong" if failed else "no score",)
    return (f"score over {scored.score_samples:,} samples, {engine(scored.runtime)}",)


def _priced(e: Estimate) -> Quantity | None:
    low, mid, high = e.energy_nj_low, e.energy_nj, e.energy_nj_high
    if low is None or mid is None or high is None:
        return None
    return Quantity(mid / 1e6, low / 1e6, high / 1e6, e.kind, f"the prices of {e.profile}")


def _is_chip(e: Estimate) -> bool:
    """The price profile is that of a whole chip, not of a technology: its prices hold the memory, or there are none."""
    known = PROFILES.get(e.profile)
    return known is None or known.memory_inside or bool(known.reason)
