"""The tables of a report as text, the same for the terminal and the page; measurements and estimates never share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.estimate import Estimate
from edgekit.measurement import Measurement
from edgekit.report import numbers, words
from edgekit.report.data import BundleRow, Run, TrainingRow, VerificationRow
from edgekit.report.numbers import NONE

Kind = Literal["counted", "compared", "measured", "estimate"]
Tone = Literal["", "good", "bad", "dim"]


@dataclass(frozen=True)
class Column:
    """A column's head. wide: left out where there is little room."""

    head: str
    is_text: bool = False  # text is set left, numbers right
    wide: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell as it is printed; `-` is a missing number."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """One table: how its numbers are known, and what a reader must know to read it."""

    title: str
    kind: Kind
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    details: str = ""  # sources and limits; the page alone has room for them


def all_tables(run: Run) -> tuple[Table, ...]:
    """Training, answers, time, times from elsewhere, and one table of estimates a price profile; those that have rows."""
    return tuple(t for t in (training(run), answers(run), times(run), imported(run), *estimates(run)) if t.rows)


def _cells(*values: str | Cell) -> tuple[Cell, ...]:
    return tuple(v if isinstance(v, Cell) else Cell(v, "dim" if v == NONE else "") for v in values)


def training(run: Run) -> Table:
    """A row per network: stages, then the controls that say whether the stages were worth it."""
    percent = " %" if numbers.is_share(run) else ""
    return Table(
        title="Training",
        kind="counted",
        columns=(
            Column("network", is_text=True), Column(f"{run.score_name}{percent}"), Column(f"validation{percent}"),
            Column("epochs"), Column("time"), Column("spikes per neuron"),
        ),
        rows=tuple(_training_row(run, r) for r in run.training),
        caption=f"{run.score_name} on {run.test_samples:,} test samples; spikes of one inference, lowest to highest layer",
    )  # fmt: skip


def _training_row(run: Run, r: TrainingRow) -> tuple[Cell, ...]:
    rates = sorted(r.spikes_per_neuron.values())
    low, high = (numbers.significant(v, 2) for v in (rates[0], rates[-1])) if rates else (NONE, NONE)
    return _cells(
        r.label, numbers.score(run, r.score, unit=False), numbers.score(run, r.validation, unit=False), str(r.epochs),
        numbers.duration(r.seconds) if r.epochs else NONE, low if low == high else f"{low}–{high}",
    )  # fmt: skip


def answers(run: Run) -> Table:
    """A row per bundle and runtime: does it give the answers of the trained network?"""
    checks = [v for b in run.bundles for v in b.verifications]
    percent = " %" if numbers.is_share(run) else ""
    columns = (
        Column("bundle", is_text=True), Column("runtime", is_text=True), Column("same", is_text=True),
        Column("largest gap"), Column("mean gap", wide=True), Column("SQNR dB"), Column("spike flips"),
        Column("ints off"), Column(f"{run.score_name}{percent}"), Column(f"trained{percent}", wide=True),
        Column("samples", wide=True), Column("MB"),
    )  # fmt: skip
    # What no bundle of the run has is no column; where all columns are there, 80 characters hold no versions.
    absent = {"SQNR dB": all(v.sqnr_db is None for v in checks), "spike flips": all(v.spike_flips is None for v in checks),
              "ints off": all(v.exact_mismatches is None for v in checks)}  # fmt: skip
    name = numbers.engine_and_version if any(absent.values()) else numbers.engine
    rows: list[tuple[Cell, ...]] = []
    for b in run.bundles:
        rows += [_answer_row(run, b, v, name(v.runtime)) for v in b.verifications] or [
            _cells(b.label, *[NONE] * (len(columns) - 2), numbers.megabytes(b.bytes_total))
        ]
    kept = [i for i, c in enumerate(columns) if not absent.get(c.head, False)]
    return Table(
        title="Same answers?",
        kind="compared",
        columns=tuple(columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
        caption=_answers_caption(absent),
    )


def _answers_caption(absent: Mapping[str, bool]) -> str:
    told = ["gap: between outputs and those of the trained network on the golden inputs"]
    told += [] if absent["SQNR dB"] else ["SQNR: signal to quantisation noise of the outputs"]
    told += [] if absent["spike flips"] else ["near: the potential meets the threshold"]
    return "; ".join(told)


def _answer_row(run: Run, b: BundleRow, v: VerificationRow, runtime: str) -> tuple[Cell, ...]:
    near = f" ({v.spike_flips_near} near)" if v.spike_flips and v.spike_flips_near is not None else ""
    return _cells(
        b.label, runtime, Cell("yes", "good") if v.passed else Cell("NO", "bad"),
        numbers.difference(v.output_max_abs), numbers.difference(v.output_mean_abs),
        NONE if v.sqnr_db is None else f"{v.sqnr_db:.1f}",
        NONE if v.spike_flips is None else f"{v.spike_flips}{near}",
        NONE if v.exact_mismatches is None else str(v.exact_mismatches),
        numbers.score(run, v.score, unit=False), numbers.score(run, v.score_reference, unit=False),
        f"{v.score_samples:,}" if v.score is not None else NONE, numbers.megabytes(b.bytes_total),
    )  # fmt: skip


def times(run: Run) -> Table:
    """A row per bundle, runtime and number of threads; a simulator's time is marked and never valid."""
    device = "; ".join(dict.fromkeys(m.device for _, m in words.timings(run)))
    return Table(
        title="Time and memory",
        kind="measured",
        columns=(
            Column("bundle", is_text=True), Column("runtime", is_text=True), Column("cores"), Column("p50 ms"),
            Column("p90 ms"), Column("min ms"), Column("n"), Column("verdict", is_text=True), Column("peak MB"),
            Column("load ms", wide=True), Column("first ms", wide=True), Column("mJ", wide=True),
        ),
        rows=tuple(_time_row(b, m) for b, m in words.timings(run)),
        caption=f"one inference at a time; 1 = one thread, pinned to one core; memory of the whole process; {device}",
    )  # fmt: skip


def _time_row(b: BundleRow, m: Measurement) -> tuple[Cell, ...]:
    simulated = m.verdict == "SIMULATED"
    ms = [numbers.significant(v) for v in (m.latency_p50_ms, m.latency_p90_ms, m.latency_min_ms)]
    word = Cell("(simulated)", "dim") if simulated else Cell(m.verdict, "good" if m.verdict == "VALID" else "bad")
    return _cells(
        b.label, numbers.engine(m.runtime), "all" if m.threads == 0 else str(m.threads),
        *(Cell(v, "dim" if simulated else "") for v in ms), f"{m.samples:,}", word, f"{m.memory_peak_mb:,.0f}",
        numbers.significant(m.load_ms), numbers.significant(m.first_run_ms), numbers.significant(m.energy_mj),
    )  # fmt: skip


def imported(run: Run) -> Table:
    """A row per measurement that another tool made on another machine; never in one table with those made here."""
    return Table(
        title="Times from other devices",
        kind="measured",
        columns=(
            Column("bundle", is_text=True), Column("device", is_text=True), Column("by", is_text=True), Column("p50 ms"),
            Column("p90 ms"), Column("min ms"), Column("n"), Column("verdict", is_text=True),
        ),
        rows=tuple(_imported_row(b, m) for b in run.bundles for m in b.imported),
        caption="measured elsewhere by another tool and imported; the bundle was not verified there",
    )  # fmt: skip


def _imported_row(b: BundleRow, m: Measurement) -> tuple[Cell, ...]:
    ms = [numbers.significant(v) for v in (m.latency_p50_ms, m.latency_p90_ms, m.latency_min_ms)]
    word = Cell(m.verdict, "good" if m.verdict == "VALID" else "bad")
    return _cells(b.label, m.device, m.runtime, *ms, f"{m.samples:,}" if m.samples else NONE, word)


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
    cells: list[tuple[Cell, ...]] = [(Cell(label),) for label in rows]
    for memory, name in ((False, "arithmetic only"), (True, "with memory")):
        if any(e.includes_memory == memory and words.energy_range(e) for e in flat) or (memory and len(columns) == 1):
            columns += [Column(f"~{unit} {name}"), Column("low–high")]
            cells = [(*row, *_cells(*_energies(found, memory, nj))) for row, found in zip(cells, rows.values(), strict=True)]
    return Table(
        title=f"Energy estimate: {profile}",
        kind="estimate",
        columns=tuple(columns),
        rows=tuple(cells),
        caption=f"{known.label}; counted operations times published prices, nothing was measured",
        details=details.strip(),
    )


def _energies(found: list[Estimate], memory: bool, nj: float) -> tuple[str, str]:
    energies = next((r for e in found if e.includes_memory == memory and (r := words.energy_range(e))), None)
    return (f"~{numbers.significant(energies[1] / nj)}", words.span(energies, nj)) if energies else (NONE, NONE)
