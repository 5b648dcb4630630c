"""What a recipe of pairwise sample optimisation may say: pictures, the student that it starts from, what is preferred, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.models._diffusion.targets import Targets
from edgekit.models._few_step_options import Data, Network
from edgekit.plan import Plan
from edgekit.recipe import fill


@dataclass(frozen=True)
class Preference:
    """What is preferred and how strongly the student is moved."""

    reward: str = "ink"  # or symmetry, likeness to the targets, or HEAD=VALUE of the pictures' conditions
    pairs: int = 64  # trajectories of an epoch are two for each pair
    beta_online: float = 50.0  # as released
    beta_offline: float = 20.0
    sharpness_within: float = 0.10  # of the student's: an epoch whose pictures lie outside is not kept
    shown_within: float = 0.03  # other attributes than the rewarded and the asked one may be shown less by so much at most

    def __post_init__(self) -> None:
        checks = {
            "pairs must be at least 1": self.pairs >= 1,
            "beta_online must be above 0": self.beta_online > 0,
            "beta_offline must be above 0": self.beta_offline > 0,
            "sharpness_within must be above 0": self.sharpness_within > 0,
            "shown_within must be above 0": self.shown_within > 0,
        }
        for rule, held in checks.items():
            if not held:
                raise ValueError(f"{rule}, found {getattr(self, rule.split()[0])!r}")


@dataclass(frozen=True)
class Options:
    """A recipe of this family. The student of `steps` calls is tuned three ways, online, offline and naively; one is deployed."""

    teacher: Plan
    consistency: Plan  # from the teacher, to the student that is tuned
    online: Plan
    offline: Plan  # also of the naive control: the same number of updates
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    preference: Preference = field(default_factory=Preference)
    targets: Targets = field(default_factory=Targets)  # what offline and naive tuning learn from
    guidance: float = 1.0  # of the teacher that the student learns from; 1 is none
    steps: int = 4
    seeds: tuple[int, ...] = (0,)
    deploy_form: Literal["online", "offline", "student"] = "online"

    def __post_init__(self) -> None:
        if self.guidance < 1:
            raise ValueError(f"guidance must be 1 (none) or more, found {self.guidance}")
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2: the last one draws nothing and cannot learn, found {self.steps}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
