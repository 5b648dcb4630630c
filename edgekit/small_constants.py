"""Constants of an exported graph that an optimiser would take for nothing: a small number added, or a factor next to one.

onnxscript's rules drop `x + c` and `x - c` for |c| up to 1e-8, and `x * c` and `x / c` for c within 1e-5 of 1 (its matcher compares with
tolerances). What keeps a division from 0 / 0 is such a number. The rules ask for scalars: in a tensor of one element the same number stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NEAR = 1e-4  # the rules' own tolerances are below it
SUMS, FACTORS = ("Add", "Sub"), ("Mul", "Div")


def keep_small_constants(model: Any) -> int:
    """Put the scalars that would be dropped into tensors of one element, in place; how many. model: an onnx_ir.Model before it is optimised.

    A node whose other input has no dimension, or an unknown number of them, is left as it is: its result would get another shape.
    """
    import onnx_ir as ir

    kept = 0
    for node in list(model.graph.all_nodes()):
        if node.domain or node.op_type not in (*SUMS, *FACTORS):
            continue
        for place, other in ((0, 1), (1, 0)):
            value, beside = ir.convenience.get_const_tensor(node.inputs[place]), node.inputs[other]
            if value is None or value.shape.rank() or beside is None or beside.shape is None or not beside.shape.rank():
                continue
            number = value.numpy()
            if number.dtype.kind != "f" or not _would_be_dropped(node.op_type, float(number)):
                continue
            constant = ir.node("Constant", [], {"value": ir.tensor(number.reshape(1), name=f"{node.name}_{place}_kept")})
            node.graph.insert_before(node, constant)
            node.replace_input_with(place, constant.outputs[0])
            constant.outputs[0].dtype, constant.outputs[0].shape = value.dtype, ir.Shape([1])
            kept += 1
    return kept


def _would_be_dropped(operator: str, number: float) -> bool:
    nothing = 0.0 if operator in SUMS else 1.0
    return number != nothing and bool(np.abs(number - nothing) < NEAR)
