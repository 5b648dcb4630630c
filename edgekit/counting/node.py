"""An operator and its tensors at known shapes, whatever format it was read from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_BITS = {
    "float64": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128, "float32": 32, "int32": 32, "uint32": 32, "float16": 16,
    "bfloat16": 16, "int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "bool": 8, "int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """A tensor at an operator. constant: known before any input is, as weights are."""

    shape: tuple[int, ...]
    dtype: str  # numpy's name, or "bfloat16", "int4", "float8..."
    constant: bool = False

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """As stored; strings count as nothing."""
        bits = 8 if self.dtype.startswith("float8") else _BITS.get(self.dtype, 0)
        return -(-self.size * bits // 8)


@dataclass(frozen=True)
class Node:
    """An operator with its tensors; None for one that is left out. operator: by ONNX's name, without its domain."""

    name: str
    operator: str
    inputs: tuple[Port | None, ...]
    outputs: tuple[Port | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    made: tuple[str, ...] = ()  # names of the output tensors

    def input(self, i: int) -> Port:
        """The i-th input; KeyError when it is left out or its shape is not known."""
        found = self.inputs[i] if i < len(self.inputs) else None
        if found is None:
            raise KeyError(f"input {i} of {self.operator}")
        return found

    def has(self, i: int) -> bool:
        """Whether the i-th input is there."""
        return i < len(self.inputs) and self.inputs[i] is not None

    @property
    def output(self) -> Port:
        """The first output that is there."""
        found = next((p for p in self.outputs if p is not None), None)
        if found is None:
            raise KeyError(f"output of {self.operator}")
        return found
