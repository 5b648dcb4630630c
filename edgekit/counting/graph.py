"""Exact operations and bytes of an ONNX graph at given inputs, node by node; int8 is seen where Q/DQ pairs say it.

A float value that comes out of DequantizeLinear counts as the 8 bits that it is made of, and one that only goes into QuantizeLinear
as the 8 bits that are made of it: engines run what lies between as one integer kernel. What depends on constants alone is computed
once, when a graph is loaded, and counts nothing. Of the branches of an If, the costlier one counts.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.counting.kinds import VIEWS
from edgekit.counting.node import Node, Port
from edgekit.counting.nodes import NodeCosts, count, known
from edgekit.counting.shapes import shapes, typed
from edgekit.parts import Arrays

_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
_CONTROL = ("If", "Loop", "Scan")
_RANDOM = ("RandomNormal", "RandomUniform")  # no input, and yet not constant
_EIGHT_BITS = ("int8", "uint8", "int4", "uint4", "float8e4m3fn", "float8e5m2")


@dataclass(frozen=True)
class GraphCosts:
    """One run of a graph. Views and what is constant are not among the nodes."""

    nodes: tuple[NodeCosts, ...]
    input_bytes: int
    output_bytes: int
    weight_bytes: int  # of all distinct constants that nodes read, once each: what must be kept
    live_bytes: int  # the most that inner tensors need at a time, in the order of the file
    outputs: Mapping[str, Port]
    notes: tuple[str, ...] = ()

    @property
    def operations(self) -> int:
        """Of all nodes."""
        return sum(n.operations for n in self.nodes)


def graph_costs(model: Any, inputs: Arrays, ports: Mapping[str, Port] | None = None) -> GraphCosts:
    """Count a ModelProto. inputs: an array for each graph input (only type and shape matter, unless the graph must be run for its
    shapes). ports: the shapes, where they are known already."""
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    found = dict(shapes(model, inputs) if ports is None else ports)
    counter = _Counter(model, model.graph, found)
    nodes = counter.nodes()
    ends = [found[o.name] for o in model.graph.output if o.name in found]
    return GraphCosts(
        nodes, sum(found[n].bytes for n in inputs if n in found), sum(p.bytes for p in ends), counter.weight_bytes(),
        counter.live_bytes(), {o.name: found[o.name] for o in model.graph.output if o.name in found}, counter.notes(),
    )  # fmt: skip


class _Counter:
    """A graph at work: ports that change as Q/DQ pairs and constants are found."""

    def __init__(self, model: Any, graph: Any, ports: dict[str, Port]) -> None:
        self._model, self._graph, self._ports = model, graph, ports
        self._readers = Counter(i for n in graph.node for i in n.input)
        self._readers.update(o.name for o in graph.output)
        self._constant = {n for n, p in ports.items() if p.constant} | {t.name for t in graph.initializer}
        self._kept: dict[str, int] = {}  # constant that is read -> bytes
        self._unknown: Counter[str] = Counter()
        self._unsized: list[str] = []
        self._told: list[str] = []
        self._mark_constants()
        self._fold_quantisers()

    def _mark_constants(self) -> None:
        for node in self._graph.node:
            fixed = node.op_type == "Constant" or (node.input and all(not i or i in self._constant for i in node.input))
            if fixed and node.op_type not in (*_RANDOM, *_CONTROL):
                self._constant.update(o for o in node.output if o)
        for name in self._constant & set(self._ports):
            self._ports[name] = dataclasses.replace(self._ports[name], constant=True)

    def _fold_quantisers(self) -> None:
        for node in self._graph.node:
            of = node.input[0] if node.input else ""
            if node.op_type not in (_QUANTISE, _DEQUANTISE) or of not in self._ports or node.output[0] not in self._ports:
                continue
            if node.op_type == _DEQUANTISE and self._ports[of].dtype in _EIGHT_BITS:
                self._ports[node.output[0]] = dataclasses.replace(self._ports[node.output[0]], dtype=self._ports[of].dtype)
            if node.op_type == _QUANTISE and self._readers[of] == 1 and of not in {i.name for i in self._graph.input}:
                self._ports[of] = dataclasses.replace(self._ports[of], dtype=self._ports[node.output[0]].dtype)

    def nodes(self) -> tuple[NodeCosts, ...]:
        """The costs of every node that is computed anew in each run."""
        found: list[NodeCosts] = []
        for node in self._graph.node:
            if node.op_type in VIEWS or all(o in self._constant for o in node.output if o):
                continue
            found.extend(self._inside(node) if node.op_type in _CONTROL else self._one(node))
        return tuple(found)

    def _one(self, node: Any) -> Iterable[NodeCosts]:
        made = Node(
            node.name or node.output[0], node.op_type, tuple(self._ports.get(i) for i in node.input),
            tuple(self._ports.get(o) for o in node.output), attributes(node), tuple(node.output),
        )  # fmt: skip
        if not known(node.op_type):
            self._unknown[node.op_type] += 1
        try:
            costs = count(made)
        except (KeyError, IndexError, ValueError):  # a tensor without a shape, or of a rank that the rule does not know
            self._unsized.append(f"{node.op_type} {made.name}")
            return
        if node.op_type == _DEQUANTISE and self._ports[node.output[0]].dtype in _EIGHT_BITS:
            return  # its reader reads the 8 bits themselves
        if node.op_type == _QUANTISE and self._ports[node.input[0]].dtype in _EIGHT_BITS:
            costs = dataclasses.replace(costs, input_bytes=0, weight_bytes=0, output_bytes=0)  # whoever made it wrote the 8 bits
        elif node.op_type != _DEQUANTISE:
            for i in node.input:
                if i in self._constant and i in self._ports:
                    self._kept[i] = self._ports[i].bytes
        yield costs

    def _inside(self, node: Any) -> Iterable[NodeCosts]:
        """What the graphs inside a control node cost."""
        bodies = {a.name: a.g for a in node.attribute if a.HasField("g")}
        if node.op_type == "If":
            branches = [self._body(node, b, []) for b in bodies.values()]
            self._told.append(f"of the branches of If {node.name}, the costlier one is counted")
            return max(branches, key=lambda c: c.operations).nodes
        body, given = bodies["body"], [self._ports.get(i) for i in node.input]
        if node.op_type == "Loop":
            times, shown = self._trips(node), [Port((), "int64"), Port((), "bool"), *given[2:]]
        else:
            states = len(given) - int(attributes(node)["num_scan_inputs"])
            axes = [int(a) for a in attributes(node).get("scan_input_axes", [0] * (len(given) - states))]
            scanned = list(zip(given[states:], axes, strict=True))
            times = next((p.shape[a] for p, a in scanned if p is not None), 1)
            shown = [*given[:states], *(_without(p, a) for p, a in scanned)]
        inside = self._body(node, body, shown)
        return [dataclasses.replace(_times(c, times), name=f"{node.name or node.output[0]}/{c.name}") for c in inside.nodes]

    def _trips(self, node: Any) -> int:
        from onnx import numpy_helper

        limits = [numpy_helper.to_array(t) for t in self._graph.initializer if t.name == node.input[0]]
        limits += [numpy_helper.to_array(a.t) for n in self._graph.node if n.output[0] == node.input[0] for a in n.attribute if a.HasField("t")]
        if limits and 0 < int(limits[0].reshape(-1)[0]) < 2**31:
            self._told.append(f"Loop {node.name} is counted at its limit of {int(limits[0].reshape(-1)[0])} rounds")
            return int(limits[0].reshape(-1)[0])
        self._told.append(f"Loop {node.name} is counted once: its data decide how often it runs")
        return 1

    def _body(self, node: Any, body: Any, shown: Sequence[Port | None]) -> GraphCosts:
        """A body as a model of its own: what it captures from around it become inputs, or constants where they are small."""
        import onnx

        inner = onnx.ModelProto()
        inner.ir_version = self._model.ir_version
        inner.opset_import.extend(self._model.opset_import)
        inner.graph.CopyFrom(body)
        del inner.graph.input[:]
        own = {t.name for t in body.initializer} | {o for n in body.node for o in n.output} | {i.name for i in body.input}
        outer = {t.name: t for t in self._graph.initializer}
        outer |= {n.output[0]: a.t for n in self._graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
        ports = {i.name: p for i, p in zip(body.input, shown, strict=False) if p is not None}
        for name in sorted({i for n in body.node for i in _reads(n)} - own - {""}):
            if name in outer:
                inner.graph.initializer.append(outer[name])
                inner.graph.initializer[-1].name = name
            elif name in self._ports:
                ports[name] = self._ports[name]
        inner.graph.input.extend(typed(n, p) for n, p in ports.items())
        costs = graph_costs(inner, {n: like(p) for n, p in ports.items()})
        self._told.extend(costs.notes)
        self._kept[f"{node.name}/"] = self._kept.get(f"{node.name}/", 0) + costs.weight_bytes
        return costs

    def weight_bytes(self) -> int:
        """Of the constants that the nodes counted so far read."""
        return sum(self._kept.values())

    def live_bytes(self) -> int:
        """The most at a time; views share the memory of what they look at."""
        root = {n.output[0]: n.input[0] for n in self._graph.node if n.op_type in VIEWS and n.input and n.output}

        def base(name: str) -> str:
            while name in root:
                name = root[name]
            return name

        last = {base(name): i for i, n in enumerate(self._graph.node) for name in _reads(n)}
        given = {i.name for i in self._graph.input}
        kept = {base(o.name) for o in self._graph.output}
        live, most = 0, 0
        ends: dict[int, int] = {}
        for i, node in enumerate(self._graph.node):
            for o in node.output:
                port = self._ports.get(o)
                if node.op_type in VIEWS or port is None or o in self._constant or o in given:
                    continue
                live += port.bytes
                if o not in kept:
                    ends[last.get(o, i)] = ends.get(last.get(o, i), 0) + port.bytes
            most = max(most, live)
            live -= ends.get(i, 0)
        return most

    def notes(self) -> tuple[str, ...]:
        """What was not counted, and what was decided."""
        told = list(dict.fromkeys(self._told))
        if self._unknown:
            kinds = ", ".join(f"{n} x {kind}" for kind, n in sorted(self._unknown.items()))
            told.append(f"no operations are counted for {kinds}")
        if self._unsized:
            told.append(f"not counted, since their shapes are not known: {', '.join(self._unsized)}")
        return tuple(told)


def attributes(node: Any) -> dict[str, Any]:
    """Plain values of a node's attributes; graphs and tensors are left out."""
    from onnx import AttributeProto, helper

    plain = (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.FLOATS, AttributeProto.INTS)
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type in plain}
    return {n: v.decode(errors="replace") if isinstance(v, bytes) else v for n, v in found.items()}


def like(port: Port) -> np.ndarray:
    """Zeros of this type and shape that take no memory; types that numpy lacks become bytes."""
    try:
        kind = np.dtype(port.dtype)
    except TypeError:
        kind = np.dtype("uint8")
    return np.broadcast_to(np.zeros((), kind), port.shape)


def _reads(node: Any) -> set[str]:
    """Tensors that a node reads, those that its inner graphs capture too."""
    found = set(node.input)
    for a in node.attribute:
        for inner in ([a.g] if a.HasField("g") else a.graphs):
            found |= {i for n in inner.node for i in _reads(n)} | {o.name for o in inner.output}
    return found


def _without(port: Port | None, axis: int) -> Port | None:
    if port is None:
        return None
    kept = list(port.shape)
    del kept[axis]
    return Port(tuple(kept), port.dtype)


def _times(costs: NodeCosts, times: int) -> NodeCosts:
    names = ("macs", "inside", "operations", "input_bytes", "weight_bytes", "output_bytes")
    return dataclasses.replace(costs, **{n: getattr(costs, n) * times for n in names})

