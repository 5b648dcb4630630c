"""What a recipe of the video family may say: clips, the network, which networks are compared, and how films are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.models._fvdm.clips import FRAMES
from edgekit.models._fvdm.plans import DOUBT_MOST, Loop
from edgekit.plan import Plan
from edgekit.recipe import fill

Kind = Literal["vector", "scalar", "paper"]


@dataclass(frozen=True)
class Data:
    """Which clips; see _fvdm/clips.py for their splits."""

    name: Literal["moving_mnist", "moving_small", "emoji", "radar"] = "moving_small"
    clips: int = 1000  # of an epoch: one after the other, in an order of chance

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"clips of an epoch must be at least 1, found {self.clips}")


@dataclass(frozen=True)
class Network:
    """The U-Net, which sees all frames as channels."""

    width: int = 48  # channels at the full resolution; twice as many at half of it

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise ValueError(f"width is a multiple of 8, found {self.width}")


@dataclass(frozen=True)
class Options:
    """A recipe of this family. The network with a level per frame is deployed; `networks` are trained alike, to be compared."""

    training: Plan  # of each network
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    networks: tuple[Kind, ...] = ("vector", "scalar")  # scalar: one level for all frames; paper: PTSS, of the first seed alone
    seeds: tuple[int, ...] = (0,)
    steps: int = 10  # network calls of a film that is deployed
    overlap: int = 2  # frames that a part of a long film shares with the part before it
    # Of several the best on validation clips, 1 being none: guidance of films from nothing; of parts of long films, and the level of what they know.
    guidance: tuple[float, ...] = (1.0,)
    history: tuple[float, ...] = (1.0,)
    doubt: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")
        if self.networks[:1] != ("vector",) or len(set(self.networks)) != len(self.networks):
            raise ValueError(f"networks are vector, which is deployed, and what it is compared with, each once; found {list(self.networks)}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, found {self.steps}")
        if not 1 <= self.overlap < FRAMES:
            raise ValueError(f"overlap is from 1 to {FRAMES - 1} of the {FRAMES} frames, found {self.overlap}")
        for name, found in (("guidance", self.guidance), ("history", self.history)):
            if not found or min(found) < 1:
                raise ValueError(f"{name} names guidances of 1 (none) or more, found {list(found)}")
        if not self.doubt or min(self.doubt) < 0 or max(self.doubt) > DOUBT_MOST:
            raise ValueError(f"doubt names levels from 0 (none) to {DOUBT_MOST:g}, which known frames have in training; found {list(self.doubt)}")

    def loops(self, guidance: float) -> tuple[Loop, ...]:
        """How long films may be drawn whose openings are guided so."""
        return tuple(Loop(self.steps, self.overlap, guidance, history, doubt) for history in self.history for doubt in self.doubt)


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in ("family", "deploy")}, "recipe")
    return options
