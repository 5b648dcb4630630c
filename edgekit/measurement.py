"""What was found out about a bundle on an engine: times, memory, energy; the unit in each name, and how it is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["measured", "counter", "calibrated-estimate", "spec-estimate", "imported"]  # imported: by another tool, elsewhere
Verdict = Literal["VALID", "NOISY", "SIMULATED"]


class Progress(Protocol):
    """Where long work says how far it is."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """`what` is at step `done` of `total`."""


def silent(what: str, done: int, total: int) -> None:
    """The progress that shows nothing."""


@dataclass(frozen=True)
class Measurement:
    """Times of single inferences, batch 1, one after the other, on buffers bound once. Nothing here is an estimate.

    What another tool did not say of an imported measurement is None.
    """

    runtime: str  # with version
    device: str
    threads: int | None  # 0 = all
    pinned: bool | None
    load_ms: float | None
    first_run_ms: float | None
    warm_up_runs: int | None
    latency_p50_ms: float
    latency_p90_ms: float | None
    latency_min_ms: float
    samples: int
    preempted_samples: int | None  # samples during which the scheduler took the core away
    latency_undisturbed_p50_ms: float | None  # of the samples that were not preempted
    memory_peak_mb: float | None  # of the whole process
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    energy_mj: float | None = None
    energy_reason: str = "no meter"  # why energy_mj is None
    kind: Kind = "measured"
    samples_ms: tuple[float, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Measurement:
        """Read what to_json wrote."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Measurement(**values)
