"""What each way of tuning gained and lost, against the student as it was and against real pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from edgekit.models._pso_options import Options

NAMES = {"student": "student as distilled", "online": "PSO, online", "offline": "PSO, offline", "naive": "diffusion loss (control)"}


@dataclass(frozen=True)
class Outcome:
    """One network of one seed on test conditions. sd: of the reward between its pictures."""

    stage: str
    seed: int
    kept_epoch: int
    epochs: int
    validation_gain: float  # in standard deviations of the student's reward, on validation conditions
    within: bool  # whether sharpness and attributes stayed within the recipe's limits there
    reward: float
    sd: float
    sharpness: float
    shown: float | None  # None where no attribute is left that was only asked for
    fid: float  # to all training pictures
    target_fid: float  # to the targets

    @property
    def label(self) -> str:
        """For people."""
        return NAMES[self.stage]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Outcome:
        """From plain values."""
        return Outcome(**data)


def tables(outcomes: Sequence[Outcome], options: Options, real: Mapping[str, float]) -> list[dict[str, Any]]:
    """The means over seeds in two tables, and every seed."""
    students = {o.seed: o for o in outcomes if o.stage == "student"}
    groups = {name: [(o, students[o.seed]) for o in outcomes if o.stage == stage] for stage, name in NAMES.items()}
    p, t = options.preference, options.targets
    other = " and the one that the targets replace" if t.show or t.folder else ""
    bounds = "between the student's and the targets'" if t.show or t.folder else "of the student's"
    asked = f" where {t.asked} is asked for" if t.asked else ""
    gained: list[list[Any]] = [[name, *(_mean(found, what) for what in GAINED.values())] for name, found in groups.items()]
    gained.append(["real pictures", round(real["reward"], 4), None, round(real["sharpness"], 4), None, None])
    gained.append(["the targets", round(real["target_reward"], 4), None, round(real["target_sharpness"], 4), None, None])
    kept: list[list[Any]] = []
    for name, found in groups.items():
        within = " ".join("yes" if o.within else "no" for o, _ in found)
        kept.append([name, *(_mean(found, what) for what in KEPT.values()), within])
    return [
        {
            "title": f"Tuned to {p.reward}{asked}, mean over seeds", "columns": ["network", *GAINED], "rows": gained,
            "caption": (
                f"{options.steps} calls with new noise between them. gain: of the mean reward, in standard deviations of the student's reward "
                f"between pictures. shown: the share of requested attributes that is shown, without the rewarded one{other}."
            ),
        },
        {
            "title": "Distances, and which epoch was kept", "columns": ["network", *KEPT, "within limits"], "rows": kept,
            "caption": (
                "Feature-FID to all training pictures, and to the targets. The kept epoch is chosen on validation conditions: the highest reward "
                f"with sharpness within {p.sharpness_within:.0%} {bounds} and attributes within {p.shown_within:.0%} of the student's; "
                "where no epoch lies within these limits, the highest reward. The control is kept at its last. "
                "within limits: of each seed, on validation."
            ),
        },
        {
            "title": "Every seed", "columns": ["network", "seed", *GAINED],
            "rows": [[o.label, o.seed, *(_mean([(o, students[o.seed])], what) for what in GAINED.values())] for o in outcomes],
            "caption": "Test conditions, as above.",
        },
    ]  # fmt: skip


What = Mapping[str, Callable[[Outcome, Outcome], float | None]]  # column -> its value, of a network and the student that it began as

GAINED: What = {
    "reward": lambda o, s: o.reward,
    "gain": lambda o, s: (o.reward - s.reward) / s.sd,
    "sharpness": lambda o, s: o.sharpness,
    "its change": lambda o, s: o.sharpness / s.sharpness - 1,
    "shown": lambda o, s: o.shown,
}
KEPT: What = {
    "feature-FID": lambda o, s: o.fid,
    "to the targets": lambda o, s: o.target_fid,
    "kept epoch": lambda o, s: o.kept_epoch,
}


def _mean(found: Sequence[tuple[Outcome, Outcome]], what: Callable[[Outcome, Outcome], float | None]) -> float | None:
    values = [value for o, s in found if (value := what(o, s)) is not None]
    return round(fmean(values), 4) if values else None
