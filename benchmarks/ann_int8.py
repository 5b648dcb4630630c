"""The INT8 twin of a spiking network: the ANN that it was made from, ReLU for spikes, quantised by ONNX Runtime's own tool.

As fast as these engines can have it: average poolings are depthwise convolutions (ONNX Runtime's QLinearAveragePool is slow),
the first layer is either float32 or reads the image's bytes as they are, and where there is no VNNI, weights have 8 bits or 7, which
saturate nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.byte_products import saturate

FIRST = ("bytes", "float")
FORMS = (*FIRST, *(f"{first}-7bit" for first in FIRST if saturate()))
SAMPLES = 256  # validation images that scales are taken from


def float_model(ann: Any) -> Any:
    """ONNX of an ANN (edgekit.models._iir_snn_net.Net), batch norms fused: `x` float32 (1, C, H, W) about -1..1 -> `logits`."""
    from onnx import TensorProto, helper, numpy_helper

    from edgekit.models._iir_snn_net import convert

    fused = convert(ann)
    nodes: list[Any] = []
    weights: list[Any] = []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    at = {"input": "x"}
    for layer in fused.layers:
        source = at[layer.source]
        if layer.kind == "or":
            nodes.append(helper.make_node("MaxPool", [source], [layer.name], layer.name, kernel_shape=[2, 2], strides=[2, 2]))
            at[layer.name] = layer.name
            continue
        module: Any = fused.weights[layer.name]
        w = constant(f"{layer.name}.w", module.weight.detach().numpy())
        bias = np.zeros(layer.out, np.float32) if module.bias is None else module.bias.detach().numpy()
        b = constant(f"{layer.name}.b", bias)
        out = "logits" if layer.readout else f"{layer.name}.sum"
        if layer.kind == "dense":
            flat = f"{layer.name}.flat"
            nodes.append(helper.make_node("Flatten", [source], [flat], axis=1))
            nodes.append(helper.make_node("Gemm", [flat, w, b], [out], layer.name, transB=1))
        else:
            nodes.append(helper.make_node("Conv", [source, w, b], [out], layer.name, kernel_shape=[3, 3], pads=[1] * 4, strides=[layer.stride] * 2))
        if layer.readout:
            break
        nodes.append(helper.make_node("Relu", [out], [layer.name]))
        at[layer.name] = layer.name
        if layer.pool:
            ones = constant(f"{layer.name}.pool.w", np.full((layer.out, 1, 2, 2), 0.25, np.float32))
            at[layer.name] = f"{layer.name}.pool"
            window = {"kernel_shape": [2, 2], "strides": [2, 2], "group": layer.out}
            nodes.append(helper.make_node("Conv", [layer.name, ones], [at[layer.name]], at[layer.name], **window))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "ann", [info("x", TensorProto.FLOAT, [1, *fused.shape])],
                              [info("logits", TensorProto.FLOAT, [1, fused.layers[-1].out])], weights)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantised(ann: Any, images: np.ndarray, offset: int, form: str) -> bytes:
    """The INT8 model of one of FORMS over `image`, uint8 (1, C, H, W): U8S8, scales a channel, by quantize_static on `images`."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(images[:SAMPLES])

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.rows, None)
            return None if image is None else {"x": ((image[None].astype(np.float32) - offset) / offset).astype(np.float32)}

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, made = (str(Path(folder) / n) for n in ("plain.onnx", "prepared.onnx", "made.onnx"))
        onnx.save(float_model(ann), plain)
        quant_pre_process(plain, prepared)
        first, _, bits = form.partition("-")
        excluded = [ann.layers[0].name] if first == "float" else []
        quantize_static(prepared, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, nodes_to_exclude=excluded, reduce_range=bits == "7bit")  # fmt: skip
        model = onnx.load(made)
    return _from_bytes(model, offset, first).SerializeToString()


def _from_bytes(model: Any, offset: int, first: str) -> Any:
    """The same over bytes: of a quantised first layer they are its integers, x = (byte - offset) / offset."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.UINT8, shape))
    values = {t.name: t for t in graph.initializer}
    if first == "bytes":
        (q,) = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x"]
        scale, zero = (numpy_helper.to_array(values[name]) for name in q.input[1:3])
        if float(scale) != 1 / offset or int(zero) != offset:
            raise SystemExit(f"the samples hold no black and no white pixel: their scale is {scale}, not 1 / {offset}")
        for node in graph.node:
            node.input[:] = ["image" if name == q.output[0] else name for name in node.input]
        graph.node.remove(q)
    else:
        graph.initializer.extend([numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("offset", offset), ("scale", 1 / offset))])
        nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT), helper.make_node("Sub", ["pixels", "offset"], ["centred"]),
                 helper.make_node("Mul", ["centred", "scale"], ["x"])]  # fmt: skip
        for i, node in enumerate(nodes):
            graph.node.insert(i, node)
    return model
