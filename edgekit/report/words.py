"""What a run says in sentences, computed from its numbers: the verdict, whichever way it falls, and why a number is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgekit.estimate import Estimate
from edgekit.report import choice, numbers
from edgekit.report.data import Run, TrainingRow
from edgekit.report.time_tables import timings

LISTED = 12  # names before one note


def verdict(run: Run) -> tuple[str, ...]:
    """What to choose first, then score, chance, answers, time and energy; those that there is data for."""
    time = "" if run.candidates else _on_time(run)
    return tuple(s for s in (*choice.sentences(run), _on_score(run), _on_chance(run), _on_answers(run), time, _on_energy(run)) if s)


def stages(run: Run) -> list[TrainingRow]:
    """The trained stages, the most timesteps first."""
    return sorted((r for r in run.training if r.role == "stage" and r.steps), key=lambda r: -(r.steps or 0))


def ann_of(run: Run) -> TrainingRow | None:
    """The network without spikes that the stages come from."""
    return next((r for r in run.training if r.role == "ann"), None)


def energy_range(estimate: Estimate) -> tuple[float, float, float] | None:
    """(low, mid, high) in nJ; None when there is no price, or any of the three is missing."""
    low, mid, high = estimate.energy_nj_low, estimate.energy_nj, estimate.energy_nj_high
    return None if low is None or mid is None or high is None else (low, mid, high)


def _on_score(run: Run) -> str:
    there, ann = stages(run), ann_of(run)
    model = next((r for r in run.training if r.role == "model"), None)
    if model is not None:
        text = f"{model.label} reaches {numbers.score(run, model.score)} {run.score_name}"
        gaps = [f"{r.label} {numbers.score(run, r.score)}" for r in run.training if r.role == "baseline"]
        return text + (f"; {', '.join(gaps)}." if gaps else ".")
    if not there:
        return f"{ann.label} reaches {numbers.score(run, ann.score)} {run.score_name}." if ann else ""
    first, last = there[0], there[-1]
    compared = [r for r in (first, ann) if r is not None and r is not last]
    gaps = [f"{numbers.score_gap(run, last.score, r.score)} {_the(r)}" for r in compared]
    text = f"{last.label} reaches {numbers.score(run, last.score)} {run.score_name}" + (f", {' and '.join(gaps)}" if gaps else "")
    for r in run.training:
        if r.role == "control":
            gap = numbers.score_gap(run, r.score, last.score)
            text += f"; {r.label} reaches {numbers.score(run, r.score)}, {gap} {last.label}"
    return f"{text}."


def _the(row: TrainingRow) -> str:
    return f"the {row.label}" if row.role == "ann" else row.label


def _on_chance(run: Run) -> str:
    """The gap between two accuracies below which 95 % of the gaps of equal networks lie, as if tested on two sets.

    The two networks see the same samples, which makes chance gaps smaller: this errs on the careful side. Two
    successes and two failures are added (Agresti-Coull), since a share of 1 would give no spread at all.
    """
    n, there = run.test_samples, stages(run)
    if n < 1 or not there or len(run.training) < 2 or not numbers.is_share(run):
        return ""
    share = there[-1].score
    p = (share * n + 2) / (n + 4)
    gap = 100 * 1.96 * math.sqrt(2 * p * (1 - p) / (n + 4))
    return f"With {n:,} test samples, a gap below {gap:.1f} points may be chance."


def _on_answers(run: Run) -> str:
    pairs = [(b, v) for b in run.bundles for v in b.verifications]
    if not run.bundles:
        return "Nothing has been exported yet." if run.training else ""
    wrong = [(b, v) for b, v in pairs if not v.passed]
    unchecked = [b.label for b in run.bundles if not b.verifications]
    text = ""
    if pairs and not wrong:
        text = f"The exported networks give the trained network's answers in all {len(pairs)} checks (bundle on engine)."
    elif wrong:
        told = "; ".join(f"{b.label} on {numbers.engine(v.runtime)} ({(v.failures or ('no reason given',))[0]})" for b, v in wrong)
        text = f"WRONG ANSWERS in {len(wrong)} of {len(pairs)} checks: {told}."
    return (text + (f" Not verified: {', '.join(unchecked)}." if unchecked else "")).strip()


def _on_time(run: Run) -> str:
    real = [(b, m) for b, m in timings(run) if m.verdict != "SIMULATED" and m.threads == 1]
    if not real:
        return "No latency was measured; simulated times say nothing of a device." if timings(run) else ""
    bundle, m = min(real, key=lambda pair: pair[1].latency_p50_ms)
    noisy = f", {m.verdict}" if m.verdict != "VALID" else ""
    among = f" of {len(real)}" if len(real) > 1 else ""
    return (
        f"Fastest{among} on one thread: {bundle.label} on {numbers.engine(m.runtime)}, "
        f"{numbers.significant(m.latency_p50_ms)} ms (p50, n = {m.samples:,}{noisy})."
    )


def _on_energy(run: Run) -> str:
    told = [
        f"{b.label} on {numbers.engine(m.runtime)} used {numbers.significant(m.energy_mj)} mJ ({m.energy.kind if m.energy else m.kind})"
        for b, m in timings(run) if m.energy_mj is not None
    ]  # fmt: skip
    text = f"Energy of one inference, by a meter: {'; '.join(told[:3])}{f' and {len(told) - 3} more' if len(told) > 3 else ''}."
    if not told:
        estimated = any(c.energy_mj is not None and c.energy_mj.estimated for c in run.candidates)
        text = "No energy was measured" + (": what is given is an estimate." if estimated else ".") if run.bundles else ""
    there, ann = stages(run), ann_of(run)
    if not there or ann is None:
        return text
    for own in there[-1].estimates:
        other = next((e for e in ann.estimates if (e.profile, e.includes_memory) == (own.profile, own.includes_memory)), None)
        mine, theirs = energy_range(own), energy_range(other) if other else None
        if own.includes_memory and mine and theirs:
            unit, nj = numbers.energy_unit([mine[1], theirs[1]])
            a, b = (f"~{numbers.significant(r[1] / nj)} {unit} ({span(r, nj)})" for r in (mine, theirs))
            overlap = mine[0] <= theirs[2] and theirs[0] <= mine[2]
            judged = "the ranges overlap, so neither is called cheaper" if overlap else "the ranges do not overlap"
            return (
                f"{text} Estimate by {own.profile}, with memory, per inference: {there[-1].label} {a}, {ann.label} {b}; {judged}."
            ).strip()
    return text


def span(energies_nj: tuple[float, float, float], nj: float) -> str:
    """`12–34`: lowest and highest in the unit that is `nj` nanojoule."""
    low, high = numbers.significant(energies_nj[0] / nj), numbers.significant(energies_nj[2] / nj)
    return low if low == high else f"{low}–{high}"


def notes(run: Run) -> tuple[str, ...]:
    """The run's own notes, then a sentence for every number that is missing and every timing that is not plainly valid."""
    found: dict[str, list[str]] = {}
    for why, who in (*_missing_in_training(run), *_missing_in_bundles(run), *_on_candidates(run)):
        names = found.setdefault(why, [])
        if who and who not in names:
            names.append(who)
    told = [f"{'all candidates' if _of_all(run, who) else _names(who)}: {why}" if who else why for why, who in found.items()]
    return tuple(dict.fromkeys((*run.notes, *told)))


def _names(who: list[str]) -> str:
    return ", ".join(who[:LISTED]) + (f" and {len(who) - LISTED} more" if len(who) > LISTED else "")


def _on_candidates(run: Run) -> Iterator[tuple[str, str]]:
    """What a sweep says of its candidates; of a run folder's own, the bundles have told it."""
    short = choice.short_names(run.candidates)
    for c in run.candidates if run.swept else ():
        for note in c.notes:
            yield note, short[c.name]


def _of_all(run: Run, who: list[str]) -> bool:
    """A note that every candidate of a sweep has needs no names."""
    return run.swept and len(who) > 1 and len(who) == len(run.candidates)


def _missing_in_training(run: Run) -> Iterator[tuple[str, str]]:
    for r in run.training:
        if r.role in ("model", "baseline"):
            continue
        if r.validation is None:
            yield "no validation score, nothing was held out", r.label
        if not r.spikes_per_neuron:
            yield "no spikes, the network does not spike" if r.role in ("ann", "teacher") else "spikes were not counted", r.label
        yield from _unpriced(r.label, r.estimates)


def _unpriced(label: str, estimates: tuple[Estimate, ...]) -> Iterator[tuple[str, str]]:
    if not estimates:
        yield "no energy estimate: operations were not counted, or have no one price", label
    for e in estimates:
        if energy_range(e) is None:
            yield f"no energy estimate by {e.profile}, {e.reason or 'without a reason given'}", label


def _missing_in_bundles(run: Run) -> Iterator[tuple[str, str]]:
    checks = [v for b in run.bundles for v in b.verifications]
    spiking, exact_somewhere = any(v.spike_flips is not None for v in checks), any(v.exact_mismatches is not None for v in checks)
    for b in run.bundles:
        for v in b.verifications:
            who = f"{b.label} on {numbers.engine(v.runtime)}"
            if v.output_max_abs is None:
                yield "no difference of outputs, none could be compared", who
            if v.spike_flips is None and (spiking or exact_somewhere):
                exact = v.exact_mismatches is not None
                yield "no flips, its integers are compared instead" if exact else "no flips, this engine shows no spikes", who
            if v.exact_mismatches is None and exact_somewhere:
                yield "no integers to compare, only networks of exact integers have them", who
            if v.note or v.score is None:
                yield v.note or "no score, without a reason given", who
            for failure in v.failures:
                yield f"FAILED, {failure}", who
        timed = {numbers.engine(m.runtime) for m in b.measurements}
        for v in b.verifications:
            if numbers.engine(v.runtime) not in timed:
                yield "not timed", f"{b.label} on {numbers.engine(v.runtime)}"
        for m in b.measurements:
            for reason in m.reasons if m.verdict != "VALID" else ():
                threads = f" ({'all cores' if m.threads == 0 else f'threads: {m.threads}'})" if m.verdict != "SIMULATED" else ""
                yield f"{m.verdict}, {reason}", f"{b.label} on {numbers.engine(m.runtime)}{threads}"
            if m.energy_mj is None:
                yield f"energy was not measured: {m.energy_reason}", ""
        for m in b.imported:
            for reason in m.reasons:
                yield f"{m.device}: {reason}", b.label
        if b.estimates or not any(e.energy_mj is not None for e in b.device_estimates):
            yield from _unpriced(b.label, b.estimates)
