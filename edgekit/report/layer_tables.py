"""The tables of layers: where the time of one inference goes on an engine."""

from __future__ import annotations

from edgekit.layer_profile import Layer, LayerProfile
from edgekit.report import numbers
from edgekit.report.data import Run
from edgekit.report.numbers import NONE, significant
from edgekit.report.table import Cell, Column, Table, cells, without_empty

MOST = 240  # layers in all tables together: the slowest of each
LEAST = 24  # in one table


def graphs(run: Run) -> tuple[Table, ...]:
    """A table for each profile of a program of several graphs."""
    return tuple(_graphs(title(b.label, p), p) for b in run.bundles for p in b.layers if p.graphs)


def _graphs(name: str, profile: LayerProfile) -> Table:
    total = sum(g.time_us for g in profile.graphs)
    rows = [(g.name, str(g.calls), significant(g.call_us), significant(g.time_us), f"{100 * g.share:.1f}") for g in profile.graphs]
    return Table(
        title=f"By graph: {name}",
        kind="measured",
        columns=(Column("graph", is_text=True), Column("calls"), Column("µs a call"), Column("µs"), Column("share %")),
        rows=(*(cells(*r) for r in rows), cells("all", str(sum(g.calls for g in profile.graphs)), NONE, significant(total), "100.0")),
        caption=f"medians of {profile.runs:,} inferences or chunks of a stream, which took {significant(profile.whole_us)} µs (p50) as a whole",
        details="A clock was read before and after each call of a graph; no profiler ran. What runs once before a stream is not in it.",
    )


def layers(run: Run) -> tuple[Table, ...]:
    """A table for each profile of layers."""
    found = [(title(b.label, p), p) for b in run.bundles for p in b.layers]
    return tuple(_table(name, p, max(LEAST, MOST // len(found))) for name, p in found)


def title(label: str, profile: LayerProfile) -> str:
    """`onnx:f32 on onnxruntime, 1 thread`."""
    cores = "all cores" if profile.threads == 0 else f"{profile.threads} thread" + "s" * (profile.threads > 1)
    return f"{label} on {numbers.engine(profile.runtime)}, {cores}"


def _table(name: str, profile: LayerProfile, most: int) -> Table:
    slowest = sorted(range(len(profile.layers)), key=lambda i: -profile.layers[i].time_us)[:most]
    left_out = len(profile.layers) - len(slowest)
    slowed = f"; profiling made the whole {profile.slowed:.2f} times as long: times are too long, shares hold" if profile.slowed else ""
    cut = f"; {left_out} faster layers are not shown" if left_out else ""
    made = Table(
        title=f"Layers: {name}",
        kind="measured",
        columns=(
            Column("layer", is_text=True), Column("#"), Column("operator", is_text=True), Column("kernel", is_text=True),
            Column("precision", is_text=True), Column("µs"), Column("share %"), Column("GOP/s"), Column("GB/s"), Column("op per byte"),
        ),
        rows=tuple(_row(i, profile.layers[i]) for i in sorted(slowest)),
        caption=f"in the order of execution, summed over one inference, {profile.runs:,} runs{slowed}{cut}",
        details=" ".join((*profile.notes, "Times are measured; operations and bytes are counted from the model.")),
        page_only=True,
    )  # fmt: skip
    return without_empty(made, ("kernel", "precision", "GOP/s", "GB/s", "op per byte"))


def _row(i: int, layer: Layer) -> tuple[Cell, ...]:
    intensity = layer.operations / layer.bytes_moved if layer.operations and layer.bytes_moved else None
    return cells(
        layer.name or layer.operator, str(i + 1), layer.operator, layer.kernel or NONE, layer.precision or NONE,
        Cell(significant(layer.time_us), "", layer.time_us), Cell(f"{100 * layer.share:.1f}", "", layer.share),
        significant(layer.gops), significant(layer.gb_s), significant(intensity),
    )  # fmt: skip
