"""What came of a run, and the tables that hold the codes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from edgekit.models._diti.probe import Probed

NAMES = {
    "diti": "DiTi", "pdae": "PDAE (no mask)", "autoencoder": "autoencoder, same encoder and time", "random": "random encoder",
    "pca": "principal components", "whitened": "principal components, whitened",
}  # fmt: skip
STAGE_NAMES = {"base": "base, without labels", "pdae": NAMES["pdae"], "diti": NAMES["diti"], "autoencoder": "autoencoder"}
SWAPS = {"none": "nothing: drawn anew", "fine": "the finer half of the groups", "coarse": "the coarser half of the groups", "all": "all groups"}


@dataclass(frozen=True)
class Outcome:
    """One seed: probes of each code by number of labels, what the code is worth to the base, and swaps."""

    seed: int
    probes: Mapping[str, tuple[Probed, ...]]
    known: tuple[Mapping[str, Any], ...]
    swaps: tuple[Mapping[str, Any], ...]

    @property
    def to_choose_by(self) -> float:
        """The larger, the better: the accuracy on validation pictures, the mean over numbers of labels."""
        return fmean(p.validation for p in self.probes["diti"])


def tables(
    outcomes: Sequence[Outcome], heads: tuple[str, ...], groups: tuple[int, ...], seconds: Mapping[str, list[float]], data: str
) -> list[dict[str, Any]]:  # fmt: skip
    """All tables; groups: numbers of each."""
    made = [_accuracy(outcomes, sum(groups)), _against(outcomes), _swaps(outcomes), _known(outcomes)]
    if len(heads) > 1:
        made.insert(2, _by_head(outcomes, heads))
    return [*made, _by_stage(seconds, data)]


def _accuracy(outcomes: Sequence[Outcome], dims: int) -> dict[str, Any]:
    labels = [p.labels for p in outcomes[0].probes["diti"]]
    rows = []
    for name, words in NAMES.items():
        row: list[Any] = [words]
        for i in range(len(labels)):
            found = [o.probes[name][i].test for o in outcomes]
            row += [round(fmean(found), 4), round(stdev(found), 4) if len(found) > 1 and name not in ("pca", "whitened") else None]
        rows.append(row)
    return {
        "title": f"Linear probes of {dims} numbers a picture", "columns": ["code", *(c for n in labels for c in (f"{n} labels", "sd"))], "rows": rows,
        "caption": (
            "Accuracy on test pictures, the mean over attributes, draws of labels and training seeds; sd: over training seeds. The strength of "
            "the regression was chosen on validation pictures for each code and number of labels, and whether numbers are brought to deviation 1 "
            "each or together; of principal components these are two rows."
        ),
    }  # fmt: skip


def _against(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    labels = [p.labels for p in outcomes[0].probes["diti"]]
    rows = []
    for name in list(NAMES)[1:]:
        row: list[Any] = [NAMES[name]]
        for i in range(len(labels)):
            gaps = [100 * (o.probes["diti"][i].test - o.probes[name][i].test) for o in outcomes]
            row += [round(fmean(gaps), 2), f"{sum(g > 0 for g in gaps)} of {len(gaps)}"]
        rows.append(row)
    return {
        "title": "DiTi against the other codes", "columns": ["code", *(c for n in labels for c in (f"{n} labels", "seeds won"))], "rows": rows,
        "caption": "Points of accuracy that DiTi is ahead (below 0: behind), on the same labels.",
    }  # fmt: skip


def _by_head(outcomes: Sequence[Outcome], heads: tuple[str, ...]) -> dict[str, Any]:
    most = outcomes[0].probes["diti"][-1].labels
    rows = [
        [words, *(round(fmean(o.probes[name][-1].by_head[h] for o in outcomes), 3) for h in range(len(heads)))] for name, words in NAMES.items()
    ]
    return {
        "title": f"Linear probes by attribute, {most} labels", "columns": ["code", *heads], "rows": rows,
        "caption": "Accuracy on test pictures, the mean over draws of labels and training seeds.",
    }  # fmt: skip


def _swaps(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows = []
    for i, first in enumerate(outcomes[0].swaps):
        name = str(first["swap"])
        means = [fmean(o.swaps[i][key] for o in outcomes) for key in ("changed", "taken", "moved")]
        rows.append([SWAPS.get(name, name), first["numbers"], *(round(m, 3) for m in means)])
    wins = sum(_changed(o, "coarse") > _changed(o, "fine") for o in outcomes)
    return {
        "title": "Counterfactuals: groups of numbers from another picture",
        "columns": ["swapped", "numbers", "changed", "taken over", "moved"], "rows": rows,
        "caption": (
            "Pairs of test pictures, drawn anew by inversion up and down; a classifier that learned from labels says what they show. Of the "
            "attributes in which the pair differs: changed, told otherwise than without a swap; taken over, told as of the other picture. moved: "
            "root mean square difference to the picture without a swap (first row: to the source itself). Coarse groups change more than "
            f"fine ones in {wins} of {len(outcomes)} seeds. The halves are unequal in numbers, which the second column says."
        ),
    }  # fmt: skip


def _changed(outcome: Outcome, swap: str) -> float:
    return float(next(s["changed"] for s in outcome.swaps if s["swap"] == swap))


def _known(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows = []
    for i, first in enumerate(outcomes[0].known):
        plain = fmean(o.known[i]["plain"] for o in outcomes)
        shares = [fmean(o.known[i][key] for o in outcomes) / plain for key in ("own", "without", "other")]
        rows.append([first["group"], first["numbers"], round(first["level"]), round(plain, 5), *(round(s, 3) for s in shares)])
    return {
        "title": "What the code is worth to the base",
        "columns": ["group", "numbers", "level", "error of the base", "own code", "but for the group", "another's code"],
        "rows": rows,
        "caption": (
            "Mean squared error of the guessed clean test picture in the middle of each group's levels, and the share that is left of it with the "
            "picture's own code, with its code but for the group that is added there, and with another picture's code."
        ),
    }  # fmt: skip


def _by_stage(seconds: Mapping[str, list[float]], data: str) -> dict[str, Any]:
    rows: list[list[Any]] = [[STAGE_NAMES[stage], round(fmean(found), 1), round(max(found), 1)] for stage, found in seconds.items()]
    sums = [sum(found) for found in zip(*seconds.values(), strict=True)]
    rows.append(["all", round(fmean(sums), 1), round(max(sums), 1)])
    return {
        "title": "Seconds of training", "columns": ["stage", "mean over seeds", "slowest seed"], "rows": rows, "caption": f"{data}, of one seed.",
    }  # fmt: skip
