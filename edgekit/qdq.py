"""Q/DQ graphs by onnxruntime's own quantiser: which ranges, which integers, which nodes stay float.

A float tensor x becomes  round(x / scale) + zero  in 8 bits and back: QuantizeLinear, DequantizeLinear. Engines run what
lies between DQ and Q as one integer kernel. Weights are int8, one scale an output channel, zero 0.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit import files
from edgekit.errors import EdgekitError
from edgekit.parts import Arrays

Method = Literal["minmax", "percentile", "entropy"]
# Of onnxruntime's calibrators. Never "distribution": it gives chance level on small networks.
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy")
PERCENTILE = 99.99  # of the values, what is cut being cut in halves at both ends; onnxruntime's own 99.999 clips nothing on a few hundred samples
STEPS = 255  # of 8 bits
AT_ONCE = 16  # calls whose activations are held in memory together; the calibrators keep all that they are given at once


@dataclass(frozen=True)
class Choice:
    """How a graph is quantised."""

    method: str
    activations: Literal["u8", "s8"] = "u8"  # u8: fastest on x86, with a zero point; s8: symmetric, as TensorRT wants it
    floats: tuple[str, ...] = ()  # nodes left in float, by name
    bias: bool = True  # int32 biases; TensorRT refuses them
    only_weights: bool = False  # nodes without weights stay in float: normalisations, gates and softmax have no integer kernels

    @property
    def name(self) -> str:
        """As in tables: `minmax U8S8, 2 float`."""
        weights = " (weights only)" if self.only_weights else ""
        return f"{self.method} {self.activations.upper()}S8{weights}" + (f", {len(self.floats)} float" if self.floats else "")

    def without(self, nodes: Iterable[str]) -> Choice:
        """The same with these nodes left in float."""
        return dataclasses.replace(self, floats=tuple(sorted(nodes)))


def prepared(model: bytes) -> Any:
    """The graph as the quantiser wants it: constants folded, batch norms merged, every node named, average pooling as
    a depthwise convolution, which engines run as an integer kernel."""
    import onnx
    import onnxruntime as ort

    with files.scratch("fold") as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        made = onnx.load(options.optimized_model_filepath)
    standard = [o for o in made.opset_import if o.domain in ("", "ai.onnx")]
    del made.opset_import[:]
    made.opset_import.extend(standard)
    if standard[0].version < 13:
        raise EdgekitError(f"weights quantised by channel need opset 13, the model has {standard[0].version}; export it with a newer one")
    made = onnx.shape_inference.infer_shapes(made)
    _depthwise_pools(made.graph)
    _tell_shared_constants_apart(made.graph)
    taken: set[str] = set()
    for i, node in enumerate(made.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{i}"
        taken.add(node.name)
    return made


def _tell_shared_constants_apart(graph: Any) -> None:
    """Constants that several nodes take get a name that can be added to: onnxruntime's quantiser copies a shared bias and calls the copies of
    'val_4' val_41, val_42, ..., which are tensors of their own where torch exported. What is said of tensors that were folded away goes too."""
    uses = Counter(t for n in graph.node for t in set(n.input))
    inside = {t for n in graph.node for a in n.attribute for g in (a.g, *a.graphs) for m in g.node for t in m.input}
    kept = inside.union(v.name for v in (*graph.input, *graph.output))
    new = {t.name: f"{t.name}_shared_" for t in graph.initializer if uses[t.name] > 1 and t.name not in kept}
    for constant in graph.initializer:
        constant.name = new.get(constant.name, constant.name)
    for node in graph.node:
        node.input[:] = [new.get(t, t) for t in node.input]
    there = {t for n in graph.node for t in (*n.input, *n.output)}
    told = [v for v in graph.value_info if v.name in there]
    del graph.value_info[:]
    graph.value_info.extend(told)


def _depthwise_pools(graph: Any) -> None:
    from onnx import helper, numpy_helper

    channels = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in (*graph.value_info, *graph.input)
                if len(v.type.tensor_type.shape.dim) == 4 and v.type.tensor_type.shape.dim[1].HasField("dim_value")}  # fmt: skip
    for i, node in enumerate(graph.node):
        if node.op_type != "AveragePool" or node.input[0] not in channels:
            continue
        said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        padded = any(said.get("pads", [])) and not said.get("count_include_pad", 0)
        if padded or said.get("ceil_mode", 0) or said.get("auto_pad", b"NOTSET") != b"NOTSET" or len(said["kernel_shape"]) != 2:
            continue
        count, kernel = channels[node.input[0]], list(said["kernel_shape"])
        weight = numpy_helper.from_array(np.full((count, 1, *kernel), 1 / np.prod(kernel), np.float32), f"{node.output[0]}_ones")
        graph.initializer.append(weight)
        kept: dict[str, Any] = {k: list(said[k]) for k in ("strides", "pads", "dilations") if k in said}
        conv = helper.make_node("Conv", [node.input[0], weight.name], list(node.output), name=node.name or f"pool_{i}",
                                kernel_shape=kernel, group=count, **kept)  # fmt: skip
        graph.node[i].CopyFrom(conv)


def quantisable(model: Any) -> list[str]:
    """Names of the nodes with weights, in order: those whose precision decides."""
    constants = {t.name for t in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and constants & set(n.input)]


def around_weights(model: Any, untrained: Collection[str] = ()) -> set[str]:
    """Names of the nodes without weights that do not lie between two nodes with weights: what an input is made of and what is made of
    an answer, such as a sampler's arithmetic. They stay float: rounding them costs accuracy and spares next to no time. The weights of
    nodes named `untrained` count as none."""
    weighted, nodes = set(quantisable(model)) - set(untrained), list(model.graph.node)
    behind: set[str] = set()  # tensors that follow from a node with weights
    for n in nodes:
        if n.name in weighted or behind & set(n.input):
            behind |= set(n.output)
    before: set[str] = set()  # tensors that a node with weights follows from
    for n in reversed(nodes):
        if n.name in weighted or before & set(n.output):
            before |= set(n.input)
    return {n.name for n in nodes if n.name not in weighted and not (behind & set(n.input) and before & set(n.output))}


def ranges_of(model: Any, batches: Iterable[Arrays], method: str) -> Any:
    """The range of every float activation over the batches, by one of METHODS, or by "mse" (NNCF's)."""
    if method == "mse":
        return _least_square_ranges(model, list(batches))
    import onnx
    from onnxruntime.quantization import calibrate

    kinds = {"minmax": calibrate.CalibrationMethod.MinMax, "percentile": calibrate.CalibrationMethod.Percentile,
             "entropy": calibrate.CalibrationMethod.Entropy}  # fmt: skip
    extra: dict[str, Any] = {"symmetric": False}  # onnxruntime's histograms of absolute values fail where a tensor hardly changes
    if method == "percentile":
        extra["percentile"] = PERCENTILE
    with files.scratch("ranges") as folder:
        onnx.save(model, Path(folder) / "model.onnx")
        made = calibrate.create_calibrator(
            str(Path(folder) / "model.onnx"), _operators(), str(Path(folder) / "augmented.onnx"), kinds[method], extra_options=extra
        )
        alike: dict[tuple[Any, ...], list[Arrays]] = {}
        for batch in batches:
            alike.setdefault(tuple((n, v.shape) for n, v in sorted(batch.items())), []).append(batch)
        for group in alike.values():  # the calibrator stacks what it is given at once; tasks of one graph may differ in their batch
            for at in range(0, len(group), AT_ONCE):
                made.collect_data(_Reader(iter(group[at : at + AT_ONCE])))
        return made.compute_data()


def symmetric_ranges(ranges: Any) -> Any:
    """Ranges about 0, as far as the farther end of each."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    found = {}
    for name, of in ranges.items():
        most = np.maximum(*np.abs(of.range_value))
        found[name] = (-most, most)
    return TensorsData(CalibrationMethod.MinMax, found)


def _least_square_ranges(model: Any, batches: list[Arrays]) -> Any:
    """Ranges that leave the least square error, by NNCF's histogram search."""
    from nncf.common.tensor_statistics.collectors import HistogramAggregator
    from nncf.tensor import Tensor
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    whole = {n: r.range_value for n, r in ranges_of(model, batches, "minmax").items()}
    seen = {n: HistogramAggregator() for n in whole}
    for values in _activations(model, list(whole), batches):
        for name, value in values.items():
            seen[name].register_reduced_input(Tensor(np.asarray(value, np.float32).reshape(-1)))
    found = {}
    for name, bounds in whole.items():
        low, high = (float(np.min(bounds[0])), float(np.max(bounds[1])))
        if low < high and seen[name].histogram is not None:
            best = [float(v.data) for v in seen[name].aggregate().values()]
            low, high = min(best[0], 0.0), max(best[1], 0.0)  # zero stays inside: padding and ReLU need it exactly
        found[name] = (np.float32(low), np.float32(high))
    return TensorsData(CalibrationMethod.MinMax, {n: (np.asarray(lo), np.asarray(hi)) for n, (lo, hi) in found.items()})


def _activations(model: Any, names: list[str], batches: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
    """The values of inner tensors, batch by batch; names that the graph does not show are left out."""
    import onnx
    import onnxruntime as ort

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    there = {v.name: v for v in model.graph.value_info}
    outputs = {o.name for o in model.graph.output}
    inputs = {i.name for i in model.graph.input}
    probed.graph.output.extend(there[n] for n in names if n in there and n not in outputs)
    shown = [n for n in names if n in there or n in outputs]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in batches:
        found = dict(zip(shown, session.run(shown, dict(batch)), strict=True)) if shown else {}
        yield {**found, **{n: batch[n] for n in names if n in inputs}}


def quantised(model: Any, ranges: Any, choice: Choice) -> Any:
    """The Q/DQ graph of a prepared model."""
    import copy

    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    symmetric = choice.activations == "s8"
    quantizer = QDQQuantizer(
        copy.deepcopy(model), True, False, QuantType.QInt8, QuantType.QInt8 if symmetric else QuantType.QUInt8, ranges, [],
        list(choice.floats), _operators(),
        {"WeightSymmetric": True, "ActivationSymmetric": symmetric, "QuantizeBias": choice.bias},
    )  # fmt: skip
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made = quantizer.model.model
    made.producer_name = "edgekit"
    return made


def clip_rates(model: Any, ranges: Any, batches: Iterable[Arrays], most: int = 20) -> dict[str, float]:
    """Share of the values of each activation outside of its range, the worst `most` tensors first.

    Within half a step of its ends a value is rounded no worse than inside; histograms end ranges up to a bin early."""
    ends = {n: tuple(float(np.asarray(x).reshape(-1)[0]) for x in r.range_value) for n, r in ranges.items()}
    bounds = {n: (low - (high - low) / STEPS / 2, high + (high - low) / STEPS / 2) for n, (low, high) in ends.items()}
    halved = {n.input[0] for n in model.graph.node if n.op_type in ("Relu", "Clip")}  # their range is that of what follows
    names = [n for n in bounds if n not in halved]
    outside, seen = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for values in _activations(model, names, batches):
        for name, value in values.items():
            low, high = bounds[name]
            outside[name] += int(((value < low) | (value > high)).sum())
            seen[name] += value.size
    rates = {n: outside[n] / max(1, seen[n]) for n in names}
    return dict(sorted(rates.items(), key=lambda item: -item[1])[:most])


class _Reader:
    """What onnxruntime calls a CalibrationDataReader."""

    def __init__(self, batches: Iterator[Arrays]) -> None:
        self._batches = batches

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._batches, None)

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> Mapping[str, np.ndarray]:
        return dict(next(self._batches))


def _operators() -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})
