"""Nodes and constants of an ONNX graph while it is written: fresh names, equal constants kept once."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


class Nodes:
    """What was written so far. prefix: of the names of inner tensors."""

    def __init__(self, prefix: str = "v") -> None:
        self._prefix = prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}  # name -> TensorProto, for the graph's initializers
        self._count = 0

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node with one output; the name of that."""
        made = self.fresh()
        self.write(kind, inputs, made, **attributes)
        return made

    def write(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Append a node whose output has a name already."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))

    def fresh(self) -> str:
        """A name that no tensor has yet."""
        self._count += 1
        return f"{self._prefix}{self._count}"

    def constant(self, array: Any) -> str:
        """The name of the initializer that holds this array."""
        from onnx import numpy_helper

        array = np.require(array, requirements="C")
        key = f"constant_{array.dtype.name}_{'x'.join(map(str, array.shape))}_{hashlib.sha256(array.tobytes()).hexdigest()[:12]}"
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, key)
        return key
