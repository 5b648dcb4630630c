"""Which products of an exported graph have weights that no training made: buffers of the torch module, not parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def untrained(proto: Any, module: torch.nn.Module) -> list[str]:
    """Names of the nodes whose constant matrices are all buffers of the module, or made of them alone (cut, transposed; by nodes, or
    folded in by the exporter). Every node of `proto` has a name."""
    from onnx import numpy_helper

    buffers = [m for b in module.buffers() if b.is_floating_point() and b.ndim >= 2 for m in _forms(b.detach().cpu().numpy())]
    constants = {t.name for t in proto.graph.initializer}
    matrices = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if len(t.dims) >= 2}
    fixed = {n for n, w in matrices.items() if any(w.shape == b.shape and np.array_equal(w, b) for b in buffers)}
    weights, found = set(matrices), []
    for node in proto.graph.node:
        if node.input and constants.issuperset(node.input):
            constants |= set(node.output)
            weights |= set(node.output)
            fixed |= set(node.output) if fixed & set(node.input) and not (weights - fixed) & set(node.input) else set()
        elif node.op_type in OPERATORS and weights & set(node.input) and fixed.issuperset(weights & set(node.input)):
            found.append(node.name)
    return found


def _forms(buffer: np.ndarray) -> Iterator[np.ndarray]:
    for whole in (buffer, *(buffer if buffer.ndim > 2 else ())):
        yield whole
        if whole.ndim == 2:
            yield whole.T
