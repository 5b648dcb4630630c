"""The rules of quantised ONNX graphs (QuantizeLinear, DequantizeLinear) that TensorRT reads; broken ones are named by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError

# Type of quantised values -> the first opset in which QuantizeLinear and DequantizeLinear know it.
OPSETS = {"INT8": 10, "FLOAT8E4M3FN": 19, "INT4": 21, "FLOAT4E2M1": 23}
WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}  # output channels of the weight; of Gemm it depends on transB, of MatMul it is the last


def check_quantisation(model: Any, known: Mapping[str, str], what: str) -> None:
    """Raise EdgekitError for the first Q or DQ node that breaks a rule. `known`: tensor -> type.

    INT8 is symmetric (zero point 0) and signed; a bias stays float; per-channel weights are cut along output channels.
    """
    from onnx import numpy_helper

    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        where = f"{what}: the node '{node.name or node.output[0]}' ({node.op_type})"
        _check_type(node, known, opset, where)
        for role, at in (("scale", 1), ("zero point", 2)):
            tensor = node.input[at] if len(node.input) > at else ""
            if tensor and tensor not in constants:
                raise EdgekitError(f"{where} computes its {role} '{tensor}' while it runs; TensorRT needs a constant there")
        if len(node.input) > 2 and node.input[2]:
            zero = np.asarray(numpy_helper.to_array(constants[node.input[2]])).astype(np.float32)
            if zero.any():
                raise EdgekitError(f"{where} has the zero point {zero.flat[np.flatnonzero(zero)[0]]:g}; TensorRT takes only symmetric "
                                   "quantisation, zero point 0: quantise again with symmetric weights and activations")  # fmt: skip
        scale = numpy_helper.to_array(constants[node.input[1]])
        if not (np.asarray(scale).astype(np.float32) > 0).all():
            raise EdgekitError(f"{where} has a scale that is not above 0; quantise again with data in which its tensor is not constant")
        if scale.size > 1:
            _check_axis(node, scale.size, constants, readers, where)


def _check_type(node: Any, known: Mapping[str, str], opset: int, where: str) -> None:
    kind = known.get(node.input[0] if node.op_type == "DequantizeLinear" else node.output[0], "")
    if kind == "INT32":
        raise EdgekitError(
            f"{where} reads INT32, a quantised bias, which TensorRT refuses; quantise without the bias "
            "(onnxruntime: extra_options={'QuantizeBias': False})"
        )
    if kind == "UINT8":
        raise EdgekitError(f"{where} is of type UINT8; TensorRT takes signed, symmetric INT8: quantise weights and activations to QInt8")
    if kind and kind not in OPSETS:
        raise EdgekitError(f"{where} is of type {kind}; TensorRT quantises to {', '.join(OPSETS)}")
    if kind and opset < OPSETS[kind]:
        raise EdgekitError(
            f"{where} is of type {kind}, which needs opset {OPSETS[kind]}, but the model is of opset {opset}; export it with a later one"
        )


def _check_axis(node: Any, channels: int, constants: Mapping[str, Any], readers: Mapping[str, list[Any]], where: str) -> None:
    """Per-channel scales belong to weights, cut along the channels that the operator gives."""
    block = next((a.i for a in node.attribute if a.name == "block_size"), 0)
    if block:
        return  # a scale a block has more dimensions; onnx's shape inference has looked at them
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    tensor = node.output[0] if node.op_type == "DequantizeLinear" else node.input[0]
    source = node.input[0]
    weight = constants.get(source)
    if weight is None and node.op_type == "QuantizeLinear":
        raise EdgekitError(f"{where} has {channels} scales on an activation; TensorRT takes one: quantise activations per tensor")
    if weight is None:
        return
    shape = list(weight.dims)
    axis %= max(len(shape), 1)
    if shape[axis] != channels:
        raise EdgekitError(f"{where} has {channels} scales along axis {axis} of '{source}', which has {shape[axis]} there; quantise again")
    for reader in readers.get(tensor, []):
        if len(reader.input) < 2 or reader.input[1] != tensor:
            continue
        right = WEIGHT_AXIS.get(reader.op_type, -1)
        if reader.op_type == "Gemm":
            right = 0 if any(a.name == "transB" and a.i for a in reader.attribute) else 1
        elif reader.op_type == "MatMul":
            right = len(shape) - 1
        if right not in (-1, axis):
            raise EdgekitError(
                f"{where} has its scales along axis {axis} of '{source}', but the output channels of the {reader.op_type} that reads it "
                f"are axis {right}; quantise again along that axis"
            )
