"""The tables of energy and of estimates: each number says whether a meter read it or how it was estimated."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.candidate import Quantity
from edgekit.device_estimate import DeviceEstimate
from edgekit.estimate import Estimate
from edgekit.measurement import Energy, Measurement
from edgekit.report import choice, numbers, words
from edgekit.report.data import BundleRow, Run
from edgekit.report.numbers import NONE, significant
from edgekit.report.table import Cell, Column, Table, cells
from edgekit.report.time_tables import threads, timings


def energy(run: Run) -> Table:
    """A row for each reading of a meter, and for each candidate without one its estimate."""
    metered = [(b, m, m.energy) for b, m in timings(run) if m.energy is not None]
    rows = [_metered_row(b, m, e) for b, m, e in metered] + list(_estimated_rows(run))
    return Table(
        title="Energy of one inference",
        kind="mixed",
        columns=(
            Column("of", is_text=True), Column("energy", is_text=True), Column("low–high mJ"), Column("net mJ"),
            Column("how it is known", is_text=True, wide=True),
        ),
        rows=tuple(rows),
        caption="measured: by a sensor; counter: by a register that models it; estimate: nothing was measured; net: less what the idle machine used",
        details=_meter_details([e for _, _, e in metered]),
    )  # fmt: skip


def _metered_row(b: BundleRow, m: Measurement, e: Energy) -> tuple[Cell, ...]:
    net = NONE if e.net_mj is None else f"{significant(e.net_mj)} ({numbers.interval(e.net_mj_low, e.net_mj_high)})"
    return cells(
        f"{b.label}, {numbers.engine(m.runtime)}, cores: {threads(m)}", Cell(f"{significant(e.gross_mj)} mJ ({e.kind})", "", e.gross_mj),
        numbers.interval(e.gross_mj_low, e.gross_mj_high), Cell(net, "dim" if net == NONE else "", e.net_mj),
        f"{e.meter}, {e.scope}; {e.inferences:,} inferences in {significant(e.window_s)} s, {e.readings:,} readings",
    )  # fmt: skip


def _estimated_rows(run: Run) -> Iterator[tuple[Cell, ...]]:
    short = choice.short_names(run.candidates)
    for c in choice.in_order(run.candidates):
        q: Quantity | None = c.energy_mj
        if q is not None and q.estimated and not run.swept:
            yield cells(
                short[c.name], Cell(numbers.with_kind(q, "mJ"), "estimate", q.value),
                Cell(numbers.interval(q.low, q.high), "estimate", q.low), NONE, q.note or NONE,
            )  # fmt: skip


def _meter_details(found: list[Energy]) -> str:
    notes = dict.fromkeys(note for e in found for note in e.notes)
    gaps = max((e.longest_gap_s for e in found), default=0.0)
    channels = {f"{name} {significant(mj)} mJ": None for e in found for name, mj in e.channels_mj.items() if len(e.channels_mj) > 1}
    told = [f"longest gap between readings {significant(gaps)} s"] if found else []
    told += [f"channels: {', '.join(channels)}"] if channels else []
    return "; ".join([*told, *notes])


def estimates(run: Run) -> tuple[Table, ...]:
    """One table for each price profile: figures of different profiles are not to be held against each other."""
    by_profile: dict[str, dict[str, list[Estimate]]] = {}
    for label, found in estimated(run):
        for e in found:
            by_profile.setdefault(e.profile, {}).setdefault(label, []).append(e)
    return tuple(_estimate_table(profile, rows) for profile, rows in by_profile.items())


def estimated(run: Run) -> list[tuple[str, tuple[Estimate, ...]]]:
    """(label, estimates) of every network and bundle."""
    return [(r.label, r.estimates) for r in run.training] + [(b.label, b.estimates) for b in run.bundles]


def _estimate_table(profile: str, rows: dict[str, list[Estimate]]) -> Table:
    flat = [e for found in rows.values() for e in found]
    unit, nj = numbers.energy_unit(e.energy_nj for e in flat)
    known = flat[0]
    left_out = dict.fromkeys(term for e in flat if e.includes_memory or len(flat) == 1 for term in e.unpriced)
    details = f"Prices: {known.source} (evidence: {known.grade})." if known.source != "none" else ""
    details += f" Low to high: {known.spread}." if known.spread else ""
    details += f" Left out: {', '.join(left_out)}." if left_out else ""
    columns = [Column("per inference", is_text=True)]
    made: list[tuple[Cell, ...]] = [(Cell(label),) for label in rows]
    for memory, name in ((False, "arithmetic only"), (True, "with memory")):
        if any(e.includes_memory == memory and words.energy_range(e) for e in flat) or (memory and len(columns) == 1):
            columns += [Column(f"~{unit} {name}"), Column("low–high")]
            made = [(*row, *cells(*_energies(found, memory, nj))) for row, found in zip(made, rows.values(), strict=True)]
    return Table(
        title=f"Energy estimate: {profile}",
        kind="estimate",
        columns=tuple(columns),
        rows=tuple(made),
        caption=f"{known.label}; counted operations times published prices, nothing was measured",
        details=details.strip(),
    )


def _energies(found: list[Estimate], memory: bool, nj: float) -> tuple[str, str]:
    energies = next((r for e in found if e.includes_memory == memory and (r := words.energy_range(e))), None)
    return (f"~{significant(energies[1] / nj)}", words.span(energies, nj)) if energies else (NONE, NONE)


def device_estimates(run: Run) -> Table:
    """A row per bundle and target that is estimated; where the target was measured too, how far the estimate is off."""
    rows, inputs = [], {}
    for b in run.bundles:
        for e in b.device_estimates:
            rows.append(_device_row(b, e))
            inputs[e.target] = f"{e.target}: " + ", ".join(f"{name} {text}" for name, text in e.inputs.items())
    methods = ", ".join(dict.fromkeys(e.method for b in run.bundles for e in b.device_estimates))
    return Table(
        title="Estimated devices",
        kind="estimate",
        columns=(
            Column("bundle", is_text=True), Column("target", is_text=True), Column("~ms"), Column("low–high ms"), Column("~mJ"),
            Column("low–high mJ"), Column("measured ms", wide=True), Column("estimate / measured", wide=True),
        ),
        rows=tuple(rows),
        caption=f"by {methods or 'no method'} from the figures of each target: none of it was measured",
        details=f"Figures: {'; '.join(inputs.values())}." if any(inputs.values()) else "",
    )  # fmt: skip


def _device_row(b: BundleRow, e: DeviceEstimate) -> tuple[Cell, ...]:
    same = [m.latency_p50_ms for m in b.measurements if m.target == e.target and m.verdict == "VALID" and m.load.scenario == "single"]
    real = min(same, default=None)
    off = None if real is None or e.latency_ms is None else e.latency_ms / real
    pairs: list[Cell] = []
    for low, mid, high in ((e.latency_ms_low, e.latency_ms, e.latency_ms_high), (e.energy_mj_low, e.energy_mj, e.energy_mj_high)):
        pairs += [Cell(NONE if mid is None else f"~{significant(mid)}", "dim" if mid is None else "estimate", mid)]
        pairs += [Cell(numbers.interval(low, high), "dim" if low is None else "estimate", low)]
    return cells(b.label, e.target, *pairs, significant(real), NONE if off is None else f"{significant(off, 2)} x")
