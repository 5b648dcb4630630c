"""What every TensorRT export of a bundle shares: the name of each network, its profiles, and how far numerics were checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit import tensorrt_profiles
from edgekit.bundle import Bundle
from edgekit.tensorrt_profiles import Profile

NUMERICS = "checked in ONNX Runtime on the graph in this bundle, not in TensorRT"


def graph_name(bundle: Bundle, graph: str) -> str:
    """The network's name, which is written into the plan: equal graphs give equal bytes."""
    return f"{bundle.manifest.name}/{graph}"


def profiles_of(bundle: Bundle, graph: str, wishes: Mapping[str, Any], what: str) -> dict[str, Profile]:
    """The checked profiles of a graph's inputs: by the sizes of the golden inputs, where the user says nothing."""
    manifest = bundle.manifest
    sizes = tensorrt_profiles.from_goldens([g.inputs for g in bundle.goldens()], manifest.signature)
    return tensorrt_profiles.make(manifest.graphs[graph].signature, sizes, wishes, what)
