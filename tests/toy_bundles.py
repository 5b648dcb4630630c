"""Small bundles of every kind of program, around graphs that a few lines of ONNX say."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote, GraphFile, Lineage, Manifest, new_bundle, open_bundle
from edgekit.program import Program
from edgekit.signature import Signature, Tensor

F32 = TensorProto.FLOAT


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> Tensor:
    return Tensor(name, dtype, tuple(shape))


def graph(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], nodes: list, constants: Mapping[str, np.ndarray] = {}):
    """(serialized model, signature) of ONNX nodes."""
    from onnx import numpy_helper

    def info(t: Tensor):
        return helper.make_tensor_value_info(t.name, helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype)), list(t.shape))

    made = helper.make_graph(nodes, "toy", [info(t) for t in inputs], [info(t) for t in outputs],
                             [numpy_helper.from_array(a, n) for n, a in constants.items()])  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString(), Signature(inputs, outputs)


def decay(*shape: int | str):
    """u_next = 0.5 u + x: the smallest graph with a state."""
    return graph(
        (tensor("x", *shape), tensor("u", *shape)), (tensor("u_next", *shape),),
        [helper.make_node("Mul", ["u", "half"], ["m"]), helper.make_node("Add", ["m", "x"], ["u_next"])],
        {"half": np.float32(0.5)},
    )  # fmt: skip


def bundle(
    folder: Path, graphs: Mapping[str, tuple[bytes, Signature]], signature: Signature, program: Program,
    tensors: Mapping[str, np.ndarray] = {}, golden: Golden | None = None, prepares: Mapping[str, Bundle] = {},
) -> Bundle:  # fmt: skip
    """The bundle; without golden answers it holds zeros, which is enough to run it. prepares: name -> a bundle that is copied in."""
    files = {n: GraphFile(f"{n}.onnx", s) for n, (_, s) in graphs.items()}
    zeros = Golden({t.name: np.zeros([n if isinstance(n, int) else 2 for n in t.shape], t.dtype) for t in signature.inputs}, {})
    manifest = Manifest(
        "toy", "onnx", "f32", signature, files, program, GoldenNote("by hand", "by hand"), None,
        Allowed({t.name: 1e-5 for t in signature.outputs if t.dtype == "float32"}), Lineage("toy", "0" * 64, {}, {}),
        prepares=tuple(prepares),
    )  # fmt: skip
    with new_bundle(folder, manifest, [golden or zeros], tensors) as draft:
        for name, (model, _) in graphs.items():
            (draft / f"{name}.onnx").write_bytes(model)
        for name, inner in prepares.items():
            shutil.copytree(inner.folder, draft / name)
    return open_bundle(folder)
