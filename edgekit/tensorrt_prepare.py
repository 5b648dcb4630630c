"""A graph made fit for TensorRT without changing what it computes: nodes in order, quantised constants only as weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def prepared(data: bytes) -> bytes:
    """The model as TensorRT wants it. Bytes that are so already, go in a circle, or are no model, come back as they are."""
    import onnx

    try:
        model = onnx.load_from_string(data)
    except Exception:  # protobuf's own exception; the checker will say it better
        return data
    folded = _fold_constants(model.graph)
    ordered = _put_in_order(model.graph)
    return bytes(model.SerializeToString(deterministic=True)) if folded or ordered else data


def _fold_constants(graph: Any) -> int:
    """Quantised constants that are no weights become the float numbers that they stand for; how many. TensorRT builds no plan
    where one of them has to be broadcast."""
    from onnx import numpy_helper

    held = {t.name: t for t in graph.initializer}
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    gone = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or not all(n in held for n in node.input) or readers.get(node.output[0], WEIGHTED) & WEIGHTED:
            continue
        if any(a.name == "block_size" and a.i for a in node.attribute):
            continue
        values, scale = (numpy_helper.to_array(held[n]) for n in node.input[:2])
        if values.dtype != np.int8 or (len(node.input) > 2 and numpy_helper.to_array(held[node.input[2]]).any()):
            continue  # its own rule refuses it, with a better sentence
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if scale.ndim:
            scale = scale.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)]) if scale.size > 1 else scale.reshape(())
        graph.initializer.append(numpy_helper.from_array(np.asarray(values.astype(scale.dtype) * scale), node.output[0]))
        gone.append(node)
    for node in gone:
        graph.node.remove(node)
    return len(gone)


def _put_in_order(graph: Any) -> bool:
    """Every node behind those that it reads, which ONNX demands and onnxruntime's quantiser does not do; True when it was not so."""
    import onnx

    nodes = list(graph.node)
    order = _order(nodes)
    if order is None or order == list(range(len(nodes))):
        return False
    copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _order(nodes: Sequence[Any]) -> list[int] | None:
    """Places in the order to run them, as near to the order given as can be; None for a circle."""
    maker = {out: i for i, node in enumerate(nodes) for out in node.output if out}
    order: list[int] = []
    done: set[int] = set()
    opened: set[int] = set()
    for i in range(len(nodes)):
        stack = [i]
        while stack:
            at = stack[-1]
            if at in done:
                stack.pop()
                continue
            waits = [w for w in _before(nodes[at], maker) if w not in done]
            if not waits:
                done.add(at)
                order.append(at)
                stack.pop()
            elif at in opened:
                return None  # it was opened before, and what it waits for still is not done
            else:
                opened.add(at)
                stack += reversed(waits)
    return order


def _before(node: Any, maker: Mapping[str, int]) -> list[int]:
    """The nodes whose outputs a node reads, also from the graphs inside it."""
    return sorted({maker[name] for name in _reads(node) if name in maker})


def _reads(node: Any) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            found |= {o.name for o in inner.output}
            for x in inner.node:
                found |= _reads(x)
    return found
