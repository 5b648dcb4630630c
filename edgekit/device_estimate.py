"""An estimate of latency and energy on a device that did not run the model: low, mid, high, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.candidate import Quantity


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

    def energy(self, measured_ms: float | None = None) -> Quantity | None:
        """Millijoule of one inference; None where there is none.

        measured_ms: how long it takes there, where that was measured. Then only the power is an estimate: middle and high
        are their energies x measured_ms / their latencies, so that an error of the latency does not count twice.
        """
        low, mid, high = self.energy_mj_low, self.energy_mj, self.energy_mj_high
        if low is None or mid is None or high is None:
            return None
        if measured_ms is None or not self.latency_ms or not self.latency_ms_high:
            return Quantity(mid, low, high, self.kind, self.method)
        high = max(low, high / self.latency_ms_high * measured_ms)
        mid = min(max(low, mid / self.latency_ms * measured_ms), high)
        return Quantity(mid, low, high, self.kind, f"{self.method}, its power over the measured time")
