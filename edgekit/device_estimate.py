"""An estimate of latency and energy on a device that did not run the model: low, mid, high, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DeviceEstimate:
    """One inference on a target at a precision. Three figures of a kind are all there, or all None with a reason."""

    target: str
    precision: str
    kind: Literal["spec-estimate", "calibrated-estimate"]
    method: str  # name and version: "roofline 1"
    latency_ms_low: float | None
    latency_ms: float | None
    latency_ms_high: float | None
    latency_reason: str
    energy_mj_low: float | None
    energy_mj: float | None
    energy_mj_high: float | None
    energy_reason: str
    inputs: Mapping[str, str]  # figure -> value, unit, source and grade, as they went in
    operations: int | None  # 2 a multiply-add, of the whole program
    bytes_moved: int | None
    notes: tuple[str, ...] = ()
