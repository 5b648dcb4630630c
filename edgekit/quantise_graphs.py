"""Graphs of a program that decides, each judged alone on what the float program gave it.

A graph that decides inside (ArgMax behind its weights) is cut there: it goes on with what the float graph decided, and the numbers that it
would have decided by are compared. So every graph is asked one question: how near are its numbers, everything before being right?
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit import qdq
from edgekit.byte_products import ort_session
from edgekit.parts import Arrays
from edgekit.verify import NO_NOISE_DB


@dataclass(frozen=True)
class GraphTrial:
    """What a form of one graph did."""

    sqnr_db: float  # of the worst of its float outputs and of the numbers that it decides by
    same_decisions: float | None  # share of decisions that stay the float graph's; None where it decides nothing


@dataclass(frozen=True)
class _Decision:
    node: str
    output: str  # whole numbers
    place: int  # among the node's outputs
    kind: int  # ONNX's number of the dtype


def decision_nodes(model: Any, unweighted: Collection[str] = ()) -> list[_Decision]:
    """Nodes that make whole numbers of floats and follow from a node with weights, but for those named `unweighted`."""
    from onnx import TensorProto, helper, shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output, *inferred.value_info)}
    whole = (TensorProto.INT32, TensorProto.INT64)
    weighted, behind, found = set(qdq.quantisable(model)) - set(unweighted), set[str](), []
    for node in model.graph.node:
        if node.name not in weighted and not behind & set(node.input):
            continue
        behind |= set(node.output)
        if node.op_type in ("ArgMax", "ArgMin", "TopK"):
            place = int(node.op_type == "TopK")
            found.append(_Decision(node.name, node.output[place], place, TensorProto.INT64))
        elif node.op_type == "Cast" and kinds.get(node.input[0]) == TensorProto.FLOAT:
            to = next(int(helper.get_attribute_value(a)) for a in node.attribute if a.name == "to")
            found += [_Decision(node.name, node.output[0], 0, to)] if to in whole else []
    return found


class JudgedGraph:
    """A float graph with its calls and its answers to them."""

    def __init__(self, model: Any, calls: Sequence[Arrays], unweighted: Collection[str] = ()) -> None:
        """model: prepared ONNX; calls: its inputs, call by call."""
        from onnx import TensorProto

        self._calls, self._decisions = calls, decision_nodes(model, unweighted)
        self._floats = [o.name for o in model.graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT]
        asked = _with_outputs(model, [(d.output, d.kind) for d in self._decisions] + [(n, TensorProto.FLOAT) for n in self._by(model)])
        names = [*self._floats, *self._by(model)]
        picked = [d.output for d in self._decisions]
        session = _session(asked)
        answers = [dict(zip([*names, *picked], session.run([*names, *picked], dict(c)), strict=True)) for c in calls]
        self._expected = [[a[n] for n in names] for a in answers]
        self._picked = [{n: a[n] for n in picked} for a in answers]

    def trial(self, model: Any) -> GraphTrial:
        """A form of the graph on the same calls."""
        session = _session(self._cut(model))
        names, own = [*self._floats, *self._by(model)], [_own(d) for d in self._decisions]
        signal, noise, same, count = np.zeros(len(names)), np.zeros(len(names)), 0, 0
        for call, picked, expected in zip(self._calls, self._picked, self._expected, strict=True):
            found = session.run([*names, *own], {**call, **picked})
            for i, y in enumerate(expected):
                signal[i] += np.square(y, dtype=np.float64).sum()
                noise[i] += np.square(y.astype(np.float64) - found[i]).sum()
            for decision, value in zip(self._decisions, found[len(names) :], strict=True):
                same, count = same + int((picked[decision.output] == value).sum()), count + value.size
        worst = min((10 * np.log10(max(s, 1e-300) / n) if n else NO_NOISE_DB for s, n in zip(signal, noise, strict=True)), default=NO_NOISE_DB)
        return GraphTrial(float(min(worst, NO_NOISE_DB)), same / count if count else None)

    def _by(self, model: Any) -> list[str]:
        """The tensors that the decisions are taken by, as `model` calls them."""
        nodes = {n.name: n for n in model.graph.node}
        return [nodes[d.node].input[0] for d in self._decisions]

    def _cut(self, model: Any) -> Any:
        from onnx import TensorProto, helper

        made = _with_outputs(model, [(n, TensorProto.FLOAT) for n in self._by(model)])
        nodes, taken = {n.name: n for n in made.graph.node}, {d.output for d in self._decisions}
        kept = [o for o in made.graph.output if o.name not in taken]
        del made.graph.output[:]
        made.graph.output.extend(kept)
        for d in self._decisions:
            nodes[d.node].output[d.place] = _own(d)
            made.graph.input.append(helper.make_tensor_value_info(d.output, d.kind, None))
            made.graph.output.append(helper.make_tensor_value_info(_own(d), d.kind, None))
        return made


def _own(decision: _Decision) -> str:
    return f"{decision.output}__own"


def _with_outputs(model: Any, wanted: Sequence[tuple[str, int]]) -> Any:
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    there = {o.name for o in made.graph.output}
    for name, kind in dict(wanted).items():
        if name not in there:
            made.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return made


def _session(model: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort_session(model.SerializeToString(), options)
