"""Small ONNX models that TensorRT reads, and some that it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper


def model(nodes: list, inputs: dict, outputs: dict, constants: dict | None = None, opset: int = 17, domains: tuple[str, ...] = ()) -> onnx.ModelProto:
    """inputs, outputs: name -> (type, shape)."""
    infos = [[helper.make_tensor_value_info(n, kind, list(shape)) for n, (kind, shape) in side.items()] for side in (inputs, outputs)]
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "small", *infos, held)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def conv_net(batch: int | str = "batch") -> onnx.ModelProto:
    """A convolution, a pool, a matrix product, a softmax."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    return model(
        [
            node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"], name="relu"),
            node("GlobalAveragePool", ["r"], ["g"], name="pool"), node("Flatten", ["g"], ["f"], name="flat"),
            node("MatMul", ["f", "k"], ["m"], name="head"), node("Softmax", ["m"], ["y"], name="soft", axis=-1),
        ],
        {"x": (T.FLOAT, (batch, 3, 8, 8))}, {"y": (T.FLOAT, (batch, 5))},
        {"w": rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32), "b": rng.normal(0, 1, 8).astype(np.float32),
         "k": rng.normal(0, 1, (8, 5)).astype(np.float32)},
    )  # fmt: skip


def quantised(
    kind: type = np.int8, zero: int = 0, weight_axis: int = 0, bias: bool = False, activation_scales: int = 1, opset: int = 17
) -> onnx.ModelProto:
    """A convolution between Q and DQ, as a quantiser writes it: symmetric INT8 unless something else is asked for."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    channels = (8, 3)[weight_axis]
    constants = {
        "x_s": np.full(activation_scales, 0.05, np.float32) if activation_scales > 1 else np.float32(0.05),
        "x_z": np.full(activation_scales, zero, kind) if activation_scales > 1 else kind(zero),
        "w": rng.integers(-127, 127, (8, 3, 3, 3)).astype(np.int8), "w_s": np.full(channels, 0.01, np.float32), "w_z": np.zeros(channels, np.int8),
        "b": rng.normal(0, 1, 8).astype(np.float32), "bi": np.arange(8, dtype=np.int32), "b_s": np.full(8, 5e-4, np.float32),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"], name="x_quantize", axis=1),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_d"], name="x_dequantize", axis=1),
        node("DequantizeLinear", ["w", "w_s", "w_z"], ["w_d"], name="w_dequantize", axis=weight_axis),
    ]
    if bias:
        nodes.append(node("DequantizeLinear", ["bi", "b_s"], ["b_d"], name="b_dequantize", axis=0))
    nodes.append(node("Conv", ["x_d", "w_d", "b_d" if bias else "b"], ["y"], name="conv"))
    return model(nodes, {"x": (T.FLOAT, (1, 3, 8, 8))}, {"y": (T.FLOAT, (1, 8, 6, 6))}, constants, opset)


def one(op: str, kind: int = T.FLOAT, inputs: int = 1, out: int | None = None, domain: str = "", opset: int = 17, **attributes: object) -> onnx.ModelProto:
    """One node, called 'only', on [2, 4]."""
    names = [f"x{i}" for i in range(inputs)]
    return model([helper.make_node(op, names, ["y"], name="only", domain=domain, **attributes)], {n: (kind, (2, 4)) for n in names},
                 {"y": (out or kind, (2, 4))}, opset=opset, domains=(domain,) if domain else ())  # fmt: skip


def save(made: onnx.ModelProto, path: Path) -> Path:
    onnx.save(made, path)
    return path
