"""What a recipe of the UniDiffuser family may say: pictures, the two networks, how levels are drawn, and how pictures are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.plan import Plan
from edgekit.recipe import fill


@dataclass(frozen=True)
class Data:
    """Which pictures; see _diffusion/data.py for their splits and _unidiffuser/captions.py for their captions."""

    name: Literal["digits", "mnist", "avatars"] = "digits"


@dataclass(frozen=True)
class Network:
    """The U-Net."""

    width: int = 32  # channels at the full resolution; twice as many at half of it

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise ValueError(f"width is a multiple of 8, found {self.width}")


@dataclass(frozen=True)
class Shares:
    """How often training shows which task; the shares sum to 1. What is not named has levels drawn evenly."""

    words_given: float = 0.1  # text to image
    words_unknown: float = 0.65  # the picture alone: the hardest task, and the one that is held against a network that learns nothing else
    picture_given: float = 0.05  # image to text
    picture_unknown: float = 0.02  # the caption alone
    alike: float = 0.1  # one level for both: joint
    independent: float = 0.08

    def __post_init__(self) -> None:
        values = dataclasses.astuple(self)
        if min(values) < 0 or not math.isclose(sum(values), 1, abs_tol=1e-9):
            raise ValueError(f"shares are not negative and sum to 1, found {list(values)}, whose sum is {sum(values):g}")


ALONE = Shares(0, 1, 0, 0, 0, 0)  # of the network that learns pictures only


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Both networks are trained once a seed; the better one of pictures and captions by validation is deployed."""

    both: Plan  # of the network of pictures and captions
    alone: Plan  # of the network of the same size that learns pictures only
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    shares: Shares = field(default_factory=Shares)
    steps: int = 25  # of a picture, alone or with its caption
    words_steps: int = 10  # of a caption alone
    guidances: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)  # that are tried on validation pictures; 1 is none
    pictures: int = 1000  # made of nothing, by which the two networks are held against each other
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if min(self.steps, self.words_steps) < 1 or self.pictures < 2:
            raise ValueError(f"steps and words_steps are 1 or more and pictures 2, found {self.steps}, {self.words_steps} and {self.pictures}")
        if 1 not in self.guidances or min(self.guidances) < 0 or len(set(self.guidances)) != len(self.guidances):
            raise ValueError(f"guidances are different numbers from 0 on with 1 (none) among them, found {list(self.guidances)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
