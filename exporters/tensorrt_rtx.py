"""TensorRT-RTX plans from an ONNX bundle, one for each compute capability, built on this machine's processor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from edgekit import tensorrt_native, tensorrt_profiles
from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.parts import Exporter, Trained
from edgekit.tensorrt_checks import check_model, used_types
from edgekit.tensorrt_graphs import NUMERICS, graph_name, profiles_of
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
    accepts = ("onnx:f32", "onnx:f16")
    options: ClassVar[Mapping[str, Any]] = {"compute_capabilities": ["8.0", "8.6", "8.9", "12.0", "12.1"], "profiles": {}}

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Check, parse, build; the first graph or node at fault is named, and then nothing is written."""
        assert isinstance(source, Bundle)
        lineage = Lineage("build tensorrt-rtx", source.sha256, dict(options), {MODULE: version(MODULE)})
        if done := done_already(out, lineage):
            return done
        graphs = source.manifest.graphs
        tensorrt_profiles.check_names(options["profiles"], [g.signature for g in graphs.values()])
        checked = {n: self._checked(source, n, options) for n in graphs}
        details: dict[str, Any] = {"engine": f"TensorRT-RTX {version(MODULE)}", "numerics": NUMERICS, "graphs": {}}
        manifest = dataclasses.replace(
            source.manifest, format="tensorrt", variant="rtx", lineage=lineage, details=details, files={},
            graphs={n: dataclasses.replace(g, file=f"{n}.onnx") for n, g in graphs.items()},
        )  # fmt: skip
        with new_bundle(out, manifest, source.goldens(), source.tensors()) as draft:
            for name, (proto, capabilities, profiles) in checked.items():
                (draft / f"{name}.onnx").write_bytes(source.graph(name).read_bytes())
                details["graphs"][name] = self._built(source, name, proto, capabilities, profiles, draft)
            # Written down last, when the manifest is about to be sealed: a status never says more than what happened.
            details["status"] = "built" if all(g["plans"] for g in details["graphs"].values()) else "parsed"
        return open_bundle(out)

    def _checked(self, source: Bundle, name: str, options: Mapping[str, Any]) -> tuple[Any, list[str], tensorrt_profiles.Profiles]:
        """(model, compute capabilities, profiles) of a graph that passed every check of our own."""
        data = source.graph(name).read_bytes()
        what = f"the graph '{name}' of {source.folder}"
        proto = check_model(data, VERSIONS["rtx"], what)
        capabilities = check_capabilities(options["compute_capabilities"], used_types(data))
        return proto, capabilities, profiles_of(source, name, options["profiles"], what)

    def _built(
        self, source: Bundle, name: str, proto: Any, capabilities: list[str], profiles: tensorrt_profiles.Profiles, plans: Path
    ) -> dict[str, Any]:
        what, title = f"the graph '{name}' of {source.folder}", graph_name(source, name)
        found = tensorrt_native.parse(MODULE, source.graph(name), proto, title, what)
        made = {}
        for capability in capabilities:
            short = RTX_CAPABILITIES[capability]
            plan = plans / f"{name}.{short.lower()}.rtx.plan"
            tensorrt_native.build(MODULE, source.graph(name), title, profiles, plan, f"{what}, compute capability {capability}", short)
            made[capability] = plan.name
        return {"plans": made, "layers": found["layers"], "profiles": {n: p.to_json() for n, p in profiles.items()}}


PART = TensorRtRtx()
