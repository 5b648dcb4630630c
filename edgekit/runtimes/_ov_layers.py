"""Layers of OpenVINO: its counters in the graph that it executes, matched by the names that it keeps of the model's ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.counting.node import Port
from edgekit.counting.nodes import NodeCosts, count
from edgekit.counting.openvino_graph import DTYPES, as_onnx, model_costs, port
from edgekit.errors import EdgekitError
from edgekit.execute import Execution
from edgekit.layer_profile import Layer
from edgekit.layers import WARM_UP, taken_us, with_shares
from edgekit.parts import Arrays, Graph, Session

_PRECISION = {"u8": "int8", "i8": "int8"}
_EDGES = ("Input", "Output", "Const")
# Layers that multiply, by the name that OpenVINO's executed graph gives them: counted by their own shapes where no name is left.
_PRODUCTS = {"FullyConnected": "MatMul", "MatMul": "MatMul", "Convolution": "Convolution"}


class Counted(Graph):
    """A graph of the part that counts its runs, and remembers the shapes of its inputs."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.runs = inner, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        for op in inner.model.get_ordered_ops():
            op.set_friendly_name(op.get_friendly_name())  # names made up on the spot would differ in a copy

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        self._see(inputs)
        once = self.inner.bind(inputs, outputs)

        def counted() -> None:
            self.runs += 1
            once()

        return counted

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        self._see(inputs)
        self.runs += 1
        answers: dict[str, np.ndarray] = self.inner.run(inputs)
        return answers

    def hold(self, states: Mapping[str, str]) -> bool:
        return bool(self.inner.hold(states))

    def set_held(self, values: Arrays) -> None:
        self.inner.set_held(values)

    def held(self, name: str) -> np.ndarray:
        value: np.ndarray = self.inner.held(name)
        return value

    def _see(self, inputs: Arrays) -> None:
        self.shapes = {n: v.shape for n, v in inputs.items()}

    def times(self) -> dict[str, float]:
        """Layer -> microseconds of all runs so far: OpenVINO gives the mean of them, in whole microseconds."""
        ops = self.inner.compiled.get_runtime_model().get_ordered_ops() if self.inner.compiled is not None else []
        told = {op.get_friendly_name(): _info(op, "execTimeMcs") for op in ops}
        return {n: float(t) * self.runs for n, t in told.items() if t.isdigit()}


def run(
    graphs: Mapping[str, Counted], plain: Session, profiled: Execution, inputs: Arrays, runs: int
) -> tuple[tuple[Layer, ...], tuple[str, ...], float]:
    """(layers, notes, slowed)."""
    without, once = plain.bind(inputs), profiled.bind(inputs)
    taken_us(without, min(WARM_UP, runs))
    before = taken_us(without, runs)
    taken_us(once, min(WARM_UP, runs))
    # The mean holds the first run, which may be a hundred times as long: what it was before is taken off again.
    start = {n: (g.times(), g.runs) for n, g in graphs.items()}
    slow = taken_us(once, runs)
    fast = min(before, taken_us(without, runs))
    rows: list[Layer] = []
    short = 0
    for name, graph in graphs.items():
        earlier, ran = start[name]
        if graph.runs == ran:
            continue
        now = graph.times()
        spent = {n: max(t - earlier.get(n, 0.0), 0.0) / runs for n, t in now.items()}
        found = list(_rows(graph, spent, (graph.runs - ran) / runs, "" if len(graphs) == 1 else f"{name}/"))
        rows += [r for r in found if r.time_us > 0]
        short += sum(r.time_us == 0 for r in found)
    notes = ["times are whole microseconds, cut off"]
    if short:
        notes.append(f"{short} more layers were optimised away or took less than a microsecond each, which the engine's clock cuts off")
    if not rows:
        notes.append("no layer took a microsecond: the model is too small for this engine's clock")
    unmatched = [r.name for r in rows if r.operations is None]
    if unmatched:
        notes.append(f"the engine's own, of no op of the model: {', '.join(unmatched)}")
    return with_shares(rows), tuple(notes), slow / fast


def _rows(graph: Counted, spent: Mapping[str, float], calls: float, prefix: str) -> Iterator[Layer]:
    """A row for each layer that is executed in every run, in the order of execution. calls: of the graph in one inference."""
    ops = graph.inner.compiled.get_runtime_model().get_ordered_ops()
    costs = _costs(graph)
    constant: set[str] = set()
    claimed: set[str] = set()
    rows: list[tuple[int, Layer]] = []
    for op in ops:
        name, kind = op.get_friendly_name(), _info(op, "layerType")
        sources = [i.get_source_output() for i in op.inputs()]
        if kind == "Const" or (sources and kind not in _EDGES and all(s.get_node().get_friendly_name() in constant for s in sources)):
            constant.add(name)  # done once, at the first run: conversions of weights
            continue
        if kind in _EDGES:
            continue
        covered = [n for n in _info(op, "originalLayersNames").split(",") if n in costs and n not in claimed]
        claimed.update(covered)
        operations: int | None = sum(costs[n].operations for n in covered) if covered else None
        if kind in _PRODUCTS and not any(costs[n].macs for n in covered):  # the product itself has lost its name
            operations = _by_shapes(op, kind) if operations is None else operations + (_by_shapes(op, kind) or 0)
        moved = sum(p.bytes for p in (*map(_executed, sources), *map(_executed, op.outputs())) if p)
        precision = _info(op, "runtimePrecision")
        rows.append((int(_info(op, "execOrder") or 0), Layer(
            prefix + name, kind, _info(op, "primitiveType"), _PRECISION.get(precision, precision), spent.get(name, 0.0), 0.0,
            None if operations is None else round(operations * calls), round(moved * calls),
        )))  # fmt: skip
    yield from (row for _, row in sorted(rows, key=lambda r: r[0]))


def _costs(graph: Counted) -> dict[str, NodeCosts]:
    """Of the model as it was read, at the sizes that were bound; nothing where it cannot take them."""
    model = graph.inner.model.clone()
    try:
        model.reshape({n: list(s) for n, s in graph.shapes.items()})
        return {n.name: n for n in model_costs(model).nodes}
    except (RuntimeError, EdgekitError):
        return {}


def _by_shapes(op: Any, kind: str) -> int | None:
    """A product's operations by the shapes of the executed graph."""
    inputs = [port(i.get_source_output()) for i in op.inputs()]
    name = _PRODUCTS[kind]
    if kind == "Convolution" and inputs[0] and inputs[1] and len(inputs[1].shape) > len(inputs[0].shape):
        name = "GroupConvolution"
    try:
        return count(as_onnx(name, op.get_friendly_name(), inputs, [port(o) for o in op.outputs()], {})).operations
    except (KeyError, IndexError, ValueError):
        return None


def _executed(output: Any) -> Port | None:
    """The port in the precision that is executed, which the executed graph tells beside its types."""
    found = port(output)
    told = _info(output.get_node(), "outputPrecisions").split(",")
    name = told[min(output.get_index(), len(told) - 1)]
    return Port(found.shape, DTYPES.get(name, found.dtype)) if found is not None else None


def _info(op: Any, name: str) -> str:
    info = op.get_rt_info()
    if name not in info:
        return ""
    value = info[name]
    return str(getattr(value, "value", value))
