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
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "passed"}
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
            score, reference, samples, note = _score(bundle, session, score_limit)
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
    allowed, failures = bundle.manifest.allowed, []
    samples = len(next(iter(golden.inputs.values())))
    flipped, flips, near_flips, compared, seen, named = np.zeros(samples, bool), 0, 0, 0, False, []
    for name, spikes in golden.probes.items():
        if name not in answers or allowed.exact:
            continue
        seen, compared = True, compared + spikes.size
        if answers[name].shape != spikes.shape:
            failures.append(f"spikes of '{name}' have the shape {answers[name].shape}, expected {spikes.shape}")
            continue
        where = np.flatnonzero(answers[name].astype(np.uint8) != spikes)
        if not len(where):
            continue
        images = where // (spikes.size // samples)
        # Behind a flip the whole image may differ: only flips of images that were equal so far have a cause of their own.
        own = where[~flipped[images]]
        near = np.isin(own, golden.near.get(name, np.zeros(0, np.int64)))
        flips, near_flips = flips + len(own), near_flips + int(near.sum())
        labels = [f"{name}{[int(i) for i in np.unravel_index(p, spikes.shape)]}" for p in own]
        named += labels
        far = [label for label, is_near in zip(labels, near, strict=True) if not is_near]
        if far:
            failures.append(f"{len(far)} spikes of '{name}' flipped away from the threshold, the first is {far[0]}")
        flipped[images] = True
    worst, mean = 0.0, 0.0
    for name, expected in golden.outputs.items():
        got = answers[name]
        if got.shape != expected.shape or not np.isfinite(got).all():
            failures.append(f"output '{name}' has the shape {got.shape} or is not finite, expected {expected.shape}")
            continue
        difference = np.abs(got.astype(np.float64) - expected)[~flipped]
        if not difference.size:
            failures.append(f"every golden image has a flipped spike: output '{name}' cannot be compared")
            continue
        worst, mean = max(worst, float(difference.max())), max(mean, float(difference.mean()))
        limit = allowed.output_max_abs.get(name)
        if limit is not None and difference.max() > limit:
            failures.append(f"output '{name}' differs by {difference.max():.3g}; allowed {limit:g}")
    mismatches: int | None = None
    if allowed.exact:
        mismatches = 0
        for name, expected in golden.exact.items():
            if name in answers:
                wrong = int((answers[name] != expected).sum()) if answers[name].shape == expected.shape else expected.size
                mismatches += wrong
                if wrong:
                    failures.append(f"'{name}' differs from the integer reference in {wrong} of {expected.size} values")
        if not golden.exact:
            failures.append("the bundle promises exact integers but carries none to compare with")
    return {
        "output_max_abs": worst,
        "output_mean_abs": mean,
        "spikes_compared": compared,
        "spike_flips": flips if seen else None,
        "spike_flips_near": near_flips if seen else None,
        "images_with_flips": int(flipped.sum()),
        "exact_mismatches": mismatches,
        "failures": failures,
        "flips": tuple(named[:20]),
    }


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
