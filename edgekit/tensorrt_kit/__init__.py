"""A folder to copy to a device: graphs, profiles, how to build them there with TensorRT 10 or 11, and what must come out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.tensorrt_graphs import NUMERICS, CheckedGraph, examples
from edgekit.tensorrt_targets import Device

SOURCES = Path(__file__).parent
MAJORS = (10, 11)
# Of the largest expected value, where that is above 1: chosen, since nobody has run a kit on a device yet.
TOLERANCE = {"f32": 1e-4, "f16": 1e-2, "int8": 5e-2}


def write_kit(bundle: Bundle, graphs: list[CheckedGraph], device: Device, version: str, dla: bool, folder: Path) -> None:
    """Fill `folder`. Every file's hash stands in SHA256SUMS, which `sha256sum -c` reads."""
    folder.mkdir()
    shown = examples(bundle)
    plan: dict[str, Any] = {
        "kit": 1, "name": bundle.manifest.name, "precision": bundle.manifest.precision, "status": "planned", "numerics": NUMERICS,
        "device": device.name, "tensorrt": version, "dla": dla, "graphs": {},
    }  # fmt: skip
    for graph in graphs:
        if graph.name not in shown:
            raise EdgekitError(f"{graph.what} is not run by the golden inputs, so the kit would have no example of it")
        plan["graphs"][graph.name] = _graph(bundle, graph, *shown[graph.name], folder)
    files.write_text(folder / "plan.json", json.dumps(plan, indent=2) + "\n")
    script = (SOURCES / "on_device.py").read_text()
    for major in MAJORS:
        (folder / f"run_tensorrt{major}.py").write_text(script.replace("MAJOR = 10 ", f"MAJOR = {major} ", 1))
        (folder / f"trtexec{major}.sh").write_text(_shell(bundle, graphs, major, dla))
    (folder / "compare.py").write_text((SOURCES / "compare.py").read_text())
    (folder / "README.md").write_text(_readme(bundle, device, version, dla))
    sums = [f"{files.sha256_of(p)}  {p.relative_to(folder)}" for p in sorted(folder.rglob("*")) if p.is_file()]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")


def trtexec(bundle: Bundle, graph: CheckedGraph, major: int, dla: bool) -> tuple[str, str]:
    """(the command that builds, the command that times) one graph with NVIDIA's own tool."""
    build = [f"--onnx={graph.name}.onnx", f"--saveEngine={graph.name}.plan", *(["--stronglyTyped"] if major == 10 else []), "--noTF32"]
    for word, at in (("minShapes", 0), ("optShapes", 1), ("maxShapes", 2)):
        build += _shapes(word, {n: p.to_json()[at] for n, p in graph.profiles.items()})
    build += ["--useDLACore=0", "--allowGPUFallback"] if dla else []
    signature = {t.name: t.shape for t in bundle.manifest.graphs[graph.name].signature.inputs}
    one = {n: [1 if s == "batch" else k for s, k in zip(signature[n], p.usual, strict=True)] for n, p in graph.profiles.items()}
    time = [f"--loadEngine={graph.name}.plan", *_shapes("shapes", one), "--warmUp=500", "--duration=10", "--separateProfileRun",
            f"--exportTimes={graph.name}.times.json", f"--exportProfile={graph.name}.layers.json"]  # fmt: skip
    return " ".join(map(shlex.quote, [*build, "--skipInference"])), " ".join(map(shlex.quote, time))


def _shapes(word: str, shapes: Mapping[str, list[int]]) -> list[str]:
    for name in shapes:
        if ":" in name or "," in name:
            raise EdgekitError(f"the input '{name}' has a ':' or ',' in its name, which trtexec cannot be told; rename it in the model")
    return [f"--{word}=" + ",".join(f"{n}:{'x'.join(map(str, s))}" for n, s in shapes.items())] if shapes else []


def _graph(bundle: Bundle, graph: CheckedGraph, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """The files of one graph, and its entry in plan.json."""
    (folder / f"{graph.name}.onnx").write_bytes(graph.data)
    np.savez(folder / f"{graph.name}.example.npz", **inputs)  # type: ignore[arg-type]
    np.savez(folder / f"{graph.name}.expected.npz", **outputs)  # type: ignore[arg-type]
    relative = TOLERANCE[bundle.manifest.precision]
    allowed = {n: relative * max(1.0, float(np.abs(v[np.isfinite(v)]).max(initial=0.0))) for n, v in outputs.items() if v.dtype.kind == "f"}
    return {
        "onnx": f"{graph.name}.onnx", "title": graph.title, "profiles": {n: p.to_json() for n, p in graph.profiles.items()},
        "inputs": {n: v.dtype.name for n, v in inputs.items()}, "outputs": {n: v.dtype.name for n, v in outputs.items()},
        "example": f"{graph.name}.example.npz", "expected": f"{graph.name}.expected.npz", "allowed": allowed,
    }  # fmt: skip


def _shell(bundle: Bundle, graphs: list[CheckedGraph], major: int, dla: bool) -> str:
    lines = ["#!/bin/sh", f"# Build and time each graph with the trtexec of TensorRT {major}. Precision is in the graphs, not in flags.",
             "set -eu", 'cd "$(dirname "$0")"', 'trtexec="${TRTEXEC:-$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}"']  # fmt: skip
    for graph in graphs:
        build, time = trtexec(bundle, graph, major, dla)
        log = shlex.quote(f"{graph.name}.log")
        lines += [f'"$trtexec" {build}', f'"$trtexec" {time} > {log} 2>&1', f"cat {log}"]
    return "\n".join(lines) + "\n"


def _readme(bundle: Bundle, device: Device, version: str, dla: bool) -> str:
    loop = "" if bundle.manifest.program.runs_once else (
        "\nThe program around the graphs (its loop, states, stream) is not in this kit: each graph is built and run once, on what it was\n"
        "given first when the golden inputs ran through the program.\n"
    )  # fmt: skip
    on_dla = "\nLayers that the DLA cannot run go to the GPU without a word: look at them with trtexec --dumpLayerInfo.\n" if dla else ""
    return f"""# {bundle.manifest.name}, {bundle.manifest.precision}: build kit for {device.label}

Planned for TensorRT {version} ({device.jetpack}, compute capability {device.compute_capability}). Nothing in this folder was built or run
by TensorRT; the expected answers are ONNX Runtime's, on the very graphs that lie here. A plan is built on the device that runs it.

Copy this folder to the device, and there:

    sha256sum -c SHA256SUMS            # the files are as edgekit wrote them
    python3 run_tensorrt10.py          # or run_tensorrt11.py: builds, runs the example, writes answers/
    python3 compare.py                 # exit code 0: the same answers within what plan.json allows
    sh trtexec10.sh                    # or trtexec11.sh: builds again, and times it

Then, where edgekit and the bundle are, with the power mode and clocks as they were (nvpmodel -q, jetson_clocks --show):

    edgekit import-measurement GRAPH.log GRAPH.times.json --bundle BUNDLE --device "{device.label}, ..."
{loop}{on_dla}
A plan is an executable: run only plans that you built yourself from files whose hashes are right.
"""
