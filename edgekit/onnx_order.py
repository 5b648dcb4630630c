"""An ONNX graph with every node behind those that it reads, which ONNX demands and onnxruntime's quantiser does not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def in_order(data: bytes) -> bytes:
    """The model in order. Bytes that are in order already, go in a circle, or are no model, come back as they are."""
    import onnx

    try:
        model = onnx.load_from_string(data)
    except Exception:  # protobuf's own exception; the checker will say it better
        return data
    nodes = list(model.graph.node)
    order = _order(nodes)
    if order is None or order == list(range(len(nodes))):
        return data
    copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return bytes(model.SerializeToString(deterministic=True))


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
