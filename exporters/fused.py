"""A loop of at most eight steps unrolled into one ONNX graph: one engine call instead of N, the same answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import Bundle, Golden, GraphFile, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.onnx_nodes import Nodes
from edgekit.parts import Exporter, Trained
from edgekit.prepares import copy_prepares
from edgekit.program import MOST_FUSED_STEPS, Affine, Clamp, Operation, Phase, Program, Source, fusable, value
from edgekit.signature import Signature, Tensor

FILE = "model.onnx"


class Fused(Exporter):
    """From an ONNX bundle whose own program is one phase of `steps` (docs/bundle-format.md, section 6). Other tasks are left behind: the
    unrolled graph says nothing of them."""

    needs = ("onnx",)
    format = "onnx"
    variant = "fused"
    accepts = ("onnx:f32",)

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """EdgekitError for a program that is no such loop."""
        import onnx

        assert isinstance(source, Bundle)
        if not fusable(source.manifest.program):
            raise EdgekitError(
                f"{source.folder} holds no loop that can be fused: one phase of 2 to {MOST_FUSED_STEPS} steps and no stream is needed"
            )
        lineage = Lineage("fuse steps", source.sha256, dict(options), {"onnx": onnx.__version__})
        if done := done_already(out, lineage):
            return done
        phase = source.manifest.program.phases[0]
        assert isinstance(phase, Phase)
        made = _Unrolled(source, phase)
        model = made.model()
        once = Phase(
            inputs={t.name: made.noise.get(t.name, value(t.name)) for t in made.inputs},
            outputs={t.name: t.name for t in source.manifest.signature.outputs},
        )
        probes = tuple(f"step{i}_{p}" for i in range(phase.steps) for p in source.manifest.graphs[phase.graph].probes)
        graph = GraphFile(FILE, Signature(tuple(made.inputs), source.manifest.signature.outputs), probes)
        manifest = dataclasses.replace(
            source.manifest, variant="fused", graphs={"main": graph}, program=Program((once,), source.manifest.program.seed),
            lineage=lineage, files={}, tasks={},
        )  # fmt: skip
        with new_bundle(out, manifest, [_by_step(g) for g in source.goldens()], parent=source) as draft:
            (draft / FILE).write_bytes(model.SerializeToString(deterministic=True))
            copy_prepares(source, manifest, draft)
        return open_bundle(out)


PART = Fused()


class _Unrolled(Nodes):
    """The steps behind one another, with the names of values as they are after each."""

    def __init__(self, source: Bundle, phase: Phase) -> None:
        import onnx

        super().__init__("fused_")
        self.source, self.phase = source, phase
        self.step = onnx.load(source.graph(phase.graph))
        self.tensors = source.tensors()
        self.inputs = list(source.manifest.signature.inputs)
        self.noise: dict[str, Source] = {}  # graph input -> what is drawn for it
        self.infos: list[Any] = []
        self.values = {t.name: t.name for t in self.inputs}
        self.shapes: dict[str, tuple[int | str, ...]] = {t.name: t.shape for t in self.inputs}

    def model(self) -> Any:
        """The whole model; checked."""
        from onnx import checker, helper

        for name, state in self.phase.states.items():
            self.shapes[name] = state.shape
            self.values[name] = self._initial(name)
        collected: dict[str, list[str]] = {new: [] for new in self.phase.collect}
        for i in range(self.phase.steps):
            self._iteration(i)
            for new, old in self.phase.collect.items():
                collected[new].append(self.values[old])
        for new, old in self.phase.collect.items():
            self.values[new] = self._stacked(collected[new], new)
            self.shapes[new] = (self.phase.steps, *self.shapes[old])
        outputs = self.source.manifest.signature.outputs
        for t in outputs:
            if self.values[t.name] != t.name:
                self.write("Identity", [self.values[t.name]], t.name)
        graph = helper.make_graph(
            self.nodes, "fused", [_info(t) for t in self.inputs], [_info(t) for t in outputs],
            [*self.step.graph.initializer, *self.constants.values()], value_info=self.infos,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=self.step.opset_import, ir_version=self.step.ir_version, producer_name="edgekit")
        made.functions.extend(self.step.functions)
        checker.check_model(made, full_check=True)
        return made

    def _iteration(self, i: int) -> None:
        from onnx import compose

        file = self.source.manifest.graphs[self.phase.graph]
        copy = compose.add_prefix_graph(self.step.graph, f"step{i}_", rename_initializers=False)
        _share(copy, {f"step{i}_{t.name}": t.name for t in self.step.graph.initializer})
        for t in file.signature.inputs:
            self.write("Identity", [self._read(self.phase.inputs[t.name], i, t.shape)], f"step{i}_{t.name}")
        self.nodes.extend(copy.node)
        self.infos += [v for v in copy.value_info if v.name in {f"step{i}_{p}" for p in file.probes}]
        shapes = {t.name: t.shape for t in file.signature.outputs}
        for out, name in (*self.phase.outputs.items(), *self.phase.carry.items()):
            self.values[name] = f"step{i}_{out}"
            self.shapes.setdefault(name, shapes[out])
        for op in self.phase.epilogue:
            self._operation(op, i)

    def _operation(self, op: Operation, i: int) -> None:

        if isinstance(op, Affine):
            shape = next(self._shape(t.of) for t in op.terms if t.of.kind != "noise")
            total = ""
            for term in op.terms:
                by = self.constant(np.float32(term.by)) if not isinstance(term.by, Source) else self._read(term.by, i, ())
                product = self.node("Mul", [self._read(term.of, i, shape), by])
                total = self.node("Add", [total, product]) if total else product
        elif isinstance(op, Clamp):
            shape = self._shape(op.of)
            total = self.node("Clip", [self._read(op.of, i, shape), self.constant(np.float32(op.low)), self.constant(np.float32(op.high))])
        else:
            shape = self._shape(op.of)
            axis = op.axis % len(shape)
            total = self.fresh()
            self.write("ArgMax", [self._read(op.of, i, shape)], total, axis=axis, keepdims=0)
            shape = shape[:axis] + shape[axis + 1 :]
        self.values[op.to] = total
        self.shapes[op.to] = shape

    def _shape(self, source: Source) -> tuple[int | str, ...]:
        if source.kind == "value":
            return self.shapes[source.name]
        shape = self.tensors[source.name].shape
        return shape[1:] if source.kind == "row" else shape

    def _read(self, source: Source, i: int, shape: tuple[int | str, ...]) -> str:
        """The name of the tensor that a source is in iteration i."""
        if source.kind == "value":
            return self.values[source.name]
        if source.kind == "noise":
            name = f"noise_{source.id}"
            if name not in self.noise:
                self.noise[name] = dataclasses.replace(source, calls=self.phase.steps)
                self.inputs.append(Tensor(name, "float32", (self.phase.steps, *shape), f"{source.name} noise, a slab a step"))
            return self.node("Gather", [name, self.constant(np.int64(i))])
        array = self.tensors[source.name]
        return self.constant(array[i] if source.kind == "row" else array)

    def _initial(self, name: str) -> str:
        state = self.phase.states[name]
        source = state.initial
        if source.kind == "noise":
            drawn = f"noise_{source.id}"
            self.noise[drawn] = source
            self.inputs.append(Tensor(drawn, "float32", state.shape, f"{source.name} noise, the initial '{name}'"))
            return drawn
        if source.kind != "zeros":
            return self._read(source, 0, state.shape)
        if all(isinstance(n, int) for n in state.shape):
            return self.constant(np.zeros([int(n) for n in state.shape], state.dtype))
        return self._zeros(state.shape, state.dtype)

    def _zeros(self, shape: tuple[int | str, ...], dtype: str) -> str:
        """Zeros whose free sizes are taken from the inputs that carry them."""
        from onnx import numpy_helper

        parts = []
        for n in shape:
            if isinstance(n, int):
                parts.append(self.constant(np.array([n], np.int64)))
                continue
            carrier = next(t for t in self.source.manifest.signature.inputs if n in t.shape)
            sizes = self.node("Shape", [carrier.name])
            parts.append(self.node("Gather", [sizes, self.constant(np.array([carrier.shape.index(n)], np.int64))]))
        made = self.fresh()
        nothing = numpy_helper.from_array(np.zeros(1, dtype))
        self.write("ConstantOfShape", [self.node("Concat", parts, axis=0)], made, value=nothing)
        return made

    def _stacked(self, names: list[str], to: str) -> str:
        from onnx import helper

        zero = self.constant(np.array([0], np.int64))
        rows = [self.node("Unsqueeze", [n, zero]) for n in names]
        self.nodes.append(helper.make_node("Concat", rows, [to], axis=0))
        return to


def _by_step(golden: Golden) -> Golden:
    """The spikes of each call under a name of their own: a fused graph has the inner tensors of all steps."""
    probes, near = {}, {}
    for name, calls in golden.probes.items():
        flags = np.zeros(calls.size, bool)
        flags[golden.near.get(name, np.zeros(0, np.int64))] = True
        for i, (spikes, close) in enumerate(zip(calls, flags.reshape(calls.shape), strict=True)):
            probes[f"step{i}_{name}"], near[f"step{i}_{name}"] = spikes, np.flatnonzero(close).astype(np.int64)
    return dataclasses.replace(golden, probes=probes, near=near)


def _share(graph: Any, names: Mapping[str, str]) -> None:
    """Let nodes read the initializers that all steps share by their own names again, inside sub-graphs too."""
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = names.get(name, name)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _share(inner, names)


def _info(t: Tensor) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(t.name, helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype)), list(t.shape))
