"""ONNX: one file, opset 20, dynamic batch, the spikes of each layer named so that they can be asked for."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bundle import Bundle, Lineage, Manifest, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Exporter, Trained


class Onnx(Exporter):
    """Through torch.export. Outputs of the graph are the signature's; probes stay inner tensors of that name."""

    needs = ("torch", "onnxscript", "onnx")
    extra = "train"
    format = "onnx"
    accepts = "checkpoint"
    options: ClassVar[Mapping[str, Any]] = {"opset": 20}  # torch's own default; below 18 it is silently not obeyed

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Write model.onnx; refuse a module that changes its buffers, which an ONNX graph would freeze."""
        import onnx
        import torch

        assert isinstance(source, Trained)
        tools = {"torch": torch.__version__, "onnx": onnx.__version__}
        lineage = Lineage("export onnx", source.sha256, dict(options), tools)
        if done := done_already(out, lineage):
            return done
        golden = source.golden()
        manifest = Manifest(
            source.name,
            "onnx",
            "f32",
            source.signature,
            "model.onnx",
            source.model,
            source.allowed,
            lineage,
            source.probes,
        )
        proto = self._graph(source, options["opset"])
        with new_bundle(out, manifest, golden) as draft:
            (draft / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))
        return open_bundle(out)

    def _graph(self, source: Trained, opset: int) -> Any:
        import onnx
        import torch

        module = source.module()
        example, shapes = [], {}
        for tensor in source.signature.inputs:
            sizes = [2 if isinstance(n, str) else n for n in tensor.shape]
            example.append(torch.zeros(sizes, dtype=getattr(torch, tensor.dtype)))
            shapes[tensor.name] = {i: torch.export.Dim(n) for i, n in enumerate(tensor.shape) if isinstance(n, str)}
        outputs = [t.name for t in source.signature.outputs]
        with _quiet(), torch.no_grad():
            exported = torch.export.export(module, tuple(example), dynamic_shapes=shapes)
            # Empty before the decompositions, so it must be read after them.
            mutated = exported.run_decompositions({}).graph_signature.buffers_to_mutate
            if mutated:
                raise EdgekitError(
                    f"'{source.name}' changes its buffers {sorted(mutated.values())} in forward, which a graph would "
                    "freeze; hand them in and out as inputs and outputs"
                )
            program = torch.onnx.export(
                exported, tuple(example), dynamo=True, opset_version=opset, external_data=False,
                input_names=[t.name for t in source.signature.inputs], output_names=[*outputs, *source.probes],
            )  # fmt: skip
        assert program is not None
        proto = onnx.load_from_string(program.model_proto.SerializeToString())
        written = next(o.version for o in proto.opset_import if o.domain == "")
        if written != opset:
            raise EdgekitError(
                f"opset {opset} was asked for, but torch wrote {written}; ask for an opset from 18 to 25"
            )
        _drop_outputs(proto.graph, set(source.probes))
        _name_dimensions(proto.graph, source)
        del proto.metadata_props[:]
        for node in proto.graph.node:  # stack traces of the exporting machine
            del node.metadata_props[:]
        onnx.helper.set_model_props(proto, {"edgekit": source.name, "checkpoint_sha256": source.sha256})
        proto.producer_name = "edgekit"
        onnx.checker.check_model(proto, full_check=True)
        names = [o.name for o in proto.graph.output]
        if names != outputs:
            raise EdgekitError(
                f"the graph gives {names} where the signature says {outputs}: a defect in the family's module"
            )
        return proto


PART = Onnx()


def _name_dimensions(graph: Any, source: Trained) -> None:
    """torch calls a free dimension s40; the signature has its name."""
    given: dict[str, str] = {}
    for value, tensor in zip(graph.input, source.signature.inputs, strict=True):
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
