"""What one operator computes and moves at known shapes: multiply-adds, operations and bytes, as integers.

Dense, by the convention of the field: a weight counts at every position of its window, also where the window lies on padding or the
value is zero. Engines may skip padding, so what is left without it is counted beside (`inside`), as edgekit/operations.py does for
spiking networks. A multiply-add is two operations; adding a bias is none. Recurrent layers count every step of the sequence; masks
save nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.counting.kinds import COPIES, ELEMENTWISE, PER_ELEMENT, PICKS, POOLS, REDUCTIONS, VARIADIC, VIEWS
from edgekit.counting.node import Node, Port
from edgekit.counting.products import FACTORS, MACS, RECURRENT, einsum_operations, inside, recurrent, scores

_PRECISION = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "uint8": "int8", "int4": "int8", "uint4": "int8"}


@dataclass(frozen=True)
class NodeCosts:
    """Of one call. `operations` holds the multiply-adds, two each."""

    name: str
    operator: str
    precision: str  # of the arithmetic: "f32", "f16", "bf16", "int8", else numpy's name
    macs: int
    inside: int  # of them, those whose window position lies inside the input: no more can be needed
    operations: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    made: tuple[str, ...] = ()

    @property
    def bytes_moved(self) -> int:
        """Inputs, weights and outputs, once each."""
        return self.input_bytes + self.weight_bytes + self.output_bytes


def known(operator: str) -> bool:
    """Whether there is a rule for an operator of this name."""
    rules = (VIEWS, COPIES, ELEMENTWISE, VARIADIC, REDUCTIONS, POOLS, PER_ELEMENT, MACS, RECURRENT, _OTHER)
    return any(operator in r for r in rules)


def count(node: Node) -> NodeCosts:
    """The costs of one call. KeyError when an input or output that the rule needs has no known shape; an operator without
    a rule counts the bytes that it moves and no operation (see `known`)."""
    kind = node.operator
    macs = MACS[kind](node) if kind in MACS else 0
    operations = 2 * macs + _more_operations(node)
    if kind in RECURRENT:
        macs, more = recurrent(node)
        operations = 2 * macs + more
    moved = (0, 0, 0) if kind in VIEWS else _bytes(node)
    return NodeCosts(node.name, kind, _precision(node), macs, inside(node, macs) if macs else 0, operations, *moved, made=node.made)


def _more_operations(node: Node) -> int:
    kind = node.operator
    if kind in ELEMENTWISE:
        return node.output.size
    if kind in VARIADIC:
        return node.output.size * max(len(node.inputs) - 1, 1 if kind == "Mean" else 0)
    if kind in REDUCTIONS:
        return node.input(0).size
    if kind in POOLS:
        return node.output.size * math.prod(int(n) for n in node.attributes["kernel_shape"])
    if kind in PER_ELEMENT:
        return node.input(0).size * PER_ELEMENT[kind]
    return _OTHER[kind](node) if kind in _OTHER else 0


def _precision(node: Node) -> str:
    """Of a product that of its data and weights, where 8 bits count only if both have them; else that of what is read."""
    if node.operator.startswith("DynamicQuantize") and node.operator != "DynamicQuantizeLinear":
        return "int8"
    if node.operator in MACS or node.operator in RECURRENT:
        factors = [node.input(i) for i in FACTORS.get(node.operator, (0, 1)) if node.has(i)]
        kinds = sorted({_PRECISION.get(p.dtype, p.dtype) for p in factors} - {"int8"})
        return kinds[0] if kinds else "int8"
    read = [p for p in node.inputs if p is not None and not p.constant] or [p for p in node.inputs if p is not None] or [node.output]
    return _PRECISION.get(read[0].dtype, read[0].dtype)


def _bytes(node: Node) -> tuple[int, int, int]:
    """Inputs, weights, outputs."""
    outputs = sum(p.bytes for p in node.outputs if p is not None)
    inputs = weights = 0
    for i, p in enumerate(node.inputs):
        if p is None:
            continue
        read = Port(node.output.shape, p.dtype).bytes if i == 0 and node.operator in PICKS else p.bytes
        inputs, weights = (inputs, weights + read) if p.constant else (inputs + read, weights)
    return inputs, weights, outputs


def _resize(node: Node) -> int:
    """A multiply-add for each neighbour: 2 (linear) or 4 (cubic) along each axis that changes; nearest moves bytes only."""
    neighbours = {"linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}.get(str(node.attributes.get("mode", "nearest")), 0)
    before, after = node.input(0).shape, node.output.shape
    axes = len(before) - 2 if node.operator == "GridSample" else sum(a != b for a, b in zip(before, after, strict=False))
    return 2 * node.output.size * neighbours**axes if neighbours and axes else 0


def _dft(node: Node) -> int:
    """5 n log2 n operations a transform: the radix-2 count, whatever algorithm runs."""
    transforms = [p for p in node.outputs if p is not None][0].shape
    n = transforms[-2]
    if node.operator == "DFT":
        axis = int(node.attributes.get("axis", -2))
        n = node.input(0).shape[axis]
    return round(5 * math.prod(transforms[:-1]) / max(transforms[-2], 1) * n * math.log2(max(n, 2)))


def _deform_conv(node: Node) -> int:
    """Of each sample that a window takes, four neighbours are weighed: beside the convolution's own multiply-adds."""
    taken = node.output.shape[0] * math.prod(node.output.shape[2:]) * node.input(0).shape[1] * math.prod(node.input(1).shape[2:])
    return 8 * taken


def _softmax(node: Node) -> int:
    return PER_ELEMENT["Softmax"] * scores(node)


def _after_product(node: Node) -> int:
    """What onnxruntime fuses into a convolution or product: an activation, and a sum with another tensor."""
    fused = ("activation" in node.attributes) + node.has(3)
    return node.output.size * fused


_OTHER: dict[str, Callable[[Node], int]] = {
    "Attention": _softmax, "Conv": _after_product, "DFT": _dft, "DeformConv": _deform_conv, "Einsum": einsum_operations,
    "FusedConv": _after_product, "FusedGemm": _after_product, "MultiHeadAttention": _softmax, "QAttention": _softmax,
    "GridSample": _resize, "LRN": lambda node: node.output.size * (int(node.attributes["size"]) + 3),
    "NhwcFusedConv": _after_product, "Resize": _resize, "STFT": _dft, "Upsample": _resize,
}  # fmt: skip
