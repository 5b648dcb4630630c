"""Energy of an inference of a dense network at published prices, where a target has no power figure: from counted multiply-adds."""

from __future__ import annotations

from edgekit.counting import Costs
from edgekit.counting.nodes import NodeCosts
from edgekit.estimate import price, prices_of
from edgekit.operations import Access, LayerCounts, OperationCounts
from edgekit.target import Target

_WIDTH = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "int8": 1}  # bytes of an element
_ENDING = {"f32": "fp32", "int8": "int8"}  # price profiles are of one arithmetic
Three = tuple[float | None, float | None, float | None]


def counts_of(costs: Costs) -> OperationCounts:
    """The products of a program as edgekit/operations.py has them: dense, windows on padding too, every run of a graph."""
    return OperationCounts(1, 1, tuple(_layer(n, calls) for calls, n in costs.nodes() if n.macs), "ann")


def dense_price(costs: Costs, target: Target, precision: str, inputs: dict[str, str], no_power: str) -> tuple[Three, str]:
    """(millijoule low, mid, high; reason). low: arithmetic alone; mid and high: with every access to on-chip memory."""
    none = (None, None, None)
    ending = _ENDING.get(precision)
    profiles = [prices_of(n) for n in target.prices if ending and n.endswith(ending)]
    if not profiles:
        return none, f"no power figure ({no_power}) and no price for {precision} on '{target.name}'"
    floats = [p for p in costs.operations_by(True) if p != precision]
    if floats and precision == "int8" and costs.operations_by(True)["int8"]:
        return none, f"no power figure ({no_power}), and prices are of one arithmetic, but the model multiplies in {', '.join(floats)} too"
    counts = counts_of(costs)
    if not counts.macs:
        return none, f"no power figure ({no_power}), and the model has no multiplication to be priced"
    alone, all_in = (price(counts, profiles[0], memory) for memory in (False, True))
    if alone.energy_nj_low is None or all_in.energy_nj is None or all_in.energy_nj_high is None:
        return none, f"no power figure ({no_power}); by price: {alone.reason or all_in.reason}"
    inputs["prices"] = f"{profiles[0].label}; {profiles[0].source}; not of this device ({profiles[0].grade})"
    return (alone.energy_nj_low / 1e6, all_in.energy_nj / 1e6, all_in.energy_nj_high / 1e6), ""


def _layer(n: NodeCosts, calls: int) -> LayerCounts:
    width = _WIDTH.get(n.precision, 4)
    inputs, weights, outputs = (b // width for b in (n.input_bytes, n.weight_bytes, n.output_bytes))
    macs = calls * n.macs
    accesses = (
        Access("input", macs, inputs), Access("weights" if weights else "input", macs, weights or inputs), Access("output", calls * outputs, outputs),
    )  # fmt: skip
    return LayerCounts(n.name, outputs, 0, macs, 0, macs, weights, accesses=accesses)
