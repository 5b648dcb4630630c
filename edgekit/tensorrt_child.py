"""The only place where TensorRT is called: a process of its own, which reads a job and writes what it found, both as JSON.

    python -P tensorrt_child.py JOB.json ANSWER.json

-P keeps this folder off the path, where files are named as the libraries that they speak of. A refusal is an answer with
`refused`; a crash leaves no answer at all, and the caller reads standard error, to which NVIDIA's code writes past its logger.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from pathlib import Path
from typing import Any

MODULES = ("tensorrt_rtx", "tensorrt")


def main(job_file: str, answer_file: str) -> int:
    """Do the job; 0 also when the answer is a refusal."""
    job = json.loads(Path(job_file).read_text())
    if job["do"] == "device":
        Path(answer_file).write_text(json.dumps(_device()))
        return 0
    assert job["module"] in MODULES
    trt = importlib.import_module(job["module"])
    log = _logger(trt)
    done = _probe(trt, log) if job["do"] == "probe" else {"parse": _parse, "build": _build}[job["do"]](trt, log, job)
    answer = {"version": trt.__version__, **done}
    answer["log"] = log.kept[-20:]
    Path(answer_file).write_text(json.dumps(answer))
    return 0


def _logger(trt: Any) -> Any:
    """Keeps warnings and errors; it must live as long as its builder."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                self.kept.append(message.strip())

    return Logger()


def _network(trt: Any, builder: Any, name: str) -> Any:
    """An empty network whose types are those of the graph."""
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 10 has to be asked for it, and can be told by a name that 11 and RTX dropped.
    typed = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "EXPLICIT_BATCH") else 0
    network = builder.create_network(typed)
    network.name = name  # a network without a name gets a number of its own, and the plan other bytes each time
    return network


def _probe(trt: Any, log: Any) -> dict[str, Any]:
    """Can it make a builder here? Full TensorRT needs a GPU for it."""
    return {"refused": "" if trt.Builder(log) else "no builder"}


def _device() -> dict[str, Any]:
    """The first NVIDIA GPU, asked of the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"refused": "there is no NVIDIA driver (libcuda.so.1) here"}
    count, name, major, minor = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return {"refused": "the NVIDIA driver here finds no GPU"}
    # The attributes 75 and 76 are the two numbers of the compute capability.
    for asked, found in ((75, major), (76, minor)):
        driver.cuDeviceGetAttribute(ctypes.byref(found), asked, 0)
    driver.cuDeviceGetName(name, len(name), 0)
    return {"refused": "", "name": name.value.decode(), "compute_capability": f"{major.value}.{minor.value}"}


def _errors(parser: Any) -> list[dict[str, Any]]:
    found = []
    for i in range(parser.num_errors):
        e = parser.get_error(i)
        reason = "; ".join(line.strip() for line in e.desc().splitlines() if line.strip())[:300]
        name = str(e.node_name()) if hasattr(e, "node_name") else ""
        found.append({"code": str(e.code()).rpartition(".")[2], "reason": reason, "node": e.node(), "name": name})
    return found


def _parse(trt: Any, log: Any, job: dict[str, Any]) -> dict[str, Any]:
    """A verdict on each node, then the network itself."""
    data = Path(job["model"]).read_bytes()
    builder = trt.Builder(log)
    scratch = _network(trt, builder, job["name"])  # a name of its own: the parser does not keep its network alive, and would crash
    asked = trt.OnnxParser(scratch, log)
    supported = asked.supports_model_v2(data) if hasattr(asked, "supports_model_v2") else True
    # is_subgraph_supported is False for all of them once one node fails: a node in no subgraph is the one that cannot be read.
    groups = [asked.get_subgraph_nodes(i) for i in range(asked.num_subgraphs)] if hasattr(asked, "num_subgraphs") else []
    read = sorted({int(n) for g in groups for n in g})
    answer: dict[str, Any] = {"supported": bool(supported), "nodes_read": read, "errors": _errors(asked)}
    if not supported:
        return {**answer, "refused": "the parser cannot read every node"}
    network, parser, errors = _parsed(trt, builder, log, data, job["name"])
    if errors is not None:
        return {**answer, "errors": errors, "refused": "the parser failed"}
    assert parser is not None
    return {**answer, "refused": "", **_facts(network)}


def _parsed(trt: Any, builder: Any, log: Any, data: bytes, name: str) -> tuple[Any, Any, list[dict[str, Any]] | None]:
    """(network, the parser that holds its weights, None), or (None, None, errors)."""
    network = _network(trt, builder, name)
    parser = trt.OnnxParser(network, log)
    done = parser.parse(data)
    if not done:
        return None, None, _errors(parser)
    if not network.num_layers or not network.num_outputs:  # bytes that are no model at all parse "well"
        return None, None, [{"code": "EMPTY", "reason": "the parser made a network without layers or outputs", "node": -1, "name": ""}]
    return network, parser, None


def _facts(network: Any) -> dict[str, Any]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    return {"layers": int(network.num_layers), "shape_inputs": [t.name for t in inputs if t.is_shape_tensor]}


def _build(trt: Any, log: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The plan, written to the file that the job names."""
    builder = trt.Builder(log)
    network, parser, errors = _parsed(trt, builder, log, Path(job["model"]).read_bytes(), job["name"])
    if errors is not None:
        return {"refused": "the parser failed", "errors": errors}
    assert parser is not None  # its weights are those of the network until the plan is there
    config = builder.create_builder_config()
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and then f32 is not f32
    if job.get("workspace_mib"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace_mib"] << 20)
    if job["profiles"]:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in job["profiles"].items():
            profile.set_shape(name, tuple(smallest), tuple(usual), tuple(largest))
        if not profile or config.add_optimization_profile(profile) < 0:  # set_shape itself says nothing
            return {"refused": f"the optimisation profile {job['profiles']} is not one"}
    if job.get("capability"):
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, job["capability"]), 0):
            return {"refused": f"the compute capability {job['capability']} cannot be set"}
    plan = builder.build_serialized_network(network, config)
    if plan is None:  # it never raises
        return {"refused": "the build gave no plan"}
    data = bytes(plan)
    Path(job["plan"]).write_bytes(data)
    return {"refused": "", "bytes": len(data)}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
