"""Which products of an exported graph have weights that no training made: buffers of the torch module, not parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def untrained(proto: Any, module: torch.nn.Module) -> list[str]:
    """Names of the nodes whose constant matrices are all buffers of the module, as they are, transposed, or a slice along their first axis:
    the exporter folds these in. Every node of `proto` has a name."""
    from onnx import numpy_helper

    fixed = [m for b in module.buffers() if b.is_floating_point() and b.ndim >= 2 for m in _forms(b.detach().cpu().numpy())]
    constants = {t.name: t for t in proto.graph.initializer if len(t.dims) >= 2}
    found = []
    for node in proto.graph.node:
        weights = [numpy_helper.to_array(constants[n]) for n in node.input if n in constants] if node.op_type in OPERATORS else []
        if weights and all(any(w.shape == f.shape and np.array_equal(w, f) for f in fixed) for w in weights):
            found.append(node.name)
    return found


def _forms(buffer: np.ndarray) -> Iterator[np.ndarray]:
    for whole in (buffer, *(buffer if buffer.ndim > 2 else ())):
        yield whole
        if whole.ndim == 2:
            yield whole.T
