"""The shape and type of every tensor of an ONNX graph for given inputs: by inference, and where that gives up, by running it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.counting.node import Port
from edgekit.parts import Arrays

LIMIT_S = 60.0  # of a run that only shows shapes
SMALL = 1024  # elements of a constant that inference may need the values of (a shape, a list of axes)


def shapes(model: Any, inputs: Arrays, run: bool = True) -> dict[str, Port]:
    """Tensor -> Port of all tensors of the main graph whose shape is known. model: a ModelProto with its weights, local functions
    inlined; inputs: one array an input (zero-strided ones will do).

    run: where inference leaves tensors without a shape, onnxruntime runs the graph, unoptimised, and its outputs are looked at.
    """
    found = inferred(model, inputs)
    wanted = [o for n in model.graph.node for o in n.output if o]
    if run and any(o not in found for o in wanted):
        found |= _seen(model, inputs, [o for o in wanted if o not in found])
    return found


def inferred(model: Any, inputs: Arrays) -> dict[str, Port]:
    """What ONNX's own inference knows at these input shapes."""
    import onnx

    slim = _slim(model, inputs)
    try:
        done = onnx.shape_inference.infer_shapes(slim, data_prop=True)
    except Exception:  # the checker's and protobuf's exceptions share no base; what is not inferred is run
        done = slim
    found = {t.name: Port(tuple(t.dims), dtype_name(t.data_type), True) for t in model.graph.initializer}
    found |= {t.values.name: Port(tuple(t.dims), dtype_name(t.values.data_type), True) for t in model.graph.sparse_initializer}
    for value in (*done.graph.value_info, *done.graph.output, *done.graph.input):
        port = _port(value)
        if port is not None and value.name not in found:
            found[value.name] = port
    return found | _given(model, inputs)


def _given(model: Any, inputs: Arrays) -> dict[str, Port]:
    """The graph's inputs: their declared types, the shapes of these arrays."""
    declared = {i.name: i.type.tensor_type.elem_type for i in model.graph.input if i.type.HasField("tensor_type")}
    return {n: Port(v.shape, dtype_name(declared[n])) for n, v in inputs.items() if declared.get(n)}


def typed(name: str, port: Port) -> Any:
    """The ValueInfoProto of a tensor of known shape."""
    from onnx import helper

    return helper.make_tensor_value_info(name, _number(port.dtype), list(port.shape))


def _slim(model: Any, inputs: Arrays) -> Any:
    """A copy with these input shapes and no large weight: their shapes are enough."""
    import onnx

    slim = onnx.ModelProto()
    slim.ir_version = max(model.ir_version, 4)
    slim.opset_import.extend(model.opset_import)
    graph = slim.graph
    graph.name = "shapes"
    graph.node.extend(model.graph.node)
    graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in model.graph.output)  # declared shapes may be of other inputs
    graph.input.extend(typed(n, p) for n, p in _given(model, inputs).items())
    graph.input.extend(i for i in model.graph.input if not i.type.HasField("tensor_type"))
    for t in model.graph.initializer:
        if int(np.prod(t.dims)) <= SMALL and t.data_location != onnx.TensorProto.EXTERNAL:
            graph.initializer.append(t)
        elif t.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    return slim


def _seen(model: Any, inputs: Arrays, wanted: list[str]) -> dict[str, Port]:
    """Run once and look. Tensors inside branches and loops, and a graph that does not run, give nothing."""
    import onnx
    import onnxruntime as ort

    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        return {}  # the weights lie elsewhere
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    there = {o.name for o in asked.graph.output}
    asked.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in there)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    run = ort.RunOptions()
    stop = threading.Timer(LIMIT_S, setattr, (run, "terminate", True))  # a loop may have no end
    stop.daemon = True
    stop.start()
    try:
        session = ort.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
        answers = session.run(wanted, {n: np.ascontiguousarray(v) for n, v in inputs.items()}, run)
    except Exception:  # too large, or it does not run at these inputs: whoever counts says what is not known
        return {}
    finally:
        stop.cancel()
    return {n: Port(a.shape, a.dtype.name) for n, a in zip(wanted, answers, strict=True) if isinstance(a, np.ndarray)}


def _port(value: Any) -> Port | None:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape") or not tensor.elem_type:
        return None
    if any(not d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return Port(tuple(d.dim_value for d in tensor.shape.dim), dtype_name(tensor.elem_type))


def dtype_name(number: int) -> str:
    """numpy's name of an ONNX type, or ONNX's own in small letters where numpy has none."""
    from onnx import TensorProto

    names: Mapping[str, str] = {"float": "float32", "double": "float64"}
    own = TensorProto.DataType.Name(number).lower()
    return names.get(own, own)


def _number(name: str) -> int:
    from onnx import TensorProto

    own = {"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())
    return int(TensorProto.DataType.Value(own))
