"""A measurement by the C++ runner alone, for a device without Python: what it is told to do, and what its files say."""

from __future__ import annotations

import json
import math
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit import conditions, energy, summary
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, NotEqual
from edgekit.fleet import Device
from edgekit.measurement import Measurement
from edgekit.parts import Readout
from edgekit.process_run import ProcessRun, Request
from edgekit.profile_child import CAP_S
from edgekit.remote.job import Found, Job
from edgekit.remote.ssh import quoted
from edgekit.summary import Metered, Setup
from edgekit.sysfs import Tree
from edgekit.watch import Watch

RUNS = ("", "onnxruntime", "cpp")  # what a request may name: all are ONNX Runtime
WATCH_MS = 50
# Each program's output, errors and exit code go to NAME.out, NAME.err and NAME.code.
RUN = """run() {
  name=$1
  shift
  "$@" >"$name.out" 2>"$name.err"
  code=$?
  echo "$code" >"$name.code"
  return "$code"
}
"""


def why_not(bundle: Bundle, request: Request) -> str:
    """Empty when the C++ runner can do it, else why it takes edgekit's Python."""
    if request.runtime not in RUNS:
        return f"the C++ runner that edgekit carries runs ONNX Runtime, not '{request.runtime}'"
    if bundle.manifest.format != "onnx":
        return f"the C++ runner that edgekit carries opens onnx bundles, and {bundle.folder} holds {bundle.manifest.format}"
    if request.scenario != "single":
        return f"the C++ runner times single queries, not the scenario '{request.scenario}'"
    return ""


def job(runner: str, library: str, bundle: str, request: Request, tree: Tree, device: Device) -> Job:
    """Golden answers first; then a fresh process a run; then energy. The paths are the device's."""
    start = [runner, bundle, *(["--task", request.task] if request.task else []), "--library", library, "--threads", str(request.threads)]
    pin = ["--pin", "auto"] if request.threads == 1 else []
    watched = conditions.files(tree)
    share = request.seconds / request.processes
    metered, reason = _metered(tree, device.meter, request)
    names = ["golden", *(f"run-{i}" for i in range(request.processes)), *(["energy"] if metered else [])]
    lines = [RUN]
    for i, name in enumerate(names):
        words = {"golden": ["--golden"], "energy": _energy_words(metered, request, pin) if metered else []}.get(
            name, ["--profile", f"{share:.9f}", "--samples", f"{name}.safetensors", "--warmup-cap", f"{max(CAP_S, share):g}", *pin,
                   *(w for path in watched for w in ("--watch", path)), "--watch-ms", str(WATCH_MS)])  # fmt: skip
        what = {"golden": "compare with the golden answers", "energy": "run under the meter"}.get(name, "time fresh processes")
        lines.append(f"echo '{i} {len(names)} {what}' >>progress")
        lines.append(f"run {name} {quoted([*start, *words])}{'' if name == 'energy' else ' || exit 1'}")
    lines.append(f"echo '{len(names)} {len(names)} measured' >>progress\nexit 0\n")
    results = [f"{name}.{ending}" for name in names for ending in ("out", "err", "code", "safetensors")]
    plan = {"names": names, "watch": watched, "meter": device.meter, "energy_watch": _sources(metered) if metered else [], "no_energy": reason}
    return Job("\n".join(lines), results, plan, limit_s(device, request))


def limit_s(device: Device, request: Request) -> int:
    """How long the job may take: what was asked for, and what the device may need beside it."""
    return math.ceil(device.limit_s + request.seconds + 2 * request.energy_seconds)


def measurement(found: Found, bundle: Bundle, device: Device, request: Request, tree: Tree, description: str, target: str) -> Measurement:
    """What the job's files say. NotEqual when the answers differ on the device, EdgekitError when a program failed there."""
    ended = {name: found.text(f"{name}.code") for name in found.plan["names"]}
    if ended["golden"] == "1":
        cases = json.loads(found.text("golden.out"))["cases"]
        failures = [f for case in cases for f in case["failures"]]
        raise NotEqual(f"{bundle.label} on {device.name}: {failures[0]}: not the trained network's answers, so not timed")
    for name, code in ended.items():
        if code != "0" and name != "energy":
            raise EdgekitError(f"{bundle.label} on {device.name}: {'no golden answers' if name == 'golden' else 'timing'}: {_how(found, name)}")
    runs, readings = [], []
    with tempfile.TemporaryDirectory(prefix="edgekit-pulled-") as folder:
        for name in (n for n in found.plan["names"] if n.startswith("run-")):
            told, seen = _lines(found, name)
            path = Path(folder) / "samples.safetensors"  # never a name that the device gave
            path.write_bytes(found.files.get(f"{name}.safetensors", b""))
            runs.append(ProcessRun.load(path, told["facts"]))
            readings += [(w["t_ns"], _texts(found.plan["watch"], w["texts"])) for w in seen]
    spans = [(int(r.start_ns[0]), int(r.start_ns[-1] + r.wall_ns[-1])) for r in runs]
    start_ns = readings[0][0] if readings else spans[0][0]
    state = conditions.reduce(readings, tree, start_ns, runs[0].facts.pinned_to, spans)
    setup = Setup(runs[0].facts.engine, description, target, request.threads, request.scenario)
    return summary.summarise(runs, state, setup, _energy(found, tree))


def _metered(tree: Tree, meter: str, request: Request) -> tuple[Readout | None, str]:
    """An opened meter that the runner can read for us, or why there is none."""
    if not request.energy_seconds:
        return None, "no energy was asked for"
    part, reason = energy.choose(meter, tree)
    if part is None:
        return None, reason
    try:
        readout = part.open(tree)
    except EdgekitError as error:
        return None, f"{energy.name_of(part)}: {error}"
    if all(c.files for c in readout.channels):
        return readout, ""
    return None, f"{energy.name_of(part)}: it is no set of small files, so it takes edgekit's Python on the device to read it"


def _sources(readout: Readout) -> list[str]:
    """Files of all channels, each once. What does not begin with / is a command whose output is the text."""
    return list(dict.fromkeys(path for c in readout.channels for path in c.files))


def _energy_words(readout: Readout, request: Request, pin: Sequence[str]) -> list[str]:
    every_ms = max(1, round(1e3 * energy.interval_s(readout.channels)))
    watched = [w for s in _sources(readout) for w in ("--watch" if s.startswith("/") else "--watch-command", s)]
    return ["--energy", f"{request.energy_seconds:g}", *pin, *watched, "--watch-ms", str(every_ms)]


def _energy(found: Found, tree: Tree) -> Metered:
    """What the meter's files held, understood by the meter here."""
    plan = found.plan
    if "energy" not in plan["names"]:
        return Metered(reason=plan["no_energy"])
    part, reason = energy.choose(plan["meter"], tree)
    if part is None:
        return Metered(reason=f"the meter is gone from the device: {reason}")
    if found.text("energy.code") != "0":
        return Metered(reason=f"{energy.name_of(part)}: the run under the meter failed: {_how(found, 'energy')}")
    told, seen = _lines(found, "energy")
    readout = part.open(tree)
    try:
        watch = Watch(readout.read, 1.0)  # never started: it holds what the runner has read
        watch.readings = [(w["t_ns"], readout.parse(_texts(plan["energy_watch"], w["texts"]))) for w in seen]
        watch.slowest_read_s = max((w["read_ns"] for w in seen), default=0) / 1e9
        return energy.measured(part, readout, watch, told["edges_ns"], told["inferences"])
    finally:
        readout.close()


def _texts(paths: Sequence[str], texts: Sequence[str | None]) -> Mapping[str, str | None]:
    return {path: None if text is None else text.strip() for path, text in zip(paths, texts, strict=True)}


def _lines(found: Found, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the last line, the readings before it) of a runner's output."""
    *seen, last = [json.loads(line) for line in found.text(f"{name}.out").splitlines()]
    return last, [line["watch"] for line in seen]


def _how(found: Found, name: str) -> str:
    """How a program failed: its own sentence, the signal that ended it, or that it was stopped."""
    code = found.text(f"{name}.code")
    if not code:
        return stopped(found)
    lines = [line for line in found.text(f"{name}.err").splitlines() if line.strip()]
    own = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
    if own or not code.isdigit() or int(code) <= 128:
        return own or (lines[-1] if lines else f"exit code {code}")
    try:
        name = signal.Signals(int(code) - 128).name
    except ValueError:
        return f"exit code {code}"
    why = {"SIGILL": ", as by a processor that lacks an instruction", "SIGKILL": ", as by a system that runs out of memory"}.get(name, "")
    return f"it was ended by {name}{why}"


def stopped(found: Found) -> str:
    """Why a job has left no exit code of a program."""
    if found.code == 143:
        return "it was stopped by hand"
    limit_s = found.plan["limit_s"]
    if found.code == 137 and found.seconds >= limit_s - 1:
        return f"it took more than {limit_s} s and was stopped there; give the device a longer limit_s"
    if found.code == 137:
        return f"it was killed after {found.seconds} s, as by a system that runs out of memory"
    return found.text("err").splitlines()[-1] if found.text("err") else f"the job ended with code {found.code}"
