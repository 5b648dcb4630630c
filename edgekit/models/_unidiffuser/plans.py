"""The tasks of one network as tables: which level picture and caption are at in each call, and how they get to the next one.

x0 is guessed as a x - b v and clamped, a caption's codes are guessed by their probabilities; then next = P guess + Q now, which is DDIM's
step (Song et al., ICLR 2021, eq. 12 with eta 0), with Q = b' / b and P = a' - a Q. What is given stays as it is: P = 0, Q = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.models._diffusion.schedule import LEVELS, noise, signal

Kind = Literal["text-to-image", "image-to-text", "joint", "image", "text"]
KINDS: tuple[Kind, ...] = ("text-to-image", "image-to-text", "joint", "image", "text")
MADE: Mapping[Kind, tuple[bool, bool]] = {  # whether the picture is made, and the caption
    "text-to-image": (True, False), "image-to-text": (False, True), "joint": (True, True), "image": (True, False), "text": (False, True),
}  # fmt: skip
KEPT_AT: Mapping[Kind, float] = {"text-to-image": 0, "image-to-text": 0, "image": LEVELS, "text": LEVELS}  # the level of what is not made
ROWS = ("level", "coefficients", "guidance")
PICTURE, CAPTION = 0, 1  # places of the two in a row


@dataclass(frozen=True)
class Walk:
    """One way from noise to a picture, a caption or both. guidance: of what is made; 1 is none, 0 forgets what is given."""

    kind: Kind
    steps: int
    guidance: float = 1.0

    @property
    def guided(self) -> bool:
        """Whether a picture is made that needs both answers of the network."""
        return self.guidance != 1 and MADE[self.kind][PICTURE]


def rows(walk: Walk) -> dict[str, np.ndarray]:
    """float32: level (S, 2), coefficients (S, 2, 4) = a, b, P, Q, guidance (S, 2); of the picture at first, then of the caption."""
    falling = np.linspace(LEVELS, 0, walk.steps + 1)
    level, coefficients = np.empty((walk.steps, 2)), np.empty((walk.steps, 2, 4))
    for i, made in enumerate(MADE[walk.kind]):
        now, then = (falling[:-1], falling[1:]) if made else (np.full(walk.steps, KEPT_AT[walk.kind]),) * 2
        a, b = signal(now), noise(now)
        share = noise(then) / np.where(b > 0, b, 1) if made else np.ones_like(b)
        level[:, i] = now
        coefficients[:, i] = np.stack([a, b, signal(then) - a * share if made else np.zeros_like(a), share], 1)
    # What is given is drawn without guidance, which changes nothing, for it is kept as it is.
    guidance = np.broadcast_to(np.where(MADE[walk.kind], walk.guidance, 1.0), (walk.steps, 2))
    return {n: np.ascontiguousarray(v, np.float32) for n, v in zip(ROWS, (level, coefficients, guidance), strict=True)}
