"""What a recipe of the few-step family may say: pictures, the teacher, its three students, and what is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.plan import Plan
from edgekit.recipe import fill


@dataclass(frozen=True)
class Data:
    """Which pictures; see _diffusion/data.py for their splits."""

    name: Literal["digits", "mnist", "avatars", "emoji"] = "digits"


@dataclass(frozen=True)
class Network:
    """The U-Net of teacher and students."""

    width: int = 48  # channels at the full resolution; twice as many at half of it

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise ValueError(f"width is a multiple of 8, found {self.width}")


@dataclass(frozen=True)
class Students:
    """How each student is trained; an epoch is one pass over the training pictures. Each starts from what is named before it."""

    consistency: Plan  # from the teacher: 4 calls
    matching: Plan  # from the consistency student: 2 calls. A third of its updates are the student's
    shortcut: Plan  # from the teacher: 1 call


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Teacher and students are trained once a seed; the best student by validation is deployed."""

    teacher: Plan
    students: Students
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    guidance: float = 1.5  # of the teacher that students learn from; 1 is none
    seeds: tuple[int, ...] = (0,)
    calls: Literal[1, 2, 4] = 4  # of the student that `edgekit deploy` takes; the others lie beside it

    def __post_init__(self) -> None:
        if self.guidance < 1:
            raise ValueError(f"guidance must be 1 (none) or more, found {self.guidance}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
