"""What the program's loop adds to a step, in Python and in C++, beside bare ONNX Runtime in the same process, in turns.

    python benchmarks/loop_overhead.py     # writes benchmarks/loop_overhead.json

A tiny graph with one carried state: u_next = relu(u * 0.5 + x), eight values. Bare is an IoBinding pair over the same
buffers, called in turns, which is the least that any loop must do. Memory is read before and after 10^6 steps.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgekit import files, registry
from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote, GraphFile, Lineage, Manifest, new_bundle, open_bundle
from edgekit.cpp_sources import json_include, sources
from edgekit.parts import Runtime
from edgekit.profile import device_name
from edgekit.program import Feed, Join, Phase, Program, State, Stream, value
from edgekit.signature import Signature, Tensor

STEPS, ROUNDS = 1000, 1000  # 10^6 steps
HERE = Path(__file__).parent


def toy(folder: Path, program: Program, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Bundle:
    """A bundle around the tiny graph."""
    from onnx import TensorProto, helper

    def info(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8])

    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    nodes = [helper.make_node("Mul", ["u", "half"], ["m"]), helper.make_node("Add", ["m", "x"], ["a"]), helper.make_node("Relu", ["a"], ["u_next"])]
    graph = helper.make_graph(nodes, "tiny", [info("x"), info("u")], [info("u_next")], [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    ports = tuple(Tensor(n, "float32", (1, 8)) for n in ("x", "u"))
    signature = Signature(
        tuple(Tensor(n, "float32", ("steps", 1, 8) if v.ndim == 3 else (1, 8)) for n, v in inputs.items()),
        tuple(Tensor(n, "float32", v.shape if v.ndim == 2 else ("steps", 1, 8)) for n, v in outputs.items()),
    )
    manifest = Manifest(
        "tiny", "onnx", "f32", signature, {"main": GraphFile("model.onnx", Signature(ports, (Tensor("u_next", "float32", (1, 8)),)))},
        program, GoldenNote("numpy", "ones"), None, Allowed(dict.fromkeys(outputs, 1e-5)), Lineage("benchmark", "0" * 64, {}, {}),
    )  # fmt: skip
    with new_bundle(folder, manifest, [Golden(inputs, outputs)]) as draft:
        (draft / "model.onnx").write_bytes(model.SerializeToString())
    return open_bundle(folder)


def resident_kb() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def python_loop(bundle: Bundle) -> dict[str, float]:
    """ns a step of the executor and of bare IoBinding, in turns."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    bare_session = ort.InferenceSession(str(bundle.graph()), options, providers=["CPUExecutionProvider"])
    x, ping, pong = np.ones((1, 8), np.float32), np.zeros((1, 8), np.float32), np.zeros((1, 8), np.float32)

    def binding(u: np.ndarray, u_next: np.ndarray) -> object:
        made = bare_session.io_binding()
        for name, array in (("x", x), ("u", u)):
            made.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        made.bind_ortvalue_output("u_next", ort.OrtValue.ortvalue_from_numpy(u_next))
        return made

    pair = (binding(ping, pong), binding(pong, ping))
    ours, bare = [], []
    with registry.find(Runtime, "onnxruntime").open(bundle, threads=1) as session:
        once = session.bind({"x": x})
        before = resident_kb()
        for _ in range(ROUNDS):
            start = time.perf_counter_ns()
            once()
            ours.append((time.perf_counter_ns() - start) / STEPS)
            start = time.perf_counter_ns()
            for i in range(STEPS):
                bare_session.run_with_iobinding(pair[i & 1])
            bare.append((time.perf_counter_ns() - start) / STEPS)
        after = resident_kb()
    return {
        "loop_ns_per_step_p50": statistics.median(ours), "bare_ns_per_step_p50": statistics.median(bare),
        "loop_ns_per_step_min": min(ours), "bare_ns_per_step_min": min(bare),
        "added_ns_per_step_p50": statistics.median(ours) - statistics.median(bare), "added_ns_per_step_min": min(ours) - min(bare),
        "steps_total": STEPS * ROUNDS, "resident_before_kb": before, "resident_after_kb": after,
    }  # fmt: skip


def python_stream(bundle: Bundle, pushes: int) -> dict[str, float]:
    """Memory before and after so many pushes of one chunk."""
    x = np.ones((1, 1, 8), np.float32)
    with registry.find(Runtime, "onnxruntime").open(bundle, threads=1) as session:
        session.begin({})
        for _ in range(1000):
            session.push({"x": x})
        before, start = resident_kb(), time.perf_counter_ns()
        for _ in range(pushes):
            session.push({"x": x})
        took = time.perf_counter_ns() - start
        return {"pushes": pushes, "ns_per_push": took / pushes, "resident_before_kb": before, "resident_after_kb": resident_kb()}


def cpp_loop(bundle: Bundle, work: Path) -> dict[str, float]:
    """The C++ benchmark on the same bundle."""
    build = work / "build"
    configure = ["cmake", "-S", str(sources()), "-B", str(build), "-DEDGEKIT_BENCH=ON", "-DEDGEKIT_TOOLS=OFF",
                 f"-DEDGEKIT_JSON_INCLUDE={json_include()}"]  # fmt: skip
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(build), "--parallel", "2"], check=True, capture_output=True)
    done = subprocess.run([str(build / "edgekit-bench"), str(bundle.folder), str(ROUNDS)], check=True, capture_output=True, text=True,
                          env={**os.environ, "EDGEKIT_PYTHON": sys.executable})  # fmt: skip
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure all and write the JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ones, states = np.ones((1, 8), np.float32), {"u": State("float32", (1, 8))}
    inputs = {"x": value("x"), "u": value("u")}
    loop = Program((Phase("main", "steps", STEPS, inputs=inputs, states=states, carry={"u_next": "u"}),))
    stream = Program((Stream({"x": Feed(0)}, (Phase("main", inputs=inputs, carry={"u_next": "u"}),), {"u": Join("stack", 0)}, states),))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        steps = toy(work / "steps", loop, {"x": ones}, {"u": 2 * ones})
        pushed = toy(work / "stream", stream, {"x": ones[None]}, {"u": ones[None]})
        found = {
            "command": "python benchmarks/loop_overhead.py",
            "graph": "u_next = relu(u * 0.5 + x), float32 [1, 8]; one thread, one core",
            "machine": {"device": device_name(), "python": platform.python_version()},
            "python": python_loop(steps),
            "python_stream": python_stream(pushed, STEPS * ROUNDS),
            "cpp": cpp_loop(steps, work),
        }
    files.write_text(HERE / "loop_overhead.json", files.canonical_json(found))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
