"""What NVIDIA's trtexec and tegrastats print, read as numbers: log, --exportTimes, --exportProfile, and lines of tegrastats."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import Broken

# "Latency: min = 1.2 ms, max = 3 ms, mean = 2 ms, median = 2 ms, percentile(90%) = 2.5 ms, ..."
SUMMARY = re.compile(r"\] (Latency|Enqueue Time|H2D Latency|GPU Compute Time|D2H Latency): (min = .*)$", re.MULTILINE)
FIGURE = re.compile(r"(min|max|mean|median|percentile\((\d+(?:\.\d+)?)%\)) = ([0-9.eE+-]+|nan|inf) ms")
FACTS = {  # what a log may say besides, each on a line of its own
    "throughput_qps": re.compile(r"\] Throughput: ([0-9.eE+]+) qps"),
    "device": re.compile(r"\] Selected Device: (.+?)\s*$", re.MULTILINE),
    "tensorrt": re.compile(r"\] TensorRT version: ([0-9.]+)"),
    "warm_up_runs": re.compile(r"\] Warmup completed (\d+) queries"),
    "samples": re.compile(r"\] Timing trace has (\d+) queries"),
}
RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (\d+)mW/(\d+)mW")
TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)@(-?\d+(?:\.\d+)?)C")


@dataclass(frozen=True)
class Log:
    """The summary at the end of a trtexec log: milliseconds by 'min', 'median', 'p90', ... of each row."""

    rows: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Times:
    """--exportTimes: one number an inference. Latency is copying in, computing and copying out."""

    latency_ms: tuple[float, ...]
    compute_ms: tuple[float, ...]


@dataclass(frozen=True)
class Layers:
    """--exportProfile: milliseconds an inference by layer, as TensorRT fused them, and what else was said of each."""

    runs: int | None
    average_ms: Mapping[str, float]
    other: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rails:
    """tegrastats: the mean of the instant power of each rail, and the highest temperature of each sensor."""

    lines: int
    power_mw: Mapping[str, float]
    highest_c: Mapping[str, float]


Output = Log | Times | Layers | Rails


def read(text: str, where: str) -> Output:
    """Whatever of the four the text is; Broken, with `where`, for anything else and for numbers that cannot be."""
    if text.lstrip().startswith(("[{", "[\n", "[ ")) or text.strip() == "[]":
        try:
            data = json.loads(text)
        except ValueError as error:
            raise Broken(f"{where}: looks like JSON but is not ({error}); export it again with trtexec") from None
        return _read_json(data, where)
    if SUMMARY.search(text):
        return _read_log(text, where)
    if RAIL.search(text):
        return _read_rails(text)
    raise Broken(
        f"{where}: is neither a trtexec log with its performance summary, nor JSON of --exportTimes or --exportProfile, nor lines of tegrastats"
    )


def _read_log(text: str, where: str) -> Log:
    rows: dict[str, dict[str, float]] = {}
    for name, line in SUMMARY.findall(text):
        said = {f"p{share}" if share else word: value for word, share, value in FIGURE.findall(line)}
        figures = {word: _number(value, f"{where}: {name}", name == "Latency") for word, value in said.items()}
        if not {"min", "median"} <= set(figures):
            raise Broken(f"{where}: '{name}' has {sorted(figures) or 'no figures'}, but min and median are needed; is the log whole?")
        if not figures["min"] <= figures["median"] <= figures.get("max", math.inf):
            raise Broken(f"{where}: '{name}' has a median of {figures['median']:g} ms that is not between min and max; is the log whole?")
        rows[name] = figures  # of several runs in one log, the last
    if "Latency" not in rows:
        raise Broken(f"{where}: the log has no line 'Latency: min = ...'; run trtexec without --skipInference")
    return Log(rows, {n: found[-1] for n, pattern in FACTS.items() if (found := pattern.findall(text))})


def _read_json(data: Any, where: str) -> Times | Layers:
    if not data or not all(isinstance(d, dict) for d in data):
        raise Broken(f"{where}: holds no inferences and no layers; run trtexec without --skipInference")
    if all("latencyMs" in d for d in data):
        latency = tuple(_number(d["latencyMs"], f"{where}: latencyMs", above_zero=True) for d in data)
        return Times(latency, tuple(_number(d["computeMs"], f"{where}: computeMs") for d in data if "computeMs" in d))
    if any("averageMs" in d for d in data):
        layers = [d for d in data if "name" in d]
        runs = next((d["count"] for d in data if isinstance(d.get("count"), int)), None)
        average = {str(d["name"]): _number(d.get("averageMs"), f"{where}: averageMs of {d['name']}") for d in layers}
        other = {str(d["name"]): {k: v for k, v in d.items() if k not in ("name", "averageMs")} for d in layers}
        return Layers(runs, average, other)
    raise Broken(f"{where}: has neither latencyMs in each entry (--exportTimes) nor averageMs (--exportProfile), but {sorted(data[0])[:6]}")


def _read_rails(text: str) -> Rails:
    power: dict[str, list[int]] = {}
    highest: dict[str, float] = {}
    lines = 0
    for line in text.splitlines():
        found = RAIL.findall(line)
        lines += bool(found)
        for name, instant, _average in found:
            power.setdefault(name, []).append(int(instant))
        for name, degrees in TEMPERATURE.findall(line) if found else ():
            highest[name] = max(float(degrees), highest.get(name, -273.15))
    return Rails(lines, {n: statistics.fmean(v) for n, v in power.items()}, highest)


def _number(value: Any, where: str, above_zero: bool = False) -> float:
    """Milliseconds. Copying or a layer may take none (--noDataTransfers), an inference may not."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        raise Broken(f"{where} is {value!r}, where milliseconds are needed; export it again with trtexec")
    return number
