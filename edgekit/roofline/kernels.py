"""The process that measures a roof: matrix products by every engine that is here, large copies by numpy, graphs that do nothing.

Started fresh by edgekit/roofline/probe.py; the best of all runs counts, since other work on the machine can only slow them down.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgekit import probe, registry
from edgekit.figures import find
from edgekit.profile_child import pin
from edgekit.sysfs import HERE

PRODUCT_S = 0.08  # for each product; the best of its runs
SIZES = (512, 768)  # of square matrices: smaller ones do not fill the units, larger ones leave the caches
COPY_RUNS = 4
OUT_OF_CACHE = 4  # times the caches: length of the arrays that are copied
MOST_BYTES = 1 << 30  # an array, whatever the cache
NODES = 64  # of the graph that shows what a node costs
Found = tuple[str, float, str]  # figure, value, what was run
_NodeText = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes


def measure(threads: int) -> dict[str, Any]:
    """All figures, as Probe holds them. threads: 1 = pinned to one core, 0 = all."""
    if threads == 1:
        pin()
    compute: dict[str, float] = {}
    how: dict[str, str] = {}
    for figure, value, what in products(threads):
        if value > compute.get(figure, 0.0):
            compute[figure], how[figure] = value, what
    bandwidth, how["bandwidth"] = copies(threads)
    call_us, node_us = overheads(threads)
    how["overhead"] = f"onnxruntime, bound buffers, graphs of 1 and {NODES} additions of 8 numbers"
    roof = {"threads": threads, "compute_gops": compute, "bandwidth_gb_s": bandwidth, "how": how}
    return {"roof": roof, "call_us": call_us, "node_us": node_us}


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def products(threads: int) -> Iterator[Found]:
    """(precision, 10^9 operations a second, what was run)."""
    for size in SIZES:
        a = np.ones((size, size), np.float32)
        out = np.empty_like(a)
        yield "f32", _gops(lambda a=a, out=out: np.matmul(a, a, out=out), size), f"numpy matmul {size}x{size}x{size}"  # type: ignore[misc]
        for precision, model in (("f32", _float_product(size)), ("int8", _whole_product(size))):
            run = _in_onnxruntime(model, threads)
            yield precision, _gops(run, size), f"onnxruntime {precision} MatMul {size}x{size}x{size}"
    if registry.missing_modules(("openvino",)):
        return
    import openvino as ov

    core = ov.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for size in SIZES:
        jobs = [("f32", _float_product(size), "f32"), ("int8", _rounded_product(size), "f32")]
        jobs += [(name, _float_product(size), name) for name, said in (("bf16", "BF16"), ("f16", "FP16")) if said in able]
        for precision, model, hint in jobs:
            settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
            if threads:
                settings["INFERENCE_NUM_THREADS"] = str(threads)
            request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
            yield precision, _gops(request.infer, size), f"openvino {precision} MatMul {size}x{size}x{size}"


def copies(threads: int) -> tuple[float, str]:
    """(10^9 bytes a second, what was run): the best of copying (2 bytes a byte), adding (3) and multiplying two arrays (2)."""
    n = int(min(OUT_OF_CACHE * cache_bytes(), MOST_BYTES, _free_bytes() / 8)) // 8
    a, b = np.ones(n), np.ones(n)
    workers = threads or usable_cores()
    cuts = [slice(i * n // workers, (i + 1) * n // workers) for i in range(workers)]
    jobs: dict[str, tuple[int, Callable[[slice], Any]]] = {
        "copy": (16, lambda s: np.copyto(a[s], b[s])),
        "add": (24, lambda s: np.add(a[s], b[s], out=a[s])),
        "largest": (8, lambda s: np.maximum.reduce(b[s])),
        "dot": (16, lambda s: np.dot(a[s], b[s])),
    }
    best, what = 0.0, ""
    with ThreadPoolExecutor(workers) as pool:
        for name, (moved, job) in jobs.items():
            for _ in range(COPY_RUNS):
                start = time.perf_counter()
                list(pool.map(job, cuts)) if workers > 1 else job(slice(None))
                rate = moved * n / (time.perf_counter() - start) / 1e9
                if rate > best:
                    best, what = rate, f"numpy {name} of arrays of {8 * n >> 20} MiB"
    return best, what


def overheads(threads: int) -> tuple[float, float]:
    """Microseconds of a call of a graph with one small node, and of each further node."""
    one, many = (_seconds(_in_onnxruntime(_additions(n), threads)) * 1e6 for n in (1, NODES))
    return one, max(many - one, 0.0) / (NODES - 1)


def cache_bytes() -> int:
    """All caches above the first level, as the kernel states them; 32 MiB where it does not."""
    found = find(probe.probe(), "on_chip_memory")
    return int(found.value * 1024) if found else 1 << 25


def _free_bytes() -> float:
    """Memory that can be had without swapping; 4 GiB where the kernel does not say."""
    try:
        lines = HERE.read("/proc/meminfo").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return float(1 << 32)


def _seconds(once: Callable[[], Any], seconds: float = PRODUCT_S) -> float:
    """The quickest run within `seconds`, after two that warm up."""
    once()
    once()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        once()
        best = min(best, time.perf_counter() - start)
    return best


def _gops(once: Callable[[], Any], size: int) -> float:
    return 2.0 * size**3 / _seconds(once) / 1e9


def _in_onnxruntime(model: bytes, threads: int) -> Callable[[], Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32}
    binding = session.io_binding()
    kept = []
    for tensor, bind in ((session.get_inputs()[0], binding.bind_ortvalue_input), (session.get_outputs()[0], binding.bind_ortvalue_output)):
        kept.append(ort.OrtValue.ortvalue_from_numpy(np.ones(tensor.shape, kinds[tensor.type])))
        bind(tensor.name, kept[-1])

    def once() -> None:
        session.run_with_iobinding(binding)

    once.kept = kept  # type: ignore[attr-defined]
    return once


def _float_product(size: int) -> bytes:
    return _graph([("MatMul", ["a", "b"], "y", {})], ("float32", "float32"), [size, size], {"b": np.ones((size, size), np.float32)})


def _whole_product(size: int) -> bytes:
    weights = np.ones((size, size), np.int8)
    return _graph([("MatMulInteger", ["a", "b"], "y", {})], ("uint8", "int32"), [size, size], {"b": weights})


def _rounded_product(size: int) -> bytes:
    """Q/DQ around a product: the form that engines run as one integer kernel."""
    constants = {
        "s": np.float32(0.1), "z": np.uint8(0), "b": np.ones((size, size), np.int8), "bs": np.full(size, 0.1, np.float32),
        "bz": np.zeros(size, np.int8), "ys": np.float32(1),
    }  # fmt: skip
    nodes: list[_NodeText] = [
        ("DequantizeLinear", ["a", "s", "z"], "af", {}), ("DequantizeLinear", ["b", "bs", "bz"], "bf", {"axis": 1}),
        ("MatMul", ["af", "bf"], "yf", {}), ("QuantizeLinear", ["yf", "ys", "z"], "y", {}),
    ]  # fmt: skip
    return _graph(nodes, ("uint8", "uint8"), [size, size], constants)


def _additions(n: int) -> bytes:
    """A chain that no optimiser shortens: every value goes into the next but one as well."""
    names = ["a", *(f"v{i}" for i in range(n - 1)), "y"]
    nodes: list[_NodeText] = [("Add", [names[i], names[max(i - 1, 0)]], names[i + 1], {}) for i in range(n)]
    return _graph(nodes, ("float32", "float32"), [1, 8], {})


def _graph(nodes: list[_NodeText], kinds: tuple[str, str], shape: list[int], constants: dict[str, Any]) -> bytes:
    from onnx import helper, numpy_helper

    ends = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(k)), shape) for n, k in zip("ay", kinds, strict=True)]
    made = [helper.make_node(kind, inputs, [out], **attributes) for kind, inputs, out, attributes in nodes]
    graph = helper.make_graph(made, "probe", ends[:1], ends[1:], [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()])
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    return model


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
