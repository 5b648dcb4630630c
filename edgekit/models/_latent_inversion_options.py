"""What a recipe of latent inversion may say: pictures, the network, how pictures are inverted and edited, and a picture of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.models._few_step_options import Data, Network
from edgekit.plan import Plan
from edgekit.recipe import fill


@dataclass(frozen=True)
class Inversion:
    """How a picture is taken up to noise and led down again. Of a tuple validation edits choose one value."""

    steps: int = 25  # of DDIM, each way
    guidance: tuple[float, ...] = (3.0, 4.0, 5.0)  # 1 is none
    switch: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6)  # share of the steps that still have the source's text
    keep: tuple[float, ...] = (0.0, 0.5)  # factor of the stored offsets once the target's text is given
    blend: tuple[float, ...] = (1.0, 0.8)  # share of the target's text in what is given then; the rest is the optimised text
    text_updates: int = 40  # of the source's text; 0: as the network learned it
    text_rate: float = 0.03
    null_updates: int = 10  # of the empty text in every step, at most
    null_rate: float = 0.1  # falls to 0 with the level

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, found {self.steps}")
        for name, low, high in (("guidance", 1, 100), ("switch", 0, 1), ("keep", 0, 1), ("blend", 0, 1)):
            found = getattr(self, name)
            if not found or min(found) < low or max(found) > high:
                raise ValueError(f"{name} is one or more numbers from {low} to {high}, found {list(found)}")
        if self.text_updates < 0 or self.null_updates < 0 or self.text_rate <= 0 or self.null_rate <= 0:
            raise ValueError("text_updates and null_updates are 0 or more, text_rate and null_rate above 0")


@dataclass(frozen=True)
class Edits:
    """Which edits are judged: of every picture one head of its conditions gets another value."""

    heads: tuple[str, ...] = ()  # that may change; (): any
    validation: int = 60  # edits that choices are made by
    test: int = 100  # edits that are reported
    deployed: int = 50  # of the reported ones, those that lie prepared in the bundle
    accepted: float = 0.85  # share that a choice must reach on validation, by a classifier that reports nothing

    def __post_init__(self) -> None:
        if min(self.validation, self.test, self.deployed) < 2 or self.deployed > self.test:
            raise ValueError(
                f"validation, test and deployed are 2 edits or more, deployed at most test; found {self.validation}, {self.test}, {self.deployed}"
            )
        if not 0 < self.accepted <= 1:
            raise ValueError(f"accepted is a share above 0, up to 1, found {self.accepted}")


@dataclass(frozen=True)
class Own:
    """A picture of the user's own that is prepared and deployed in place of the held-out ones."""

    picture: str = ""  # a PNG, JPEG or WebP file; empty: none
    shows: tuple[str, ...] = ()  # HEAD=VALUE of what it shows; the heads that are left out are told by a classifier
    to: tuple[str, ...] = ()  # HEAD=VALUE of each edit; (): every other value of every head that may change

    def __post_init__(self) -> None:
        if (self.shows or self.to) and not self.picture:
            raise ValueError("picture must name a file where shows or to is given, found ''")


@dataclass(frozen=True)
class Options:
    """A recipe of this family: a network a seed, one choice of how to edit over all of them; the best seed's edits are deployed."""

    teacher: Plan
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    inversion: Inversion = field(default_factory=Inversion)
    edits: Edits = field(default_factory=Edits)
    edit: Own = field(default_factory=Own)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
