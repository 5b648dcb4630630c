"""A one-timestep spiking network as an INT8 ONNX graph that is exact: spikes are 0 or 1, so nothing of them is rounded.

With integer weights per output channel,  W x + b > V  becomes  sum(wq k) + B >= 1  (integer_net.quantise_per_channel),
so a spike is  clip(sum + B, 0, 1): QuantizeLinear with scale 1 saturates to 0..255, Clip makes it 0..1, and every engine
computes the same integers. In these engines it is as fast as an INT8 network without spikes, not faster: zeros are
multiplied too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import integer_net, spiking_net
from edgekit.bundle import Allowed, Bundle, GraphFile, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.onnx_nodes import Nodes
from edgekit.parts import Exporter, Trained, manifest_of
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse

FILE = "model.onnx"
OPSET = 17  # per-channel DequantizeLinear needs 13; both engines take the same kernels from 13 to 25
# u8 x s8 products are added in pairs in int16 on processors without VNNI (vpmaddubsw): 2 max(k) max|w| must fit.
PAIR_LIMIT = 32767


class SpikeInt8(Exporter):
    """Convolutions and dense layers as integer kernels; the first layer, which sees pixels, as float on integers."""

    needs = ("onnx",)
    format = "onnx"
    variant = "spike"
    accepts = ("checkpoint",)
    precision = "int8"

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """EdgekitError for what is no one-timestep spiking network, or whose integers would not be exact."""
        import onnx

        assert isinstance(source, Trained)
        net = integer_net.quantise_per_channel(source.spiking_net())
        lineage = Lineage("export spike_int8", source.sha256, dict(options), {"onnx": onnx.__version__})
        if done := done_already(out, lineage):
            return done
        integer, model = _model(net, source)
        base = manifest_of(source, "onnx", {"main": FILE}, lineage)
        manifest = dataclasses.replace(
            base, precision="int8", variant=self.variant, allowed=Allowed(score_drop=0.02, exact=True),
            graphs={"main": GraphFile(FILE, source.signature, base.graphs["main"].probes)},
            program=source.program,
            details={"integer_layers": integer},
        )  # fmt: skip
        goldens = [
            dataclasses.replace(g, exact=spiking_net.simulate(net, next(iter(g.inputs.values())))) for g in source.goldens()
        ]
        with new_bundle(out, manifest, goldens) as draft:
            (draft / FILE).write_bytes(model.SerializeToString(deterministic=True))
            spiking_net.save(net, draft / "integer_net.safetensors")
        return open_bundle(out)


PART = SpikeInt8()


def _model(net: SpikingNet, source: Trained) -> tuple[list[str], Any]:
    """(names of the layers that run as integer kernels, the model)."""
    from onnx import TensorProto, checker, helper

    build = _Builder()
    image, logits = source.signature.inputs[0], source.signature.outputs[0]
    pixels = build.node("Cast", [image.name], to=TensorProto.FLOAT)
    build.floats[INPUT] = build.node("Sub", [pixels, build.constant(np.float32(net.input_offset))])
    integer = []
    for p in net.populations:
        as_integers = len(p.synapses) == 1 and p.synapses[0].source != INPUT
        current = build.integer_layer(p, net) if as_integers else build.float_layer(p, net)
        integer += [p.name] if as_integers else []
        if p.spiking:
            quantised = build.node("QuantizeLinear", [current, build.one, build.u8])
            build.write("Clip", [quantised, build.u8, build.constant(np.uint8(1))], p.name)
        else:
            build.write("Mul", [current, build.constant(np.float32(net.readout_scale))], logits.name)
    infos = [helper.make_tensor_value_info(p.name, TensorProto.UINT8, ["batch", *p.shape]) for p in net.populations if p.spiking]
    graph = helper.make_graph(
        build.nodes, "spike_int8",
        [helper.make_tensor_value_info(image.name, helper.np_dtype_to_tensor_dtype(np.dtype(image.dtype)), list(image.shape))],
        [helper.make_tensor_value_info(logits.name, TensorProto.FLOAT, list(logits.shape))],
        list(build.constants.values()), value_info=infos,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="edgekit")
    checker.check_model(made, full_check=True)
    return integer, made


class _Builder(Nodes):
    """`floats` are real values by population, made when they are first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.floats: dict[str, str] = {}
        self.one, self.u8 = self.constant(np.float32(1)), self.constant(np.uint8(0))

    def integer_layer(self, p: Population, net: SpikingNet) -> str:
        """DQ -> Conv or Gemm with DQ weights and an int32 bias, all with scale 1: what engines run as one integer kernel."""
        (s,) = p.synapses
        largest = s.pool[0] * s.pool[1]
        if 2 * largest * int(np.abs(s.weight.astype(np.int64)).max(initial=0)) > PAIR_LIMIT or largest > 255:
            raise EdgekitError(
                f"layer '{p.name}': sums over {s.pool[0]} x {s.pool[1]} windows do not stay exact on processors without VNNI; "
                "use smaller poolings"
            )
        ones = self.constant(np.ones(len(s.weight), np.float32))
        weight = self.node("DequantizeLinear", [self.constant(s.weight), ones, self.constant(np.zeros(len(s.weight), np.int8))], axis=0)
        bias = self.node(
            "DequantizeLinear", [self.constant(p.bias.astype(np.int32)), ones, self.constant(np.zeros(len(s.weight), np.int32))], axis=0
        )
        return self._weighted(s, self._source(s, net), weight, bias)

    def float_layer(self, p: Population, net: SpikingNet) -> str:
        """The same in float32 on integers: exact, since every sum stays below 2^24 (integer_net checks it)."""
        total = ""
        for i, s in enumerate(p.synapses):
            bias = self.constant(p.bias.astype(np.float32)) if i == 0 else ""
            part = self._weighted(s, self._source(s, net), self.constant(s.weight.astype(np.float32)), bias)
            total = self.node("Add", [total, part]) if total else part
        return total

    def _source(self, s: Synapse, net: SpikingNet) -> str:
        """The real values of a synapse's source, its sums over windows by a depthwise convolution with ones."""
        if s.source not in self.floats:
            self.floats[s.source] = self.node("DequantizeLinear", [s.source, self.one, self.u8])
        if s.pool == (1, 1):
            return self.floats[s.source]
        if s.source == INPUT:
            raise EdgekitError("a pooling of the input image cannot be said in this format; pool behind the first layer")
        key = f"{s.source} pooled {s.pool}"
        if key not in self.floats:
            channels = net.shape_of(s.source)[0]
            ones = self.constant(np.ones((channels, 1, *s.pool), np.int8))
            weight = self.node("DequantizeLinear", [ones, self.one, self.constant(np.int8(0))])
            summed = self.node(
                "Conv", [self.floats[s.source], weight], kernel_shape=list(s.pool), strides=list(s.pool), group=channels, pads=[0] * 4
            )
            quantised = self.node("QuantizeLinear", [summed, self.one, self.u8])
            self.floats[key] = self.node("DequantizeLinear", [quantised, self.one, self.u8])
        return self.floats[key]

    def _weighted(self, s: Synapse, x: str, weight: str, bias: str) -> str:
        if s.kind == "dense":
            return self.node("Gemm", [self.node("Flatten", [x], axis=1), weight, *([bias] if bias else [])], transB=1)
        (py, px) = s.padding
        return self.node(
            "Conv", [x, weight, *([bias] if bias else [])], kernel_shape=list(s.weight.shape[2:]), strides=list(s.stride),
            pads=[py, px, py, px], dilations=list(s.dilation), group=s.groups,
        )  # fmt: skip
