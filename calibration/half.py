"""FP16 written into the graph: Cast nodes around the operators that gain from it; inputs, outputs, states and tables stay float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.agreement import may_differ
from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.decisions import decides
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.prepares import copy_prepares
from edgekit.rounding import Kept, with_floors

# What runs in FP16. All else (softmax, norms, sums, exponents, resizing, sub-graphs) stays in float32, where range or many
# additions would cost more than FP16 gains.
HALF = frozenset(
    [*"Abs Add AveragePool Clip Concat Conv ConvTranspose Expand Flatten Gather Gemm GlobalMaxPool Identity LeakyRelu".split(),  # noqa: SIM905
     *"MatMul Max MaxPool Min Mul Neg PRelu Relu Reshape Sigmoid Slice Split Squeeze Sub Tanh Tile Transpose Unsqueeze".split()]  # noqa: SIM905
)  # fmt: skip


class Half(Calibrator):
    """Needs no data. `tolerance` times the largest golden answer (at least 1) is allowed."""

    needs = ("onnx",)
    format = "onnx"
    accepts = ("onnx:f32",)
    precision = "f16"
    options: ClassVar[Mapping[str, Any]] = {"tolerance": 1e-2}

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """EdgekitError for a spiking network without a score: rounding to 11 bits flips spikes, and only a score could tell
        whether that matters."""
        import onnx

        lineage = Lineage("calibrate half", source.sha256, dict(options), {"onnx": onnx.__version__})
        if done := done_already(out, lineage):
            return done
        graphs = {n: dataclasses.replace(g, probes=()) for n, g in source.manifest.graphs.items()}
        # Spikes and decisions of a rounded network are other ones: what is left of the answers is measured.
        tasks = [source.of_task(n) for n in source.manifest.tasks]
        measured = bool(source.manifest.probes) or any(decides(b.manifest) or may_differ(b.manifest) for b in (source, *tasks))
        made = {n: _Converted(onnx.load(source.graph(n))).model() for n in graphs}

        def write(folder: Path, floors: Kept) -> Bundle:
            rounded = Allowed(score_drop=max(SCORE_DROP, source.manifest.allowed.score_drop), sqnr_db=floors.sqnr_db, same_share=floors.same_share)
            allowed = rounded if measured else _limits(source, float(options["tolerance"]))
            limits = {b.task: dataclasses.replace(source.manifest.tasks[b.task], allowed=_limits(b, float(options["tolerance"]))) for b in tasks}
            manifest = dataclasses.replace(
                source.manifest, precision="f16", graphs=graphs, allowed=allowed, golden=floors.note(source), lineage=lineage, files={},
                tasks=floors.task_programs(source) if measured else limits,
            )  # fmt: skip
            with new_bundle(folder, manifest, floors.goldens(source), source.tensors(), floors.task_goldens(source), parent=source) as draft:
                for name, graph in graphs.items():
                    (draft / graph.file).write_bytes(made[name].SerializeToString(deterministic=True))
                copy_prepares(source, manifest, draft)
            return open_bundle(folder)

        return with_floors(source, write, out, "onnxruntime") if measured else write(out, Kept())


PART = Half()

SCORE_DROP = 0.01


def _limits(source: Bundle, tolerance: float) -> Allowed:
    limits = dict(source.manifest.allowed.output_max_abs)
    for golden in source.goldens():
        for name, answer in golden.outputs.items():
            if answer.dtype.kind == "f":
                limits[name] = max(limits.get(name, 0.0), tolerance * float(np.abs(answer).max(initial=1.0)))
    drop = max(SCORE_DROP, source.manifest.allowed.score_drop)
    return dataclasses.replace(source.manifest.allowed, output_max_abs=limits, score_drop=drop)


class _Converted:
    """A graph whose half nodes read and write `NAME__f16`; each cast is made once, where it is first needed."""

    def __init__(self, proto: Any) -> None:
        from onnx import TensorProto, shape_inference

        self.proto = proto
        inferred = shape_inference.infer_shapes(proto, strict_mode=True).graph
        values = (*inferred.input, *inferred.output, *inferred.value_info)
        self.floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.floats |= {t.name for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT}
        self.constants = {t.name: t for t in proto.graph.initializer}
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.has_half: set[str] = set()  # tensors that there is a half form of
        self.only_half: set[str] = set()  # of them, those that are made as half: the float form is a cast

    def model(self) -> Any:
        """The converted model, checked."""
        from onnx import checker

        for node in self.proto.graph.node:
            self._node(node)
        for output in self.proto.graph.output:
            self._need_float(output.name)
        if not self.has_half:
            raise EdgekitError("no operator of the model gains from FP16 (matrix products, convolutions and what lies between them); keep it in f32")
        graph = self.proto.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.held)
        del graph.value_info[:]
        used = {n for node in graph.node for n in node.input} | {o.name for o in graph.output} | _inner_names(graph)
        kept = [t for t in graph.initializer if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        checker.check_model(self.proto, full_check=True)
        return self.proto

    def _node(self, node: Any) -> None:
        import onnx

        floats = [n for n in (*node.input, *node.output) if n in self.floats]
        inner = any(a.HasField("g") or a.graphs for a in node.attribute)
        if node.op_type not in HALF or node.domain or inner or not floats or not all(map(self._fits, node.input)):
            for name in (*node.input, *(_inner_names_of(node) if inner else ())):
                self._need_float(name)
            self.nodes.append(node)
            return
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for i, name in enumerate(node.input):
            if name in self.floats:
                made.input[i] = self._half(name)
        for i, name in enumerate(node.output):
            if name in self.floats:
                made.output[i] = f"{name}__f16"
                self.has_half.add(name)
                self.only_half.add(name)
        self.nodes.append(made)

    def _fits(self, name: str) -> bool:
        """False for a constant that FP16 cannot hold."""
        from onnx import numpy_helper

        if name not in self.constants or name not in self.floats:
            return True
        largest: float = np.abs(numpy_helper.to_array(self.constants[name])).max(initial=0.0)
        return bool(largest <= np.finfo(np.float16).max)

    def _half(self, name: str) -> str:
        from onnx import TensorProto, helper, numpy_helper

        half = f"{name}__f16"
        if name not in self.has_half:
            self.has_half.add(name)
            if name in self.constants:
                self.held.append(numpy_helper.from_array(numpy_helper.to_array(self.constants[name]).astype(np.float16), half))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [half], name=f"{name}__to_f16", to=TensorProto.FLOAT16))
        return half

    def _need_float(self, name: str) -> None:
        from onnx import TensorProto, helper

        if name in self.only_half:
            self.only_half.discard(name)
            self.nodes.append(helper.make_node("Cast", [f"{name}__f16"], [name], name=f"{name}__to_f32", to=TensorProto.FLOAT))


def _inner_names(graph: Any) -> set[str]:
    return {n for node in graph.node for n in _inner_names_of(node)}


def _inner_names_of(node: Any) -> set[str]:
    """What the graphs inside a node read, from outside too."""
    found: set[str] = set()
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            found |= {n for x in inner.node for n in x.input} | {o.name for o in inner.output} | _inner_names(inner)
    return found
