"""The shape of a converter, and what is hidden while it learns: plain values, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Structure:
    """The context-aware language model and its predictor."""

    width: int = 160
    layers: int = 4
    heads: int = 4
    hidden: int = 400  # of the gated networks
    window: int = 64  # frames of the stream that are looked back over
    order: Literal["interleaved", "paired"] = "paired"  # two positions a frame, acoustic then semantic, or one
    history: bool = False  # whether the frames given out before are looked at when it runs
    foresight: float = 1.0  # weight of what is learned only while training: to say what the teacher hears in the frames to come
    pitch: Literal["carried", "predicted"] = "carried"  # the source's melody around the prompt's mean pitch, or what the model thinks likely
    predictor: Literal["discrete", "continuous"] = "continuous"  # codes by their probabilities, or latents by least squares

    def __post_init__(self) -> None:
        checks = {
            "width must be a multiple of twice the heads": self.width > 0 and self.heads > 0 and self.width % (2 * self.heads) == 0,
            "layers must be at least 1": self.layers >= 1,
            "window lies from 1 to 255 frames": 1 <= self.window <= 255,
            "foresight must be 0 (off) or more": self.foresight >= 0,
        }
        for rule, held in checks.items():
            if not held:
                raise ValueError(f"{rule}, found {getattr(self, rule.split()[0])!r}")


@dataclass(frozen=True)
class Hiding:
    """What a converter is not shown in some of the batches."""

    semantic: float = 0.03  # share of frames at which a hidden span begins; 0: none
    span: int = 10  # frames of it
    history: float = 1.0  # share of sequences without any acoustic frame before; 1 for a converter that runs without them
    frames: float = 0.25  # share of acoustic frames before that are hidden in the others
    perturbed: bool = True  # the source is another pseudo-speaker than the target

    def __post_init__(self) -> None:
        for name in ("semantic", "history", "frames"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, found {getattr(self, name)!r}")
        if self.span < 1:
            raise ValueError(f"span must be at least 1 frame, found {self.span}")
