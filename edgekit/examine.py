"""What is found out about a bundle, and stored beside it: verified, profiled, compared, estimated; here or on a device."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit import layers, registry, remote, roofline, spiking_net
from edgekit import recipe as recipes
from edgekit import target as targets
from edgekit.bundle import Bundle
from edgekit.compare import Comparison
from edgekit.compare import compare as compare_bundles
from edgekit.device_estimate import DeviceEstimate
from edgekit.errors import EdgekitError, Missing
from edgekit.estimate import Estimate, count, count_ann, price, prices_of
from edgekit.files import write_tensors
from edgekit.fleet import Device
from edgekit.layer_profile import LayerProfile
from edgekit.measurement import Measurement, Progress, silent
from edgekit.parts import Runtime, Trained
from edgekit.process_run import Request
from edgekit.profile import profile as profile_bundle
from edgekit.route import all_runtimes_of, runtimes_of
from edgekit.verify import Verification
from edgekit.verify import verify as verify_bundle
from edgekit.verify_apart import verify_apart

ANYTHING = Request()  # the format's own engine, one pinned thread, five processes
THREADS = (1, 0)  # one pinned thread, and all
LAYERED = ("onnxruntime", "openvino", "spike")  # engines that tell how long each layer took


def verify(bundle: Bundle, runtime: str = "", score_limit: int | None = None) -> Verification:
    """Verify on one runtime (default: the format's first) and store the evidence. NotEqual is the caller's to raise."""
    name = runtime or _ready_runtimes(bundle)[0]
    part = _runtime_for(bundle, name)
    found = verify_bundle(bundle, part, score_limit)
    for inner, said in found.prepares.items():
        bundle.preparation(inner).write_evidence(f"verify-{name}", said)
    for task, said in found.tasks.items():
        bundle.of_task(task).write_evidence(f"verify-{name}", said)
    bundle.write_evidence(f"verify-{name}", found.to_json())  # last: where it is there, nobody verifies again, so all must be
    return found


def verify_everywhere(
    bundles: Sequence[Bundle], score_limit: int = 0, progress: Progress = silent
) -> tuple[list[tuple[Bundle, str, Verification]], dict[str, str]]:
    """Verify on every runtime that opens a bundle and is ready here, storing the evidence; and {runtime: why it is not}."""
    found: list[tuple[Bundle, str, Verification]] = []
    absent: dict[str, str] = {}
    for i, bundle in enumerate(bundles):
        progress("verify", i, len(bundles))
        for name in all_runtimes_of(bundle.manifest.format):
            part = registry.load(Runtime, name)
            lacking = registry.missing(part)
            reason = f"needs {', '.join(lacking)}: {registry.install_hint(part)}" if lacking else part.ready()
            if reason:
                absent[name] = reason
            else:
                found.append((bundle, name, verify_apart(bundle, name, score_limit)))
    progress("verify", len(bundles), len(bundles))
    return found, absent


def profile(
    bundle: Bundle, request: Request = ANYTHING, target: str = "", meter: str = "", progress: Progress = silent
) -> Measurement:
    """Profile here on one runtime (default: the format's first) and store the evidence, with every sample beside it.

    target: empty for what this machine is recognised as. meter: empty for the target's. Refuses a bundle that was not
    verified there.
    """
    request = ready_request(bundle, request)
    device = targets.load(target or targets.which_target().target)
    found = profile_bundle(bundle, request, target=device.name, meter=meter or device.meter, progress=progress)
    name = evidence_name(request)
    write_tensors(bundle.evidence / f"samples-{name}.safetensors", found.samples, {"bundle_sha256": bundle.sha256})
    bundle.write_evidence(f"profile-{name}", found.measurement.to_json())  # last: where it is there, nobody measures again
    return found.measurement


def request(**asked: Any) -> Request:
    """A Request from its fields; EdgekitError for one that cannot be."""
    made: Request = recipes.fill(Request, asked, "profile")
    return made


def profile_on(bundle: Bundle, device: Device, request: Request = ANYTHING, progress: Progress = silent) -> Measurement:
    """Profile on a device by ssh, where its answers are checked first, and store the evidence here."""
    found = remote.profile_on(device, bundle, request, progress)
    place, word = (re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:60] for text in (device.name, found.runtime.partition(" ")[0]))
    engine = "cpp" if found.runtime.startswith("edgekit-run ") else word  # what a device says names a file here, so it can be no path
    bundle.write_evidence(f"profile-{evidence_name(dataclasses.replace(request, runtime=engine))}-on-{place}", found.to_json())
    return found


def profile_layers(bundle: Bundle, request: Request = ANYTHING) -> LayerProfile:
    """Where the time goes, layer by layer, under this machine's roof; stored."""
    request = ready_request(bundle, request)
    found = layers.profile_layers(bundle, request.runtime, request.threads)
    bundle.write_evidence(f"layers-{request.runtime}-{request.threads or 'all'}", {"profile": dataclasses.asdict(found)})
    return found


def estimate_on(bundle: Bundle, names: Sequence[str], others: Sequence[Bundle] = ()) -> list[DeviceEstimate]:
    """What one inference would take on these targets; of this machine with the error, where it was measured too.

    others: bundles whose measurements narrow the estimate (roofline.py). EdgekitError when the graphs cannot be counted.
    """
    known = [m for other in others if (other.sha256, other.task) != (bundle.sha256, bundle.task) for m in roofline.evidence_of(other)]
    own = roofline.evidence_of(bundle)
    found = []
    for target in map(targets.load, names):
        # An ONNX graph would be compiled for what the device prefers; of another format, its own engine is meant.
        fits = [] if bundle.manifest.format == "onnx" else [n for n in target.runtimes if n in all_runtimes_of(bundle.manifest.format)]
        runtime, threads = (fits or [*target.runtimes, ""])[0], (1 if target.here else 0)
        made = roofline.estimate(bundle, target, bundle.manifest.precision, known, runtime=runtime, threads=threads)
        mine = [m.measurement for m in own if (m.measurement.target, m.engine, m.measurement.threads) == (target.name, runtime, threads)]
        for measurement in mine[:1]:
            made = roofline.compared(made, measurement)
        found.append(made)
    return found


def estimate_here(bundles: Sequence[Bundle]) -> None:
    """Of each bundle what this machine was estimated to take, the others narrowing it, and its error; stored."""
    for bundle in (b.of_task(n) for b in bundles for n in ("", *b.manifest.tasks)):
        try:
            found = estimate_on(bundle, [targets.which_target().target], bundles)
        except EdgekitError:
            continue  # no graph whose operations can be counted: of an event-driven chip, say
        bundle.write_evidence("device-estimate", {"estimates": [dataclasses.asdict(e) for e in found]})


def compare(
    a: Bundle, b: Bundle, requests: tuple[Request, Request] = (ANYTHING, ANYTHING), progress: Progress = silent
) -> Comparison:
    """Time two verified bundles in turns: the ratio of their latencies, and its interval."""
    mine = [(bundle, ready_request(bundle, request)) for bundle, request in zip((a, b), requests, strict=True)]
    return compare_bundles(mine[0], mine[1], progress=progress)


def ready_request(bundle: Bundle, request: Request) -> Request:
    """The request with its runtime named, once it is sure that the bundle may be timed there."""
    name = request.runtime or _ready_runtimes(bundle)[0]
    if not _runtime_for(bundle, name).timed:
        raise EdgekitError(f"{name} is not timed: it runs another engine than the one that {bundle.folder} is for")
    evidence = bundle.read_evidence(f"verify-{name}")
    if not evidence or evidence["failures"]:
        raise EdgekitError(
            f"{bundle.folder} has not passed `edgekit verify` on {name}: no figure is given for a wrong answer"
        )
    return dataclasses.replace(request, runtime=name)


def evidence_name(request: Request) -> str:
    """`onnxruntime-1`, `openvino-all-poisson`: what a profile's evidence is called after."""
    scenario = "" if request.scenario == "single" else f"-{request.scenario}"
    return f"{request.runtime}-{request.threads or 'all'}{scenario}"


def runtime_of(bundle: Bundle, name: str = "") -> Runtime:
    """The runtime of that name, or the format's first that is ready, once it is sure that it opens the bundle."""
    return _runtime_for(bundle, name or _ready_runtimes(bundle)[0])


def _runtime_for(bundle: Bundle, name: str) -> Runtime:
    part = registry.find(Runtime, name)
    opens = (*part.formats, *part.also_opens)
    if bundle.manifest.format not in opens:
        raise EdgekitError(
            f"runtime '{name}' opens {', '.join(opens)}, but {bundle.folder} holds {bundle.manifest.format}; "
            f"it runs on: {', '.join(all_runtimes_of(bundle.manifest.format))}"
        )
    if reason := part.ready():
        raise Missing(f"runtime '{name}' is not ready: {reason}")
    return part


def _ready_runtimes(bundle: Bundle) -> list[str]:
    names = runtimes_of(bundle.manifest.format)
    ready = [
        n for n in names if not registry.missing(registry.load(Runtime, n)) and not registry.load(Runtime, n).ready()
    ]
    if not ready:
        raise Missing(
            f"no runtime for {bundle.manifest.format} is ready; there are: {', '.join(names)}; see `edgekit parts`"
        )
    return sorted(ready, key=lambda n: n != bundle.manifest.format)


def deployed(
    bundle: Bundle, trained: Trained, skipped: Mapping[str, str], score_limit: int | None, request: Request
) -> None:
    """Verify and profile on every runtime of the bundle's format, unless that is done; estimate its energy."""
    for name in _ready_runtimes(bundle):
        if name in skipped:
            continue
        stored = bundle.read_evidence(f"verify-{name}")
        found = Verification.from_json(stored) if stored else verify(bundle, name, score_limit)
        if not found.passed:
            continue  # no figure for a wrong answer; require_all tells of it when all bundles have been seen
        # The integer reference is there to be right; timing it would say nothing.
        if not registry.load(Runtime, name).timed:
            continue
        timed = name == bundle.manifest.format or len(runtimes_of(bundle.manifest.format)) == 1
        threads = THREADS if not registry.load(Runtime, name).simulates else (1,)
        for n in threads if timed or name == "onnxruntime" else ():
            asked = dataclasses.replace(request, runtime=name, threads=n)
            if bundle.read_evidence(f"profile-{evidence_name(asked)}") is None:
                profile(bundle, asked)
            if n == 1 and name in LAYERED and bundle.read_evidence(f"layers-{name}-1") is None:
                profile_layers(bundle, asked)
        if timed:
            _profile_tasks(bundle, dataclasses.replace(request, runtime=name, threads=1))
    if bundle.read_evidence("estimate") is None:
        estimates = [dataclasses.asdict(e) for e in estimate(bundle, trained)]
        bundle.write_evidence("estimate", {"estimates": estimates})


def _profile_tasks(bundle: Bundle, request: Request) -> None:
    """Time every other task that was not timed yet."""
    for name in bundle.manifest.tasks:
        view = bundle.of_task(name)
        if view.read_evidence(f"profile-{evidence_name(request)}") is None:
            profile(view, request)


def estimate(bundle: Bundle, trained: Trained) -> list[Estimate]:
    """The price of one inference from exact operation counts on the golden inputs.

    ONNX and OpenVINO engines multiply zeros too, so they are charged the dense network; NIR and Lava, run by an
    event-driven chip, are charged for spikes.
    """
    details = bundle.manifest.details
    mixed = details.get("quantisation", {}).get("float_nodes") or "integer_layers" in details
    if bundle.manifest.precision not in ("f32", "int8") or mixed:
        return []  # no prices for 16 bits, nor for graphs that are float in part
    golden = bundle.golden()
    samples = len(next(iter(golden.inputs.values())))
    try:
        own = sorted(bundle.folder.glob("*_net.safetensors"))
        net, neurons, _ = spiking_net.load_all(own[0]) if own else (trained.spiking_net(), {}, {})
    except EdgekitError:
        return []
    arithmetic = prices_of("horowitz45-fp32" if bundle.manifest.precision == "f32" else "horowitz45-int8")
    if own and bundle.manifest.format not in ("onnx", "openvino"):
        answers = {**golden.probes, **golden.exact}  # an integer network spikes for itself
        spikes = {p.name: answers[p.name] for p in net.populations if p.spiking}
        if neurons:  # of every step, which lie along the first axis; a stream sees another image at each
            steps = len(next(iter(spikes.values())))
            summed = {n: v.sum(0, dtype=np.int64) for n, v in spikes.items()}
            counts = count(net, summed, steps=steps, first_layer_every_step=bundle.manifest.program.stream is not None)
        else:
            counts = count(net, spikes)
    else:
        counts = count_ann(net, samples)
    found = [price(counts, arithmetic, memory) for memory in (False, True)]
    if bundle.manifest.format == "lava":
        found += [price(counts, prices_of(name), True) for name in ("loihi1-davies2018", "loihi1-sanafe", "loihi2")]
    return found
