"""Is this ONNX graph one that a TensorRT can read? Asked before any of NVIDIA's code is called; a refusal names the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.tensorrt_quantised import check_quantisation
from edgekit.tensorrt_tables import (
    FLOAT_TYPES,
    MOVES_BYTES,
    OLDEST_OPSET,
    QUANTISED_READERS,
    QUANTISED_TYPES,
    TYPES,
    Version,
    types_of,
)

DATA_INPUT = {"Where": 1, "OneHot": 2}  # the input that carries the numbers, where it is not the first
READS_DOUBLES = frozenset({"Cast", "Shape", "Size"})  # which compute nothing in it
FREE_INPUTS = frozenset({"If", "Loop", "Scan", "Constant"})  # their inputs say nothing of their types


def check_model(data: bytes, version: Version, what: str) -> Any:
    """The model with the types and shapes of its inner tensors, if this TensorRT can read it.

    Raises EdgekitError that begins with `what` and names the first node or tensor at fault. In this order: files outside
    the model, onnx's own checker and shape inference, operators and their types, quantisation.
    """
    import onnx
    from onnx import checker, shape_inference

    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own exception
        raise EdgekitError(f"{what} is no ONNX model ({_first_line(error)}); export it again") from None
    if not model.graph.node or not model.graph.output:
        raise EdgekitError(f"{what} holds no nodes or no outputs, so it is no ONNX model that can run; export it again")
    _check_inside(model, what)  # first of all: the checker would look for the files
    try:
        checker.check_model(model, full_check=True)
        inferred = shape_inference.infer_shapes(model, strict_mode=True)  # data_prop fails on valid models that compute shapes
    except Exception as error:  # onnx has one for each kind of fault
        raise EdgekitError(f"{what} is not a valid ONNX model: {_first_line(error)}") from None
    _check_operators(inferred, version, what)
    check_quantisation(inferred, types(inferred), what)
    return inferred


def nodes(model: Any) -> Iterator[Any]:
    """Every node of the main graph, of the graphs inside its nodes, and of the model's functions."""
    pending = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                pending += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def types(model: Any) -> dict[str, str]:
    """Tensor -> the name of its type, of the main graph and of those inside it, as far as it is known."""
    from onnx import TensorProto

    found: dict[str, int] = {}
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type"):
                found[value.name] = value.type.tensor_type.elem_type
        found |= {t.name: t.data_type for t in graph.initializer}
        for node in graph.node:
            for attribute in node.attribute:
                pending += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    return {name: TensorProto.DataType.Name(kind) for name, kind in found.items()}


def name_of(node: Any) -> str:
    """What a person can find the node by."""
    out = next((o for o in node.output if o), "?")
    return f"the node '{node.name}' ({node.op_type})" if node.name else f"the {node.op_type} node that makes '{out}'"


def used_types(data: bytes) -> set[str]:
    """The types of all tensors of a model: what decides which chips it can run on."""
    import onnx

    return set(types(onnx.shape_inference.infer_shapes(onnx.load_from_string(data))).values())


def _check_inside(model: Any, what: str) -> None:
    from onnx import TensorProto

    held = [*model.graph.initializer, *(a.t for n in nodes(model) for a in n.attribute if a.HasField("t"))]
    for node in nodes(model):
        held += [t for a in node.attribute if a.HasField("g") for t in a.g.initializer]
    for tensor in held:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise EdgekitError(
                f"{what} keeps the tensor '{tensor.name}' in a file of its own, which a plan cannot refer to; "
                "save the model as one file first"
            )


def _check_operators(model: Any, version: Version, what: str) -> None:
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise EdgekitError(f"{what} is of opset {opset}, but {version.label} reads {OLDEST_OPSET} and later; export it with a later opset")
    functions = {(f.domain, f.name) for f in model.functions}
    known = types(model)
    for node in nodes(model):
        if (node.domain, node.op_type) in functions:
            continue
        if node.domain not in ("", "ai.onnx"):
            raise EdgekitError(
                f"{what}: {name_of(node)} is of the domain '{node.domain}', which TensorRT reads only with a plugin; "
                "express it in standard ONNX operators"
            )
        if node.op_type not in version.operators:
            raise EdgekitError(
                f"{what}: {name_of(node)} is an operator that {version.label} does not read (by {version.known_by}); "
                "express it in other operators"
            )
        _check_types(node, known, version, what)


def _check_types(node: Any, known: dict[str, str], version: Version, what: str) -> None:
    if node.op_type in FREE_INPUTS:
        return
    at = DATA_INPUT.get(node.op_type, 0)
    tensor = node.input[at] if len(node.input) > at else ""
    kind = known.get(tensor, "")
    if not kind or kind == "UNDEFINED":
        return  # an inner tensor whose type onnx cannot tell; NVIDIA's parser will
    if kind == "DOUBLE" and node.op_type not in READS_DOUBLES:
        raise EdgekitError(
            f"{what}: {name_of(node)} reads '{tensor}' of type DOUBLE, which TensorRT computes in float32 without a word; "
            "cast it to float32 in the model"
        )
    allowed = types_of(node.op_type) | ({"DOUBLE"} if kind == "DOUBLE" else set())
    if node.op_type == "DequantizeLinear":
        allowed = TYPES | {"INT32"}  # its own rules give a better sentence
    fits = kind in allowed
    if kind == "UINT8":
        fits = node.op_type in MOVES_BYTES
    elif kind in QUANTISED_TYPES:
        fits = node.op_type in QUANTISED_READERS
    if not fits:
        takes = ", ".join(sorted(allowed & (FLOAT_TYPES | {"INT32", "INT64", "BOOL"})))
        raise EdgekitError(f"{what}: {name_of(node)} reads '{tensor}' of type {kind}; {version.label} takes {takes} there: add a Cast before it")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
