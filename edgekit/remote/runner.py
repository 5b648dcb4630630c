"""A measurement by the C++ runner alone, for a device without Python: what it is told to do, and what its files say."""

from __future__ import annotations

import math
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import conditions, energy, limits, summary
from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError, NotEqual
from edgekit.fleet import Device
from edgekit.measurement import Measurement
from edgekit.parts import Readout
from edgekit.plain_text import shown
from edgekit.process_run import ProcessRun, Request
from edgekit.profile_child import CAP_S
from edgekit.recipe import fill
from edgekit.remote.believe import json_of
from edgekit.remote.job import Found, Job
from edgekit.remote.ssh import quoted
from edgekit.summary import Metered, Setup
from edgekit.sysfs import Tree
from edgekit.watch import Watch

RUNS = ("", "onnxruntime", "cpp")  # what a request may name: all are ONNX Runtime
WATCH_MS = 50
ENERGY = "energy"
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


@dataclass(frozen=True)
class Plan:
    """What a job was told to do, as the device has kept it: a controller that was killed and begun again has nothing else."""

    names: tuple[str, ...]  # of the programs that run, in order
    watch: tuple[str, ...]  # files that are read meanwhile
    energy_watch: tuple[str, ...]
    no_energy: str
    results: tuple[str, ...]
    limit_s: int

    @staticmethod
    def of(found: Found, request: Request, name: str) -> Plan:
        """Broken when it is none that edgekit wrote for this request."""
        try:
            plan: Plan = fill(Plan, found.plan, "plan")
        except EdgekitError as error:
            raise Broken(f"the plan of a job on {name} is none of this edgekit: {error}; measure again") from None
        wanted = _names(request)
        if plan.names not in (wanted, (*wanted, ENERGY)):
            raise Broken(f"the plan of a job on {name} is of other runs than were asked for: {shown(plan.names)}; measure again")
        return plan


def _names(request: Request) -> tuple[str, ...]:
    return "golden", *(f"run-{i}" for i in range(request.processes))


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
    names = [*_names(request), *([ENERGY] if metered else [])]
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
    plan = {"names": names, "watch": watched, "energy_watch": _sources(metered) if metered else [], "no_energy": reason}
    return Job("\n".join(lines), results, plan, limit_s(device, request))


def limit_s(device: Device, request: Request) -> int:
    """How long the job may take: what was asked for, and what the device may need beside it."""
    return math.ceil(device.limit_s + request.seconds + 2 * request.energy_seconds)


def measurement(found: Found, bundle: Bundle, device: Device, request: Request, tree: Tree, description: str, target: str) -> Measurement:
    """What the job's files say. NotEqual when the answers differ on the device, EdgekitError when a program failed there."""
    plan = Plan.of(found, request, device.name)
    ended = {name: found.text(f"{name}.code") for name in plan.names}
    if ended["golden"] in ("0", "1"):  # what it found is looked at, whatever it made of it
        cases = json_of(found.text("golden.out"), f"the golden answers of {device.name}")["cases"]
        if failures := [f for case in cases for f in case["failures"]]:
            raise NotEqual(f"{bundle.label} on {device.name}: {shown(failures[0], 300)}: not the trained network's answers, so not timed")
        if not cases or ended["golden"] == "1":
            raise Broken(f"{device.name} compared no golden answers; look at what runs there")
    for name, code in ended.items():
        if code != "0" and name != ENERGY:
            raise EdgekitError(f"{bundle.label} on {device.name}: {'no golden answers' if name == 'golden' else 'timing'}: {_how(found, name)}")
    runs, readings = [], []
    with tempfile.TemporaryDirectory(prefix="edgekit-pulled-") as folder:
        for name in _names(request)[1:]:
            told, seen = _lines(found, name)
            path = Path(folder) / "samples.safetensors"  # never a name that the device gave
            path.write_bytes(found.files.get(f"{name}.safetensors", b""))
            runs.append(ProcessRun.load(path, told["facts"]))
            readings += [(_whole(w["t_ns"]), _texts(plan.watch, w["texts"])) for w in seen]
            _few(readings, device.name)
    spans = [(int(r.start_ns[0]), int(r.start_ns[-1] + r.wall_ns[-1])) for r in runs]
    start_ns = readings[0][0] if readings else spans[0][0]
    state = conditions.reduce(readings, tree, start_ns, runs[0].facts.pinned_to, spans)
    setup = Setup(runs[0].facts.engine, description, target, request.threads, request.scenario)
    return summary.summarise(runs, state, setup, _energy(found, plan, tree, device))


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


def _energy(found: Found, plan: Plan, tree: Tree, device: Device) -> Metered:
    """What the meter's files held, understood by the meter here."""
    if ENERGY not in plan.names:
        return Metered(reason=plan.no_energy)
    part, reason = energy.choose(device.meter, tree)
    if part is None:
        return Metered(reason=f"the meter is gone from the device: {reason}")
    if found.text("energy.code") != "0":
        return Metered(reason=f"{energy.name_of(part)}: the run under the meter failed: {_how(found, ENERGY)}")
    told, seen = _lines(found, ENERGY)
    edges = [_whole(t) for t in told["edges_ns"]]
    if len(edges) != 4 or edges != sorted(edges):
        raise Broken(f"{device.name} tells that a window of energy begins after it ends; look at what runs there")
    readout = part.open(tree)
    try:
        watch = Watch(readout.read, 1.0)  # never started: it holds what the runner has read
        watch.readings = [(_whole(w["t_ns"]), readout.parse(_texts(plan.energy_watch, w["texts"]))) for w in seen]
        _few(watch.readings, device.name)
        watch.slowest_read_s = max((_whole(w["read_ns"]) for w in seen), default=0) / 1e9
        return energy.measured(part, readout, watch, edges, _whole(told["inferences"]))
    finally:
        readout.close()


def _whole(number: Any) -> int:
    """A count or a time in ns; ValueError for anything else."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 62:
        raise ValueError(f"{shown(number, 40)} is no time or count")
    return number


def _few(readings: Sequence[Any], name: str) -> None:
    if len(readings) > limits.DEVICE_READINGS:
        raise Broken(f"{name} has read its sensors more than {limits.DEVICE_READINGS:,} times; look at what runs there, or ask for fewer seconds")


def _texts(paths: Sequence[str], texts: Sequence[str | None]) -> Mapping[str, str | None]:
    return {path: None if text is None else text.strip() for path, text in zip(paths, texts, strict=True)}


def _lines(found: Found, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the last line, the readings before it) of a runner's output."""
    lines = found.text(f"{name}.out").split("\n")
    _few(lines, "the device")
    *seen, last = [json_of(line, f"what {name} printed") for line in lines]
    return last, [line["watch"] for line in seen]


def _how(found: Found, name: str) -> str:
    """How a program failed: its own sentence, the signal that ended it, or that it was stopped."""
    code = found.text(f"{name}.code")
    if not code:
        return stopped(found)
    lines = [line for line in found.text(f"{name}.err").splitlines() if line.strip()]
    own = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
    if own or not re.fullmatch(r"[0-9]{1,4}", code) or int(code) <= 128:
        return shown(own or (lines[-1] if lines else f"exit code {code}"), 300)
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
    return shown(found.text("err").splitlines()[-1], 300) if found.text("err") else f"the job ended with code {found.code}"
