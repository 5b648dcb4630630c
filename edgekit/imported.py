"""A measurement that another tool made on another machine, as a Measurement that says so."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files, quantiles
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, no_such
from edgekit.measurement import Measurement, Verdict
from edgekit.trtexec_output import Layers, Log, Output, Rails, Times, read

NOISY_RATIO = 1.5  # p50 / min above it, as in a profile made here
SAME_RUN = 0.1  # how far the medians of a log and of its --exportTimes may be apart


def import_measurement(bundle: Bundle, sources: Sequence[Path], device: str = "", graph: str = "") -> tuple[Measurement, str]:
    """(measurement, name of the evidence), stored with the bundle. Raises EdgekitError when the files do not make one.

    device: as the log names it, where it is not said. graph: which graph of the bundle was timed; needed where it has several.
    """
    if bundle.manifest.format != "tensorrt":
        raise EdgekitError(f"{bundle.folder} holds {bundle.label}, but trtexec times TensorRT plans; name the tensorrt bundle they were built from")
    graphs = bundle.manifest.graphs
    if graph and graph not in graphs:
        raise no_such("graph", graph, graphs)
    if not graph and len(graphs) > 1:
        raise EdgekitError(f"{bundle.folder} has several graphs and trtexec times one; say which: --graph {' | '.join(graphs)}")
    graph = graph or next(iter(graphs))
    outputs = [read(_text(p), str(p)) for p in sources]
    log, times, layers, rails = (_only(kind, outputs, sources) for kind in (Log, Times, Layers, Rails))
    found = _measurement(log, times, rails, device or (log.facts.get("device", "") if log else ""), _alone(bundle, graph))
    name = f"imported-{graph}-{re.sub(r'[^a-z0-9]+', '-', found.device.lower()).strip('-')}"
    more: dict[str, Any] = {"graph": graph, "sources": {p.name: files.sha256_of(p) for p in sources}}
    for key, output in (("log", log), ("times", times), ("layers", layers), ("rails", rails)):
        if output is not None:
            more[key] = dataclasses.asdict(output)
    bundle.write_evidence(name, {**found.to_json(), "imported": more})
    return found, name


def _measurement(log: Log | None, times: Times | None, rails: Rails | None, device: str, reasons: list[str]) -> Measurement:
    if log is None and times is None:
        raise EdgekitError("none of the files holds times of inferences; give the trtexec log or the JSON of --exportTimes")
    if not device.strip():
        raise EdgekitError("the files do not say on which device they were made; say it: --device 'Jetson Orin Nano 8 GB, 15 W'")
    samples = np.array(times.latency_ms) if times else np.zeros(0)
    rows = log.rows["Latency"] if log else {}
    if log and times and abs(float(np.median(samples)) - rows["median"]) > SAME_RUN * rows["median"]:
        told = f"the log has a median of {rows['median']:g} ms and the times {np.median(samples):g} ms"
        raise EdgekitError(f"{told}: they are of different runs; give the files of one")
    p50 = float(np.percentile(samples, 50)) if times else rows["median"]
    p90 = float(np.percentile(samples, 90)) if times else rows.get("p90")
    least = float(samples.min()) if times else rows["min"]
    said = log.facts if log else {}
    counted = len(samples) if times else int(said.get("samples", 0))
    ratio = p50 / least
    verdict: Verdict = "NOISY" if ratio > NOISY_RATIO else "VALID"
    reasons = [
        "measured elsewhere by trtexec and imported; this bundle was not verified on that device",
        "latency is copying in, computing and copying out",
        *reasons,
        *([f"p50 is {ratio:.2f} times the minimum (limit {NOISY_RATIO})"] if verdict == "NOISY" else []),
        *([] if counted else ["the log does not say how many inferences were timed"]),
    ]
    power = "tegrastats gives the power of whole rails, not the energy of an inference; nothing was subtracted for idling"
    return Measurement(
        runtime=f"trtexec, TensorRT {said['tensorrt']}" if "tensorrt" in said else "trtexec", device=device.strip(), threads=None, pinned=None,
        load_ms=None, first_run_ms=None, warm_up_runs=int(said["warm_up_runs"]) if "warm_up_runs" in said else None,
        latency_p50_ms=p50, latency_p90_ms=p90, latency_min_ms=least, samples=counted, preempted_samples=None,
        latency_undisturbed_p50_ms=None, memory_peak_mb=None, verdict=verdict, reasons=tuple(reasons), energy_mj=None,
        energy_reason=power if rails else "no power was given", kind="imported", percentiles=quantiles.percentiles(samples) if times else (),
        histogram=quantiles.histogram(samples, np.zeros(len(samples), bool)) if times else None,
    )  # fmt: skip


def _alone(bundle: Bundle, graph: str) -> list[str]:
    return [] if bundle.manifest.program.runs_once else [f"one run of the graph '{graph}' alone, not of the program around it"]


def _only(kind: type[Any], outputs: Sequence[Output], sources: Sequence[Path]) -> Any:
    found = [(o, p) for o, p in zip(outputs, sources, strict=True) if isinstance(o, kind)]
    if len(found) > 1:
        raise EdgekitError(f"{' and '.join(str(p) for _, p in found)} are of the same kind ({kind.__name__.lower()}); give the files of one run")
    return found[0][0] if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise EdgekitError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EdgekitError(f"{path} is no text; give what trtexec or tegrastats wrote") from None
