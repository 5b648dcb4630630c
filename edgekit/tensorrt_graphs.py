"""What every TensorRT export of a bundle shares: checks of its graphs, their profiles, names, and examples of each graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit import tensorrt_profiles
from edgekit.bundle import Bundle
from edgekit.byte_products import ort_session
from edgekit.errors import EdgekitError
from edgekit.execute import Execution
from edgekit.parts import Arrays, Graph
from edgekit.tensorrt_checks import check_model, used_types
from edgekit.tensorrt_prepare import prepared
from edgekit.tensorrt_profiles import Profile
from edgekit.tensorrt_tables import Version

NUMERICS = "checked in ONNX Runtime on the graph in this bundle, not in TensorRT"


@dataclass(frozen=True)
class CheckedGraph:
    """A graph that passed every check of our own. `title` is the network's name, written into a plan: equal graphs, equal bytes."""

    name: str
    title: str
    what: str  # how an error calls it
    data: bytes
    proto: Any
    types: frozenset[str]
    profiles: Mapping[str, Profile]


def check_graphs(bundle: Bundle, version: Version, wishes: Any) -> list[CheckedGraph]:
    """All graphs of a bundle with their profiles; by the sizes of the golden inputs, where `wishes` says nothing."""
    manifest = bundle.manifest
    if not isinstance(wishes, Mapping):
        raise EdgekitError(f"profiles are given as {wishes!r}; give them by free size, as in {{\"batch\": [1, 8, 32]}}, or by input")
    if manifest.prepares:  # said before a plan is built, which takes minutes
        raise EdgekitError(
            f"'{manifest.name}' needs its preparation '{manifest.prepares[0]}', which tensorrt bundles do not carry; "
            "choose onnx, openvino or aotinductor"
        )
    tensorrt_profiles.check_names(wishes, [g.signature for g in manifest.graphs.values()])
    sizes = tensorrt_profiles.from_goldens([g.inputs for g in bundle.goldens()], manifest.signature)
    found = []
    for name, graph in manifest.graphs.items():
        what = f"the graph '{name}' of {bundle.folder}"
        data = prepared(bundle.graph(name).read_bytes())
        proto = check_model(data, version, what)
        profiles = tensorrt_profiles.make(graph.signature, sizes, wishes, what)
        found.append(CheckedGraph(name, f"{manifest.name}/{name}", what, data, proto, frozenset(used_types(data)), profiles))
    return found


def examples(bundle: Bundle) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Graph -> (inputs, outputs) of its first call while the first golden inputs run through the whole program, in ONNX Runtime."""
    graphs = {n: _Recorder(bundle, n) for n in bundle.manifest.graphs}
    Execution(bundle, graphs).run(bundle.golden().inputs)
    return {n: g.first for n, g in graphs.items() if g.first is not None}


class _Recorder(Graph):
    """Runs a graph in ONNX Runtime and keeps what its first call was given and gave."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        self._session = ort_session(str(bundle.graph(name)), options, bundle.manifest.allowed.exact)
        self._outputs = [t.name for t in bundle.manifest.graphs[name].signature.outputs]
        self.first: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None = None

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))
        if self.first is None:
            self.first = {n: np.array(v) for n, v in inputs.items()}, {n: np.array(v) for n, v in outputs.items()}
        return outputs

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        def once() -> None:
            for name, value in self.run(inputs).items():
                if name in outputs:
                    np.copyto(outputs[name], value)

        return once
