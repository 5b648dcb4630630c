"""What a target can do at most and what power it takes, as numbers with their source: read from its file, or probed on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit import probe as machine_probe
from edgekit.figures import PRECISIONS, Figure
from edgekit.roofline.probe import probe as roof_probe
from edgekit.target import Target

# Microseconds of (a call, a node) beyond the work itself, at most: orders of magnitude, assumed where a target gives no figure. The
# least is nothing. onnxruntime takes (2.5, 0.3) on a server processor; slower cores and threads that must be woken take ten times that;
# a CUDA launch takes some 5 to 10; an accelerator behind a driver takes a round trip.
ASSUMED_US = {"cpu": (50.0, 10.0), "gpu": (100.0, 20.0), "npu": (1000.0, 20.0), "mcu": (100.0, 100.0)}
_OTHERS = ("bandwidth", "on_chip_memory", "memory", "flash", "power_idle", "power_typical", "power_max", "cores", "launch_overhead")


@dataclass(frozen=True)
class Limit:
    """One number with its evidence. `assumed` is the grade of what nobody published."""

    value: float
    unit: str
    source: str
    grade: str

    def __str__(self) -> str:
        return f"{self.value:.6g} {self.unit}; {self.source} ({self.grade})"


@dataclass(frozen=True)
class Limits:
    """By figure: `compute_f32`, `bandwidth`, ... and `call_overhead`, `launch_overhead` (of each node) in us.

    reasons: figure -> why there is none. measured: here, peaks from below and overheads as they are; else peaks as published and overheads at most.
    """

    found: Mapping[str, Limit]
    kind: str = "cpu"  # of the part that is meant
    reasons: Mapping[str, str] = field(default_factory=dict)
    measured: bool = False
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> float | None:
        """The number; None where there is none."""
        return self.found[name].value if name in self.found else None


def limits_of(target: Target, runtime: str = "", threads: int = 0) -> Limits:
    """Of a target, or of this machine where the target stands for it (then measured: 3 s the first time).

    runtime: which part of the device is meant. threads: of a CPU; 0 = all.
    """
    here = target.here or (target.probed and machine_probe.machine().architecture == target.architecture)
    if here:
        return _here(threads)
    if target.probed:
        why = f"'{target.name}' stands for any {target.architecture} machine: its figures are measured on it; estimate there"
        return Limits({}, target.kind, dict.fromkeys([*(f"compute_{p}" for p in PRECISIONS), *_OTHERS], why))
    return _typed(target, runtime or (target.runtimes[0] if target.runtimes else ""), threads)


def _here(threads: int) -> Limits:
    found = roof_probe(threads)
    how, when = found.roof.how, f"measured here {found.made}"
    limits = {f"compute_{n}": Limit(v, "GOP/s", f"{how.get(n, 'products')}, {when}", "measured") for n, v in found.roof.compute_gops.items()}
    limits["bandwidth"] = Limit(found.roof.bandwidth_gb_s, "GB/s", f"{how.get('bandwidth', 'copies')}, {when}", "measured")
    limits["call_overhead"] = Limit(found.call_us, "us", f"{how.get('overhead', 'small graphs')}, {when}", "measured")
    limits["launch_overhead"] = Limit(found.node_us, "us", f"{how.get('overhead', 'small graphs')}, {when}", "measured")
    for f in machine_probe.probe():
        if f.name in ("on_chip_memory", "memory", "cores"):
            limits[f.name] = _limit(f)
    missing = {f"compute_{p}": f"no engine here multiplies in {p} on this processor" for p in PRECISIONS if f"compute_{p}" not in limits}
    missing |= dict.fromkeys(("power_idle", "power_typical", "power_max"), "this machine states no power")
    return Limits(limits, "cpu", missing, True, tuple(filter(None, [found.busy])))


def _typed(target: Target, runtime: str, threads: int) -> Limits:
    names = [*(f"compute_{p}" for p in PRECISIONS), *_OTHERS]
    figures = {n: target.figure(n, runtime) for n in names}
    found = {n: _limit(f) for n, f in figures.items() if f is not None}
    reasons = {n: target.why_unknown(n, runtime) for n, f in figures.items() if f is None}
    notes: list[str] = []
    kind = target.runs_on.get(runtime, target.kind)
    call, node = ASSUMED_US.get(kind, ASSUMED_US["npu"])
    assumed = f"0 to this, an order of magnitude for a {kind.upper()}: no figure was found"
    found["call_overhead"] = Limit(call, "us", assumed, "assumed")
    found.setdefault("launch_overhead", Limit(node, "us", assumed, "assumed"))
    cores = found.get("cores")
    if threads and kind == "cpu" and cores is not None and threads < cores.value:
        share = threads / cores.value
        for n in [n for n in found if n.startswith("compute_")]:
            one = found[n]
            found[n] = Limit(one.value * share, one.unit, f"{one.source}; {threads} of {cores.value:g} cores", "derived")
    elif threads and kind == "cpu" and cores is None:
        notes.append(f"the peak of all cores was used, not of {threads}: the target does not say how many it has")
    return Limits(found, kind, reasons, False, tuple(notes))


def _limit(figure: Figure) -> Limit:
    return Limit(figure.value, figure.unit, figure.source, figure.grade)
