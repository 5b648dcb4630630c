"""What an inference would take on a target that did not run it: no less than its roof allows, no more than poor use of it.

    least = the larger of operations / peak and bytes / bandwidth
    low   = least; where the peak was measured, which is a peak from below, a tenth less
    high  = the larger of least / 0.05 and all bytes / bandwidth / 0.7, and the overhead of calls and nodes
    mid   = the geometric mean of least / 0.7 (with the overhead, where it was measured) and high

Models that were measured on the same device, engine, precision and threads narrow 0.05 to 0.7 (edgekit/roofline/efficiency.py). Energy: no
less than the multiplications and memory accesses alone take in 7 nm, nor than idle power x low; no more than the highest power x high. Of a CPU
that states no power, that of its cores is assumed (edgekit/roofline/core_power.py).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.bundle import Bundle
from edgekit.counting import Costs, costs_of
from edgekit.device_estimate import DeviceEstimate
from edgekit.errors import EdgekitError
from edgekit.measurement import Measurement
from edgekit.roofline.core_power import core_power
from edgekit.roofline.efficiency import Fit, Known, fit
from edgekit.roofline.event_price import event_estimate
from edgekit.roofline.limits import limits_of
from edgekit.roofline.times import RoofTimes, roof_times
from edgekit.target import Target

METHOD = "roofline 1"
Three = tuple[float | None, float | None, float | None]
MEASURED_ROOF = 1.1  # a roof that was measured is one from below, and clocks vary: other kernels may be quicker by this much
MEASURED_OVERHEADS = 4.0  # times what additions of eight numbers take: the most that calls and nodes of other kinds add
# Picojoule of one multiplication in 7 nm, the addition left out: Jouppi et al., ISCA 2021 (TPUv4i), Table 2, as quoted by others (only the
# f32 figure was found twice). No target is of a much
# finer process, and every chip spends many times this on moving what it multiplies: a lower bound.
MULTIPLY_PJ = {"int8": 0.07, "bf16": 0.21, "f16": 0.21, "f32": 1.31}
DRAM_PJ = 250 / 8  # a byte: 250 pJ for 64 bits of HBM2, the lowest of that table


@dataclass(frozen=True)
class Measured:
    """A model that was measured somewhere: what an estimate is fitted to, or held against."""

    name: str
    sha256: str  # of the bundle
    precision: str
    engine: str  # the runtime part: a measurement says what it ran in words of the engine's own
    costs: Costs
    measurement: Measurement


@dataclass(frozen=True)
class Off:
    """An estimate against what was measured."""

    ratio: float  # estimated / measured
    inside: bool  # measured lies in low to high

    def __str__(self) -> str:
        return f"estimated / measured = {self.ratio:.2f}, {'inside' if self.inside else 'outside'} low to high"


@dataclass(frozen=True)
class _Times:
    """Milliseconds."""

    low: float
    mid: float
    high: float


def estimate(
    model: Bundle | Costs, target: Target, precision: str, measured: Sequence[Measured] = (), *, runtime: str = "", threads: int = 0
) -> DeviceEstimate:
    """One inference of one sample (of a stream: one chunk) on a target at a precision.

    runtime: which part of the device is meant; the target's first where it is empty. threads: of a CPU, 0 = all. measured: other
    models; those of another target, engine, precision or number of threads are left out, and the model itself. EdgekitError when the
    bundle's graphs cannot be counted.
    """
    if target.kind == "neuromorphic":
        return event_estimate(model if isinstance(model, Bundle) else None, target, precision)
    costs = model if isinstance(model, Costs) else costs_of(model)
    roof = roof_times(costs, limits_of(target, runtime, threads), precision)
    found, times = fit(()), None
    if not roof.reason:
        others = [m for m in measured if m.costs is not model and not (isinstance(model, Bundle) and m.sha256 == model.sha256)]
        found = fit(_alike(others, target, runtime, threads, roof, costs.unit))
        times = _times(found, roof)
    energies, energy_reason = _energies(costs, roof, times, threads)
    latencies: Three = (times.low, times.mid, times.high) if times else (None, None, None)
    return DeviceEstimate(
        target=target.name, precision=precision, kind="calibrated-estimate" if found.fitted else "spec-estimate", method=METHOD,
        latency_ms_low=latencies[0], latency_ms=latencies[1], latency_ms_high=latencies[2], latency_reason=roof.reason,
        energy_mj_low=energies[0], energy_mj=energies[1], energy_mj_high=energies[2], energy_reason=energy_reason,
        inputs=roof.inputs, operations=costs.operations, bytes_moved=round(costs.bytes_moved * roof.scale),
        notes=tuple(dict.fromkeys(roof.notes)),
    )  # fmt: skip


def error(estimate: DeviceEstimate, measurement: Measurement) -> Off | None:
    """How far an estimate is off; None where it has no latency."""
    if estimate.latency_ms is None or estimate.latency_ms_low is None or estimate.latency_ms_high is None:
        return None
    real = measurement.latency_p50_ms
    return Off(estimate.latency_ms / real, estimate.latency_ms_low <= real <= estimate.latency_ms_high)


def compared(estimate: DeviceEstimate, measurement: Measurement) -> DeviceEstimate:
    """The estimate with its error among the notes."""
    off = error(estimate, measurement)
    if off is None:
        return estimate
    note = f"measured on {measurement.device}, {measurement.runtime}: {measurement.latency_p50_ms:.4g} ms; {off}"
    return dataclasses.replace(estimate, notes=(*estimate.notes, note))


def evidence_of(bundle: Bundle, costs: Costs | None = None) -> list[Measured]:
    """What `edgekit profile` stored about a bundle, as models to fit to; nothing where its graphs cannot be counted."""
    found = []
    for path in sorted(bundle.evidence.glob("profile-*.json")):
        named = re.fullmatch(r"profile-(.+?)-(\d+|all)(-.+)?", path.stem)  # ENGINE-THREADS, -SCENARIO or -on-DEVICE
        told = bundle.read_evidence(path.stem)
        if told is None or named is None:
            continue
        try:
            costs = costs or costs_of(bundle)
            found.append(Measured(bundle.label, bundle.sha256, bundle.manifest.precision, named[1], costs, Measurement.from_json(told)))
        except EdgekitError:
            continue
    return found


def _times(found: Fit, roof: RoofTimes) -> _Times:
    roof.notes += found.notes
    least = roof.least / (MEASURED_ROOF if roof.limits.measured else 1.0)
    if found.fitted:
        roof.inputs["efficiency"] = f"{found.low:.3g}, {found.mid:.3g}, {found.high:.3g} of the calculated time; {found.notes[0]} (fitted)"
        low, mid, high = max(least, roof.calculated / found.high), roof.calculated / found.mid, roof.calculated / found.low
    else:
        roof.inputs["efficiency"] = f"{found.low:g} to {found.high:g} of the peak; what untuned models reach (assumed)"
        more = roof.overhead * (MEASURED_OVERHEADS if roof.limits.measured else 1.0)
        low, high = least, max(max(roof.compute_slow, roof.memory) / found.low, roof.unfused / found.high) + more
        mid = math.sqrt((roof.least / found.high + roof.calculated - roof.least) * high)
    return _Times(min(low, mid), mid, max(high, mid))


def _alike(others: Sequence[Measured], target: Target, runtime: str, threads: int, roof: RoofTimes, unit: str) -> list[Known]:
    """Those of the same device, engine, precision and threads, with the time that the same limits give them."""
    engine = runtime or (target.runtimes[0] if target.runtimes else "")
    same = [
        o for o in others
        if (m := o.measurement).target == target.name and o.engine == engine and m.threads == threads
        and o.precision == roof.precision and o.costs.unit == unit and m.load.scenario == "single" and m.verdict == "VALID" and m.kind == "measured"
    ]  # fmt: skip
    devices = sorted({o.measurement.device for o in same})
    if len(devices) > 1:
        most = max(devices, key=lambda d: sum(o.measurement.device == d for o in same))
        roof.notes.append(f"models were measured on {len(devices)} devices; those on '{most}' are used")
        same = [o for o in same if o.measurement.device == most]
    known = []
    for o in same:
        its = roof_times(o.costs, roof.limits, roof.precision)
        if not its.reason and its.calculated > 0 and o.measurement.latency_p50_ms > 0:
            known.append(Known(o.name, its.calculated, o.measurement.latency_p50_ms))
    return known


def _energies(costs: Costs, roof: RoofTimes, times: _Times | None, threads: int) -> tuple[Three, str]:
    """Millijoule low, mid and high, or a reason."""
    if times is None:
        return (None, None, None), f"no time, so no energy: {roof.reason}"
    idle, typical, most = (roof.take(f"power_{name}") for name in ("idle", "typical", "max"))
    cores = roof.take("cores") if most is None and roof.limits.kind == "cpu" else None
    if cores:
        assumed = core_power(min(threads or cores, cores))
        roof.inputs["power of the cores"] = assumed.source
        idle, typical, most = idle or assumed.least_w, typical or assumed.usual_w, assumed.most_w
    if most is None:
        return (None, None, None), f"no power figure ({roof.why('power_max')})"
    products = costs.operations_by(True)
    multiply = {kind: MULTIPLY_PJ.get("int8" if kind == "int8" else roof.precision, MULTIPLY_PJ["int8"]) for kind in products}
    floor = (sum(o / 2 * multiply[kind] for kind, o in products.items()) + roof.memory_bytes * DRAM_PJ) / 1e9
    source = "multiplications and memory accesses alone in 7 nm: Jouppi et al., ISCA 2021, Table 2, second-hand"
    roof.inputs["least energy"] = f"{floor:.4g} mJ; {source} (derived)"
    low, high = max(floor, (idle or 0.0) * times.low), most * times.high
    low = min(low, high)
    mid = math.sqrt(low * high) if typical is None else typical * times.mid
    return (low, min(max(mid, low), high), high), ""
