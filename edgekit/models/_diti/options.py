"""What a recipe of the DiTi family may say: pictures, the base, the codes that are held side by side, probes and swaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.plan import Plan
from edgekit.recipe import fill

NOT_OPTIONS = ("family", "deploy", "probe")  # of a stored recipe


@dataclass(frozen=True)
class Data:
    """Which pictures; see _diffusion/data.py for their splits."""

    name: Literal["digits", "mnist", "avatars", "emoji"] = "avatars"


@dataclass(frozen=True)
class Network:
    """Channels of the networks, and the code."""

    width: int = 32  # of the base at the full resolution; twice as many at half of it
    encoder: int = 32  # of the encoder's first convolution; twice and three times as many follow
    shift: int = 24  # of what is added to the base's answer
    groups: tuple[int, ...] = (2, 2, 14, 14)  # numbers of each group of the code, fine ones first
    rule: Literal["base", "stop", "dual"] = "stop"  # which visible numbers learn at a level: all; those of its own group; both losses' mean
    noise: float = 0.0  # deviation of what is added to each number while it learns, where a group has deviation 1
    begin: Literal["nothing", "pdae"] = "nothing"  # the weights that DiTi starts from: new ones, or those learned without a mask

    def __post_init__(self) -> None:
        for name in ("width", "encoder", "shift"):
            if (found := getattr(self, name)) < 8 or found % 8:
                raise ValueError(f"{name} is a multiple of 8, found {found}")
        if not 0 <= self.noise < 1:
            raise ValueError(f"noise lies from 0 to below 1, found {self.noise}")
        if len(self.groups) < 2 or min(self.groups) < 1:
            raise ValueError(f"groups are the widths of at least 2 groups, each 1 or more, found {list(self.groups)}")


@dataclass(frozen=True)
class Probes:
    """Linear probes on few labels."""

    labels: tuple[int, ...] = (50, 200, 1000)  # of training pictures
    draws: int = 5  # of labels

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < 10 or list(self.labels) != sorted(set(self.labels)):
            raise ValueError(f"labels are rising numbers from 10 on, found {list(self.labels)}")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, found {self.draws}")


@dataclass(frozen=True)
class Swaps:
    """Groups of numbers that are taken over from another picture."""

    pairs: int = 200
    steps: int = 20  # of the way up to noise, and of the way down again

    def __post_init__(self) -> None:
        if self.pairs < 10 or self.steps < 2:
            raise ValueError(f"swaps need at least 10 pairs and 2 steps, found {self.pairs} and {self.steps}")


@dataclass(frozen=True)
class Options:
    """A recipe of this family. Every stage is trained once a seed; the seed whose code does best on validation pictures is deployed."""

    base: Plan  # the denoiser, without labels
    diti: Plan
    pdae: Plan  # the control without a mask
    autoencoder: Plan  # the control without a base; as long as diti, in seconds
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    probes: Probes = field(default_factory=Probes)
    swaps: Swaps = field(default_factory=Swaps)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different whole numbers from 0 on, found {list(self.seeds)}")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    options: Options = fill(Options, {k: v for k, v in recipe.items() if k not in NOT_OPTIONS}, "recipe")
    return options
