"""The times that a target's limits set for counted costs: arithmetic at its peak, bytes at its bandwidth, calls and nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgekit.counting import Costs
from edgekit.roofline.limits import Limits

FUNCTION = 30  # multiply-adds that an operation which is no product may take: a sine or an exponential is a polynomial
WIDTH = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "int8": 1}  # bytes of an element


@dataclass
class RoofTimes:
    """Gathered step by step; when `reason` is set, the times say nothing. Times in ms."""

    precision: str
    limits: Limits
    inputs: dict[str, str] = field(default_factory=dict)  # figure -> value, unit, source and grade
    notes: list[str] = field(default_factory=list)
    reason: str = ""
    scale: float = 1.0  # of bytes, where the graph that was counted has another precision
    compute: float = 0.0
    compute_slow: float = 0.0  # no faster format in place of the one asked for, and functions as costly as they may be
    memory: float = 0.0  # what must come from memory in a steady state
    unfused: float = 0.0  # all that every node reads and writes
    overhead: float = 0.0
    memory_bytes: float = 0.0

    @property
    def least(self) -> float:
        """No engine can be quicker, up to fast algorithms that need fewer products."""
        return max(self.compute, self.memory)

    @property
    def calculated(self) -> float:
        """What measured times are held against: with the overheads where they were measured."""
        return self.least + (self.overhead if self.limits.measured else 0.0)

    def take(self, name: str) -> float | None:
        """A figure; what is taken is among the inputs."""
        limit = self.limits.found.get(name)
        if limit is None:
            return None
        self.inputs[name] = str(limit)
        return limit.value

    def why(self, name: str) -> str:
        """Why there is no such figure."""
        return self.limits.reasons.get(name, f"there is no figure '{name}'")


def roof_times(costs: Costs, limits: Limits, precision: str) -> RoofTimes:
    """Where a figure is missing, or the model does not fit, the reason is set and no time is."""
    found = RoofTimes(precision, limits, notes=[*costs.notes, *limits.notes])
    for step in (_scale, _fits, _compute):
        step(costs, found)
        if found.reason:
            return found
    _memory(costs, found)
    call, node = found.take("call_overhead") or 0.0, found.take("launch_overhead") or 0.0
    found.inputs["calls"] = f"{costs.calls} runs of graphs, {costs.launches} nodes (counted)"
    found.overhead = (costs.calls * call + costs.launches * node) / 1e3
    return found


def _scale(costs: Costs, found: RoofTimes) -> None:
    """Products in 8 bits stay what they are, others take the precision asked for, and bytes with them."""
    products = costs.operations_by(True)
    if products["int8"]:
        if found.precision != "int8":
            found.reason = f"the model multiplies in int8; it is estimated at int8, not at {found.precision}"
        return
    floats = sorted(p for p in products if p in WIDTH)
    if floats and found.precision not in floats and found.precision in WIDTH:
        found.notes.append(f"counted on a graph in {', '.join(floats)}, as if all of it were in {found.precision}")
        found.scale = WIDTH[found.precision] / max(WIDTH[p] for p in floats)


def _fits(costs: Costs, found: RoofTimes) -> None:
    """A model that cannot be held is not estimated."""
    weights, inner = costs.weight_bytes * found.scale, costs.live_bytes * found.scale
    flash, memory = found.take("flash"), found.take("memory")
    if flash is not None and weights > flash * 1024:
        found.reason = f"it does not fit: weights of {weights / 1024:,.0f} KiB, and flash of {flash:,.0f} KiB"
    elif memory is not None and (inner if flash is not None else weights + inner) > memory * 2**20:
        needed = inner if flash is not None else weights + inner
        found.reason = f"it does not fit: it needs {needed / 1024:,.0f} KiB, and memory is {memory * 1024:,.0f} KiB"


def _compute(costs: Costs, found: RoofTimes) -> None:
    """Products at the peak of their precision; everything else at the peak of its own, or of float32."""
    products, least = costs.operations_by(True), costs.least_products()
    for kind, operations in products.items():
        at = kind if products["int8"] else found.precision
        peak = found.take(f"compute_{at}")
        if peak is None:
            there = ", ".join(n.removeprefix("compute_") for n in found.limits.found if n.startswith("compute_")) or "none"
            beside = f" ({operations:,} of its operations are in {at})" if at != found.precision else ""
            found.reason = f"no peak for {at}{beside}: {found.why(f'compute_{at}')}; peaks that are known: {there}"
            return
        fast = peak
        if at == "f32" and (found.limits.value("compute_tf32") or 0.0) > peak:
            fast = found.take("compute_tf32") or peak
            found.notes.append("engines may multiply f32 in TF32: low counts on it, high does not")
        found.compute += least[kind] / fast / 1e6
        found.compute_slow += operations / peak / 1e6
    if not products:
        found.notes.append("the model has no product: its time is that of moving bytes, and of calls")
    for kind, operations in costs.operations_by(False).items():
        peak = found.limits.value(f"compute_{kind}") or found.limits.value("compute_f32") or found.take(f"compute_{found.precision}")
        found.compute += operations / peak / 1e6 if peak else 0.0
        found.compute_slow += FUNCTION * operations / peak / 1e6 if peak else 0.0


def _memory(costs: Costs, found: RoofTimes) -> None:
    """The bytes that must come from memory in a steady state, and those that do when nothing stays on the chip."""
    bandwidth, chip = found.take("bandwidth"), found.take("on_chip_memory")
    weights, inner, edge = (b * found.scale for b in (costs.weight_bytes, costs.live_bytes, costs.edge_bytes))
    if chip is not None and weights + inner <= chip * 1024:
        found.memory_bytes = 0.0 if found.limits.kind in ("cpu", "mcu") else edge
        where = f"weights and inner tensors, {(weights + inner) / 1024:,.0f} KiB, fit the chip and stay there"
    else:
        found.memory_bytes = edge + found.scale * sum(p.calls * p.costs.weight_bytes for p in costs.phases)
        more = f", more than the chip's {chip:,.0f} KiB with inner tensors" if chip is not None else ""
        where = f"weights, {weights / 1024:,.0f} KiB{more}, are read in every run of a graph"
        if chip is None:
            found.notes.append("the target gives no on-chip memory: where weights stay in a cache, it may be faster than low")
        elif inner > chip * 1024:
            found.notes.append(f"inner tensors of {inner / 1024:,.0f} KiB do not fit the chip: low takes them as fused, high as moved")
    found.inputs["bytes from memory"] = f"{found.memory_bytes:,.0f} B; {where} (counted)"
    if bandwidth is not None:
        found.memory = found.memory_bytes / bandwidth / 1e6
        found.unfused = costs.bytes_moved * found.scale / bandwidth / 1e6
    elif found.memory_bytes:
        found.reason = f"{found.memory_bytes:,.0f} bytes come from memory, and there is no bandwidth: {found.why('bandwidth')}"
