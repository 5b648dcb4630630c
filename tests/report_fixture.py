"""Runs to draw reports from: a deployed model with everything in it, and a sweep of the digits net over devices."""

from __future__ import annotations

import base64
import dataclasses
import functools
from typing import Any

import numpy as np

from edgekit import picture_grid, quantiles
from edgekit.candidate import Candidate, Quantity
from edgekit.device_estimate import DeviceEstimate
from edgekit.estimate import Estimate
from edgekit.layer_profile import Layer, LayerProfile, Roof
from edgekit.measurement import Conditions, Energy, Measurement, PowerTrace
from edgekit.report import candidates
from edgekit.report.data import BundleRow, FamilyTable, Picture, Run, TrainingRow, VerificationRow

LAYERS = ("conv1", "conv2", "conv3", "fc1")
DEVICE = "AMD EPYC 9B14, 2 cores"


def estimate(profile: str, low: float | None, mid: float | None, high: float | None, memory: bool, reason: str = "") -> Estimate:
    return Estimate(
        profile=profile, label=f"{profile}, in words", grade="derived", source="A paper, 2014", energy_nj_low=low, energy_nj=mid,
        energy_nj_high=high, includes_memory=memory, operations={"samples": 256, "acs": 12_345_678},
        unpriced=("clock and static power",), spread="low: the best case; high: the worst case", reason=reason,
    )  # fmt: skip


def horowitz(nj: float, name: str = "horowitz45-fp32") -> tuple[Estimate, ...]:
    return (
        estimate(name, 0.7 * nj, nj, 1.9 * nj, False),
        estimate(name, 4.1 * nj, 8.3 * nj, 10.9 * nj, True),
    )


def training_rows() -> tuple[TrainingRow, ...]:
    ann = TrainingRow("ANN", "ann", None, 0.978, 0.981, 30, 412.0, {}, horowitz(5120.0))
    rows = [ann]
    for steps, score in ((5, 0.969), (4, 0.9672), (3, 0.9651), (2, 0.9634), (1, 0.961)):
        spikes = {name: round((0.31 - 0.055 * i) * (0.4 + 0.24 * steps), 4) for i, name in enumerate(LAYERS)}
        rows.append(TrainingRow(f"T={steps}", "stage", steps, score, score + 0.002, 12, 155.0 * steps, spikes, horowitz(310.0 * steps)))
    spikes = {"conv1": 0.22, "conv2": 0.12, "conv3": 0.05, "fc1": 0.02}
    rows.append(TrainingRow("T=1 converted, not retrained", "control", 1, 0.62, 0.618, 0, 0.0, spikes, horowitz(288.0)))
    rows.append(TrainingRow("T=1 trained directly from the ANN", "control", 1, 0.964, 0.966, 60, 780.0, spikes, horowitz(305.0)))
    return tuple(rows)


@functools.cache
def sampled(p50_ms: float, count: int = 4821) -> dict[str, Any]:
    """What 5 processes of a machine with a little other work on it would show: skewed, with a preempted tail."""
    draw = np.random.default_rng(round(1e6 * p50_ms))
    samples = p50_ms * (0.93 + draw.gamma(2.2, 0.035, count))
    preempted = draw.random(count) < 0.02
    samples[preempted] += draw.exponential(1.8 * p50_ms, int(preempted.sum()))
    each = [float(np.median(x)) for x in np.array_split(samples, 5)]
    p50, low, high = quantiles.between(each)
    return {
        "latency_p50_ms": p50, "latency_p50_low_ms": low, "latency_p50_high_ms": high, "process_p50_ms": tuple(each),
        "latency_p90_ms": float(np.percentile(samples, 90)), "latency_min_ms": float(samples.min()), "samples": count,
        "preempted_samples": int(preempted.sum()), "latency_undisturbed_p50_ms": float(np.median(samples[~preempted])),
        "percentiles": quantiles.percentiles(samples), "percentiles_undisturbed": quantiles.percentiles(samples[~preempted]),
        "histogram": quantiles.histogram(samples, preempted), "overhead_us": 0.21,
    }  # fmt: skip


def quiet(seconds: float = 6.0) -> Conditions:
    """A laptop that grows warm."""
    times = np.arange(0.0, seconds, 0.1)
    trace = tuple(
        (float(t), 0.02 + 0.03 * (i % 7 == 0), 3900.0 - 60.0 * (i % 5), 51.0 + 14.0 * (1 - float(np.exp(-t / 2)))) for i, t in enumerate(times)
    )
    return Conditions(
        cpu_pressure=0.03, steal=0.0, clock_mhz_low=3660.0, clock_mhz=3840.0, temperature_c_start=51.0, temperature_c_high=64.9,
        throttle_events=0, governor="performance", trace=trace, unread={"power mode": "this machine has none"},
    )  # fmt: skip


def metered(p50_ms: float) -> dict[str, Any]:
    """A module whose rails a sensor reads: idle, a window of back-to-back inferences, idle again."""
    times = np.arange(0.0, 5.0, 0.02)
    busy = (times >= 1.0) & (times < 4.0)
    draw = np.random.default_rng(7)
    total = 4.9 + 3.1 * busy + draw.normal(0, 0.08, len(times))
    rails = {"VDD_IN": total, "VDD_CPU_GPU_CV": 0.9 + 2.2 * busy + draw.normal(0, 0.05, len(times)), "VDD_SOC": 1.3 + 0.3 * busy}
    inferences = int(3000 / p50_ms)
    gross, net = 8.0 * 3000 / inferences, 3.1 * 3000 / inferences
    energy = Energy(
        meter="ina3221", scope="module input VDD_IN", kind="measured", gross_mj=gross, gross_mj_low=0.98 * gross, gross_mj_high=1.02 * gross,
        net_mj=net, net_mj_low=0.93 * net, net_mj_high=1.07 * net, idle_before_w=4.9, idle_after_w=4.92, active_w=8.0, window_s=3.0,
        inferences=inferences, readings=150, longest_gap_s=0.024, channels_mj={"VDD_IN": gross, "VDD_CPU_GPU_CV": 0.4 * gross, "VDD_SOC": 0.2 * gross},
    )  # fmt: skip
    watts = {name: tuple(float(w) for w in values) for name, values in rails.items()}
    trace = PowerTrace(tuple(float(t) for t in times), watts, (("idle before", 0.0, 1.0), ("inferences", 1.0, 4.0), ("idle after", 4.0, 5.0)))
    return {"energy": energy, "energy_mj": gross, "energy_reason": "", "power": trace}


def timing(runtime: str, p50: float, threads: int, **other: Any) -> Measurement:
    facts: dict[str, Any] = {
        "runtime": runtime, "device": DEVICE, "threads": threads, "pinned": threads == 1, "load_ms": 41.3, "first_run_ms": 3.2 * p50,
        "warm_up_runs": 60, "memory_peak_mb": 161.2, "verdict": "VALID", "conditions": quiet(),
        "energy_reason": "no meter: needs read access to the RAPL counters", **sampled(p50),
    }  # fmt: skip
    return Measurement(**(facts | other))


def simulated(runtime: str, p50: float) -> Measurement:
    """Two batches on a simulator: no percentile, no interval, no histogram."""
    return Measurement(
        runtime=runtime, device=DEVICE, threads=1, pinned=True, load_ms=812.0, first_run_ms=p50, warm_up_runs=0, latency_p50_ms=p50,
        latency_p90_ms=1.02 * p50, latency_min_ms=0.99 * p50, samples=2, preempted_samples=0, latency_undisturbed_p50_ms=p50,
        memory_peak_mb=402.0, verdict="SIMULATED", reasons=("wall time of a simulator of Loihi 2 fixed point on this CPU",),
        percentiles=quantiles.percentiles(np.array([p50, 1.01 * p50])),
    )  # fmt: skip


def roof() -> Roof:
    how = {"f32": "onnxruntime MatMul 512x512x512", "int8": "onnxruntime MatMulInteger 512x512x512", "bandwidth": "copy of 64 MB"}
    return Roof(1, {"f32": 98.0, "int8": 310.0}, 14.2, how)


def layer_profile(engine: str) -> LayerProfile:
    rows = (
        ("conv1", "Conv", 41.0, 1_843_200, 74_000), ("lif1", "Greater", 6.1, 100_352, 803_000), ("conv2", "Conv", 118.0, 7_225_344, 212_000),
        ("lif2", "Greater", 3.3, 50_176, 401_000), ("pool2", "MaxPool", 4.4, None, 260_000), ("conv3", "Conv", 96.0, 7_225_344, 340_000),
        ("fc1", "Gemm", 88.0, 1_605_632, 3_240_000), ("fc2", "Gemm", 3.0, 5_120, 21_000),
    )  # fmt: skip
    total = sum(r[2] for r in rows)
    layers = tuple(Layer(n, op, f"{op.lower()}_avx2", "f32", us, us / total, ops, moved) for n, op, us, ops, moved in rows)
    return LayerProfile(engine, 1, 400, layers, roof(), 1.18)


def device_estimates(ms: float, precision: str) -> tuple[DeviceEstimate, ...]:
    """What a roofline says of three boards and of this machine; one of them has no price for energy."""
    kinds = (("jetson-orin-nano", 0.31, 1.9), ("raspberry-pi-5", 2.2, 7.0), ("intel-n100", 0.9, None), ("host", 0.8, 2.6))
    made = []
    for target, factor, mj in kinds:
        mid = factor * ms
        energy = (None, None, None) if mj is None else (0.4 * mj * ms, mj * ms, 2.6 * mj * ms)
        made.append(DeviceEstimate(
            target, precision, "spec-estimate", "roofline 1", 0.35 * mid, mid, 4.2 * mid, "", *energy,
            "" if mj is not None else "no power figure with a source", {"peak": "33 TOPS int8 dense (data sheet, specified)"}, 18_000_000, 5_300_000,
        ))  # fmt: skip
    return tuple(made)


def check(runtime: str, **other: Any) -> VerificationRow:
    facts: dict[str, Any] = {
        "runtime": runtime, "passed": True, "output_max_abs": 2.1e-6, "output_mean_abs": 3.4e-7, "spike_flips": 0,
        "spike_flips_near": 0, "spikes_compared": 1_254_400, "exact_mismatches": None, "score": 0.961, "score_reference": 0.961,
        "score_samples": 10_000, "failures": (), "note": "",
    }  # fmt: skip
    return VerificationRow(**(facts | other))


def bundle_rows() -> tuple[BundleRow, ...]:
    ort, vino, ref = "onnxruntime 1.27.0", "openvino 2026.1.0", "nir_reference 0.1.0"
    lava = "lava-nc 0.10.0 with lava-dl 0.6.0"
    integers = {"spike_flips": None, "spike_flips_near": None, "exact_mismatches": 0, "output_max_abs": 0.213, "score": 0.9588}

    def row(label: str, bytes_total: int, checks: Any, timings: Any, prices: Any, **other: Any) -> BundleRow:
        fmt, precision = label.split(":")
        folder = f"bundles/{fmt}-{precision}"
        return BundleRow(label, fmt, precision, folder, bytes_total, "5e" * 32, checks, timings, prices, model="mnist_t1", steps=1, **other)

    noisy = {"verdict": "NOISY", "reasons": ("p50 is 1.84 times the minimum (limit 1.5)",)}
    loihi = (
        estimate("loihi1-davies2018", 8120.0, 9240.0, 15410.0, True),
        estimate("loihi1-sanafe", 7900.0, 11020.0, 12200.0, True),
        estimate("loihi2", None, None, None, True, "no energy per operation was published for Loihi 2"),
    )
    return (
        row("onnx:f32", 2_482_113, (check(ort),), (timing(ort, 0.412, 1), timing(ort, 0.263, 0, **noisy)), horowitz(5100.0),
            layers=(layer_profile(ort),), device_estimates=device_estimates(0.412, "f32")),
        row("openvino:f32", 2_513_870, (check(vino, output_max_abs=4.4e-6, spike_flips=2, spike_flips_near=2),),
            (timing(vino, 0.371, 1), timing(vino, 0.224, 0)), horowitz(5100.0)),
        row("nir:f32", 2_460_012, (check(ref), check(ort)), (timing(ref, 12.4, 1, memory_peak_mb=88.0),), horowitz(5100.0)),
        row("nir:int8", 641_220, (check(ref, **integers),), (timing(ref, 14.9, 1, memory_peak_mb=71.4),),
            horowitz(19.0, "horowitz45-int8")),
        row("lava:int8", 655_004, (check(lava, **integers, score_samples=200, note="score over the first 200 of 10000 samples, not compared"),),
            (simulated(lava, 318.0),), (*horowitz(19.0, "horowitz45-int8"), *loihi)),
    )  # fmt: skip


def sample_run(**other: Any) -> Run:
    """A run with everything in it: all roles, engines that show no spikes, a simulator, a noisy timing, no price for Loihi 2."""
    facts: dict[str, Any] = {
        "name": "iir_snn_mnist", "family": "iir_snn", "score_name": "accuracy", "test_samples": 10_000,
        "training": training_rows(), "bundles": bundle_rows(),
        "machine": {"system": "Linux-6.1-x86_64", "python": "3.11.7", "cores": "2"},
        "versions": {"torch": "2.13.0", "onnx": "1.22.0", "openvino": "2026.1.0"},
        "notes": ("runtime 'tensorrt' was not used: needs tensorrt",),
    }  # fmt: skip
    facts |= other
    return Run(**({"candidates": candidates.of_bundles(facts["bundles"])} | facts))


SWEEP_SCORES = {5: 0.9694, 4: 0.9667, 3: 0.9639, 2: 0.9556, 1: 0.9472}
SWEEP_TARGETS = {  # target -> (engines, how much slower than this machine, millijoule a millisecond, estimated)
    "host": (("onnxruntime", "openvino", "lava"), 1.0, 9.0, False),
    "jetson-orin-nano": (("tensorrt",), 0.45, 7.5, True),
    "jetson-agx-orin": (("tensorrt",), 0.16, 14.0, True),
    "raspberry-pi-5": (("onnxruntime",), 3.4, 5.5, True),
}
FASTER = {"f32": 1.0, "bf16": 0.8, "int8": 0.42}
LOSES = {"f32": 0.0, "bf16": 0.0004, "int8": 0.0031}


def sweep_run(copies: int = 1, **other: Any) -> Run:
    """The digits net at T = 1..5 x f32, bf16, int8 x engines, some devices only estimated; `copies` makes as many models of it."""
    made = [
        _swept(f"digits{'' if copy == 0 else f'_{copy + 1}'}_t{steps}", steps, precision, target, engine, 1 + 0.05 * copy)
        for copy in range(copies) for steps in SWEEP_SCORES for precision in FASTER
        for target, (engines, *_) in SWEEP_TARGETS.items() for engine in engines
    ]  # fmt: skip
    facts: dict[str, Any] = {
        "name": "digits_sweep", "family": "iir_snn", "score_name": "accuracy", "test_samples": 360, "training": (), "bundles": (),
        "machine": {"system": "Linux-6.1-x86_64", "python": "3.11.7", "cores": "2"}, "versions": {"onnxruntime": "1.32.0"}, "notes": (),
        "candidates": tuple(made),
    }  # fmt: skip
    return Run(**(facts | other))


def _swept(model: str, steps: int, precision: str, target: str, engine: str, slower: float) -> Candidate:
    _, factor, watts, estimated = SWEEP_TARGETS[target]
    draw = np.random.default_rng([steps, len(precision), len(target), len(engine)])
    ms = factor * slower * (0.021 + 0.034 * steps) * FASTER[precision] * (0.82 if engine == "openvino" else 1.0) * draw.uniform(0.94, 1.06)
    simulated, noisy = engine == "lava", engine == "openvino" and steps == 3
    quality = SWEEP_SCORES[steps] - LOSES[precision] - (0.002 if simulated else 0.0)
    latency = Quantity(ms, 0.4 * ms, 3.4 * ms, "spec-estimate", "roofline 1") if estimated else Quantity(
        ms, 0.985 * ms, 1.02 * ms, "measured", "p50 of 5 processes, 1 thread" + (", NOISY" if noisy else ""))  # fmt: skip
    mj = watts * ms
    energy = Quantity(mj, 0.35 * mj, 3.0 * mj, "spec-estimate", "roofline 1")
    if simulated:
        energy = Quantity(0.011 * steps, 0.009 * steps, 0.017 * steps, "spec-estimate", "the prices of loihi1-davies2018")
    return Candidate(
        name=f"{model} onnx:{precision} on {target}, {engine}", model=model, target="loihi1" if simulated else target,
        device="Loihi 1 (simulated by Lava)" if simulated else DEVICE if target == "host" else target, runtime=engine, format="onnx",
        precision=precision, steps=steps, quality=round(quality, 4), latency_ms=None if simulated else latency, energy_mj=energy,
        memory_mb=None if estimated else 96.0 + 3 * steps, bytes_total=int(180_000 * FASTER[precision]),
        verdict="SIMULATED" if simulated else "" if estimated else "NOISY" if noisy else "VALID",
        notes=("score over 360 samples",),
    )  # fmt: skip


def picture(name: str, channels: int = 3, side: int = 16, count: int = 30, caption: str = "a row a seed") -> Picture:
    """A grid of smooth patterns, as a family of pictures would make."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = np.stack([np.cos(6 * x + i) * np.sin(5 * y + 0.7 * i * np.arange(1, channels + 1)[:, None, None]) for i in range(count)])
    png = picture_grid.as_png(picture_grid.grid(waves.astype(np.float32), 10))
    return Picture(name, f"{name.lower().replace(' ', '-')}.png", caption, base64.b64encode(png).decode())


HOSTILE = (
    "</script><script>document.title='taken'</script>", '"><img src=x onerror="document.title=1">', "</style><svg onload=alert(1)>",
    "\0 \x1b[2J \u202e\ud800 | `code` [link](https://example.org) **bold**", "long" * 25_000, "<!--<script>",
)  # fmt: skip


def hostile_run() -> Run:
    """Every name of a run is an attempt to break out of where it is written."""
    names = (h for _ in range(99) for h in HOSTILE)
    rows = tuple(dataclasses.replace(r, label=next(names)) for r in training_rows()[-3:])
    spikes = dataclasses.replace(training_rows()[5], spikes_per_neuron={h: 0.1 for h in HOSTILE})
    profile = layer_profile(HOSTILE[0])
    layers = tuple(dataclasses.replace(x, name=next(names), operator=next(names), kernel=next(names), precision=next(names)) for x in profile.layers)
    how = {h: h for h in HOSTILE}
    hostile_roof = Roof(1, {HOSTILE[0]: 98.0, HOSTILE[4]: 310.0}, 14.2, how)
    meant = metered(0.41)
    energy = dataclasses.replace(meant["energy"], meter=HOSTILE[0], scope=HOSTILE[1], channels_mj={h: 1.0 for h in HOSTILE}, notes=HOSTILE)
    watts = {h: next(iter(meant["power"].watts.values())) for h in HOSTILE}
    power = dataclasses.replace(meant["power"], watts=watts, spans=((HOSTILE[0], 0.0, 1.0), (HOSTILE[4], 1.0, 4.0)))
    conditions = dataclasses.replace(quiet(), governor=HOSTILE[2], power_mode=HOSTILE[5], unread=how)
    odd = {"device": HOSTILE[1], "target": HOSTILE[2], "reasons": HOSTILE, "conditions": conditions, "verdict": "NOISY"}
    measured = timing(HOSTILE[0], 0.41, 1, energy=energy, energy_mj=1.0, power=power, **odd)
    estimates = tuple(dataclasses.replace(e, target=h, method=h, inputs=how, notes=(h,), energy_reason=h)
                      for e, h in zip(device_estimates(0.4, "f32"), HOSTILE, strict=False))  # fmt: skip
    bundle = dataclasses.replace(
        bundle_rows()[0], label=HOSTILE[0], folder=HOSTILE[1], measurements=(measured,), model=HOSTILE[4], precision=HOSTILE[2],
        layers=(dataclasses.replace(profile, layers=layers, roof=hostile_roof, notes=HOSTILE),), device_estimates=estimates,
        imported=(dataclasses.replace(timing(HOSTILE[3], 0.7, 1, **odd), kind="imported"),),
    )  # fmt: skip
    training, machine = (*training_rows()[:3], spikes, *rows), {HOSTILE[0]: HOSTILE[2]}
    told = FamilyTable(HOSTILE[0], HOSTILE, (HOSTILE,), HOSTILE[4])
    drawn = tuple(dataclasses.replace(picture("p", side=4, count=1), title=h, caption=h) for h in HOSTILE)
    return sample_run(name=HOSTILE[1], training=training, bundles=(bundle,), notes=HOSTILE, machine=machine, family_tables=(told,), pictures=drawn)
