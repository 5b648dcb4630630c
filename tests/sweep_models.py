"""Tiny classifiers of one's own with test data, and a clock that stands for a device: what tests of sweeps run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgekit.measurement import Measurement


def model(folder: Path, name: str, seed: int = 0) -> Path:
    """`name`.onnx, a dense layer 4 -> 3, with `name`.npz of inputs and its own answers as labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / f"{name}.onnx").write_bytes(made.SerializeToString())
    x = rng.normal(size=(40, 4)).astype(np.float32)
    np.savez(folder / f"{name}.npz", x=x, labels=(x @ weight).argmax(1))
    return folder / f"{name}.onnx"


def spec(path: Path) -> dict[str, object]:
    """The [[models]] table of one."""
    return {"file": str(path), "wishes": {"test": str(path.with_suffix(".npz"))}}


def measured(p50_ms: float, device: str = "simulated") -> Measurement:
    """What a device that takes p50_ms says."""
    return Measurement(
        runtime="simulated 1", device=device, threads=1, pinned=True, load_ms=1.0, first_run_ms=1.0, warm_up_runs=1, latency_p50_ms=p50_ms,
        latency_p90_ms=p50_ms * 1.1, latency_min_ms=p50_ms * 0.9, samples=700, preempted_samples=0, latency_undisturbed_p50_ms=p50_ms,
        memory_peak_mb=1.0, verdict="VALID", latency_p50_low_ms=p50_ms * 0.99, latency_p50_high_ms=p50_ms * 1.01, process_p50_ms=(p50_ms,) * 5,
    )  # fmt: skip
