"""Same inputs, same answers? Outputs against the allowed difference, spikes exactly, integers bit for bit, the score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.agreement import Agreement, agreement, comparable
from edgekit.bundle import Bundle, Golden
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime, Session
from edgekit.prepares import completed
from edgekit.task import task_of

NO_NOISE_DB = 200.0  # where nothing differs
SPLITS = 4  # a stream is run once more whole and three times in pieces


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
    sqnr_db: float | None = None  # of the worst output that is rounded on purpose
    same_share: float | None = None  # of the worst whole-number output that may differ, over a golden
    chunks_compared: float | None = None  # share of chunks before the first that differs, in which all else was compared; or of samples
    pieces_equal: int = 0  # of SPLITS runs of a stream: again, and in pieces of random sizes
    prepares: Mapping[str, Any] = field(default_factory=dict)  # preparation -> what its own verification says; failures count above
    tasks: Mapping[str, Any] = field(default_factory=dict)  # other task -> the same

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
    """Run the golden inputs and the family's test data; score_limit 0 leaves the score out.

    With probes every inner tensor is looked at; without, buffers are bound and states stay in the engine. Both ways must
    give the golden answers. Preparations and other tasks are verified as bundles of their own, without a score.
    """
    prepares = {n: verify(bundle.preparation(n), runtime, 0) for n in bundle.manifest.prepares}
    tasks = {n: verify(bundle.of_task(n), runtime, 0) for n in bundle.manifest.tasks}
    goldens = bundle.goldens()
    with ExitStack() as stack:
        plain = stack.enter_context(runtime.open(bundle))
        probed = stack.enter_context(runtime.open(bundle, probes=True)) if bundle.manifest.probes else plain
        found = Comparison(bundle)
        for golden in goldens:
            found.compare(golden, probed.run(golden.inputs))
            if probed is not plain and not runtime.simulates:
                found.compare(dataclasses.replace(golden, probes={}), plain.run(golden.inputs), repeats=True)
        pieces = _pieces(bundle, plain, goldens[0], found.failures) if bundle.manifest.program.stream else 0
        score, reference, samples, note = _score(bundle, runtime, plain, score_limit)
    allowed = bundle.manifest.allowed
    if score is not None and reference is not None and score < reference - allowed.score_drop - 1e-9:
        found.failures.append(
            f"the score on {samples} samples is {score:.4f}, the trained network's {reference:.4f}; "
            f"allowed is a loss of {allowed.score_drop:g}"
        )
    found.failures += [f"preparation '{n}': {failure}" for n, v in prepares.items() for failure in v.failures]
    found.failures += [f"task '{n}': {failure}" for n, v in tasks.items() for failure in v.failures]
    return Verification(
        runtime=runtime.version(), score=score, score_reference=reference, score_samples=samples, note=note,
        golden_samples=sum(_samples(g) for g in goldens), pieces_equal=pieces, prepares={n: v.to_json() for n, v in prepares.items()},
        tasks={n: v.to_json() for n, v in tasks.items()}, **found.fields(),
    )  # fmt: skip


def compare(bundle: Bundle, golden: Golden, answers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a Verification that answers on golden inputs decide."""
    found = Comparison(bundle)
    found.compare(golden, answers)
    return found.fields()


class Comparison:
    """What was found so far, golden by golden.

    A flip counts as near when that spike is within the threshold's rounding in the trained network; an image with a
    flip is taken out of the comparison of outputs, since everything behind the flip may differ.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._exact = bundle, bundle.manifest.allowed.exact
        self._loops = {p: bundle.manifest.program.loops(n) for n, g in bundle.manifest.graphs.items() for p in g.probes}
        self.failures: list[str] = []
        self._sqnr_db: float | None = None
        self._shares: list[float] = []
        self._chunks = self._equal = 0
        self._worst: float | None = None
        self._means: list[float] = []
        self._flips: list[str] = []
        self._compared = self._near = self._images = self._mismatches = 0

    def compare(self, golden: Golden, answers: Mapping[str, np.ndarray], repeats: bool = False) -> None:
        """Take in the answers to one golden; `repeats`: the same inputs were compared with their spikes before."""
        spikes = _Spikes(_samples(golden))
        if not self._exact:  # a quantised network spikes for itself: it is held against the integer reference instead
            self.failures += spikes.compare_all(golden, answers, self._loops)
        self._compared += spikes.compared
        self._near += spikes.near
        self._flips += spikes.names
        self._images += int(spikes.flipped.sum())
        if repeats and self._flips:
            return  # which images flip is known only where spikes are seen
        outputs: list[str] = []
        golden, answers, alike = self._where_decided_alike(golden, answers, outputs)
        equal = ~spikes.flipped if alike is None else ~spikes.flipped[alike]
        worst, mean = _outputs(self._bundle, golden, answers, equal, outputs)
        self.failures += [o for o in outputs if o not in self.failures]
        for name in set(self._bundle.manifest.allowed.sqnr_db) & set(golden.outputs):
            if golden.outputs[name].shape == answers[name].shape:
                found = sqnr_db(golden.outputs[name], answers[name])
                self._sqnr_db = found if self._sqnr_db is None else min(found, self._sqnr_db)
        if worst is not None and mean is not None:
            self._worst = max(worst, self._worst or 0.0)
            self._means.append(mean)
        if self._exact and not repeats:
            self._mismatches += _integers(golden, answers, self.failures)

    def _where_decided_alike(
        self, golden: Golden, answers: Mapping[str, np.ndarray], failures: list[str]
    ) -> tuple[Golden, Mapping[str, np.ndarray], np.ndarray | None]:
        """Hold outputs that may differ against their share; the others, up to the first chunk, or without the samples, in which one of
        those differs. The last is which samples are left, where some are not."""
        manifest = self._bundle.manifest
        least = manifest.allowed.same_share
        if not least:
            return golden, answers, None
        found = agreement(manifest, least, golden, answers)
        self._chunks, self._equal = self._chunks + found.chunks, self._equal + found.equal
        self._shares += found.shares.values()
        failures += [
            f"{100 * share:.1f} % of the places of output '{n}' are equal; at least {100 * least[n]:.1f} % is promised"
            for n, share in found.shares.items() if share < least[n]
        ]  # fmt: skip
        odd = [n for n, y in golden.outputs.items() if answers[n].shape != y.shape or not np.isfinite(answers[n]).all()]
        failures += [f"output '{n}' has the shape {answers[n].shape} or is not finite, expected {golden.outputs[n].shape}" for n in odd]
        outputs = {n: y for n, y in golden.outputs.items() if n not in least}
        cut = dataclasses.replace(golden, outputs=_cut(self._bundle, found, outputs))
        left = found.alike if found.alike is not None and found.equal < found.chunks == _samples(golden) else None
        return cut, _cut(self._bundle, found, {n: answers[n] for n in cut.outputs}), left

    def fields(self) -> dict[str, Any]:
        """The fields of a Verification that are decided here."""
        manifest = self._bundle.manifest
        if self._chunks and not self._equal and len(manifest.signature.outputs) > len(manifest.allowed.same_share):
            place = "its first chunk" if manifest.program.stream else "every sample"
            self.failures.append(f"every golden input is decided otherwise in {place}: nothing else could be compared")
        return {
            "output_max_abs": self._worst,
            "sqnr_db": self._sqnr_db,
            "same_share": min(self._shares, default=None),
            "chunks_compared": self._equal / self._chunks if self._chunks else None,
            "output_mean_abs": max(self._means) if self._means else None,
            "spikes_compared": self._compared,
            "spike_flips": len(self._flips) if self._compared else None,
            "spike_flips_near": self._near if self._compared else None,
            "images_with_flips": self._images,
            "exact_mismatches": self._mismatches if self._exact else None,
            "failures": tuple(self.failures),
            "flips": tuple(self._flips[:20]),
        }


def _cut(bundle: Bundle, found: Agreement, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is compared of outputs beside those that may differ."""
    parts = {n: comparable(bundle.manifest, found, n, v) for n, v in values.items()}
    return {n: v for n, v in parts.items() if v is not None}


def _samples(golden: Golden) -> int:
    """The batch of the golden inputs; 1 for a scalar."""
    first = next(iter(golden.inputs.values()), np.zeros(1))
    return len(first) if first.ndim else 1


def _pieces(bundle: Bundle, session: Session, golden: Golden, failures: list[str]) -> int:
    """A stream pushed in random pieces must give what it gives whole, bit for bit, and so again after a new start."""
    stream = bundle.manifest.program.stream
    assert stream is not None
    whole = session.run(golden.inputs)
    longest = max(golden.inputs[n].shape[f.axis] for n, f in stream.feeds.items())
    most = max(2, min(longest, 3 * max(f.hop or 1 for f in stream.feeds.values())))
    rng = np.random.default_rng(0)
    equal = 0
    for attempt in range(SPLITS):
        sizes = [int(n) for n in rng.integers(1, most, 20)]
        again = session.run_pieces(golden.inputs, sizes) if attempt else session.run(golden.inputs)
        differing = [n for n, v in whole.items() if not np.array_equal(v, again[n], equal_nan=v.dtype.kind == "f")]
        how = f"pushed in pieces of {sizes[:4]}..." if attempt else "run again from the start"
        failures += [f"output '{n}' differs when the stream is {how}" for n in differing]
        equal += not differing
    return equal


class _Spikes:
    """Flips found so far, layer by layer. Behind a flip the whole image may differ: only flips in images that were
    equal up to that layer have a cause of their own and are counted."""

    def __init__(self, samples: int) -> None:
        self.flipped = np.zeros(samples, bool)
        self.names: list[str] = []
        self.near = self.compared = 0

    def compare_all(self, golden: Golden, answers: Mapping[str, np.ndarray], loops: Mapping[str, bool]) -> list[str]:
        """Take in all probes: call by call where a graph runs in a loop, since a flip decides what comes after it."""
        failures, wholes = [], {}
        for name, expected in golden.probes.items():
            if name not in answers:
                continue
            got = answers[name]
            if got.shape != expected.shape:
                failures.append(f"spikes of '{name}' have the shape {got.shape}, expected {expected.shape}")
                continue
            near = np.zeros(expected.size, bool)
            near[golden.near.get(name, np.zeros(0, np.int64))] = True
            wholes[name] = (expected, got, near.reshape(expected.shape))
        for call in range(max((len(e) for n, (e, _, _) in wholes.items() if loops.get(n)), default=1)):
            for name, whole in wholes.items():
                if loops.get(name):
                    failures += self._compare(f"{name}@{call}", *(a[call] for a in whole))
                elif call == 0:
                    failures += self._compare(name, *whole)
        return failures

    def _compare(self, name: str, expected: np.ndarray, got: np.ndarray, near: np.ndarray) -> list[str]:
        """Take in one layer of one call; the failures it shows."""
        self.compared += expected.size
        where = np.flatnonzero(got.astype(np.uint8) != expected)
        images = where // (expected.size // len(self.flipped))
        own = where[~self.flipped[images]]
        is_near = near.reshape(-1)[own]
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
        difference = np.abs(got.astype(np.float64) - expected)
        if not difference.size:
            means.append(0.0)  # an output without values, of the right shape
            continue
        if not equal.all():
            difference = difference[equal]
        if not difference.size:
            failures.append(f"every golden image has a flipped spike: output '{name}' cannot be compared")
            continue
        worst = max(worst, float(difference.max()))
        means.append(float(difference.mean()))
        if name in bundle.manifest.allowed.sqnr_db:
            found, least = sqnr_db(expected, got), bundle.manifest.allowed.sqnr_db[name]
            if found < least:
                failures.append(f"output '{name}' has {found:.1f} dB of signal to noise; at least {least:.1f} dB is promised")
            continue
        limit = bundle.manifest.allowed.output_max_abs.get(name, None if bundle.manifest.allowed.exact else 0.0)
        if limit is not None and difference.max() > limit:
            failures.append(f"output '{name}' differs by {difference.max():.3g}; allowed {limit:g}")
    return (worst, max(means)) if means else (None, None)


def sqnr_db(expected: np.ndarray, got: np.ndarray) -> float:
    """Signal to quantisation noise ratio, 10 log10(sum y^2 / sum (y - y')^2), in dB; NO_NOISE_DB where nothing differs."""
    y = expected.astype(np.float64)
    noise = float(np.square(y - got).sum())
    return NO_NOISE_DB if noise == 0 else min(NO_NOISE_DB, 10 * float(np.log10(max(float(np.square(y).sum()), 1e-300) / noise)))


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


def _score(
    bundle: Bundle, runtime: Runtime, session: Session, limit: int | None
) -> tuple[float | None, float | None, int, str]:
    """(score, reference, samples, why not). The reference is known for the whole test data only."""
    model = bundle.manifest.model
    if limit == 0:
        return None, None, 0, "the score was not asked for"
    if model is None or not model.score_samples:
        return None, None, 0, "no score: edgekit knows no task for this model; --test FILE.npz gives one"
    try:
        most = runtime.most_scored if limit is None else limit
        score = task_of(model).score(model, lambda given: session.run(completed(bundle, given, runtime)), most)
    except EdgekitError as error:
        return None, None, 0, f"no score: {error}"
    whole = score.samples == model.score_samples
    note = "" if whole else f"score over the first {score.samples} of {model.score_samples} samples, not compared"
    return score.value, model.score if whole else None, score.samples, note
