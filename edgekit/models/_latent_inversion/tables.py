"""What inversion and editing of one network reached, and the tables that hold it side by side over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from edgekit.models._latent_inversion_options import Inversion

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the steps before the switch, of the sweep

AGAIN = {  # ways to get the source again, and what they are called
    "plain1": "plain, without guidance", "plain": "plain", "plain_optimised": "plain, optimised text", "null": "null texts",
    "offsets": "stored offsets",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """How edits are made, of all the ways that a recipe leaves open, and what validation edits say of it."""

    guidance: float
    switch: float
    keep: float
    blend: float
    accepted: float = 0.0
    away: float = 0.0

    @property
    def way(self) -> tuple[float, float, float, float]:
        """What tells it from the others."""
        return self.guidance, self.switch, self.keep, self.blend


@dataclass(frozen=True)
class Edited:
    """Edits of one way of one network: what is paired with another way's is kept edit by edit."""

    accepted: list[bool]
    away: list[float]  # root mean square difference to the source
    features: list[float]  # distance to the source in the features of the classifier
    rest_kept: float | None  # share of the attributes that were not to change and did not

    @property
    def accepted_share(self) -> float:
        """Of all edits."""
        return fmean(self.accepted)


@dataclass(frozen=True)
class Outcome:
    """One network on held-out edits."""

    seed: int
    psnr_db: dict[str, float]  # AGAIN -> mean over pictures
    edits: dict[str, Edited]  # "injected", "at once", "null texts", "anew"
    sweep: list[Edited]  # in the order of SHARES

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Outcome:
        """From plain values."""
        edits = {n: Edited(**e) for n, e in data["edits"].items()}
        return Outcome(data["seed"], dict(data["psnr_db"]), edits, [Edited(**e) for e in data["sweep"]])


def chosen(trials: Sequence[Sequence[Choice]], least: float) -> list[Choice]:
    """Means over networks (a list each, in one order), the best first: nearest to the source among those with `least` accepted; where none
    has so many, those with the most accepted come first."""
    means = [
        dataclasses.replace(some[0], accepted=fmean(c.accepted for c in some), away=fmean(c.away for c in some)) for some in zip(*trials, strict=True)
    ]
    return sorted(means, key=lambda c: (c.accepted < least, c.away if c.accepted >= least else -c.accepted))


def ways(options: Inversion) -> list[Choice]:
    """All that a recipe leaves open."""
    return [Choice(g, s, k, b) for g in options.guidance for s in options.switch for k in options.keep for b in options.blend]


def tables(outcomes: Sequence[Outcome], order: Sequence[Choice], seconds: Mapping[str, list[float]], least: float) -> list[dict[str, Any]]:
    """order: as chosen() gives it; seconds: of each stage, a number a seed."""
    return [_again(outcomes, order[0]), _edits(outcomes, order[0]), _sweep(outcomes), _choices(order, least), _seconds(seconds)]


def _again(outcomes: Sequence[Outcome], choice: Choice) -> dict[str, Any]:
    rows = []
    for way, name in AGAIN.items():
        found = [o.psnr_db[way] for o in outcomes]
        rows.append([name, round(fmean(found), 1), _sd(found, 2), round(min(found), 1)])
    return {
        "title": "Getting the source again, PSNR in dB", "columns": ["way", "mean over seeds", "sd", "worst seed"], "rows": rows,
        "caption": (
            f"Held-out pictures, up by DDIM without guidance, down with the source's text under guidance {choice.guidance:g} where nothing else is "
            "said; the mean over pictures (a picture that comes back to the last bit counts as 120 dB). sd: over seeds."
        ),
    }  # fmt: skip


def _edits(outcomes: Sequence[Outcome], choice: Choice) -> dict[str, Any]:
    names = {
        "injected": f"source's text for {100 * choice.switch:g} % of the steps, then the target's",
        "at once": "the target's text from the first step",
        "null texts": "as the first, by null texts in place of offsets", "anew": "drawn anew, from other noise",
    }  # fmt: skip
    rows = []
    for way, name in names.items():
        found = [o.edits[way] for o in outcomes]
        kept = [e.rest_kept for e in found if e.rest_kept is not None]
        rows.append([
            name, len(found[0].accepted), round(fmean(e.accepted_share for e in found), 3), _sd([e.accepted_share for e in found], 3),
            round(fmean(fmean(e.away) for e in found), 3), round(fmean(fmean(e.features) for e in found), 2),
            round(fmean(kept), 3) if kept else None,
        ])  # fmt: skip
    pixels, both = paired(outcomes, lambda e: e.away), paired(outcomes, lambda e: e.features)
    return {
        "title": "Held-out edits",
        "columns": ["way", "edits a seed", "accepted", "sd", "away from the source", "in features", "rest kept"], "rows": rows,
        "caption": (
            "accepted: by a classifier that had no part in training or choosing. away: root mean square difference, pictures in -1..1. The first "
            "way against the second, Wilcoxon's signed-rank test of pairs, nearer to the source: "
            f"pixels p = {pixels[0]:.2g} ({pixels[1]} of {pixels[2]} pairs nearer), of the edits that both ways made p = {pixels[3]:.2g} "
            f"({pixels[4]} pairs); features p = {both[0]:.2g} and {both[3]:.2g}."
        ),
    }  # fmt: skip


def paired(outcomes: Sequence[Outcome], of: Callable[[Edited], list[float]]) -> tuple[float, int, int, float, int]:
    """(p of all pairs, pairs in which injection is nearer, all pairs, p of the pairs that both ways made, their number)."""
    pairs = [
        (a, b, made and also)
        for o in outcomes
        for a, b, made, also in zip(
            of(o.edits["injected"]), of(o.edits["at once"]), o.edits["injected"].accepted, o.edits["at once"].accepted, strict=True
        )
    ]  # fmt: skip
    both = [(a, b) for a, b, made in pairs if made]
    return _p([(a, b) for a, b, _ in pairs]), sum(a < b for a, b, _ in pairs), len(pairs), _p(both), len(both)


def _p(pairs: list[tuple[float, float]]) -> float:
    """That the first of each pair is not smaller."""
    from scipy.stats import wilcoxon

    gaps = [a - b for a, b in pairs]
    return float(wilcoxon(gaps, alternative="less").pvalue) if any(gaps) else 1.0


def _sweep(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows = []
    for i, share in enumerate(SHARES):
        found = [o.sweep[i] for o in outcomes]
        rows.append([
            f"{100 * share:.0f} %", round(fmean(e.accepted_share for e in found), 3), round(fmean(fmean(e.away) for e in found), 3),
            round(fmean(fmean(e.features) for e in found), 2),
        ])  # fmt: skip
    nearer, accepted = monotone(outcomes)
    return {
        "title": "The switch: what is kept against what is changed",
        "columns": ["source's text for", "accepted", "away from the source", "in features"],
        "rows": rows,
        "caption": (
            f"Means over seeds. Spearman's rank correlation with the switch, the lowest of the seeds: nearness {nearer:.2f}, "
            f"edits that are not accepted {accepted:.2f}."
        ),
    }  # fmt: skip


def monotone(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Rank correlation of the switch with nearness to the source, and with edits that are not accepted; the lowest of the seeds."""
    from scipy.stats import spearmanr

    def lowest(of: Callable[[Edited], float]) -> float:
        # Where every edit is accepted at every switch there is no rank; that counts as no trade.
        found = [[of(e) for e in o.sweep] for o in outcomes]
        return min(float(spearmanr(SHARES, f).statistic) if len(set(f)) > 1 else 0.0 for f in found)

    return lowest(lambda e: -fmean(e.away)), lowest(lambda e: -e.accepted_share)


def _choices(order: Sequence[Choice], least: float) -> dict[str, Any]:
    rows = [[c.guidance, f"{100 * c.switch:g} %", c.keep, c.blend, round(c.accepted, 3), round(c.away, 3)] for c in order[:12]]
    return {
        "title": "How edits are made: the first of these ways",
        "columns": ["guidance", "source's text for", "offsets kept", "target's share", "accepted", "away"],
        "rows": rows,
        "caption": (
            f"Validation edits, means over seeds, by a second classifier: nearest to the source among those with at least {least:g} accepted. "
            f"The best of {len(order)} ways. offsets kept: their factor once the target's text is given."
        ),
    }  # fmt: skip


def _seconds(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    rows = [[name, round(fmean(found), 1), round(max(found), 1)] for name, found in seconds.items()]
    return {"title": "Seconds", "columns": ["what", "mean over seeds", "slowest seed"], "rows": rows, "caption": "Of one seed, as measured."}


def _sd(found: list[float], digits: int) -> float | None:
    return round(stdev(found), digits) if len(found) > 1 else None
