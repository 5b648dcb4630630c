"""How well risks tell who died: AUROC, AUPRC, bootstrap intervals of a difference, and the tables of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.models._multi_fit_options import LABELS

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percentiles


def auroc(deaths: np.ndarray, risks: np.ndarray) -> float:
    """The share of pairs of a dead and a living in which the dead has the higher risk, ties counted half (Mann-Whitney)."""
    positives = int(deaths.sum())
    negatives = len(deaths) - positives
    if not positives or not negatives:
        return 0.5  # nothing to tell apart
    _, place, counts = np.unique(risks, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]  # equal risks share the mean of their ranks, counted from 1
    return float((ranks[deaths == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auprc(deaths: np.ndarray, risks: np.ndarray) -> float:
    """Average precision: precision at each threshold, weighted by the recall gained there."""
    order = np.argsort(-risks, kind="stable")
    found = np.cumsum(deaths[order])
    last = np.append(np.diff(risks[order]) != 0, True)  # equal risks are one threshold
    precision, recall = (found / np.arange(1, len(order) + 1))[last], (found / max(1, found[-1]))[last]
    return float((np.diff(recall, prepend=0) * precision).sum())


def drawn_aurocs(deaths: np.ndarray, risks: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUROC of samples in which stay i is present counts[r, i] times: float64 (samples,), the same pairs as auroc counts."""
    order = np.argsort(risks, kind="stable")
    firsts = np.flatnonzero(np.append(True, np.diff(risks[order]) != 0))  # equal risks are one place
    dead = np.add.reduceat(counts[:, order] * deaths[order], firsts, axis=1)
    living = np.add.reduceat(counts[:, order] * (1 - deaths[order]), firsts, axis=1)
    below = np.cumsum(living, 1) - living
    pairs = dead.sum(1) * living.sum(1)
    found: np.ndarray = (dead * (below + living / 2)).sum(1) / np.maximum(pairs, 1)
    return found


def draws_of(stays: int, seed: int = 0) -> np.ndarray:
    """How often each stay is in each of RESAMPLES samples with replacement, int64 (RESAMPLES, stays)."""
    return np.random.default_rng(seed).multinomial(stays, np.full(stays, 1 / stays), RESAMPLES)


@dataclass(frozen=True)
class Difference:
    """A difference between two networks on the same stays, and its 95 % interval over stays (paired bootstrap)."""

    mean: float
    low: float
    high: float


def difference(deaths: np.ndarray, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Difference:
    """Mean AUROC of one network's seeds less that of another's. Stays are drawn again, with replacement; both are scored on
    the same draw. The interval says what other stays would change, not what other seeds would."""
    counts = draws_of(len(deaths))
    every = np.concatenate([np.ones((1, len(deaths)), np.int64), counts])
    mine, yours = (np.mean([drawn_aurocs(deaths, r, every) for r in risks], 0) for risks in (ours, theirs))
    return _interval(mine - yours)


def _interval(found: np.ndarray) -> Difference:
    """The first is the difference on all stays as they are, the others are of draws."""
    low, high = np.percentile(found[1:], INTERVAL)
    return Difference(float(found[0]), float(low), float(high))


@dataclass(frozen=True)
class Tested:
    """A network with one seed: what it reached by validation, whole and thinned, and its risks on the test stays, alike."""

    seed: int
    validation_auroc: float
    validation_auroc_thinned: float
    parameters: int
    seconds: float
    risks: np.ndarray
    risks_thinned: np.ndarray  # (draws, stays)


def tables(deaths: np.ndarray, found: Mapping[str, Sequence[Tested]], model: str, share: float) -> list[dict[str, Any]]:
    """Means over seeds, one row a network; every seed; what thinning costs; differences to every other network."""
    whole = {n: [auroc(deaths, t.risks) for t in ts] for n, ts in found.items()}
    stays = f"{len(deaths)} held-out stays, {int(deaths.sum())} deaths"
    return [
        _means(deaths, found, whole, stays),
        _seeds(found, whole, stays),
        _thinned(deaths, found, model, f"{stays}; {share:.0%} of the readings dropped at random, the same ones for every network"),
        _differences(deaths, found, model, stays),
    ]


def _spread(values: Sequence[float]) -> float | None:
    return round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None


def _means(
    deaths: np.ndarray, found: Mapping[str, Sequence[Tested]], whole: Mapping[str, Sequence[float]], stays: str
) -> dict[str, Any]:  # fmt: skip
    rows = []
    for name, ts in found.items():
        precision = [auprc(deaths, t.risks) for t in ts]
        rows.append([
            LABELS[name], len(ts), round(float(np.mean(whole[name])), 4), _spread(whole[name]), round(float(np.mean(precision)), 4),
            _spread(precision), round(float(np.mean([t.validation_auroc for t in ts])), 4), ts[0].parameters,
            round(float(np.mean([t.seconds for t in ts])), 1),
        ])  # fmt: skip
    return {
        "title": "In-hospital death, mean over seeds",
        "columns": ["network", "seeds", "AUROC", "sd", "AUPRC", "sd of AUPRC", "validation AUROC", "parameters", "seconds to train"],
        "rows": rows, "caption": f"{stays}. sd: over seeds.",
    }  # fmt: skip


def _seeds(found: Mapping[str, Sequence[Tested]], whole: Mapping[str, Sequence[float]], stays: str) -> dict[str, Any]:
    seeds = [t.seed for t in next(iter(found.values()))]
    rows = [[LABELS[n], *(round(v, 4) for v in values)] for n, values in whole.items()]
    return {"title": "AUROC of every seed", "columns": ["network", *(f"seed {s}" for s in seeds)], "rows": rows, "caption": f"{stays}."}


def _thinned(deaths: np.ndarray, found: Mapping[str, Sequence[Tested]], model: str, caption: str) -> dict[str, Any]:
    draws = len(found[model][0].risks_thinned)
    counts = np.concatenate([np.ones((1, len(deaths)), np.int64), draws_of(len(deaths))])
    whole = {n: np.mean([drawn_aurocs(deaths, t.risks, counts) for t in ts], 0) for n, ts in found.items()}
    thin = {n: np.mean([drawn_aurocs(deaths, r, counts) for t in ts for r in t.risks_thinned], 0) for n, ts in found.items()}
    rows = []
    for name in found:
        lost = whole[name] - thin[name]
        row: list[Any] = [LABELS[name], *(round(float(v[0]), 4) for v in (whole[name], thin[name], lost))]
        more = _interval(lost - (whole[model] - thin[model]))
        row += [None] * 3 if name == model else [round(v, 4) for v in (more.mean, more.low, more.high)]
        validated = np.mean([t.validation_auroc - t.validation_auroc_thinned for t in found[name]])
        rows.append([*row, round(float(validated), 4)])
    more_lost = f"lost more than {LABELS[model]}"
    columns = ["network", "AUROC", "with fewer readings", "lost", more_lost, "95 % from", "to", "lost on validation stays"]
    return {
        "title": "Fewer readings", "columns": columns, "rows": rows,
        "caption": f"{caption}; {draws} draws. Means over seeds and draws; paired bootstrap over stays.",
    }  # fmt: skip


def _differences(deaths: np.ndarray, found: Mapping[str, Sequence[Tested]], model: str, stays: str) -> dict[str, Any]:
    rows = []
    for name in found:
        if name != model:
            d = difference(deaths, [t.risks for t in found[model]], [t.risks for t in found[name]])
            rows.append([LABELS[name], round(d.mean, 4), round(d.low, 4), round(d.high, 4)])
    return {
        "title": f"{LABELS[model]} less the others, AUROC",
        "columns": ["less", "difference", "95 % from", "to"], "rows": rows,
        "caption": f"Paired bootstrap, {RESAMPLES} draws of the {stays}; each network's figure is the mean AUROC of its seeds on the draw.",
    }  # fmt: skip
