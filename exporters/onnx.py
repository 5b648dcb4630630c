"""ONNX: one file, opset 20, dynamic batch, the spikes of each layer named so that they can be asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError, Missing
from edgekit.parts import Exporter, Trained, manifest_of
from edgekit.prepares import export_prepares
from edgekit.registry import missing_modules
from edgekit.signature import Signature
from edgekit.small_constants import keep_small_constants
from edgekit.untrained import untrained

if TYPE_CHECKING:
    import torch


class Onnx(Exporter):
    """Through torch.export. Outputs of the graph are the signature's; probes stay inner tensors of that name. `details.untrained`:
    graph -> nodes whose weights are buffers of the module, which stay float whatever is quantised."""

    needs = ("onnx",)
    format = "onnx"
    accepts = ("checkpoint",)
    options: ClassVar[Mapping[str, Any]] = {"opset": 20}  # torch's own default; below 18 it is silently not obeyed

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Write model.onnx; refuse a module that changes its buffers, which an ONNX graph would freeze."""
        import onnx

        assert isinstance(source, Trained)
        own = any(source.onnx_model(n) is not None for n in source.graphs)
        absent = () if own else missing_modules(("torch", "onnxscript"))
        if absent:
            raise Missing(f"a torch model needs {', '.join(absent)} to become ONNX, not installed here: pip install 'edgekit[train]'")
        tools = {"onnx": onnx.__version__}
        if not own:
            import torch

            tools["torch"] = torch.__version__
        lineage = Lineage("export onnx", source.sha256, dict(options), tools)
        if done := done_already(out, lineage):
            return done
        names = {n: "model.onnx" if n == "main" else f"{n}.onnx" for n in source.graphs}
        made = {n: self._graph(source, n, options["opset"]) for n in names}
        fixed = {} if own else {n: untrained(p, source.module(n)) for n, p in made.items()}
        details = {"untrained": {n: nodes for n, nodes in fixed.items() if nodes}} if any(fixed.values()) else {}
        manifest = dataclasses.replace(manifest_of(source, "onnx", names, lineage), details=details)
        with new_bundle(out, manifest, source.goldens(), source.tensors, source.task_goldens()) as draft:
            for graph, file in names.items():
                (draft / file).write_bytes(made[graph].SerializeToString(deterministic=True))
            export_prepares(self, source, draft, options)
        return open_bundle(out)

    def _graph(self, source: Trained, graph: str, opset: int) -> Any:
        import onnx

        whole = source.onnx_model(graph)
        proto = onnx.load_from_string(whole if whole is not None else self._traced(source, graph, opset))
        _drop_outputs(proto.graph, set(source.probes.get(graph, ())))
        _name_dimensions(proto.graph, source.graphs[graph])
        del proto.metadata_props[:]
        for node in proto.graph.node:  # stack traces of the exporting machine
            del node.metadata_props[:]
        onnx.helper.set_model_props(proto, {"edgekit": source.name, "checkpoint_sha256": source.sha256})
        proto.producer_name = "edgekit"
        onnx.checker.check_model(proto, full_check=True)
        names, outputs = [o.name for o in proto.graph.output], [t.name for t in source.graphs[graph].outputs]
        if names != outputs:
            raise EdgekitError(
                f"the graph '{graph}' gives {names} where the signature says {outputs}: a defect in the family's module"
            )
        return proto

    def _traced(self, source: Trained, graph: str, opset: int) -> bytes:
        import torch

        signature, module = source.graphs[graph], _positional(source.module(graph))
        sizes = source.traced_sizes()
        example = tuple(
            torch.zeros([sizes.get(n, 2) if isinstance(n, str) else n for n in t.shape], dtype=getattr(torch, t.dtype))
            for t in signature.inputs
        )
        # AUTO leaves the relations between free sizes to torch; _check_free_sizes finds one that it fixed.
        free = tuple({i: torch.export.Dim.AUTO for i, n in enumerate(t.shape) if isinstance(n, str)} for t in signature.inputs)
        outputs = [*(t.name for t in signature.outputs), *source.probes.get(graph, ())]
        with _quiet(), torch.no_grad():
            try:
                exported = torch.export.export(module, example, dynamic_shapes=(free,))
                # Empty before the decompositions, so it must be read after them.
                mutated = exported.run_decompositions({}).graph_signature.buffers_to_mutate
                program = torch.onnx.export(
                    exported, example, dynamo=True, opset_version=opset, external_data=False,
                    input_names=[t.name for t in signature.inputs], output_names=outputs, optimize=False,
                )  # fmt: skip
                assert program is not None
                keep_small_constants(program.model)
                program.optimize()
            except Exception as error:
                first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
                raise EdgekitError(f"torch cannot export '{source.name}' to ONNX: {type(error).__name__}: {first[:300]}") from None
        if mutated:
            raise EdgekitError(
                f"'{source.name}' changes its buffers {sorted(mutated.values())} in forward, which a graph would "
                "freeze; hand them in and out as inputs and outputs"
            )
        proto = program.model_proto
        written = next(o.version for o in proto.opset_import if o.domain == "")
        if written != opset:
            raise EdgekitError(
                f"opset {opset} was asked for, but torch wrote {written}; ask for an opset from 18 to 25"
            )
        _check_free_sizes(proto, signature, source.name)
        data: bytes = proto.SerializeToString()
        return data


PART = Onnx()


def _positional(module: torch.nn.Module) -> torch.nn.Module:
    """The module behind `forward(*tensors)`, so that all modules take their dynamic shapes in one form."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> Any:
            return self.module(*tensors)

    return Positional().eval()


def _check_free_sizes(proto: Any, signature: Signature, name: str) -> None:
    """Refuse a graph that torch fixed to one size; torch may only seem to have done so, as with an LSTM's time."""
    import onnx
    import onnxruntime as ort

    fixed = {
        n: d.dim_value or int(d.dim_param)
        for v, t in zip(proto.graph.input, signature.inputs, strict=True)
        for d, n in zip(v.type.tensor_type.shape.dim, t.shape, strict=True)
        if isinstance(n, str) and (d.HasField("dim_value") or d.dim_param.isdigit())
    }
    if not fixed:
        return
    for v, t in zip(proto.graph.input, signature.inputs, strict=True):
        for d, n in zip(v.type.tensor_type.shape.dim, t.shape, strict=True):
            if n in fixed:
                d.dim_param = n
    del proto.graph.value_info[:]
    for v, t in zip(proto.graph.output, signature.outputs, strict=False):  # probes, which an own model has none of, come after
        v.CopyFrom(onnx.helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, t.shape))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    told = ", ".join(f"'{n}' at {size}" for n, size in fixed.items())
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for grown in (1, 2):
            shapes = {t.name: [fixed.get(n, 2) * grown if isinstance(n, str) else n for n in t.shape] for t in signature.inputs}
            session.run(None, {t.name: np.zeros(shapes[t.name], t.dtype) for t in signature.inputs})
    except Exception:
        raise EdgekitError(f"torch fixes {told} while it exports '{name}'; leave it out of the free sizes") from None


def _name_dimensions(graph: Any, signature: Signature) -> None:
    """torch calls a free dimension s40; the signature has its name."""
    given: dict[str, str] = {}
    for value, tensor in zip(graph.input, signature.inputs, strict=True):
        for dim, size in zip(value.type.tensor_type.shape.dim, tensor.shape, strict=True):
            if isinstance(size, str):
                given[dim.dim_param] = size
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in given:
                dim.dim_param = given[dim.dim_param]


def _drop_outputs(graph: Any, names: set[str]) -> None:
    """Probes become inner tensors: no longer outputs, still named and typed."""
    kept = [o for o in graph.output if o.name not in names]
    inner = [o for o in graph.output if o.name in names]
    del graph.output[:]
    graph.output.extend(kept)
    known = {v.name for v in graph.value_info}
    graph.value_info.extend(v for v in inner if v.name not in known)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx prints progress and warns of torchvision at each export; real errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
