"""Exact operations and bytes of an OpenVINO model, by the same rules as for ONNX: its operators are read as ONNX's."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgekit.counting.graph import GraphCosts
from edgekit.counting.kinds import VIEWS
from edgekit.counting.node import Node, Port
from edgekit.counting.nodes import NodeCosts, count, known
from edgekit.errors import Broken
from edgekit.parts import Arrays

DTYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "boolean": "bool", "f8e4m3": "float8e4m3fn", "f8e5m2": "float8e5m2",
    "nf4": "uint4", "f4e2m1": "float4e2m1", "u1": "bool", **{f"{s}{b}": f"{'u' * (s == 'u')}int{b}" for s in "iu" for b in (2, 4, 8, 16, 32, 64)},
}  # fmt: skip
# OpenVINO's name -> ONNX's, where they differ.
_ONNX = {
    "AdaptiveAvgPool": "GlobalAveragePool", "AdaptiveMaxPool": "GlobalMaxPool", "AvgPool": "AveragePool",
    "BatchNormInference": "BatchNormalization", "BatchToSpace": "DepthToSpace", "Broadcast": "Expand", "Ceiling": "Ceil", "Clamp": "Clip",
    "Convert": "Cast", "ConvertLike": "CastLike", "Convolution": "Conv", "ConvolutionBackpropData": "ConvTranspose", "CumSum": "CumSum",
    "DeformableConvolution": "DeformConv", "Divide": "Div", "Eye": "EyeLike", "FakeQuantize": "QuantizeLinear", "FloorMod": "Mod",
    "GreaterEqual": "GreaterOrEqual", "GroupConvolution": "Conv", "GroupConvolutionBackpropData": "ConvTranspose", "GRUCell": "GRU",
    "GRUSequence": "GRU", "HSigmoid": "HardSigmoid", "HSwish": "HardSwish", "Interpolate": "Resize", "IsFinite": "IsInf",
    "LessEqual": "LessOrEqual", "LogicalAnd": "And", "LogicalNot": "Not", "LogicalOr": "Or", "LogicalXor": "Xor", "LSTMCell": "LSTM",
    "LSTMSequence": "LSTM", "Maximum": "Max", "Minimum": "Min", "Multiply": "Mul", "MVN": "MeanVarianceNormalization", "Negative": "Neg",
    "NormalizeL2": "LpNormalization", "NotEqual": "Equal", "Power": "Pow", "ReduceLogicalAnd": "ReduceMin",
    "ReduceLogicalOr": "ReduceMax", "RMS": "RMSNormalization", "RNNCell": "RNN", "RNNSequence": "RNN", "Roll": "Concat",
    "ScaledDotProductAttention": "Attention", "ScatterElementsUpdate": "ScatterElements", "ScatterNDUpdate": "ScatterND",
    "ScatterUpdate": "ScatterElements", "Select": "Where", "ShuffleChannels": "Transpose", "SliceScatter": "ScatterND", "SoftPlus": "Softplus",
    "SoftSign": "Softsign", "SpaceToBatch": "SpaceToDepth", "SquaredDifference": "Sub", "StridedSlice": "Slice", "Subtract": "Sub",
    "VariadicSplit": "Split", "ShapeOf": "Shape",
}  # fmt: skip
_EDGES = ("Constant", "Parameter", "Result", "ReadValue", "Assign")
_EIGHT_BITS = ("int8", "uint8", "int4", "uint4")
_UNPACKS = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose")  # what turns stored 8 bits into floats


def graph_costs(file: Path, inputs: Arrays) -> GraphCosts:
    """Count the model in a file that OpenVINO reads, at these inputs. Broken when it cannot be read at these sizes."""
    import openvino as ov

    try:
        model = ov.Core().read_model(file)
        model.reshape({n: list(v.shape) for n, v in inputs.items()})
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise Broken(f"openvino cannot open {file} at the sizes {[list(v.shape) for v in inputs.values()]}: {last}") from None
    return model_costs(model)


def model_costs(model: Any) -> GraphCosts:
    """Count an openvino.Model whose shapes are all fixed."""
    counter = _Counter()
    nodes = tuple(counter.nodes(model.get_ordered_ops()))
    outputs = {next(iter(o.get_names()), f"output {i}"): port(o) for i, o in enumerate(model.outputs)}
    known_ = {n: p for n, p in outputs.items() if p is not None}
    entering = [port(o) for o in model.inputs]
    return GraphCosts(
        nodes, sum(p.bytes for p in entering if p), sum(p.bytes for p in known_.values()), sum(counter.kept.values()),
        live_bytes(model.get_ordered_ops(), counter.constant), known_, counter.notes(),
    )  # fmt: skip


def port(output: Any) -> Port | None:
    """The Port of an openvino output; None where its shape is not fixed."""
    if output.get_partial_shape().is_dynamic:
        return None
    name = output.get_element_type().get_type_name()
    return Port(tuple(output.get_shape()), DTYPES.get(name, name))


class _Counter:
    """What was found in the ops so far, in order."""

    def __init__(self) -> None:
        self.constant: set[str] = set()  # names of ops whose outputs are known when the model is loaded
        self.kept: dict[str, int] = {}  # constant op that is read -> bytes
        self._packed: dict[str, str] = {}  # op whose float output is made of 8 bits -> their type
        self._unknown: Counter[str] = Counter()
        self._unsized: list[str] = []
        self._told: list[str] = []

    def nodes(self, ops: Iterable[Any]) -> Iterable[NodeCosts]:
        """The costs of every op that computes something anew in each run."""
        for op in ops:
            kind, name = op.get_type_name(), op.get_friendly_name()
            sources = [i.get_source_output().get_node() for i in op.inputs()]
            shape_only = kind == "ShapeOf" and not op.input(0).get_partial_shape().is_dynamic
            if kind == "Constant" or shape_only or (sources and kind not in _EDGES and all(s.get_friendly_name() in self.constant for s in sources)):
                self.constant.add(name)
            self._follow_packed(op, kind, name)
            if name in self.constant or kind in _EDGES:
                continue
            if kind in ("TensorIterator", "Loop", "If"):
                yield from self._inside(op, kind, name)
                continue
            found = self._one(op, kind, name)
            if found is not None:
                yield found

    def notes(self) -> tuple[str, ...]:
        """What was not counted, and what was decided."""
        told = list(dict.fromkeys(self._told))
        if self._unknown:
            told.append(f"no operations are counted for {', '.join(f'{n} x {kind}' for kind, n in sorted(self._unknown.items()))}")
        if self._unsized:
            told.append(f"not counted, since their shapes are not known: {', '.join(self._unsized)}")
        return tuple(told)

    def _follow_packed(self, op: Any, kind: str, name: str) -> None:
        """Floats that are 8 bits in truth: unpacked weights and activations, and what FakeQuantize rounds to 256 levels or fewer."""
        if kind == "FakeQuantize" and int(op.get_attributes()["levels"]) <= 256:
            self._packed[name] = "uint8"
        if kind in _UNPACKS and op.inputs():
            source = op.input(0).get_source_output()
            stored = port(source)
            held = self._packed.get(source.get_node().get_friendly_name()) or (stored.dtype if stored else "")
            if held in _EIGHT_BITS:
                self._packed[name] = held

    def _port(self, output: Any) -> Port | None:
        found, name = port(output), output.get_node().get_friendly_name()
        if found is None:
            return None
        if name in self._packed and found.dtype.startswith("float"):
            found = dataclasses.replace(found, dtype=self._packed[name])
        return dataclasses.replace(found, constant=name in self.constant)

    def _one(self, op: Any, kind: str, name: str) -> NodeCosts | None:
        inputs = [self._port(i.get_source_output()) for i in op.inputs()]
        operator = _ONNX.get(kind, kind)
        if operator in VIEWS:
            return None
        made = as_onnx(kind, name, inputs, [port(o) for o in op.outputs()], op.get_attributes())
        if not known(operator):
            self._unknown[kind] += 1
        try:
            costs = dataclasses.replace(count(made), operator=kind)
        except (KeyError, IndexError, ValueError):
            self._unsized.append(f"{kind} {name}")
            return None
        for i, p in zip(op.inputs(), inputs, strict=True):
            if p is not None and p.constant:
                self.kept[i.get_source_output().get_node().get_friendly_name()] = p.bytes
        if name in self._packed:  # part of the kernels beside it: it moves nothing of its own, and only rounding is an operation
            rounds = costs.operations if kind == "FakeQuantize" else 0
            costs = dataclasses.replace(costs, operations=rounds, input_bytes=0, weight_bytes=0, output_bytes=0)
        return costs

    def _inside(self, op: Any, kind: str, name: str) -> Iterable[NodeCosts]:
        inner = _Counter()
        if kind == "If":
            branches = [tuple(_Counter().nodes(op.get_function(i).get_ordered_ops())) for i in (0, 1)]
            self._told.append(f"of the branches of If {name}, the costlier one is counted")
            yield from max(branches, key=lambda nodes: sum(n.operations for n in nodes))
            return
        times = int(op.get_num_iterations())
        if times < 1:
            self._told.append(f"{kind} {name} is counted once: its data decide how often it runs")
        fields = ("macs", "inside", "operations", "input_bytes", "weight_bytes", "output_bytes")
        for n in inner.nodes(op.get_function().get_ordered_ops()):
            more = {f: getattr(n, f) * max(times, 1) for f in fields}
            yield dataclasses.replace(n, name=f"{name}/{n.name}", **more)
        self.kept |= {f"{name}/{k}": v for k, v in inner.kept.items()}
        self._told.extend(inner.notes())


def as_onnx(kind: str, name: str, inputs: list[Port | None], outputs: list[Port | None], attributes: dict[str, Any]) -> Node:
    """An op as ONNX would say it: inputs in ONNX's order, attributes by ONNX's names."""
    operator = _ONNX.get(kind, kind)
    given: dict[str, Any] = {}
    if kind in ("GroupConvolution", "GroupConvolutionBackpropData") and len(inputs) > 1 and inputs[1] is not None:
        grouped = inputs[1].shape  # [groups, out (or in) of a group, in (or out) of a group, window...]
        inputs = [inputs[0], dataclasses.replace(inputs[1], shape=(grouped[0] * grouped[1], *grouped[2:])), *inputs[2:]]
    elif kind == "MatMul":
        given = {"transA": int(bool(attributes.get("transpose_a")))}
    elif operator in ("AveragePool", "MaxPool"):
        given = {"kernel_shape": list(attributes["kernel"])}
    elif operator in ("LSTM", "GRU", "RNN"):
        inputs = _recurrent(kind, inputs)
    if operator in ("Conv", "ConvTranspose"):
        given = {n: list(attributes.get(n) or []) for n in ("strides", "dilations")}
        given["pads"] = [*(attributes.get("pads_begin") or []), *(attributes.get("pads_end") or [])]
        given["auto_pad"] = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}.get(str(attributes.get("auto_pad")), "NOTSET")
    elif kind == "DeformableConvolution":
        inputs = [inputs[0], inputs[2]]
    elif kind == "Interpolate":
        given = {"mode": str(attributes.get("mode", "nearest")).replace("linear_onnx", "linear")}
    elif kind == "GridSample":
        given = {"mode": str(attributes.get("mode", "bilinear"))}
    elif kind == "LRN":
        given = {"size": attributes["size"]}
    elif kind == "Einsum":
        given = {"equation": attributes["equation"]}
    return Node(name, operator, tuple(inputs), tuple(outputs), given)


def _recurrent(kind: str, inputs: list[Port | None]) -> list[Port | None]:
    """X, W, R as ONNX has them: [time, batch, in], [directions, gates x hidden, in], [directions, gates x hidden, hidden]."""
    x, (w, r) = inputs[0], inputs[-3:-1]
    if kind.endswith("Cell") and x and w and r:
        x, w, r = (dataclasses.replace(p, shape=(1, *p.shape)) for p in (x, w, r))
    return [x, w, r]


def live_bytes(ops: list[Any], constant: set[str]) -> int:
    """The most that inner tensors need at a time, in this order; views share memory."""
    last: dict[str, int] = {}
    root: dict[str, str] = {}
    for i, op in enumerate(ops):
        for source in (i_.get_source_output().get_node().get_friendly_name() for i_ in op.inputs()):
            last[root.get(source, source)] = i
        if _ONNX.get(op.get_type_name(), op.get_type_name()) in VIEWS and op.inputs():
            source = op.input(0).get_source_output().get_node().get_friendly_name()
            root[op.get_friendly_name()] = root.get(source, source)
    live = most = 0
    ends: Counter[int] = Counter()
    for i, op in enumerate(ops):
        name = op.get_friendly_name()
        if op.get_type_name() not in _EDGES and name not in constant and name not in root:
            made = sum(p.bytes for p in map(port, op.outputs()) if p)
            live += made
            ends[last.get(name, i)] += made
        most = max(most, live)
        live -= ends[i]
    return most
