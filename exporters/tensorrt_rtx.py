"""TensorRT-RTX plans from an ONNX bundle, one for each compute capability, built on this machine's processor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from edgekit import tensorrt_native
from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.parts import Exporter, Trained
from edgekit.tensorrt_graphs import NUMERICS, CheckedGraph, check_graphs
from edgekit.tensorrt_tables import VERSIONS
from edgekit.tensorrt_targets import RTX_CAPABILITIES, check_capabilities

MODULE = "tensorrt_rtx"


class TensorRtRtx(Exporter):
    """`GRAPH.sm86.rtx.plan` beside the very ONNX graph that it was built from, which is what is verified.

    A plan is for GPUs of the RTX kind only: not for Jetson, not for TensorRT 10 or 11. `details.status` is 'built' when
    every plan was, else 'parsed' (no compute capability was asked for). No plan is ever run here.
    """

    needs = (MODULE,)
    extra = "tensorrt-rtx"
    format = "tensorrt"
    variant = "rtx"
    accepts = ("onnx:f32", "onnx:f16", "onnx-symmetric:int8")
    options: ClassVar[Mapping[str, Any]] = {"compute_capabilities": ["8.0", "8.6", "8.9", "12.0", "12.1"], "profiles": {}}

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Check, parse, build; the first graph or node at fault is named, and then nothing is written."""
        assert isinstance(source, Bundle)
        lineage = Lineage("build tensorrt-rtx", source.sha256, dict(options), {MODULE: version(MODULE)})
        if done := done_already(out, lineage):
            return done
        checked = check_graphs(source, VERSIONS["rtx"], options["profiles"])
        asked = options["compute_capabilities"]
        wanted = asked if isinstance(asked, list) else [asked]
        capabilities = check_capabilities(wanted, {t for g in checked for t in g.types})
        details: dict[str, Any] = {
            **source.manifest.details, "engine": f"TensorRT-RTX {version(MODULE)}", "library": MODULE, "numerics": NUMERICS, "graphs": {},
        }  # fmt: skip
        manifest = dataclasses.replace(
            source.manifest, format="tensorrt", variant="rtx", lineage=lineage, details=details, files={},
            graphs={n: dataclasses.replace(g, file=f"{n}.onnx") for n, g in source.manifest.graphs.items()},
        )  # fmt: skip
        with new_bundle(out, manifest, source.goldens(), source.tensors(), source.task_goldens(), parent=source) as draft:
            for graph in checked:
                (draft / f"{graph.name}.onnx").write_bytes(graph.data)
                details["graphs"][graph.name] = self._built(graph, capabilities, draft)
            # Written down last, when the manifest is about to be sealed: a status never says more than what happened.
            details["status"] = "built" if all(g["plans"] for g in details["graphs"].values()) else "parsed"
        return open_bundle(out)

    def _built(self, graph: CheckedGraph, capabilities: list[str], draft: Path) -> dict[str, Any]:
        model = draft / f"{graph.name}.onnx"
        found = tensorrt_native.parse(MODULE, model, graph)
        plans = {}
        for capability in capabilities:
            short = RTX_CAPABILITIES[capability]
            plan = draft / f"{graph.name}.{short.lower()}.rtx.plan"
            tensorrt_native.build(MODULE, model, graph, plan, short)
            plans[capability] = plan.name
        return {"plans": plans, "layers": found["layers"], "profiles": {n: p.to_json() for n, p in graph.profiles.items()}}


PART = TensorRtRtx()
