"""Same inputs, same answers? Outputs against the allowed difference, spikes exactly, integers bit for bit, the score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit import registry
from edgekit.bundle import Bundle, Golden
from edgekit.errors import EdgekitError
from edgekit.parts import Family, Runtime, Session

SIMULATED_SCORE = 500  # test samples scored on a simulator of a chip, where each takes tens of milliseconds


@dataclass(frozen=True)
class Verification:
    """What one runtime answered, held against the trained network. `failures` is empty exactly when it passed."""

    runtime: str
    output_max_abs: float | None
    output_mean_abs: float | None
    spikes_compared: int
    spike_flips: int | None  # None: this runtime shows no spikes
    spike_flips_near: int | None  # of them where |u/V - 1| is below the bundle's near_threshold
    images_with_flips: int
    exact_mismatches: int | None  # against the integer reference; None for float bundles
    score: float | None
    score_reference: float | None
    score_samples: int
    failures: tuple[str, ...]
    note: str = ""
    flips: tuple[str, ...] = ()  # "conv1[3, 0, 2, 5]": the first flips by name
    golden_samples: int = 0

    @property
    def passed(self) -> bool:
        """True when nothing was found wrong."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "passed": self.passed}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Verification:
        """Read what to_json wrote."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "passed"}
        return Verification(**values)


def verify(bundle: Bundle, runtime: Runtime, score_limit: int | None = None) -> Verification:
    """Run the golden inputs and the family's test data; score_limit 0 leaves the score out."""
    golden = bundle.golden()
    with runtime.open(bundle, probes=True) as session:
        answers = session.run(golden.inputs)
    found = compare(bundle, golden, answers)
    if score_limit == 0:
        score, reference, samples, note = None, None, 0, "the score was not asked for"
    else:
        with runtime.open(bundle) as session:
            limit = SIMULATED_SCORE if runtime.simulates and score_limit is None else score_limit
            score, reference, samples, note = _score(bundle, session, limit)
    failures = list(found.pop("failures"))
    allowed = bundle.manifest.allowed
    if score is not None and reference is not None and score < reference - allowed.score_drop - 1e-9:
        failures.append(
            f"the score on {samples} samples is {score:.4f}, the trained network's {reference:.4f}; "
            f"allowed is a loss of {allowed.score_drop:g}"
        )
    return Verification(
        runtime=runtime.version(), score=score, score_reference=reference, score_samples=samples, note=note,
        failures=tuple(failures), golden_samples=len(next(iter(golden.inputs.values()))), **found,
    )  # fmt: skip


def compare(bundle: Bundle, golden: Golden, answers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a Verification that answers on golden inputs decide.

    A flip counts as near when that spike is within the threshold's rounding in the trained network; an image with a
    flip is taken out of the comparison of outputs, since everything behind the flip may differ.
    """
    failures: list[str] = []
    exact = bundle.manifest.allowed.exact
    spikes = _Spikes(len(next(iter(golden.inputs.values()))))
    if not exact:  # a quantised network spikes for itself: it is held against the integer reference instead
        for name, expected in golden.probes.items():
            if name in answers:
                failures += spikes.compare(name, expected, answers[name], golden.near.get(name))
    worst, mean = _outputs(bundle, golden, answers, ~spikes.flipped, failures)
    return {
        "output_max_abs": worst,
        "output_mean_abs": mean,
        "spikes_compared": spikes.compared,
        "spike_flips": len(spikes.names) if spikes.compared else None,
        "spike_flips_near": spikes.near if spikes.compared else None,
        "images_with_flips": int(spikes.flipped.sum()),
        "exact_mismatches": _integers(golden, answers, failures) if exact else None,
        "failures": failures,
        "flips": tuple(spikes.names[:20]),
    }


class _Spikes:
    """Flips found so far, layer by layer. Behind a flip the whole image may differ: only flips in images that were
    equal up to that layer have a cause of their own and are counted."""

    def __init__(self, samples: int) -> None:
        self.flipped = np.zeros(samples, bool)
        self.names: list[str] = []
        self.near = self.compared = 0

    def compare(self, name: str, expected: np.ndarray, got: np.ndarray, near: np.ndarray | None) -> list[str]:
        """Take in one layer; the failures it shows."""
        self.compared += expected.size
        if got.shape != expected.shape:
            return [f"spikes of '{name}' have the shape {got.shape}, expected {expected.shape}"]
        where = np.flatnonzero(got.astype(np.uint8) != expected)
        images = where // (expected.size // len(self.flipped))
        own = where[~self.flipped[images]]
        is_near = np.isin(own, np.zeros(0, np.int64) if near is None else near)
        labels = [f"{name}{[int(i) for i in np.unravel_index(p, expected.shape)]}" for p in own]
        self.names += labels
        self.near += int(is_near.sum())
        self.flipped[images] = True
        far = [label for label, at_threshold in zip(labels, is_near, strict=True) if not at_threshold]
        return [f"{len(far)} spikes of '{name}' flipped away from the threshold, the first is {far[0]}"] if far else []


def _outputs(
    bundle: Bundle, golden: Golden, answers: Mapping[str, np.ndarray], equal: np.ndarray, failures: list[str]
) -> tuple[float | None, float | None]:
    """Largest and mean difference over all outputs, of the images without a flip."""
    worst, means = 0.0, []
    for name, expected in golden.outputs.items():
        got = answers[name]
        if got.shape != expected.shape or not np.isfinite(got).all():
            failures.append(f"output '{name}' has the shape {got.shape} or is not finite, expected {expected.shape}")
            continue
        difference = np.abs(got.astype(np.float64) - expected)[equal]
        if not difference.size:
            failures.append(f"every golden image has a flipped spike: output '{name}' cannot be compared")
            continue
        worst = max(worst, float(difference.max()))
        means.append(float(difference.mean()))
        limit = bundle.manifest.allowed.output_max_abs.get(name)
        if limit is not None and difference.max() > limit:
            failures.append(f"output '{name}' differs by {difference.max():.3g}; allowed {limit:g}")
    return (worst, max(means)) if means else (None, None)


def _integers(golden: Golden, answers: Mapping[str, np.ndarray], failures: list[str]) -> int:
    """How many values differ from the integer reference."""
    mismatches = 0
    if not golden.exact:
        failures.append("the bundle promises exact integers but carries none to compare with")
    for name, expected in golden.exact.items():
        if name not in answers:
            continue
        fits = answers[name].shape == expected.shape
        wrong = int((answers[name] != expected).sum()) if fits else expected.size
        mismatches += wrong
        if wrong:
            failures.append(f"'{name}' differs from the integer reference in {wrong} of {expected.size} values")
    return mismatches


def _score(bundle: Bundle, session: Session, limit: int | None) -> tuple[float | None, float | None, int, str]:
    """(score, reference, samples, why not). The reference is known for the whole test data only."""
    model = bundle.manifest.model
    try:
        family = registry.find(Family, model.family)
        score = family.score(model.recipe, session.run, limit)
    except EdgekitError as error:
        return None, None, 0, f"no score: {error}"
    whole = score.samples == model.score_samples
    note = "" if whole else f"score over the first {score.samples} of {model.score_samples} samples, not compared"
    return score.value, model.score if whole else None, score.samples, note
