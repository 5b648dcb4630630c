"""The report: the same numbers in the terminal, in JSON and on a page that holds no script and asks nobody for anything."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgekit import report
from edgekit.errors import Broken, Missing
from edgekit.estimate import Estimate
from edgekit.measurement import Measurement
from edgekit.report import numbers, tables, words
from edgekit.report.data import BundleRow, Run, TrainingRow, VerificationRow

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


def timing(runtime: str, p50: float, threads: int, **other: Any) -> Measurement:
    facts: dict[str, Any] = {
        "runtime": runtime, "device": DEVICE, "threads": threads, "pinned": threads == 1, "load_ms": 41.3, "first_run_ms": 3.2 * p50,
        "warm_up_runs": 60, "latency_p50_ms": p50, "latency_p90_ms": 1.18 * p50, "latency_min_ms": 0.93 * p50, "samples": 4821,
        "preempted_samples": 12, "latency_undisturbed_p50_ms": p50, "memory_peak_mb": 161.2, "verdict": "VALID",
        "energy_reason": "no meter: needs read access to the RAPL counters", "samples_ms": (p50, 0.93 * p50),
    }  # fmt: skip
    return Measurement(**(facts | other))


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
    simulated = {"verdict": "SIMULATED", "reasons": ("wall time of a simulator of Loihi 2 fixed point on this CPU",), "samples": 2}
    integers = {"spike_flips": None, "spike_flips_near": None, "exact_mismatches": 0, "output_max_abs": 0.213, "score": 0.9588}

    def row(label: str, bytes_total: int, checks: Any, timings: Any, prices: Any) -> BundleRow:
        fmt, precision = label.split(":")
        return BundleRow(label, fmt, precision, f"bundles/{fmt}-{precision}", bytes_total, "5e" * 32, checks, timings, prices)

    noisy = {"verdict": "NOISY", "reasons": ("p50 is 1.84 times the minimum (limit 1.5)",)}
    loihi = (
        estimate("loihi1-davies2018", 8120.0, 9240.0, 15410.0, True),
        estimate("loihi1-sanafe", 7900.0, 11020.0, 12200.0, True),
        estimate("loihi2", None, None, None, True, "no energy per operation was published for Loihi 2"),
    )
    return (
        row("onnx:f32", 2_482_113, (check(ort),), (timing(ort, 0.412, 1), timing(ort, 0.263, 0, **noisy)), horowitz(5100.0)),
        row("openvino:f32", 2_513_870, (check(vino, output_max_abs=4.4e-6, spike_flips=2, spike_flips_near=2),),
            (timing(vino, 0.371, 1), timing(vino, 0.224, 0)), horowitz(5100.0)),
        row("nir:f32", 2_460_012, (check(ref), check(ort)), (timing(ref, 12.4, 1, memory_peak_mb=88.0),), horowitz(5100.0)),
        row("nir:int8", 641_220, (check(ref, **integers),), (timing(ref, 14.9, 1, memory_peak_mb=71.4),),
            horowitz(19.0, "horowitz45-int8")),
        row("lava:int8", 655_004, (check(lava, **integers, score_samples=200, note="score over the first 200 of 10000 samples, not compared"),),
            (timing(lava, 318.0, 1, memory_peak_mb=402.0, **simulated),), (*horowitz(19.0, "horowitz45-int8"), *loihi)),
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
    return Run(**(facts | other))
