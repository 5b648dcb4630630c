"""What a recipe of the time-shift sampler may say: pictures, the network, samplers, and the shifts among which validation chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.models._few_step_options import Data, Network
from edgekit.plan import Plan
from edgekit.recipe import fill


@dataclass(frozen=True)
class Loop:
    """A sampler to be held against itself with shifted time."""

    kind: Literal["ddim", "s-pndm", "f-pndm"] = "f-pndm"
    steps: int = 10


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Of every loop the shift is chosen on validation pictures, and reported on fresh seeds of noise."""

    teacher: Plan
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    loops: tuple[Loop, ...] = (Loop(),)  # the first one is deployed
    windows: tuple[int, ...] = (20, 40, 80)  # levels
    cutoffs: tuple[int, ...] = (300, 550, 800)  # no shift from this level on down
    mode: Literal["paper", "landing"] = "paper"  # of what is deployed; the table has both
    pictures: int = 1000  # of each figure
    noise_seeds: tuple[int, ...] = (1, 2, 3)  # fresh ones, that no choice has seen
    seed: int = 0  # of the network

    def __post_init__(self) -> None:
        if not self.loops:
            raise ValueError("loops names at least one sampler, found none")
        if not self.windows or not self.cutoffs or min(self.windows) < 2:
            raise ValueError(f"windows are of 2 levels or more, found {list(self.windows)}, and cutoffs at least one, found {list(self.cutoffs)}")
        if self.pictures < 2:
            raise ValueError(f"pictures must be at least 2, found {self.pictures}")
        if not self.noise_seeds or len(set(self.noise_seeds)) != len(self.noise_seeds) or min(self.noise_seeds) < 1:
            raise ValueError(f"noise_seeds are different whole numbers from 1 on (0 is the validation's), found {list(self.noise_seeds)}")
        if self.seed < 0:
            raise ValueError(f"seed is a whole number from 0 on, found {self.seed}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
