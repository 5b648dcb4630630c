"""What one decides between: a model on a target at a precision, its quality and its costs; and which of them are dominated.

Costs are intervals. One cost is lower than another only where the intervals do not overlap, so that neither noise between
processes nor the width of an estimate ranks two candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgekit.measurement import Kind

Cost = Literal["latency_ms", "energy_mj"]


@dataclass(frozen=True)
class Quantity:
    """A cost: measured (low and high: 95 % interval between processes) or estimated (low and high of the estimate)."""

    value: float
    low: float
    high: float
    kind: Kind
    note: str = ""  # "p50 of 5 processes, NOISY"; "roofline 1, peak 33 TOPS"

    @property
    def estimated(self) -> bool:
        """Drawn hollow, with its range."""
        return self.kind.endswith("estimate")


@dataclass(frozen=True)
class Candidate:
    """One row to choose. None: there is no figure, and `notes` says why."""

    name: str  # unique: "digits_t1 onnx:int8 on host, onnxruntime"
    model: str
    target: str
    device: str  # the machine that it ran on; the target's label where nothing ran
    runtime: str
    format: str
    precision: str
    steps: int | None  # timesteps of the model
    quality: float | None  # task score of this very bundle, higher is better
    latency_ms: Quantity | None  # one inference, p50
    energy_mj: Quantity | None  # one inference
    memory_mb: float | None = None  # peak, of the whole process
    bytes_total: int | None = None  # of the bundle's files
    verdict: str = ""  # of the measurement
    notes: tuple[str, ...] = ()


def dominates(a: Candidate, b: Candidate, cost: Cost) -> bool:
    """a is at least as good in quality, certainly not dearer, and certainly better in one of the two."""
    x, y = getattr(a, cost), getattr(b, cost)
    if a.quality is None or b.quality is None or x is None or y is None:
        return False
    return bool(a.quality >= b.quality and x.high <= y.low and (a.quality > b.quality or x.high < y.low))


def front(candidates: Iterable[Candidate], cost: Cost) -> list[Candidate]:
    """Those with a quality and this cost that none dominates, cheapest first."""
    there = [c for c in candidates if c.quality is not None and getattr(c, cost) is not None]
    return sorted((b for b in there if not any(dominates(a, b, cost) for a in there)), key=lambda c: getattr(c, cost).value)
