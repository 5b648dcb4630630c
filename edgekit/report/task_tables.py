"""The table of tasks: of a bundle with several programs, a row a task, with its answers and its time."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.device_estimate import DeviceEstimate
from edgekit.measurement import Measurement
from edgekit.report import numbers
from edgekit.report.data import BundleRow, Run, VerificationRow
from edgekit.report.numbers import NONE, significant
from edgekit.report.table import Cell, Column, Table, cells, without_empty
from edgekit.report.time_tables import verdict_cell


def tasks(run: Run) -> Table:
    """A row per bundle and task, the bundle's own task first; none for bundles with one program."""
    rows = []
    for b in (b for b in run.bundles if b.tasks):
        rows.append(_row(b, b.task, b.verifications, b.measurements, b.device_estimates))
        rows += [_row(b, t.name, t.verifications, t.measurements, t.device_estimates) for t in b.tasks]
    made = Table(
        title="Tasks",
        kind="mixed",
        columns=(
            Column("bundle", is_text=True), Column("task", is_text=True), Column("same", is_text=True), Column("largest gap"),
            Column("SQNR dB"), Column("alike %"), Column("p50 ms"), Column("verdict", is_text=True), Column("estimated ms", wide=True),
        ),
        rows=tuple(rows),
        caption="programs over the same graphs (--task NAME); same: on every runtime that was asked; p50: measured, one inference at a time on one "
        "pinned thread; estimated: for this machine, low to high",
    )  # fmt: skip
    return without_empty(made, ("SQNR dB", "alike %", "p50 ms", "verdict", "estimated ms"))


def _row(
    b: BundleRow, name: str, checks: Sequence[VerificationRow], times: Sequence[Measurement], estimates: Sequence[DeviceEstimate]
) -> tuple[Cell, ...]:
    timed = next((m for m in times if m.threads == 1 and m.load.scenario == "single"), None)
    guessed = next((e for e in estimates if e.latency_ms is not None), None)
    same = Cell(NONE, "dim") if not checks else Cell("yes", "good") if all(v.passed for v in checks) else Cell("NO", "bad")
    sqnr_db = [v.sqnr_db for v in checks if v.sqnr_db is not None]
    alike = [v.same_share for v in checks if v.same_share is not None]
    return cells(
        b.label, name, same, numbers.difference(max((v.output_max_abs for v in checks if v.output_max_abs is not None), default=None)),
        f"{min(sqnr_db):.1f}" if sqnr_db else NONE, f"{100 * min(alike):.1f}" if alike else NONE,
        NONE if timed is None else Cell(significant(timed.latency_p50_ms), "", timed.latency_p50_ms), NONE if timed is None else verdict_cell(timed),
        NONE if guessed is None else Cell(f"~{numbers.interval(guessed.latency_ms_low, guessed.latency_ms_high)}", "estimate"),
    )  # fmt: skip
