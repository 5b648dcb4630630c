"""What one inference of a bundle computes and moves: every graph of its program, as often as the program runs it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit.bundle import MANIFEST, Bundle, open_bundle
from edgekit.counting.graph import GraphCosts, graph_costs, like
from edgekit.counting.node import Port
from edgekit.counting.nodes import NodeCosts
from edgekit.environment import Sizes, resolved, sizes_of
from edgekit.errors import EdgekitError
from edgekit.files import DRAFT
from edgekit.parts import Arrays
from edgekit.program import Affine, ArgMax, Operation, Phase, Source, Stream
from edgekit.signature import Tensor


@dataclass(frozen=True)
class PhaseCosts:
    """A graph that runs `calls` times in one inference (of a stream: in one chunk)."""

    graph: str
    calls: int
    costs: GraphCosts


@dataclass(frozen=True)
class Costs:
    """Of one inference of one sample, or of one chunk of a stream."""

    unit: Literal["inference", "chunk"]
    phases: tuple[PhaseCosts, ...]
    epilogue: int  # operations between graphs, which no engine runs
    notes: tuple[str, ...]

    @property
    def operations(self) -> int:
        """2 a multiply-add."""
        return self.epilogue + sum(p.calls * p.costs.operations for p in self.phases)

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(p.calls * n.macs for p in self.phases for n in p.costs.nodes)

    @property
    def bytes_moved(self) -> int:
        """Inputs, weights and outputs of every node, once each: nothing fused, nothing cached."""
        return sum(p.calls * n.bytes_moved for p in self.phases for n in p.costs.nodes)

    @property
    def weight_bytes(self) -> int:
        """Of all graphs, once each."""
        return sum({p.graph: p.costs.weight_bytes for p in self.phases}.values())

    @property
    def live_bytes(self) -> int:
        """The most that inner tensors need at a time."""
        return max((p.costs.live_bytes for p in self.phases), default=0)

    @property
    def edge_bytes(self) -> int:
        """Into and out of all runs of graphs."""
        return sum(p.calls * (p.costs.input_bytes + p.costs.output_bytes) for p in self.phases)

    @property
    def calls(self) -> int:
        """Runs of graphs."""
        return sum(p.calls for p in self.phases)

    @property
    def launches(self) -> int:
        """Nodes that run, over all runs."""
        return sum(p.calls * len(p.costs.nodes) for p in self.phases)

    def least_products(self) -> Counter[str]:
        """Precision -> operations of multiply-adds that no engine can leave out: those on padding are left out."""
        found: Counter[str] = Counter()
        for calls, n in self.nodes():
            if n.macs:
                found[n.precision] += calls * (n.operations - 2 * (n.macs - n.inside))
        return found

    def operations_by(self, products: bool) -> Counter[str]:
        """Precision -> operations, of nodes with multiply-adds (products) or of the others."""
        found: Counter[str] = Counter()
        for calls, n in self.nodes():
            if bool(n.macs) == products:
                found[n.precision] += calls * n.operations
        if self.epilogue and not products:
            found["f32"] += self.epilogue
        return found

    def nodes(self) -> Iterator[tuple[int, NodeCosts]]:
        """(calls, node) of all phases."""
        for phase in self.phases:
            yield from ((phase.calls, n) for n in phase.costs.nodes)


_COUNTED: dict[tuple[str, str], Costs] = {}  # hash of a bundle, task -> its costs: the same for every target that it is estimated for


def one_sample(bundle: Bundle) -> dict[str, np.ndarray]:
    """The golden inputs, a free batch cut to one sample: what a query of the scenario `single` is."""
    free = {t.name for t in bundle.manifest.signature.inputs if t.shape and t.shape[0] == "batch"}
    return {n: v[:1] if n in free else v for n, v in bundle.golden().inputs.items()}


def costs_of(bundle: Bundle, inputs: Arrays | None = None) -> Costs:
    """Count a bundle of ONNX or OpenVINO graphs, or one whose parent of that kind lies beside it. inputs: of the program; one_sample
    where none are given. EdgekitError for a bundle that has no such graph."""
    if inputs is None:
        key = bundle.sha256, bundle.task
        if key not in _COUNTED:
            _COUNTED[key] = costs_of(bundle, one_sample(bundle))
        return _COUNTED[key]
    bundle.manifest.signature.check_inputs(inputs)
    counted = _counted(bundle)
    if counted is None:
        raise EdgekitError(
            f"operations are counted on ONNX and OpenVINO graphs, but {bundle.folder} holds {bundle.manifest.format}, "
            "and the bundle that it was made from does not lie beside it"
        )
    return _Walk(counted, inputs).costs()


def _counted(bundle: Bundle) -> Bundle | None:
    """The bundle itself, or the next ancestor beside it, that holds graphs which can be counted."""
    seen: set[str] = set()
    while bundle.sha256 not in seen:
        if all(Path(g.file).suffix in (".onnx", ".xml") for g in bundle.manifest.graphs.values()):
            return bundle
        seen.add(bundle.sha256)
        for file in sorted(bundle.folder.absolute().parent.glob(f"*/{MANIFEST}")):
            if not file.parent.name.startswith(DRAFT) and hashlib.sha256(file.read_bytes()).hexdigest() == bundle.manifest.lineage.parent_sha256:
                bundle = open_bundle(file.parent).of_task(bundle.task)
                break
    return None


class _Walk:
    """Follows the shapes of all values through a program, counting each graph where it runs."""

    def __init__(self, bundle: Bundle, inputs: Arrays) -> None:
        self._bundle, self._program = bundle, bundle.manifest.program
        self._tensors = bundle.tensors()
        stream = self._program.stream
        axes = {n: f.axis for n, f in stream.feeds.items()} if stream else {}
        self._sizes: Sizes = sizes_of(bundle.manifest.signature, inputs, axes)
        self._values = {n: _chunk(stream, n, v) for n, v in inputs.items()}
        self._models: dict[str, Any] = {}
        self._notes: list[str] = []
        self._epilogue = 0

    def costs(self) -> Costs:
        """All phases; of a stream, those in it."""
        stream = self._program.stream
        found = []
        for phase in self._program.phases:
            self._states(phase.states)
            made = [self._phase(p) for p in (phase.phases if isinstance(phase, Stream) else (phase,))]
            if stream is None or phase is stream:
                found.extend(made)
            else:
                self._notes.append("what runs before and after the chunks is not counted")
        if any(s.kind == "noise" for p in self._program.graph_phases() for s in p.inputs.values()):
            self._notes.append("drawing noise is not counted")
        return Costs("chunk" if stream else "inference", tuple(found), self._epilogue, tuple(dict.fromkeys(self._notes)))

    def _phase(self, phase: Phase) -> PhaseCosts:
        self._states(phase.states)
        signature = self._bundle.manifest.graphs[phase.graph].signature
        inputs = {t.name: self._value(phase.inputs[t.name], t) for t in signature.inputs}
        costs = self._graph(phase.graph, inputs)
        self._notes.extend(costs.notes)
        for out, name in (*phase.outputs.items(), *phase.carry.items()):
            port = costs.outputs.get(out)
            if port is not None:
                self._values[name] = like(port)
        for operation in phase.epilogue:
            self._epilogue += phase.steps * self._operation(operation)
        for new, old in phase.collect.items():
            self._values[new] = _zeros((phase.steps, *self._values[old].shape), self._values[old].dtype)
        return PhaseCosts(phase.graph, phase.steps, costs)

    def _graph(self, name: str, inputs: Arrays) -> GraphCosts:
        file = self._bundle.graph(name)
        if file.suffix == ".xml":
            from edgekit.counting.openvino_graph import graph_costs as count_openvino

            return count_openvino(file, inputs)
        if name not in self._models:
            import onnx

            self._models[name] = onnx.load(file, load_external_data=False)
        return graph_costs(self._models[name], inputs)

    def _states(self, states: Mapping[str, Any]) -> None:
        for name, state in states.items():
            self._values[name] = _zeros(self._shape(state.shape, name), state.dtype)

    def _value(self, source: Source, t: Tensor) -> np.ndarray:
        """What comes to a graph input; zeros where only the type and shape are known."""
        if source.kind == "tensor":
            return self._tensors[source.name]
        if source.kind == "row":
            return np.asarray(self._tensors[source.name][0])
        if source.kind == "value" and source.name in self._values:
            return self._values[source.name]
        return _zeros(self._shape(t.shape, t.name), t.dtype)

    def _shape(self, declared: Sequence[int | str], name: str) -> tuple[int, ...]:
        found = resolved(tuple(declared), self._sizes)
        if found is None:
            raise EdgekitError(f"operations cannot be counted: '{name}' is {list(declared)}, with a size that no input carries")
        return found

    def _operation(self, op: Operation) -> int:
        """Operations of an epilogue: of an affine sum one product a term and one sum between terms; of a clamp two."""
        terms = [t.of for t in op.terms] if isinstance(op, Affine) else [op.of]
        like_: np.ndarray | None = next((self._operand(s) for s in terms if s.kind in ("value", "tensor", "row")), None)
        if like_ is None:
            return 0
        if isinstance(op, ArgMax):
            shape = [n for i, n in enumerate(like_.shape) if i != op.axis % like_.ndim]
            self._values[op.to] = _zeros(tuple(shape), "int64")
            return like_.size
        self._values[op.to] = _zeros(like_.shape, "float32")
        return like_.size * (2 * len(terms) - 1 if isinstance(op, Affine) else 2)

    def _operand(self, source: Source) -> np.ndarray:
        if source.kind == "value":
            return self._values[source.name]
        table = self._tensors[source.name]
        return np.asarray(table[0]) if source.kind == "row" else table


def _chunk(stream: Stream | None, name: str, value: np.ndarray) -> np.ndarray:
    """The first chunk of an input that is streamed; padded with zeros where it is longer than the input."""
    if stream is None or name not in stream.feeds:
        return value
    feed = stream.feeds[name]
    shape = list(value.shape)
    shape[feed.axis : feed.axis + 1] = [] if feed.window is None else [feed.window]
    return _zeros(tuple(shape), value.dtype)


def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return like(Port(shape, np.dtype(dtype).name))
