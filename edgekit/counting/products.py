"""Multiply-adds of the operators that are products: convolutions, matrix products, attention, einsum, recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.counting.node import Node


def _conv(node: Node, weight: int = 1) -> int:
    return node.output.size * math.prod(node.input(weight).shape[1:])


def _conv_transpose(node: Node) -> int:
    return node.input(0).size * math.prod(node.input(1).shape[1:])


def inside(node: Node, macs: int) -> int:
    """Of the multiply-adds of a convolution, those whose window place is inside the input, not on padding; of others, all."""
    if node.operator not in _WINDOWS:
        return macs
    weight = node.input(FACTORS.get(node.operator, (0, 1))[1]).shape
    axes = len(weight) - 2
    small, large = (node.input(0).shape[2:], node.output.shape[2:])
    if node.operator != "ConvTranspose":
        small, large = large, small  # each element of `small` touches a window of `large`
    stride, dilation = (list(node.attributes.get(n) or [1] * axes) for n in ("strides", "dilations"))
    pads = _pads_before(node, weight[2:], small, large)
    found, every = macs, 1
    for i in range(axes):
        # A weight k meets places at -pad + k x dilation + n x stride, n = 0 ... small - 1; those in 0 ... large - 1 count.
        first = np.arange(weight[2 + i]) * int(dilation[i]) - pads[i]
        low = np.maximum(-(first // int(stride[i])), 0)
        high = np.minimum((large[i] - 1 - first) // int(stride[i]), small[i] - 1)
        found *= int(np.maximum(high - low + 1, 0).sum())
        every *= small[i] * weight[2 + i]
    return found // every if every else 0


def _pads_before(node: Node, window: tuple[int, ...], small: tuple[int, ...], large: tuple[int, ...]) -> list[int]:
    auto = str(node.attributes.get("auto_pad", "NOTSET"))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        stride, dilation = (list(node.attributes.get(n) or [1] * len(window)) for n in ("strides", "dilations"))
        sizes = zip(window, small, large, stride, dilation, strict=True)
        both = [max((n - 1) * int(s) + (k - 1) * int(d) + 1 - length, 0) for k, n, length, s, d in sizes]
        return [b // 2 for b in both]  # SAME_LOWER is the mirror image: as many places are inside
    given = list(node.attributes.get("pads") or [])
    return [int(p) for p in given[: len(window)]] if given and auto == "NOTSET" else [0] * len(window)


def _matmul(node: Node) -> int:
    """The inner length is the last of the first matrix, or where a transposition puts it."""
    a, flags = node.input(0).shape, node.attributes
    if flags.get("transA"):
        # onnxruntime's FusedMatMul may also move the batch: [rows, batch..., inner] is then the layout before.
        return node.output.size * (a[0] if flags.get("transBatchA") else a[-2])
    return node.output.size * a[-1] if a else 0


@dataclass(frozen=True)
class _Heads:
    """An attention's sizes: scores of every query with every key, `width` products each, then `width_out` for the sum of values."""

    scores: int  # batch x heads x queries x keys
    width: int
    width_out: int
    projected: int = 0  # multiply-adds of projections inside


def _heads(node: Node) -> _Heads:
    if node.operator == "MultiHeadAttention":
        return _multi_head(node)
    if "num_heads" in node.attributes:  # com.microsoft's Attention and QAttention
        return _projected(node)
    q, k, v = (node.input(i).shape for i in range(3))
    past = node.input(4).shape[2] if node.has(4) else 0
    if len(q) == 4:  # [batch, heads, time, width]
        return _Heads(q[0] * q[1] * q[2] * (k[2] + past), q[3], v[3])
    heads = int(node.attributes["q_num_heads"])  # [batch, time, heads x width]
    return _Heads(q[0] * heads * q[1] * (k[1] + past), q[2] // heads, v[2] // int(node.attributes["kv_num_heads"]))


def _multi_head(node: Node) -> _Heads:
    """com.microsoft.MultiHeadAttention: queries [batch, time, heads x width], keys too or split by heads."""
    q, heads = node.input(0).shape, int(node.attributes["num_heads"])
    keys = q[1] if not node.has(1) else node.input(1).shape[1 if len(node.input(1).shape) == 3 else 2]
    return _Heads(q[0] * heads * q[1] * keys, node.output.shape[-1] // heads, node.output.shape[-1] // heads)


def _projected(node: Node) -> _Heads:
    """com.microsoft.Attention and QAttention: [batch, time, width in] and one matrix for all three projections."""
    x, w, heads = node.input(0).shape, node.input(1), int(node.attributes["num_heads"])
    width = node.output.shape[-1] // heads
    return _Heads(x[0] * heads * x[1] * x[1], width, width, x[0] * x[1] * w.size)


def _attention(node: Node) -> int:
    heads = _heads(node)
    return heads.scores * (heads.width + heads.width_out) + heads.projected


def scores(node: Node) -> int:
    """Elements of an attention's softmax."""
    return _heads(node).scores


def _einsum(node: Node) -> int:
    """Multiply-adds of a product that is summed over some index; 0 for one that is not (see einsum_operations)."""
    sizes, summed = _einsum_sizes(node)
    return math.prod(sizes.values()) * (len(node.inputs) - 1) if summed else 0


def einsum_operations(node: Node) -> int:
    sizes, summed = _einsum_sizes(node)
    if len(node.inputs) == 1:
        return math.prod(sizes.values()) if summed else 0
    return 0 if summed else node.output.size * (len(node.inputs) - 1)


def _einsum_sizes(node: Node) -> tuple[dict[str, int], bool]:
    """Index -> size, and whether any index is summed over. What `...` stands for is indices 0, 1, ... from the right."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    left, arrow, right = equation.partition("->")
    sizes: dict[str, int] = {}
    for i, term in enumerate(left.split(",")):
        shape = node.input(i).shape
        dots = len(shape) - len(term.replace("...", ""))
        head, _, tail = term.partition("...")
        names = [*head, *(str(k) for k in range(dots - 1, -1, -1)), *tail]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    letters = [c for c in left if c.isalpha()]
    kept = set(right) if arrow else {c for c in letters if letters.count(c) == 1}
    return sizes, any(c not in kept for c in letters)


def recurrent(node: Node) -> tuple[int, int]:
    """(multiply-adds, other operations): both weight matrices at every step; and the gates, by their equations."""
    x = node.input(0).shape
    w, r = (node.input(i).shape for i in (1, 2))
    steps = x[0] * x[1]  # time x batch, in either layout
    hidden = min(r[1:])  # [directions, gates x hidden, hidden], or transposed
    return steps * (math.prod(w) + math.prod(r)), steps * w[0] * hidden * RECURRENT[node.operator]


MACS: dict[str, Callable[[Node], int]] = {
    "Attention": _attention, "CausalConvWithState": _conv, "Conv": _conv, "ConvInteger": _conv, "ConvTranspose": _conv_transpose, "DeformConv": _conv,
    "DynamicQuantizeMatMul": _matmul, "Einsum": _einsum, "FusedConv": _conv, "FusedGemm": _matmul, "FusedMatMul": _matmul, "Gemm": _matmul,
    "GemmFloat8": _matmul, "MatMul": _matmul, "MatMulInteger": _matmul, "MatMulIntegerToFloat": _matmul, "MatMulNBits": _matmul,
    "MultiHeadAttention": _attention, "NhwcFusedConv": _conv, "QAttention": _attention, "QGemm": _matmul,
    "QLinearConv": lambda node: _conv(node, 3), "QLinearMatMul": _matmul, "TransposeMatMul": _matmul,
}  # fmt: skip
FACTORS = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "QGemm": (0, 3)}  # where data and weights are; else (0, 1)
# Whose windows may lie on padding; channels first.
_WINDOWS = ("CausalConvWithState", "Conv", "ConvInteger", "ConvTranspose", "FusedConv", "QLinearConv")
# An element of the hidden state and step. LSTM: 4 sums of the two products, 5 functions, 3 products, 1 sum; GRU: 3, 3, 3, 2.
RECURRENT = {"LSTM": 13, "GRU": 11, "RNN": 2, "DynamicQuantizeLSTM": 13}
