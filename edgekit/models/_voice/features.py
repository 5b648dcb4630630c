"""What a listener takes from a voice as it goes: bands without the voice's own colour, and how pitch and loudness move.

Everything is relative to running means of the stream itself, so that a microphone, a distance and a voice's height vanish; the means
begin at those of the training voices and count for a few frames then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.models._voice.spectra import BANDS

ACTIVE = 3.5  # nats below the loudest frame, in the mean over bands: a frame below is a pause, and no part of the running means
FADE = 0.004  # nats that the loudest frame is lowered each frame: 6 dB in 3.5 s
BEGUN = 20.0  # frames that the first mean counts for
PITCH_BEGUN = 5.0
MOST = 400.0  # frames after which a mean forgets: 8 s
FIRST_HZ = 150.0
LOUD = 3.0  # nats above the mean of the training voices' frames that the loudest frame begins at: a room before anybody speaks is a pause
SIDE = 3  # numbers of the side stream: voiced, pitch in octaves above the mean, loudness in nats / 4 below the loudest


class Running(nn.Module):
    """Bands and pitch of a stream, relative to what it was so far."""

    first: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", torch.full((BANDS,), -7.0))  # the mean bands of the training voices

    def blank(self, batch: int) -> list[Tensor]:
        """States before the beginning: mean bands (N, BANDS), how many frames they count (N, 1), the mean log pitch and its count,
        the loudest frame (N, 1)."""
        one = torch.ones(batch, 1)
        return [self.first.expand(batch, BANDS).clone(), one * BEGUN, one * math.log(FIRST_HZ), one * PITCH_BEGUN, one * (self.first.mean() + LOUD)]

    def forward(self, bands: Tensor, voiced: Tensor, log_hz: Tensor, states: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """bands (N, T, BANDS), voiced and log_hz (N, T, 1) -> bands less their mean, the side stream (N, T, SIDE), the states after."""
        now = self.blank(len(bands)) if states is None else list(states)
        shown, sides = [], []
        for t in range(bands.shape[1]):
            seen, side, now = self.step(bands[:, t], voiced[:, t], log_hz[:, t], now)
            shown.append(seen)
            sides.append(side)
        return torch.stack(shown, 1), torch.stack(sides, 1), now

    def step(self, bands: Tensor, voiced: Tensor, log_hz: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One frame: bands (N, BANDS), voiced, log_hz (N, 1)."""
        mean, count, pitch, pitches, peak = states
        level = bands.mean(-1, keepdim=True)
        before, peak = peak, torch.maximum(level, peak - FADE)
        active = (level > peak - ACTIVE).to(bands.dtype)
        count = torch.clamp(count + active, max=MOST)
        mean = mean + active * (bands - mean) / count
        # A tracker finds pitches in the noise of a room too. Pauses count no more here than in the mean of the bands, and when a louder
        # frame shows that what came before was one, it counts for less by as much power.
        counted = voiced * active
        pitches = torch.clamp(pitches * (before - peak).clamp(max=0).exp() + counted, 1e-6, MOST)
        pitch = pitch + counted * (log_hz - pitch) / pitches
        side = torch.cat([voiced, voiced * (log_hz - pitch) * (1 / math.log(2)), (level - peak).clamp(min=-8) * 0.25], -1)
        return bands - mean, side, [mean, count, pitch, pitches, peak]
