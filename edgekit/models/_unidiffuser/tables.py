"""What a network of pictures and captions reached, with each guidance and without anything given, and the tables that say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from edgekit.models._unidiffuser.plans import Kind

CHOSEN_FOR: Mapping[Kind, str] = {"text-to-image": "image", "image-to-text": "text", "joint": "pair"}  # kind -> the figure of Found that decides


@dataclass(frozen=True)
class Found:
    """Of one part of the pictures: shares of words, and feature distances to the training pictures."""

    image: float  # pictures made from captions show the words
    image_fid: float
    text: float  # captions made from pictures name what they show
    pair: float  # pictures and captions made together agree
    pair_fid: float


@dataclass(frozen=True)
class Guided:
    """One network with one guidance."""

    seed: int
    guidance: float
    validation: Found  # said by the chooser
    test: Found  # said by the judge

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Guided:
        """From plain values."""
        return Guided(**{**data, "validation": Found(**data["validation"]), "test": Found(**data["test"])})


@dataclass(frozen=True)
class Free:
    """What one seed's networks make of nothing, and of what they made."""

    seed: int
    both: float  # feature distance of pictures of the network of both
    alone: float  # of the network that learned pictures only
    words_apart: float  # half the summed differences between how often words are said and how often they are learned, the mean over places
    image_kept: float  # an image's variation still shows its words
    text_kept: float  # words of a text's variation are those given


def chosen(every: Sequence[Guided], kind: Kind) -> float:
    """The lowest guidance that is within a hundredth of the best on validation pictures, in the mean over seeds."""
    by: dict[float, float] = {}
    for g in sorted({g.guidance for g in every}):
        by[g] = fmean(getattr(e.validation, CHOSEN_FOR[kind]) for e in every if e.guidance == g)
    return min(g for g, share in by.items() if share >= max(by.values()) - 0.01)


def tables(  # noqa: PLR0913 - all that the tables say
    every: Sequence[Guided], free: Sequence[Free], floor: float, real: float, guidance: Mapping[Kind, float],
    seconds: Mapping[str, list[float]], count: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """floor: feature distance of `count` real held-out pictures, drawn at random; real: share of words that the judge sees in held-out pictures."""
    return [_summary(every, free, guidance), _by_guidance(every, real, guidance), _free(free, floor, count), _by_stage(seconds)]


def _summary(every: Sequence[Guided], free: Sequence[Free], guidance: Mapping[Kind, float]) -> dict[str, Any]:
    def of(kind: Kind, at: float) -> list[float]:
        return [getattr(e.test, CHOSEN_FOR[kind]) for e in every if e.guidance == at]

    names = {"text-to-image": "text to image: judged right", "image-to-text": "image to text: words right", "joint": "both together: they agree"}
    wanted = {"text-to-image": ">= 0.90", "image-to-text": ">= 0.85", "joint": ">= 0.85"}
    rows: list[list[Any]] = []
    for kind, words in names.items():
        found, without = of(kind, guidance[kind]), of(kind, 1.0)  # type: ignore[index, arg-type]
        rows.append([words, f"{guidance[kind]:g}", *_mean(found, 4), round(fmean(without), 4), wanted[kind]])  # type: ignore[index]
    rows.append(["image: distance, times that of pictures alone", "", *_mean([f.both / f.alone for f in free], 3), None, "<= 1.5"])
    rows.append(["image variation: words kept", "", *_mean([f.image_kept for f in free], 4), None, None])
    rows.append(["text variation: words kept", "", *_mean([f.text_kept for f in free], 4), None, None])
    return {
        "title": "The tasks on held-out pictures", "rows": rows,
        "columns": ["task", "guidance", "mean over seeds", "sd", "without guidance", "wanted"],
        "caption": "Shares of words. The judge learned on real pictures only; guidance was chosen on validation pictures by another network.",
    }  # fmt: skip


def _by_guidance(every: Sequence[Guided], real: float, guidance: Mapping[Kind, float]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for at in sorted({e.guidance for e in every}):
        some = [e.test for e in every if e.guidance == at]
        means = [round(fmean(getattr(f, n.name) for f in some), 4) for n in dataclasses.fields(Found)]
        rows.append([f"{at:g}", *means, ", ".join(k for k, g in guidance.items() if g == at)])
    return {
        "title": "By guidance, mean over seeds",
        "columns": ["guidance", "text to image", "its feature-FID", "image to text", "joint", "its feature-FID", "chosen for"], "rows": rows,
        "caption": f"Test pictures. 1 is no guidance. In real held-out pictures the judge sees {real:.4f} of the words.",
    }  # fmt: skip


def _free(free: Sequence[Free], floor: float, count: int) -> dict[str, Any]:
    rows: list[list[Any]] = [[f"seed {f.seed}", *(round(v, 3) for v in (f.both, f.alone, f.both / f.alone, f.words_apart))] for f in free]
    means = [fmean(getattr(f, n) for f in free) for n in ("both", "alone", "words_apart")]
    rows.append(["mean", round(means[0], 3), round(means[1], 3), round(means[0] / means[1], 3), round(means[2], 3)])
    return {
        "title": "Made of nothing", "columns": ["", "both: feature-FID", "pictures alone", "ratio", "words: apart"], "rows": rows,
        "caption": (
            f"{count} pictures by each network; as many real held-out ones, drawn at random, lie at {floor:.3f}. 'Pictures alone' has the same size. "
            "apart: half the summed differences between the shares of words said and of those in the training captions; 0 is the same."
        ),
    }  # fmt: skip


def _by_stage(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    names = {"both": "pictures and captions", "alone": "pictures alone"}
    return {
        "title": "Seconds of training", "columns": ["network", "mean over seeds", "slowest seed"],
        "rows": [[names[stage], round(fmean(found), 1), round(max(found), 1)] for stage, found in seconds.items()],
        "caption": "Of one seed, by the clock of a machine that others used too.",
    }  # fmt: skip


def _mean(values: list[float], digits: int) -> tuple[float, float | None]:
    return round(fmean(values), digits), round(stdev(values), digits) if len(values) > 1 else None
