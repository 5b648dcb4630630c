"""What one network with one sampler reached, and the tables that hold them side by side at equal network calls."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from edgekit.models._diffusion.plans import Sampling

NAMES = {
    "teacher": "teacher", "consistency": "consistency student", "matching": "distribution-matching student", "shortcut": "shortcut student",
}  # fmt: skip
KINDS = {"ddim": "DDIM", "renoise": "re-noise", "shortcut": "DDIM, told its jump"}

@dataclass(frozen=True)
class Outcome:
    """One network and seed with one sampler: pictures made for the conditions of the held-out ones."""

    stage: str
    seed: int
    sampling: Sampling
    validation_fid: float | None  # feature distance to the training pictures in validation conditions, where anything is chosen by it
    fid: float  # in test conditions, as all that follows; the mean over sets of pictures
    shown: float  # share of requested attributes that the pictures show, the mean over heads
    sharpness: float
    nearest: float  # median root mean square difference to the most similar training picture

    @property
    def to_choose_by(self) -> float:
        """The smaller, the better."""
        return math.inf if self.validation_fid is None else self.validation_fid

    @property
    def label(self) -> str:
        """For people."""
        words = f"{NAMES[self.stage]}, {KINDS[self.sampling.kind]}"
        return words if self.sampling.guidance == 1 else f"{words}, guidance {self.sampling.guidance:g}"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Outcome:
        """From plain values."""
        return Outcome(**{**data, "sampling": Sampling(**data["sampling"])})


Groups = Mapping[tuple[str, Sampling], list[Outcome]]


def tables(
    outcomes: Sequence[Outcome], floor: float, sharp: float, forms: Mapping[str, tuple[str, Sampling]], seconds: Mapping[str, list[float]], data: str
) -> list[dict[str, Any]]:  # fmt: skip
    """floor, sharp: feature distance and sharpness of the real test pictures; forms: what is deployed, by its folder."""
    groups: dict[tuple[str, Sampling], list[Outcome]] = {}
    for o in outcomes:
        groups.setdefault((o.stage, o.sampling), []).append(o)
    order = sorted(groups, key=lambda k: (-calls_of(k[1]), list(NAMES).index(k[0]), k[1].guidance))
    groups = {k: groups[k] for k in order}
    return [_by_calls(groups, floor), _against_teacher(groups, forms), _looks(groups, sharp), _by_seed(groups, floor), _by_stage(seconds, data)]


def calls_of(sampling: Sampling) -> int:
    """Network calls of a picture; a guided step takes two."""
    return sampling.calls * (1 if sampling.guidance == 1 else 2)


def _by_calls(groups: Groups, floor: float) -> dict[str, Any]:
    rows = []
    for (_, sampling), found in groups.items():
        fid = fmean(o.fid for o in found)
        spread = stdev([o.fid for o in found]) if len(found) > 1 else None
        shown = fmean(o.shown for o in found)
        sd = None if spread is None else round(spread, 3)
        rows.append([found[0].label, calls_of(sampling), round(fid, 3), sd, round(fid / floor, 2), round(shown, 3)])
    return {
        "title": "Made pictures by network calls, mean over seeds",
        "columns": ["network and sampler", "calls", "feature-FID", "sd", "x floor", "shown"], "rows": rows,
        "caption": (
            f"The mean over sets of as many pictures as there are real held-out ones, whose own feature-FID is the floor, {floor:.4g}. "
            "A guided step takes two calls. sd: over seeds. shown: the share of requested attributes that the pictures show, the mean "
            "over attributes."
        ),
    }  # fmt: skip


def _against_teacher(groups: Groups, forms: Mapping[str, tuple[str, Sampling]]) -> dict[str, Any]:
    deployed = {which: form for form, which in forms.items()}
    rows = []
    for (stage, sampling), found in groups.items():
        same = groups.get(("teacher", Sampling(sampling.steps)))
        if stage != "teacher" and same:
            ratio = fmean(o.fid for o in found) / fmean(o.fid for o in same)
            rows.append([found[0].label, sampling.calls, round(ratio, 3), deployed.get((stage, sampling), "")])
    return {
        "title": "Students against the teacher at as many calls",
        "columns": ["network and sampler", "calls", "share of its feature-FID", "deployed as"], "rows": rows,
        "caption": "Of the teacher with DDIM, without guidance. What is deployed was chosen on validation conditions.",
    }  # fmt: skip


def _looks(groups: Groups, sharp: float) -> dict[str, Any]:
    rows = [[f[0].label, calls_of(s), round(fmean(o.sharpness for o in f), 4), round(fmean(o.nearest for o in f), 4)] for (_, s), f in groups.items()]
    return {
        "title": "Sharpness, and distance to what was learned", "columns": ["network and sampler", "calls", "sharpness", "nearest"], "rows": rows,
        "caption": (
            f"sharpness: mean absolute difference of neighbours in a row; real pictures {sharp:.4f}. nearest: median root mean square difference "
            "to the most similar training picture, 0 for a copy."
        ),
    }  # fmt: skip


def _by_seed(groups: Groups, floor: float) -> dict[str, Any]:
    seeds = sorted({o.seed for found in groups.values() for o in found})
    rows = []
    for (_, sampling), found in groups.items():
        by_seed = {o.seed: o for o in found}
        rows.append([by_seed[seeds[0]].label, sampling.steps, *(round(by_seed[s].fid / floor, 2) for s in seeds)])
    return {
        "title": "Feature-FID of every seed, times the floor", "columns": ["network and sampler", "steps", *(f"seed {s}" for s in seeds)],
        "rows": rows, "caption": "Noise differs between seeds too.",
    }  # fmt: skip


def _by_stage(seconds: Mapping[str, list[float]], data: str) -> dict[str, Any]:
    rows: list[list[Any]] = [[NAMES[stage], round(fmean(found), 1), round(max(found), 1)] for stage, found in seconds.items()]
    sums = [sum(found) for found in zip(*seconds.values(), strict=True)]
    rows.append(["all four", round(fmean(sums), 1), round(max(sums), 1)])
    return {
        "title": "Seconds of training", "columns": ["network", "mean over seeds", "slowest seed"], "rows": rows,
        "caption": f"{data}, of one seed; choosing the epoch by validation pictures included.",
    }  # fmt: skip
