"""NVIDIA's parser and builder, each call in a process of its own: a crash there is one sentence here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.errors import EdgekitError, Missing
from edgekit.registry import missing_modules
from edgekit.tensorrt_checks import name_of
from edgekit.tensorrt_graphs import CheckedGraph

CHILD = Path(__file__).with_name("tensorrt_child.py")
LIMIT_S = 1800


def call(module: str, do: str, **job: Any) -> dict[str, Any]:
    """What the child answered. EdgekitError when it died or took too long; a refusal is an answer."""
    with files.scratch("trt") as folder:
        asked, answered = Path(folder) / "job.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps({"module": module, "do": do, **job}))
        command = [sys.executable, "-P", str(CHILD), str(asked), str(answered)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            raise EdgekitError(f"{module} took more than {LIMIT_S} s to {do} and was stopped; try fewer shapes or a smaller graph") from None
        if done.returncode < 0:
            raise EdgekitError(f"{module} was ended by {signal.Signals(-done.returncode).name} while it was asked to {do}")
        if done.returncode or not answered.is_file():
            raise EdgekitError(f"{module} failed while it was asked to {do}: {_last_line(done.stderr)}")
        answer: dict[str, Any] = json.loads(answered.read_text())
        return {**answer, "stderr": done.stderr.strip().splitlines()[-20:]}


@dataclass(frozen=True)
class Gpu:
    """The first NVIDIA GPU of this machine."""

    name: str
    compute_capability: str


def gpu() -> Gpu | str:
    """The GPU, or one sentence that says why there is none."""
    answer = call("the NVIDIA driver", "device")
    return str(answer["refused"]) if answer["refused"] else Gpu(answer["name"], answer["compute_capability"])


def why_not(module: str) -> str:
    """Empty when the library can make a builder here, else one sentence. That it can be imported does not say so."""
    if missing_modules((module,)):
        return f"NVIDIA's Python module {module} is not installed here"
    found = gpu()
    if isinstance(found, str):
        return f"{found}, and a plan runs only on a GPU"
    try:
        answer = call(module, "probe")
    except EdgekitError as error:
        return str(error)
    return f"{module} {answer['version']}: {answer['refused']}" if answer["refused"] else ""


def check_builds_here(module: str) -> tuple[str, Gpu]:
    """(version, GPU) of a library that can build here; Missing says why it cannot, and what else there is."""
    reason, found = why_not(module), gpu()
    if reason or isinstance(found, str):
        raise Missing(
            f"a TensorRT plan was asked for, but {reason or found}; export on the device itself, or ask for --format tensorrt-kit "
            "(a folder to build on a Jetson) or tensorrt-rtx (built here, for RTX GPUs)"
        )
    return str(call(module, "probe")["version"]), found


def parse(module: str, model: Path, graph: CheckedGraph) -> dict[str, Any]:
    """What NVIDIA's parser made of it (`layers`: how many); EdgekitError names the nodes that it refused."""
    answer = call(module, "parse", model=str(model), name=graph.title)
    if answer["refused"]:
        raise EdgekitError(f"{graph.what}: {module} {answer['version']} cannot read it: {_verdicts(answer, graph.proto)}")
    if answer["shape_inputs"]:
        raise EdgekitError(
            f"{graph.what}: the input '{answer['shape_inputs'][0]}' decides shapes inside the graph, which a profile of shapes "
            "cannot say; make it a constant of the graph"
        )
    return answer


def build(module: str, model: Path, graph: CheckedGraph, plan: Path, capability: str = "") -> dict[str, Any]:
    """Write the plan; EdgekitError with TensorRT's own reason when there is none. capability: of TensorRT-RTX, as in 'SM86'."""
    shapes = {n: p.to_json() for n, p in graph.profiles.items()}
    answer = call(module, "build", model=str(model), name=graph.title, profiles=shapes, plan=str(plan), capability=capability)
    if answer["refused"]:
        said = [line for line in (*answer["log"], *answer["stderr"]) if "rror" in line] or answer["log"] or answer["stderr"]
        reason = said[0].splitlines()[0][:300] if said else "no reason given"
        place = f" for {capability}" if capability else ""
        raise EdgekitError(f"{graph.what}: {module} {answer['version']} builds no plan{place}: {answer['refused']}: {reason}")
    return answer


def _verdicts(answer: Mapping[str, Any], proto: Any) -> str:
    """The refused nodes with their reasons, the first three."""
    told: dict[str, str] = {}
    for e in answer["errors"]:
        at = e["node"]
        who = name_of(proto.graph.node[at]) if 0 <= at < len(proto.graph.node) else f"'{e['name']}'" if e["name"] else "the model"
        told.setdefault(who, f"{e['reason']} [{e['code']}]")
    if not answer.get("supported", True):
        for at, node in enumerate(proto.graph.node):
            if at not in answer["nodes_read"] and len(told) < 3:
                told.setdefault(name_of(node), "no reason given")
    rest = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(f"{who}: {why}" for who, why in list(told.items())[:3]) + rest


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")
