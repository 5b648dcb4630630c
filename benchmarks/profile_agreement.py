"""Does `edgekit profile` say what others say? The same 100 us model, in turns, by edgekit, OpenVINO's benchmark_app and the C++ runner's
own loop; then under a load on every core.

    python benchmarks/profile_agreement.py > benchmarks/profile_agreement.json     # 2 minutes, on a machine that is quiet
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit import examine, flow, registry
from edgekit.bundle import Bundle
from edgekit.intake import Wishes
from edgekit.parts import Runtime
from edgekit.process_run import Request
from edgekit.profile import device_name

ROUNDS = 7
AIM_MS = 0.1
CORE = max(os.sched_getaffinity(0))


def conv_net(layers: int) -> onnx.ModelProto:
    """`layers` convolutions of 16 channels on 16 x 16 pixels, with ReLU: 0.6 million multiply-adds each."""
    random = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for i in range(layers):
        weights.append(numpy_helper.from_array((random.normal(size=(16, 16, 3, 3)) / 12).astype(np.float32), f"w{i}"))
        nodes += [helper.make_node("Conv", [at, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]), helper.make_node("Relu", [f"c{i}"], [f"r{i}"])]
        at = f"r{i}"
    shape = [1, 16, 16, 16]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", at)]
    return helper.make_model(helper.make_graph(nodes, "net", io[:1], io[1:], weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def bundle_of(layers: int, work: Path) -> Bundle:
    """The net as a bundle, verified on the engines that are compared."""
    file = work / f"net{layers}.onnx"
    onnx.save(conv_net(layers), file)
    made = flow.export(str(file), "onnx", work / f"net{layers}", Wishes())
    for name in ("onnxruntime", "openvino", "cpp", "cpp_openvino"):
        assert examine.verify(made, name, 0).passed, name
    return made


def sized(work: Path) -> Bundle:
    """The net with as many layers as take about 100 us on ONNX Runtime."""
    few = bundle_of(4, work)
    ms = examine.profile(few, Request("onnxruntime", seconds=0.3, processes=1)).latency_p50_ms
    return bundle_of(max(1, round(4 * AIM_MS / ms)), work)


def on_core(command: list[str]) -> str:
    """Run pinned to the core that edgekit pins to; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {CORE}))
    return done.stdout


def benchmark_app(bundle: Bundle) -> float:
    """Median in ms: one synchronous request, one thread, f32."""
    tool = Path(sys.executable).parent / "benchmark_app"
    said = on_core([str(tool), "-m", str(bundle.graph()), "-d", "CPU", "-hint", "none", "-nthreads", "1", "-nstreams", "1", "-api", "sync",
                    "-infer_precision", "f32", "-t", "2"])  # fmt: skip
    value, unit = re.search(r"Median:\s+([\d.]+) (us|ms)", said).groups()  # type: ignore[union-attr]
    return float(value) / (1e3 if unit == "us" else 1)


def cpp_loop(bundle: Bundle, runtime: str) -> float:
    """p50 in ms of the C++ runner's own loop."""
    part = registry.find(Runtime, runtime)
    with part.open(bundle, threads=1) as session:
        command = [*session._command, str(bundle.folder), *session._options, "--bench", "2"]  # type: ignore[attr-defined]
        os.environ.update({k: v for k, v in session._environment.items() if k not in os.environ})  # type: ignore[attr-defined]
    return float(json.loads(on_core(command))["latency_p50_ms"])


def in_turns(measures: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """Median over rounds of each, and of the ratio to edgekit's in the same round."""
    rows = []
    for i in range(ROUNDS):
        names = list(measures) if i % 2 == 0 else list(reversed(measures))
        rows.append({n: measures[n]() for n in names})
    found: dict[str, Any] = {n: {"p50_ms": round(statistics.median(r[n] for r in rows), 6)} for n in measures}
    for n in measures:
        ratios = sorted(r["edgekit"] / r[n] for r in rows)
        found[n]["edgekit_over_it"] = round(statistics.median(ratios), 4)
        found[n]["range"] = [round(ratios[0], 4), round(ratios[-1], 4)]
    return found


def under_load(bundle: Bundle, engine: str) -> dict[str, Any]:
    """Quiet, then with a process that computes on every core, then quiet again."""
    asked = Request(engine, seconds=2.0)
    code = "import time\nimport numpy as np\na = np.random.rand(400, 400)\nend = time.monotonic() + 60\nwhile time.monotonic() < end: a @ a"
    before = examine.profile(bundle, asked)
    load = [subprocess.Popen([sys.executable, "-c", code]) for _ in os.sched_getaffinity(0)]
    time.sleep(2)
    try:
        loaded = examine.profile(bundle, asked)
    finally:
        for one in load:
            one.kill()
            one.wait()
    after = examine.profile(bundle, asked)
    quiet = statistics.mean([before.latency_p50_ms, after.latency_p50_ms])
    return {
        "quiet": [{"verdict": m.verdict, "p50_ms": m.latency_p50_ms, "reasons": m.reasons} for m in (before, after)],
        "loaded": {"verdict": loaded.verdict, "reasons": loaded.reasons, "p50_ms": loaded.latency_p50_ms, "p99_ms": loaded.percentiles[2].value_ms,
                   "undisturbed_p50_ms": loaded.latency_undisturbed_p50_ms, "preempted": loaded.preempted_samples, "samples": loaded.samples},
        "undisturbed_over_quiet": round((loaded.latency_undisturbed_p50_ms or float("nan")) / quiet, 4),
    }  # fmt: skip


def main() -> None:
    """Print the JSON."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = sized(Path(folder))

        def edgekit(engine: str) -> Callable[[], float]:
            return lambda: examine.profile(bundle, Request(engine, seconds=2.0)).latency_p50_ms

        def engine_clock() -> float:
            return examine.profile(bundle, Request("openvino", seconds=2.0)).latency_engine_p50_ms or float("nan")

        found = {
            "device": device_name(),
            "model": f"{bundle.manifest.name}: 3x3 convolutions of 16 channels on 16x16 pixels, as many as take about {AIM_MS} ms",
            "how": f"{ROUNDS} rounds in turns; each figure of edgekit is a profile of 5 processes",
            "onnxruntime": in_turns({"edgekit": edgekit("onnxruntime"), "cpp_runner_loop": lambda: cpp_loop(bundle, "cpp")}),
            "openvino": in_turns({"edgekit": edgekit("openvino"), "cpp_runner_loop": lambda: cpp_loop(bundle, "cpp_openvino"),
                                  "benchmark_app": lambda: benchmark_app(bundle)}),
            "cpp_openvino": in_turns({"edgekit": edgekit("cpp_openvino"), "cpp_runner_loop": lambda: cpp_loop(bundle, "cpp_openvino"),
                                      "benchmark_app": lambda: benchmark_app(bundle)}),
            "openvino_engine_clock": in_turns({"edgekit": engine_clock, "benchmark_app": lambda: benchmark_app(bundle)}),
            "under_load": {e: under_load(bundle, e) for e in ("onnxruntime", "openvino")},
        }  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
