"""The tables of a report as text, the same for the terminal and the page: which there are, and those of networks and answers."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.report import choice, energy_tables, layer_tables, numbers, task_tables, time_tables
from edgekit.report.data import BundleRow, Run, TrainingRow, VerificationRow
from edgekit.report.numbers import NONE
from edgekit.report.table import Cell, Column, Table, cells, without_empty


def all_tables(run: Run) -> tuple[Table, ...]:
    """Candidates, training, answers, tasks, times, energy, estimates, graphs and layers; those that have rows."""
    found = (
        choice.table(run), training(run), *of_family(run), answers(run), task_tables.tasks(run), time_tables.times(run),
        time_tables.percentiles(run), time_tables.loads(run), time_tables.imported(run), energy_tables.energy(run),
        energy_tables.device_estimates(run), *energy_tables.estimates(run),
        time_tables.conditions(run), *layer_tables.graphs(run), *layer_tables.layers(run),
    )  # fmt: skip
    return tuple(t for t in found if t.rows)


def training(run: Run) -> Table:
    """A row per network: stages, then the controls that say whether the stages were worth it."""
    percent = " %" if numbers.is_share(run) else ""
    spikes = "; spikes of one inference, lowest to highest layer" if any(r.spikes_per_neuron for r in run.training) else ""
    found = Table(
        title="Training",
        kind="counted",
        columns=(
            Column("network", is_text=True), Column(f"{run.score_name}{percent}"), Column(f"validation{percent}"),
            Column("epochs"), Column("time"), Column("spikes per neuron"),
        ),
        rows=tuple(_training_row(run, r) for r in run.training),
        caption=f"{run.score_name} on {run.test_samples:,} test samples{spikes}",
    )  # fmt: skip
    return without_empty(found, ("spikes per neuron", f"validation{percent}"))


def _training_row(run: Run, r: TrainingRow) -> tuple[Cell, ...]:
    rates = sorted(r.spikes_per_neuron.values())
    low, high = (numbers.significant(v, 2) for v in (rates[0], rates[-1])) if rates else (NONE, NONE)
    return cells(
        r.label, numbers.score(run, r.score, unit=False), numbers.score(run, r.validation, unit=False), str(r.epochs),
        numbers.duration(r.seconds) if r.epochs else NONE, low if low == high else f"{low}–{high}",
    )  # fmt: skip


def of_family(run: Run) -> tuple[Table, ...]:
    """The tables that the family made of its training, as it named them."""
    return tuple(
        Table(
            title=t.title,
            kind="counted",
            columns=tuple(Column(head, is_text=any(isinstance(row[i], str) for row in t.rows)) for i, head in enumerate(t.columns)),
            rows=tuple(cells(*(_plain(v) for v in row)) for row in t.rows),
            caption=t.caption,
        )
        for t in run.family_tables
    )


def _plain(value: str | int | float | None) -> Cell | str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    text = numbers.significant(value, 4)
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text  # a family rounds its figures as they deserve
    return Cell(text, "" if value is not None else "dim", value)


def answers(run: Run) -> Table:
    """A row per bundle and runtime: does it give the answers of the trained network?"""
    checks = [v for b in run.bundles for v in b.verifications]
    percent = " %" if numbers.is_share(run) else ""
    columns = (
        Column("bundle", is_text=True), Column("runtime", is_text=True), Column("same", is_text=True),
        Column("largest gap"), Column("mean gap", wide=True), Column("SQNR dB"), Column("alike %"), Column("spike flips"),
        Column("ints off"), Column(f"{run.score_name}{percent}"), Column(f"trained{percent}", wide=True),
        Column("samples", wide=True), Column("MB"),
    )  # fmt: skip
    # What no bundle of the run has is no column; where all columns are there, 80 characters hold no versions.
    absent = {"SQNR dB": all(v.sqnr_db is None for v in checks), "alike %": all(v.same_share is None for v in checks),
              "spike flips": all(v.spike_flips is None for v in checks),
              "ints off": all(v.exact_mismatches is None for v in checks)}  # fmt: skip
    name = numbers.engine_and_version if any(absent.values()) else numbers.engine
    rows: list[tuple[Cell, ...]] = []
    for b in run.bundles:
        rows += [_answer_row(run, b, v, name(v.runtime)) for v in b.verifications] or [
            cells(b.label, *[NONE] * (len(columns) - 2), numbers.megabytes(b.bytes_total))
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
    told += [] if absent["alike %"] else ["alike: decisions that are the trained network's; gaps are those before the first other one"]
    told += [] if absent["spike flips"] else ["near: the potential meets the threshold"]
    return "; ".join(told)


def _answer_row(run: Run, b: BundleRow, v: VerificationRow, runtime: str) -> tuple[Cell, ...]:
    near = f" ({v.spike_flips_near} near)" if v.spike_flips and v.spike_flips_near is not None else ""
    return cells(
        b.label, runtime, Cell("yes", "good") if v.passed else Cell("NO", "bad"),
        numbers.difference(v.output_max_abs), numbers.difference(v.output_mean_abs),
        NONE if v.sqnr_db is None else f"{v.sqnr_db:.1f}",
        NONE if v.same_share is None else f"{100 * v.same_share:.1f}",
        NONE if v.spike_flips is None else f"{v.spike_flips}{near}",
        NONE if v.exact_mismatches is None else str(v.exact_mismatches),
        numbers.score(run, v.score, unit=False), numbers.score(run, v.score_reference, unit=False),
        f"{v.score_samples:,}" if v.score is not None else NONE, numbers.megabytes(b.bytes_total),
    )  # fmt: skip
