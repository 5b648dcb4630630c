"""Build the plans of this kit on the device that is to run them, run the examples, and write the answers.

    python3 THIS_FILE        writes GRAPH.plan and answers/GRAPH.npz; then: python3 compare.py

It needs the `tensorrt` module of the major version below and the CUDA runtime, both part of JetPack, and numpy. The plans
are for this device and this TensorRT alone. Everything that it reads was written by edgekit and stands in SHA256SUMS.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MAJOR = 10  # of TensorRT
HERE = Path(__file__).resolve().parent
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


class Refused(Exception):
    """Why it cannot go on, in one sentence."""


class Cuda:
    """The few calls of the CUDA runtime that are needed, without a Python package for it."""

    def __init__(self) -> None:
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12"):
            try:
                self.library = ctypes.CDLL(name)
                break
            except OSError:
                continue
        else:
            raise Refused("the CUDA runtime (libcudart.so) is not found; add its folder to LD_LIBRARY_PATH, as in /usr/local/cuda/lib64")
        self.library.cudaGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.library, name)(*arguments)
        if code:
            raise Refused(f"{name} failed: {self.library.cudaGetErrorString(code).decode()}")

    def buffer(self, array: np.ndarray) -> ctypes.c_void_p:
        """Memory on the device with the array's bytes in it."""
        pointer = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(array.nbytes, 1)))
        self.send(array, pointer)
        return pointer

    def send(self, array: np.ndarray, pointer: ctypes.c_void_p) -> None:
        if array.nbytes:
            self.call("cudaMemcpy", pointer, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), TO_DEVICE)

    def free(self, pointer: ctypes.c_void_p) -> None:
        self.call("cudaFree", pointer)

    def fetch(self, pointer: ctypes.c_void_p, into: np.ndarray) -> None:
        self.call("cudaDeviceSynchronize")
        if into.nbytes:
            self.call("cudaMemcpy", ctypes.c_void_p(into.ctypes.data), pointer, ctypes.c_size_t(into.nbytes), TO_HOST)


def check_files() -> None:
    """Every file of the kit is as edgekit wrote it."""
    for line in (HERE / "SHA256SUMS").read_text().splitlines():
        sha256, _, name = line.partition("  ")
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != sha256:
            raise Refused(f"{name} is not the file that edgekit wrote; copy the kit again")


def build(trt: Any, log: Any, plan: dict[str, Any], graph: dict[str, Any]) -> bytes:
    """The plan of one graph, strongly typed: every precision is the graph's own."""
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if MAJOR == 10 else 0)
    network.name = graph["title"]
    parser = trt.OnnxParser(network, log)
    if not parser.parse((HERE / graph["onnx"]).read_bytes()):
        raise Refused(f"TensorRT cannot read {graph['onnx']}: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    if not network.num_layers or not network.num_outputs:
        raise Refused(f"TensorRT read no layers from {graph['onnx']}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and then f32 is not f32
    if graph["profiles"]:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in graph["profiles"].items():
            profile.set_shape(name, tuple(smallest), tuple(usual), tuple(largest))
        if not profile or config.add_optimization_profile(profile) < 0:
            raise Refused(f"the profile of {graph['onnx']} is refused: {graph['profiles']}")
    if plan["dla"]:
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, 0
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)  # without a word; look at the layers with trtexec --dumpLayerInfo
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise Refused(f"TensorRT built no plan of {graph['onnx']}; its reason stands above")
    return bytes(made)


def run(trt: Any, log: Any, cuda: Cuda, data: bytes, graph: dict[str, Any]) -> dict[str, np.ndarray]:
    """The answers of a plan that was built a moment ago, to the kit's example."""
    engine = trt.Runtime(log).deserialize_cuda_engine(data)
    if engine is None:
        raise Refused(f"TensorRT cannot open the plan of {graph['onnx']} that it has just built; its reason stands above")
    context = engine.create_execution_context()
    buffers = {}
    with np.load(HERE / graph["example"]) as example:
        for name in graph["inputs"]:
            value = np.ascontiguousarray(example[name])
            buffers[name] = cuda.buffer(value)
            context.set_input_shape(name, value.shape)
            context.set_tensor_address(name, buffers[name].value)
    answers = {}
    for name, dtype in graph["outputs"].items():
        shape = tuple(context.get_tensor_shape(name))
        if min(shape, default=1) < 0:
            raise Refused(f"the shape of the output '{name}' depends on the data, which this script does not serve")
        answers[name] = np.zeros(shape, dtype)
        buffers[name] = cuda.buffer(answers[name])
        context.set_tensor_address(name, buffers[name].value)
    if not context.execute_async_v3(0):
        raise Refused(f"TensorRT could not run the plan of {graph['onnx']}; its reason stands above")
    for name, value in answers.items():
        cuda.fetch(buffers[name], value)
    return answers


def main() -> int:
    """0 when all graphs were built and run; compare.py says whether the answers are right."""
    try:
        check_files()
        try:
            import tensorrt as trt
        except ImportError:
            raise Refused("the Python module tensorrt is not here; on a Jetson it is part of JetPack: apt install python3-libnvinfer") from None
        if int(trt.__version__.split(".")[0]) != MAJOR:
            raise Refused(f"this script is for TensorRT {MAJOR}, but {trt.__version__} is here; use the script of its major version")
        plan = json.loads((HERE / "plan.json").read_text())
        log, cuda = trt.Logger(trt.Logger.WARNING), Cuda()
        (HERE / "answers").mkdir(exist_ok=True)
        for name, graph in plan["graphs"].items():
            data = build(trt, log, plan, graph)
            (HERE / f"{name}.plan").write_bytes(data)
            answers = run(trt, log, cuda, data, graph)
            np.savez(HERE / "answers" / f"{name}.npz", **answers)  # type: ignore[arg-type]
            print(f"{name}: TensorRT {trt.__version__} built {name}.plan ({len(data)} bytes) and ran it once; next: python3 compare.py")
    except Refused as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
