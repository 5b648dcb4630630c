"""What one network reached: its films from known frames against what really followed, from nothing, between two frames, and without end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgekit.models._diffusion.net import UNet
from edgekit.models._fvdm import bars
from edgekit.models._fvdm.clips import FRAMES, Clips, ClipSplit
from edgekit.models._fvdm.film import draw_films, long_films, replaced_films
from edgekit.models._fvdm.frames import FrameYardstick
from edgekit.models._fvdm.options import Kind
from edgekit.models._fvdm.plans import ENDS, PAIR, FilmPlan, Loop

CALLS = (1, 4, 10)  # network calls of a film
VALIDATION_SEED, TEST_SEED = 1000, 2000  # of the noise: nobody chooses by the test's
LONG_FRAMES, LONG_FILMS, LONG_ENDS = 128, 48, 16  # of the test of long films: frames, films, frames at either end that are compared
CHOOSE = 250  # validation clips at most, by which is chosen how known frames are given, and which seed is deployed
WAYS: Mapping[Kind, tuple[str, ...]] = {"vector": ("own levels",), "paper": ("own levels",), "scalar": ("held", "replaced")}
MADE_SO = {"calls": CALLS, "seeds": [VALIDATION_SEED, TEST_SEED], "choose": CHOOSE}
LONG_SO = {"seed": TEST_SEED, "long": [LONG_FRAMES, LONG_FILMS, LONG_ENDS], "told": True}
LONG_CHOOSE = 24  # long films of validation clips, by which guidance is chosen


@dataclass(frozen=True)
class Outcome:
    """One network and seed. Errors are mean squared errors of the frames that are not known, shares of what copying (continuation) or
    blending (between) has. `way`: how known frames are given; of two ways the better one on validation clips, at each number of calls."""

    kind: Kind
    seed: int
    validation: dict[str, float]  # calls -> share on validation clips, two frames known
    way: dict[str, str]  # calls -> the chosen way
    continuation: dict[str, float]  # calls -> share on test clips
    by_frame: list[float]  # shares of each frame after the most calls, against copying at that frame; 0 of known ones
    between: dict[str, float]  # calls -> share of linear blending, on test clips
    guidance: float  # of films from nothing, the best on validation clips
    fid: float  # of frames of films from nothing, with the most calls
    shown: float  # share of those films that show what was asked
    energy: float  # of motion

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def outcome_of(  # noqa: PLR0913, PLR0917 - what is tested, on what, and by what
    kind: Kind, seed: int, net: UNet, split: ClipSplit, yardstick: FrameYardstick, guidances: Sequence[float]
) -> Outcome:
    """Every figure of a network; test clips are looked at with what was chosen on validation clips."""
    most, choose = str(CALLS[-1]), split.validation.first(CHOOSE)
    chosen: dict[str, dict[str, float]] = {str(calls): {} for calls in CALLS}
    for calls in CALLS:
        for way in WAYS[kind]:
            films = continued(net, way, calls, choose, PAIR, VALIDATION_SEED)
            chosen[str(calls)][way] = _share_of_copy(films, choose.pixels())
    ways = {calls: min(found, key=lambda w: found[w]) for calls, found in chosen.items()}
    real, noise = split.test.pixels(), TEST_SEED + seed
    after = {calls: continued(net, way, int(calls), split.test, PAIR, noise) for calls, way in ways.items()}
    ends = {calls: continued(net, way, int(calls), split.test, ENDS, noise) for calls, way in ways.items()}
    blend = bars.error(bars.blended(real), real, ENDS)
    copy = bars.frame_errors(bars.copied(real, PAIR[-1]), real)
    guidance = min(guidances, key=lambda g: yardstick.distance(_from_nothing(net, choose, g, VALIDATION_SEED)) if len(guidances) > 1 else 0)
    free = _from_nothing(net, split.test, guidance, noise)
    return Outcome(
        kind, seed, validation={calls: found[ways[calls]] for calls, found in chosen.items()}, way=ways,
        continuation={calls: _share_of_copy(films, real) for calls, films in after.items()},
        by_frame=[float(e / c) if f not in PAIR else 0.0 for f, (e, c) in enumerate(zip(bars.frame_errors(after[most], real), copy, strict=True))],
        between={calls: bars.error(films, real, ENDS) / blend for calls, films in ends.items()},
        guidance=guidance, fid=yardstick.distance(free), energy=bars.energy(free),
        shown=float((yardstick.told(free) == split.test.conditions[:, 0]).mean()),
    )  # fmt: skip


def _from_nothing(net: UNet, part: Clips, guidance: float, seed: int) -> np.ndarray:
    """Films of the most calls, asked for what a part's clips show."""
    plan = FilmPlan(CALLS[-1], told=True, guidance=guidance)
    made: np.ndarray = draw_films(net, plan, None, torch.from_numpy(part.conditions), seed).numpy().clip(-1, 1)
    return made


def continued(net: UNet, way: str, calls: int, part: Clips, known: tuple[int, ...], seed: int) -> np.ndarray:
    """Films of a part's clips whose frames `known` are given, clipped to -1..1."""
    films, nothing = torch.from_numpy(part.pixels()), torch.full((len(part), 1), len(part.values))
    if way == "replaced":
        made = replaced_films(net, calls, known, films, nothing, seed)
    else:
        made = draw_films(net, FilmPlan(calls, known, one_level=way == "held"), films, nothing, seed)
    found: np.ndarray = made.numpy().clip(-1, 1)
    return found


def long_statistics(net: UNet, part: Clips, yardstick: FrameYardstick, loop: Loop, seed: int) -> dict[str, float]:
    """Of LONG_FILMS films of LONG_FRAMES frames, drawn as they are deployed: figures of the first and the last
    LONG_ENDS frames of all films together. apart: length of the difference of the mean features over the length of the first; variance:
    trace of the features' covariance; ink: mean of (x + 1) / 2; motion: mean absolute difference of neighbouring frames; same: share of
    films whose last frames show what the first ones do, to the feature network; asked: of the films whose last frames show what was asked for."""
    count = min(LONG_FILMS, len(part))
    ticks = -(-(LONG_FRAMES - FRAMES) // (FRAMES - loop.overlap))
    opening, after = long_films(net, loop, torch.from_numpy(part.conditions[:count]), ticks, seed)
    films = torch.cat([opening, after], 1)[:, :LONG_FRAMES].numpy().clip(-1, 1)
    first, last = films[:, :LONG_ENDS], films[:, -LONG_ENDS:]
    features = {name: yardstick.features(piece) for name, piece in (("first", first), ("last", last))}
    means = {name: f.mean(0) for name, f in features.items()}
    found = {
        "apart": float(np.linalg.norm(means["last"] - means["first"]) / np.linalg.norm(means["first"])),
        "same": float((yardstick.told(first) == yardstick.told(last)).mean()),
        "asked": float((yardstick.told(last) == part.conditions[:count, 0]).mean()),
    }
    for name, piece in (("first", first), ("last", last)):
        found |= {
            f"variance {name}": float(features[name].var(0).sum()), f"ink {name}": float((piece.astype(np.float64) + 1).mean() / 2),
            f"motion {name}": bars.energy(piece),
        }  # fmt: skip
    return found


def worst_change(found: Mapping[str, float]) -> float:
    """The largest relative change of any figure of long_statistics from the first frames to the last."""
    return max(found["apart"], *(abs(found[f"{what} last"] / found[f"{what} first"] - 1) for what in ("variance", "ink", "motion")))


def _share_of_copy(films: np.ndarray, real: np.ndarray) -> float:
    return bars.error(films, real, PAIR) / bars.error(bars.copied(real, PAIR[-1]), real, PAIR)
