"""The tables of what was timed: latency and memory, percentiles, loads other than one at a time, and the machine meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.measurement import Conditions, Load, Measurement, Percentile
from edgekit.report import numbers
from edgekit.report.data import BundleRow, Run
from edgekit.report.numbers import NONE, significant
from edgekit.report.table import Cell, Column, Table, Tone, cells, without_empty

WHO = (Column("bundle", is_text=True), Column("runtime", is_text=True), Column("cores"))
UNDISTURBED = (99.0,)  # percentiles that are shown without the preempted samples too
NOT_ESTIMABLE = "not estimable"


def timings(run: Run) -> list[tuple[BundleRow, Measurement]]:
    """Every measurement with the bundle it belongs to."""
    return [(b, m) for b in run.bundles for m in b.measurements]


def threads(m: Measurement) -> str:
    """`all`, or their number."""
    return NONE if m.threads is None else "all" if m.threads == 0 else str(m.threads)


def _who(b: BundleRow, m: Measurement) -> tuple[Cell, ...]:
    return cells(b.label, numbers.engine(m.runtime), threads(m))


def _single(run: Run) -> list[tuple[BundleRow, Measurement]]:
    return [(b, m) for b, m in timings(run) if m.load.scenario == "single"]


def verdict_cell(m: Measurement) -> Cell:
    """A simulator's time is marked and never valid."""
    if m.verdict == "SIMULATED":
        return Cell("(simulated)", "dim")
    return Cell(m.verdict, "good" if m.verdict == "VALID" else "bad")


def times(run: Run) -> Table:
    """A row per bundle, runtime and number of threads, for one inference at a time."""
    found = _single(run)
    events = "; events: of a camera, in a packet, in the mean" if any(m.load.events_per_s for _, m in found) else ""
    device = "; ".join(dict.fromkeys(m.device for _, m in found))
    made = Table(
        title="Time and memory",
        kind="measured",
        columns=(
            *WHO, Column("p50 ms"), Column("95 % between"), Column("min ms", wide=True), Column("n"), Column("dropped %", wide=True),
            Column("undisturbed p50", wide=True), Column("verdict", is_text=True), Column("peak MB"), Column("load ms", wide=True),
            Column("first ms", wide=True), Column("events"), Column("10^6 events/s"),
        ),
        rows=tuple(_time_row(b, m) for b, m in found),
        caption="one inference at a time; 1 = one thread, pinned to one core; p50: median over processes of each one's p50, then its interval "
        f"between processes; memory of the whole process{events}; {device}",
        details=_overhead(found),
    )  # fmt: skip
    return without_empty(made, ("events", "10^6 events/s"))


def _overhead(found: list[tuple[BundleRow, Measurement]]) -> str:
    there = sorted(m.overhead_us for _, m in found if m.overhead_us is not None)
    told = f"Timing itself adds {numbers.interval(there[0], there[-1])} µs to a sample (a model that does nothing). " if there else ""
    return told + "Dropped: samples during which the scheduler took the core away; the undisturbed p50 leaves them out, all other figures keep them."


def _time_row(b: BundleRow, m: Measurement) -> tuple[Cell, ...]:
    tone: Tone = "dim" if m.verdict == "SIMULATED" else ""
    ms = [Cell(significant(v), tone, v) for v in (m.latency_p50_ms, m.latency_min_ms)]
    dropped = None if m.preempted_samples is None or not m.samples else 100 * m.preempted_samples / m.samples
    return cells(
        *_who(b, m), ms[0], numbers.interval(m.latency_p50_low_ms, m.latency_p50_high_ms), ms[1], f"{m.samples:,}",
        NONE if dropped is None else f"{dropped:.1f}", Cell(significant(m.latency_undisturbed_p50_ms), tone), verdict_cell(m),
        NONE if m.memory_peak_mb is None else f"{m.memory_peak_mb:,.0f}", significant(m.load_ms), significant(m.first_run_ms),
        significant(m.load.events_per_query), significant(None if m.load.events_per_s is None else m.load.events_per_s / 1e6),
    )  # fmt: skip


def percentiles(run: Run) -> Table:
    """Raw percentiles of all samples, with their bounds where there is room, and `not estimable` with too few samples."""
    found = [(b, m) for b, m in _single(run) if m.percentiles and m.verdict != "SIMULATED"]
    shown = [p.percent for p in max((m.percentiles for _, m in found), key=len, default=())]
    columns = [Column(f"p{x:g} ms", only=place) for place in ("terminal", "page") for x in shown]
    rows = []
    for b, m in found:
        own, calm = ({p.percent: p for p in ps} for ps in (m.percentiles, m.percentiles_undisturbed))
        rows.append((
            *_who(b, m), *(_percentile(own, x) for x in shown), *(_bounded(own, x) for x in shown), *(_percentile(calm, x) for x in UNDISTURBED),
        ))  # fmt: skip
    return Table(
        title="Percentiles",
        kind="measured",
        columns=(*WHO, *columns, *(Column(f"p{x:g} undisturbed", only="page") for x in UNDISTURBED)),
        rows=tuple(rows),
        caption="of all samples of all processes, none dropped; not estimable: too few samples for it",
        details="In brackets 95 % bounds by order statistics, free of any distribution; a dash: no such bound with so few samples. Samples that "
        "follow each other are not independent, so that the true bounds are wider.",
    )


def _percentile(found: Mapping[float, Percentile], percent: float) -> Cell:
    p = found.get(percent)
    if p is None:
        return Cell(NONE, "dim")
    return Cell(NOT_ESTIMABLE, "dim") if p.value_ms is None else Cell(significant(p.value_ms), "", p.value_ms)


def _bounded(found: Mapping[float, Percentile], percent: float) -> Cell:
    """The figure with its 95 % bounds."""
    p = found.get(percent)
    if p is None or p.value_ms is None:
        return _percentile(found, percent)
    return Cell(f"{significant(p.value_ms)} ({significant(p.low_ms)}–{significant(p.high_ms)})", "", p.value_ms)


def loads(run: Run) -> Table:
    """A row per scenario other than one inference at a time."""
    found = [(b, m) for b, m in timings(run) if m.load.scenario != "single"]
    made = Table(
        title="Under load",
        kind="measured",
        columns=(
            Column("bundle", is_text=True), Column("runtime", is_text=True), Column("scenario", is_text=True), Column("p50 ms"), Column("p99 ms"),
            Column("per s"), Column("offered per s", wide=True), Column("period ms"), Column("missed"), Column("real time"),
            Column("n", wide=True), Column("verdict", is_text=True),
        ),
        rows=tuple(_load_row(b, m, m.load) for b, m in found),
        caption="latency of a query: 8 samples in multi, a chunk in stream; poisson: from the scheduled arrival; real time: below 1 it keeps up",
    )  # fmt: skip
    return without_empty(made, ("per s", "offered per s", "period ms", "missed", "real time"))


def _load_row(b: BundleRow, m: Measurement, load: Load) -> tuple[Cell, ...]:
    p99 = {p.percent: p for p in m.percentiles}
    return cells(
        b.label, numbers.engine(m.runtime), load.scenario, Cell(significant(m.latency_p50_ms), "", m.latency_p50_ms), _percentile(p99, 99.0),
        significant(load.throughput_per_s), significant(load.offered_per_s), significant(load.period_ms),
        NONE if load.deadline_misses is None else f"{load.deadline_misses:,}", significant(load.real_time_factor), f"{m.samples:,}",
        verdict_cell(m),
    )  # fmt: skip


def conditions(run: Run) -> Table:
    """What the machine did while it was timed; what could not be read is a dash, and the details say why."""
    found = [(b, m) for b, m in timings(run) if m.conditions != Conditions()]
    unread = {f"{what}: {why}": None for _, m in found for what, why in m.conditions.unread.items()}
    made = Table(
        title="The machine meanwhile",
        kind="measured",
        columns=(
            *WHO, Column("CPU pressure %"), Column("steal %"), Column("clock MHz"), Column("lowest MHz"), Column("°C at start"),
            Column("highest °C"), Column("throttled"), Column("governor", is_text=True), Column("power mode", is_text=True),
        ),
        rows=tuple(_conditions_row(b, m, m.conditions) for b, m in found),
        caption="CPU pressure: share of the time in which some task waited for a CPU; steal: taken by the hypervisor; throttled: events counted",
        details=f"Not read: {'; '.join(unread)}." if unread else "",
        page_only=True,
    )  # fmt: skip
    return without_empty(made, tuple(c.head for c in made.columns[3:]))


def _conditions_row(b: BundleRow, m: Measurement, c: Conditions) -> tuple[Cell, ...]:
    shares = [NONE if v is None else f"{100 * v:.1f}" for v in (c.cpu_pressure, c.steal)]
    return cells(
        *_who(b, m), *shares, *(NONE if v is None else f"{v:,.0f}" for v in (c.clock_mhz, c.clock_mhz_low)),
        *(NONE if v is None else f"{v:.1f}" for v in (c.temperature_c_start, c.temperature_c_high)),
        NONE if c.throttle_events is None else str(c.throttle_events), c.governor or NONE, c.power_mode or NONE,
    )  # fmt: skip


def imported(run: Run) -> Table:
    """A row per measurement that another tool made on another machine; never in one table with those made here."""
    return Table(
        title="Times from other devices",
        kind="imported",
        columns=(
            Column("bundle", is_text=True), Column("device", is_text=True), Column("by", is_text=True), Column("p50 ms"),
            Column("p90 ms"), Column("min ms"), Column("n"), Column("verdict", is_text=True),
        ),
        rows=tuple(_imported_row(b, m) for b in run.bundles for m in b.imported),
        caption="measured elsewhere by another tool and imported; the bundle was not verified there",
    )  # fmt: skip


def _imported_row(b: BundleRow, m: Measurement) -> tuple[Cell, ...]:
    ms = [significant(v) for v in (m.latency_p50_ms, m.latency_p90_ms, m.latency_min_ms)]
    return cells(b.label, m.device, m.runtime, *ms, f"{m.samples:,}" if m.samples else NONE, verdict_cell(m))
