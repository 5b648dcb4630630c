"""What came of a sweep: a state and a reason for every cell, a candidate to choose for each that can exist, and the fronts."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit import files, report, roofline
from edgekit import target as targets
from edgekit.bundle import Bundle, open_bundle
from edgekit.candidate import Candidate, Cost, Quantity, front
from edgekit.device_estimate import DeviceEstimate
from edgekit.errors import EdgekitError
from edgekit.measurement import Measurement
from edgekit.recipe import fill
from edgekit.report.data import BundleRow, Run, VerificationRow
from edgekit.sweep.host import Outcome
from edgekit.sweep.plan import HERE, Cell, Plan
from edgekit.sweep.tasks import bundle_folder, estimate_name, measure_name, verify_name
from edgekit.verify import Verification

JSON = "sweep.json"
COSTS: tuple[Cost, ...] = ("latency_ms", "energy_mj")


@dataclass(frozen=True)
class Row:
    """A cell and what came of it. No candidate: it was refused or it failed, and `reason` says why."""

    cell: Cell
    state: Literal["done", "refused", "failed"]
    reason: str
    candidate: Candidate | None
    verification: Verification | None = None
    measurement: Measurement | None = None  # None: only estimated


@dataclass(frozen=True)
class Swept:
    """A whole sweep."""

    name: str
    rows: tuple[Row, ...]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What there is to choose between."""
        return tuple(r.candidate for r in self.rows if r.candidate)

    def front(self, cost: Cost) -> list[Candidate]:
        """The candidates that none dominates in quality and this cost, cheapest first."""
        return front(self.candidates, cost)

    def missing(self) -> list[str]:
        """A sentence for each reason why there is no figure, with the cells that it is said of."""
        found: dict[tuple[str, str, str], list[str]] = {}
        for r in self.rows:
            if r.state != "done":
                what = "cannot be" if r.state == "refused" else "failed"
                found.setdefault((what, r.cell.name.partition(" ")[2], r.reason), []).append(r.cell.model_label)
        return [f"{what}: {', '.join(models)} as {rest}: {reason}" for (what, rest, reason), models in found.items()]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [
            {"name": r.cell.name, "cell": dataclasses.asdict(r.cell), "state": r.state, "reason": r.reason,
             "candidate": r.candidate and dataclasses.asdict(r.candidate)}
            for r in self.rows
        ]  # fmt: skip
        return {"name": self.name, "cells": rows, "fronts": {cost: [c.name for c in self.front(cost)] for cost in COSTS}}


def collect(plan: Plan, cells: tuple[Cell, ...], outcomes: Mapping[str, Outcome], out: Path) -> Swept:
    """A row a cell, from the outcomes of the tasks behind it and the bundles in `out`."""
    return Swept(plan.name, tuple(_row(cell, outcomes, out) for cell in cells))


def write(swept: Swept, out: Path) -> None:
    """sweep.json in `out`."""
    files.write_text(out / JSON, files.canonical_json(swept.to_json()))


def write_report(swept: Swept, out: Path) -> Run:
    """The report of a sweep, in `out/report`. Missing when the extra `report` is not installed."""
    found = run_of(swept, out)
    report.write(found, out / "report")
    return found


def _row(cell: Cell, outcomes: Mapping[str, Outcome], out: Path) -> Row:
    if cell.refused:
        return Row(cell, "refused", cell.refused, None)
    needed = (verify_name(cell), estimate_name(cell) if cell.estimated else measure_name(cell))
    lost = next((o for n in needed if n and (o := outcomes[n]).state != "done"), None)
    if lost is not None:
        return Row(cell, "refused" if lost.state == "refused" else "failed", lost.error, None)
    verified = Verification.from_json(_result(outcomes, verify_name(cell))["verification"])
    measured = None if cell.estimated else Measurement.from_json(_result(outcomes, measure_name(cell))["measurement"])
    return Row(cell, "done", "", _candidate(cell, outcomes, verified, measured, out), verified, measured)


def _candidate(cell: Cell, outcomes: Mapping[str, Outcome], verified: Verification, m: Measurement | None, out: Path) -> Candidate:
    bundle = open_bundle(bundle_folder(out, cell))
    estimate = _estimate(cell, outcomes, bundle)
    trained = bundle.manifest.model
    base = Candidate(
        name=cell.name, model=cell.model, target=cell.target, device=cell.device or cell.target, runtime="" if cell.estimated else cell.runtime,
        format=cell.label.partition(":")[0], precision=cell.precision, steps=cell.steps or (trained.steps if trained else None),
        quality=verified.score, latency_ms=None, energy_mj=None, bytes_total=bundle.bytes_total, notes=tuple(filter(None, [verified.note])),
    )  # fmt: skip
    if m is None:
        return _with_estimate(base, estimate)
    own = m.target if cell.target == "host" else cell.target  # a device by ssh may have said what it is
    device = _result(outcomes, measure_name(cell))["device"]
    return _with_measurement(dataclasses.replace(base, device=device, target=own), m, estimate)


def _estimate(cell: Cell, outcomes: Mapping[str, Outcome], bundle: Bundle) -> DeviceEstimate | None:
    """Of this machine it is made now, when nothing else runs: its roof is measured, once for all sweeps."""
    if name := estimate_name(cell):
        told = _result(outcomes, name).get("estimate")
        return fill(DeviceEstimate, told, "estimate") if told else None
    if cell.device != HERE and not cell.estimated:
        return None  # another machine, whose figures nobody has read
    try:
        return roofline.estimate(bundle, targets.load(cell.target), cell.precision)
    except EdgekitError:
        return None


def _with_estimate(base: Candidate, found: DeviceEstimate | None) -> Candidate:
    if found is None:
        return dataclasses.replace(base, notes=(*base.notes, "no estimate"))
    latency = _quantity(found.latency_ms_low, found.latency_ms, found.latency_ms_high, found)
    energy = found.energy()
    why = [r for r, q in ((found.latency_reason, latency), (found.energy_reason, energy)) if q is None and r]
    return dataclasses.replace(base, latency_ms=latency, energy_mj=energy, notes=(*base.notes, *why, *found.notes))


def _with_measurement(base: Candidate, m: Measurement, estimate: DeviceEstimate | None) -> Candidate:
    simulated = m.verdict == "SIMULATED"
    notes = ["no latency: a simulator's time says nothing of the device"] if simulated else [*m.reasons]
    energy = estimate.energy(None if simulated else m.latency_p50_ms) if estimate is not None else None
    if m.energy is not None:
        e = m.energy
        energy = Quantity(e.gross_mj, e.gross_mj_low, e.gross_mj_high, e.kind, f"gross, {e.meter}: {e.scope}")
    elif energy is None:
        why = "a simulator has no meter" if simulated else "no meter was read on the device"
        notes.append(f"no energy: {why}" + (f"; {estimate.energy_reason}" if estimate else ""))
    return dataclasses.replace(
        base, latency_ms=_latency(m, estimate), energy_mj=energy, memory_mb=m.memory_peak_mb, verdict=m.verdict, notes=(*base.notes, *notes)
    )


def _latency(m: Measurement, estimate: DeviceEstimate | None) -> Quantity | None:
    """p50 with its interval between processes; of one process alone the span of its samples, which is wider."""
    if m.verdict == "SIMULATED":
        return None
    low, high, said = m.latency_p50_low_ms, m.latency_p50_high_ms, f"p50 of {m.processes} processes"
    if low is None or high is None:
        low, high, said = m.latency_min_ms, m.latency_p90_ms or m.latency_p50_ms, "p50 of one process, between its minimum and p90"
    said += f", {m.verdict}"
    if estimate is not None and (off := roofline.error(estimate, m)):
        said += f"; {estimate.method}: {off}"
    return Quantity(m.latency_p50_ms, min(low, m.latency_p50_ms), max(high, m.latency_p50_ms), m.kind, said)


def _quantity(low: float | None, mid: float | None, high: float | None, e: DeviceEstimate) -> Quantity | None:
    return None if low is None or mid is None or high is None else Quantity(mid, low, high, e.kind, e.method)


def _result(outcomes: Mapping[str, Outcome], name: str) -> Mapping[str, Any]:
    found = outcomes.get(name)
    return found.result or {} if found else {}


def _on_a_front(swept: Swept, out: Path) -> tuple[BundleRow, ...]:
    """The measured candidates that a front names, with all that was measured of them: what a reader will choose between. Of energies
    that are only estimated nearly all lie on the front, since their intervals overlap: those say nothing here."""
    chosen = {c.name for c in swept.front("latency_ms")}
    chosen |= {c.name for c in swept.front("energy_mj") if c.energy_mj is not None and not c.energy_mj.estimated}
    found = []
    for r in swept.rows:
        if r.candidate is None or r.measurement is None or r.verification is None or r.candidate.name not in chosen:
            continue
        bundle = open_bundle(bundle_folder(out, r.cell))
        m = bundle.manifest
        place = "" if r.cell.device == HERE else f" on {r.cell.device}"
        found.append(BundleRow(
            label=f"{r.cell.model_label} {bundle.label}{place}", format=m.format, precision=m.precision, folder=str(bundle.folder.relative_to(out)),
            bytes_total=bundle.bytes_total, sha256=bundle.sha256, verifications=(VerificationRow.from_json(r.verification.to_json()),),
            measurements=(r.measurement,), estimates=(), model=m.name, steps=m.model.steps if m.model else None,
        ))  # fmt: skip
    return tuple(found)


def run_of(swept: Swept, out: Path) -> Run:
    """The sweep as a report shows it: candidates, the measured ones on a front in full, and what cannot be and what failed."""
    folders = dict.fromkeys(bundle_folder(out, r.cell) for r in swept.rows if r.candidate)
    bundles = [open_bundle(f) for f in folders]
    models = [b.manifest.model for b in bundles if b.manifest.model]
    return Run(
        name=swept.name, family=", ".join(dict.fromkeys(m.family for m in models)) or "own model",
        score_name=models[0].score_name if models else "score", test_samples=models[0].score_samples if models else 0,
        training=(), bundles=_on_a_front(swept, out), candidates=swept.candidates, swept=True,
        machine={"system": platform.platform(), "python": platform.python_version(), "cores": str(os.cpu_count())},
        versions={k: v for b in bundles for k, v in b.manifest.lineage.tools.items()}, notes=tuple(swept.missing()),
    )  # fmt: skip
