"""The numbers of one fit, as a recipe gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MUON_REST = 0.1  # of the rate: what AdamW gets for the weights that are no hidden matrices (.01 and .001 in the study behind it)
RISE, FLAT, LAST = 0.04, 0.4, 0.02  # of "trapezoid": share of the epochs that rise, end of the flat part, last rate


@dataclass(frozen=True)
class Plan:
    """How long, how fast and by which rule weights are fitted. The learning rate changes between epochs only."""

    epochs: int
    batch_size: int  # of all processes together
    learning_rate: float  # of the first epoch
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"  # muon: hidden matrices; AdamW at a tenth of the rate for the rest
    weight_decay: float = 0.0
    momentum: float = 0.9  # of sgd
    schedule: Literal["constant", "steps", "cosine", "exponential", "trapezoid"] = "steps"
    milestones: tuple[float, ...] = (0.6, 0.8, 0.9)  # shares of the epochs; IIR-SNN divides by 5 there
    decay: float = 0.2  # factor at each milestone; with "exponential" at each epoch
    clip_norm: float = 0.0  # largest 2-norm of all gradients together; 0 = off
    patience: int = 0  # stop after so many epochs without a better validation score; 0 = off
    average: float = 0.0  # decay of a moving average of the weights, which is then validated and kept in their place; 0 = off
    precision: Literal["f32", "bf16"] = "f32"  # of convolutions and matrix products while training; weights and moments stay float32

    def __post_init__(self) -> None:
        checks = {
            "epochs must be at least 1": self.epochs >= 1,
            "batch_size must be at least 1": self.batch_size >= 1,
            "learning_rate must be above 0": 0 < self.learning_rate < math.inf,
            "weight_decay must be 0 or more": 0 <= self.weight_decay < math.inf,
            "momentum lies from 0 to below 1": 0 <= self.momentum < 1,
            "decay lies above 0, up to 1": 0 < self.decay <= 1,
            "clip_norm must be 0 (off) or more": 0 <= self.clip_norm < math.inf,
            "average lies from 0 (off) to below 1": 0 <= self.average < 1,
            "patience must be 0 (off) or more": self.patience >= 0,
            "milestones are rising shares between 0 and 1": list(self.milestones) == sorted(set(self.milestones))
            and all(0 < m < 1 for m in self.milestones),
        }
        for rule, held in checks.items():
            if not held:
                name = rule.split()[0]
                raise ValueError(f"{rule}, found {getattr(self, name)!r}")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch (1-based)."""
        done = (epoch - 1) / self.epochs
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * done)) / 2
        if self.schedule == "steps":
            # 1e-9: 0.6 of 5 epochs is 3 epochs, also in binary fractions
            return self.learning_rate * self.decay ** sum(done >= m - 1e-9 for m in self.milestones)
        if self.schedule == "exponential":
            return self.learning_rate * self.decay ** (epoch - 1)
        if self.schedule == "trapezoid":
            middle = (epoch - 0.5) / self.epochs  # rises and falls within an epoch are taken at its middle
            falling = 1 - (1 - LAST) * (middle - FLAT) / (1 - FLAT)
            return self.learning_rate * min(1.0, middle / RISE, falling)
        return self.learning_rate
