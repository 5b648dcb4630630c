"""Layers of onnxruntime: events of its profiler, matched by name with the optimised graph that it writes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit.bundle import Bundle
from edgekit.counting import Costs, costs_of
from edgekit.counting.graph import attributes
from edgekit.counting.node import Node, Port
from edgekit.counting.nodes import NodeCosts, count
from edgekit.counting.shapes import dtype_name
from edgekit.errors import EdgekitError
from edgekit.execute import Execution
from edgekit.layer_profile import Layer
from edgekit.layers import WARM_UP, taken_us, with_shares
from edgekit.parts import Arrays, Session
from edgekit.program import Stream

MOST_EVENTS = 500_000  # onnxruntime stops writing at a million
SUFFIX = "_kernel_time"
BLOCKED = "com.microsoft.nchwc"  # convolutions on channels in blocks, filled up with zeros
_TYPES = {"float": "float32", "double": "float64"}
_WALK = 8  # nodes back from a blocked convolution's output to the convolution that it was


class Profiled:
    """The sessions that profile, and what they left behind in a folder."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.sessions: dict[str, Any] = {}
        self._bundle, self._folder = bundle, folder
        self._models: dict[str, Any] = {}

    def source(self, graph: str) -> str | bytes:
        """The graph with a name for each node: the profiler knows nodes by their names."""
        file = self._bundle.graph(graph)
        model = self._models[graph] = onnx.load(file, load_external_data=False)
        taken: set[str] = set()
        renamed = [_rename(node, i, taken) for i, node in enumerate(_nodes(model.graph))]
        external = any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
        return str(file) if external or not any(renamed) else model.SerializeToString()

    def asked(self, graph: str, options: Any) -> Any:
        """Options of a session that profiles and writes down what it runs; large weights in a file of their own."""
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / f"{graph}-events")
        options.optimized_model_filepath = str(self._folder / f"{graph}.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{graph}.weights")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "4096")
        options.log_severity_level = 4  # that the optimised graph fits this processor only needs no telling
        return options

    def run(self, plain: Session, profiled: Execution, inputs: Arrays, runs: int) -> tuple[tuple[Layer, ...], tuple[str, ...], float]:
        """(layers, notes, slowed)."""
        calls = calls_of(self._bundle)
        without, once = plain.bind(inputs), profiled.bind(inputs)
        nodes = sum(len(list(_nodes(m.graph))) * calls.get(g, 0) for g, m in self._models.items())
        kept = max(1, min(runs, MOST_EVENTS // max(nodes, 1)))
        taken_us(without, min(WARM_UP, runs))
        before = taken_us(without, kept)
        taken_us(once, min(WARM_UP, runs))
        slow = taken_us(once, kept)
        fast = min(before, taken_us(without, kept))
        costs = _costs(self._bundle)
        rows: list[Layer] = []
        executed = 0
        for graph, session in self.sessions.items():
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            per_call = _calls(events)[-kept * calls[graph] :] if calls.get(graph) else []
            executed += sum(len(c) for c in per_call)
            rows += self._layers(graph, per_call, kept, costs)
        return with_shares(rows), _notes(rows, kept, runs, (slow - fast) * kept / max(executed, 1)), slow / fast

    def _layers(self, graph: str, per_call: list[list[dict[str, Any]]], runs: int, costs: Costs | None) -> Iterator[Layer]:
        """In the order of the last call; times and operations of all calls in one inference."""
        if not per_call:
            return
        calls = max(len(per_call) // runs, 1)
        optimised = onnx.load(self._folder / f"{graph}.onnx", load_external_data=False)
        by_name = {n.name: n for n in _nodes(optimised.graph)}
        spent: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(runs))
        times: dict[str, int] = defaultdict(int)
        for i, call in enumerate(per_call):
            for event, own_us in _own_times(call):
                name = event["name"].removesuffix(SUFFIX)
                spent[name][i // calls] += own_us
                times[name] += 1
        ports = _ports(optimised, per_call[-1], by_name)
        originals = _Originals(self._models[graph].graph, graph, costs)
        for event in sorted(per_call[-1], key=lambda e: int(e["ts"])):
            name = event["name"].removesuffix(SUFFIX)
            if name not in spent:
                continue
            node = by_name.get(name)
            cost = None if node is None else _cost(node, ports)
            known = cost if cost is None or node is None or node.domain != BLOCKED else originals.without_filling(name, cost)
            here = times[name] / runs
            yield Layer(
                name if len(self.sessions) == 1 else f"{graph}/{name}", event["args"].get("op_name", ""),
                node.domain if node is not None and node.domain else "", "" if cost is None else cost.precision, _middle(spent.pop(name)), 0.0,
                None if known is None else round(known.operations * here), None if cost is None else round(cost.bytes_moved * here),
            )  # fmt: skip


def _notes(rows: list[Layer], kept: int, runs: int, added_us: float) -> tuple[str, ...]:
    told = ["times are whole microseconds, cut off"]
    if rows and added_us > 0:
        told.append(f"the profiler costs about {added_us:.1f} us a node, in part within its time: shares of layers as short as that are too large")
    if kept < runs:
        told.append(f"{kept} runs, more would not fit the profiler")
    unmatched = [x.name for x in rows if x.operations is None]
    if unmatched:
        told.append(f"no operations are known of: {', '.join(unmatched)}")
    return tuple(told)


def _middle(times_us: np.ndarray) -> float:
    """The mean of the middle half: neither moved by a run that was interrupted, nor whole numbers as a median would be."""
    ordered = np.sort(times_us)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def calls_of(bundle: Bundle) -> dict[str, int]:
    """Graph -> how often it runs in one inference, or in one chunk of a stream."""
    stream = bundle.manifest.program.stream
    found: dict[str, int] = defaultdict(int)
    for phase in stream.phases if stream else bundle.manifest.program.phases:
        assert not isinstance(phase, Stream)
        found[phase.graph] += phase.steps
    return found


def _costs(bundle: Bundle) -> Costs | None:
    try:
        return costs_of(bundle)
    except EdgekitError:
        return None


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those of inner graphs too."""
    for node in graph.node:
        yield node
        for a in node.attribute:
            for inner in ([a.g] if a.HasField("g") else a.graphs):
                yield from _nodes(inner)


def _rename(node: Any, i: int, taken: set[str]) -> bool:
    changed = not node.name or node.name in taken
    if changed:
        node.name = f"{node.op_type}_{i}"
        while node.name in taken:
            node.name += "_"
    taken.add(node.name)
    return changed


def _calls(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The node events of each run of the graph, in the order of the runs."""
    found: list[list[dict[str, Any]]] = [[]]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(SUFFIX):
            found[-1].append(event)
        elif event.get("name") == "model_run":
            found.append([])
    return found[:-1]


def _own_times(call: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float]]:
    """(event, microseconds less those of the events inside it): a loop's time holds that of its body."""
    order = sorted(call, key=lambda e: (int(e["ts"]), -int(e["dur"])))
    own = [float(e["dur"]) for e in order]
    open_: list[int] = []
    for i, event in enumerate(order):
        while open_ and _end(order[open_[-1]]) <= int(event["ts"]):
            open_.pop()
        if open_ and _end(event) <= _end(order[open_[-1]]) and order[open_[-1]]["args"].get("op_name") in ("If", "Loop", "Scan"):
            own[open_[-1]] -= float(event["dur"])
        if event["args"].get("op_name") in ("If", "Loop", "Scan"):
            open_.append(i)
    return iter([(e, max(t, 0.0)) for e, t in zip(order, own, strict=True)])


def _end(event: dict[str, Any]) -> int:
    return int(event["ts"]) + int(event["dur"])


def _ports(model: Any, call: list[dict[str, Any]], by_name: Mapping[str, Any]) -> dict[str, Port]:
    """Tensor -> Port: constants by the graph, all that was computed by the events of one run."""
    found: dict[str, Port] = {}
    for graph in [model.graph, *(a.g for n in _nodes(model.graph) for a in n.attribute if a.HasField("g"))]:
        found |= {t.name: Port(tuple(t.dims), dtype_name(t.data_type), True) for t in graph.initializer}
    for event in call:
        node = by_name.get(event["name"].removesuffix(SUFFIX))
        if node is None:
            continue
        outputs = [n for n in node.output if n]
        for name, shown in zip(outputs, event["args"].get("output_type_shape", []), strict=False):
            found[name] = _port(shown)
        inputs = [n for n in node.input if n]
        shown_inputs = event["args"].get("input_type_shape", [])
        if len(inputs) == len(shown_inputs):  # fewer where weights were packed for the kernel
            for name, shown in zip(inputs, shown_inputs, strict=True):
                found.setdefault(name, _port(shown))
        elif shown_inputs and inputs:
            found.setdefault(inputs[0], _port(shown_inputs[0]))
    return found


def _port(shown: dict[str, list[int]]) -> Port:
    kind, shape = next(iter(shown.items()))
    return Port(tuple(shape), _TYPES.get(kind, kind))


def _cost(node: Any, ports: Mapping[str, Port]) -> NodeCosts | None:
    made = Node(
        node.name, node.op_type, tuple(ports.get(i) for i in node.input), tuple(ports.get(o) for o in node.output), attributes(node),
        tuple(node.output),
    )  # fmt: skip
    try:
        return count(made)
    except (KeyError, IndexError, ValueError):
        return None


class _Originals:
    """The graph as it was before optimisation, to count blocked convolutions without the channels that fill up their blocks."""

    def __init__(self, graph: Any, name: str, costs: Costs | None) -> None:
        self._makers = {o: n for n in graph.node for o in n.output}
        phases = [p for p in costs.phases if p.graph == name] if costs else []
        self._products = {o: n for p in phases[:1] for n in p.costs.nodes for o in n.made if n.macs}

    def without_filling(self, name: str, cost: NodeCosts) -> NodeCosts:
        """A blocked convolution is called after the tensor that it made before: `relu_1_nchwc`."""
        tensor = name.removesuffix("_nchwc")
        for _ in range(_WALK):
            was = self._products.get(tensor)
            if was is not None and cost.macs:
                fused = (cost.operations - 2 * cost.macs) * was.output_bytes // max(cost.output_bytes, 1)  # an activation, a sum
                return replace(cost, macs=was.macs, inside=was.inside, operations=2 * was.macs + fused) if was.macs <= cost.macs else cost
            node = self._makers.get(tensor)
            if node is None:
                break
            tensor = next((i for i in node.input if i in self._makers), "")
        return cost
