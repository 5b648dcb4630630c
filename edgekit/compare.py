"""Which of two bundles is faster here: fresh processes in turns (A B B A ...), the ratio of their p50 and its interval.

What drifts (temperature, other work) meets both alike; the interval is between pairs of neighbouring processes, so that
the noise of the machine is in it. Two figures from two separate profiles have no such interval.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit import profile, quantiles, registry, summary
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.measurement import Measurement, Progress, silent
from edgekit.parts import Runtime
from edgekit.process_run import ProcessRun, Request
from edgekit.summary import Metered, Setup
from edgekit.sysfs import HERE, Tree


@dataclass(frozen=True)
class Comparison:
    """ratio: p50 of B / p50 of A, median over pairs; above 1, A is faster. low, high: 95 % interval between pairs."""

    a: Measurement
    b: Measurement
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    pair_ratios: tuple[float, ...]

    @property
    def faster(self) -> str:
        """`A`, `B`, or empty: the interval holds 1, or there is none."""
        if self.ratio_low is None or self.ratio_high is None:
            return ""
        return "A" if self.ratio_low > 1 else "B" if self.ratio_high < 1 else ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "faster": self.faster}


def compare(
    a: tuple[Bundle, Request], b: tuple[Bundle, Request], *, target: str = "host", tree: Tree = HERE, progress: Progress = silent
) -> Comparison:
    """Time both in turns; the pairs are as many as the processes of A's request. EdgekitError where one is a simulator's."""
    for bundle, request in (a, b):
        if simulated := registry.find(Runtime, request.runtime).simulates:
            raise EdgekitError(f"{bundle.label} runs on a simulator of {simulated}: its time says nothing of a device")
    pairs = a[1].processes
    order = [turn for i in range(pairs) for turn in ((0, 1) if i % 2 == 0 else (1, 0))]
    runs, seen = profile.watched([(a, b)[turn] for turn in order], tree, progress)
    mine: tuple[list[ProcessRun], list[ProcessRun]] = ([], [])
    for turn, run in zip(order, runs, strict=True):
        mine[turn].append(run)
    reason = "a comparison reads no meter; `edgekit profile` does"
    found = [
        summary.summarise(
            mine[i], seen.conditions(mine[i]), Setup(mine[i][0].facts.engine, profile.device_name(), target, request.threads, request.scenario),
            Metered(reason=reason), seen.failed,
        )
        for i, (_, request) in enumerate((a, b))
    ]  # fmt: skip
    p50s = [np.array([np.percentile(r.wall_ns, 50) for r in side]) for side in mine]
    ratios = p50s[1] / p50s[0]
    middle, low, high = quantiles.between(ratios.tolist())
    return Comparison(found[0], found[1], middle, low, high, tuple(map(float, ratios)))
