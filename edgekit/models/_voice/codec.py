"""What a codec is to the rest: sound to a pitch token and codes of each frame, and back; frame by frame or at once, with the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from edgekit.models._voice.quantiser import Quantiser
from edgekit.models._voice.spectra import HIGH_HZ, HOP, LOW_HZ

TOKENS = 64  # of pitch: 0 unvoiced, then 63 steps of half a semitone
DELAY = HOP // 2  # samples that the output lies behind the input: what a codec may look ahead of what it gives out
LATENT = 24
Kind = Literal["source-filter", "waveform"]


class Codec(Protocol):
    """Both are torch modules. `follows_warps`: whether other bands make another voice, so that pseudo-speakers can be learned."""

    quantiser: Quantiser
    follows_warps: bool

    @property
    def heard_states(self) -> list[tuple[int, int]]:
        """(channels, columns) of what `encode` carries."""

    @property
    def spoken_states(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name -> (dtype, shape) of what `spoken` carries, for one stream."""

    def encode(self, samples: Tensor, bands: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Samples (N, T HOP) and log-mel bands (N, T, BANDS) of the same frames -> latents (N, T, LATENT), and what is carried on."""

    def voice(self, latents: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
        """Latents (N, T, LATENT), int64 tokens (N, T) and noise (N, T HOP) of unit power -> samples (N, T HOP), DELAY behind the frames."""

    def spoken(self, latents: Tensor, token: Tensor, before: Tensor, noise: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One frame: latents (1, LATENT), token (1,), the token before (1, 1), noise (1, HOP) -> samples (1, HOP), and the states after."""


def codec_of(kind: Kind, width: int, levels: int, entries: int) -> Codec:
    """A new codec."""
    from edgekit.models._voice.source_filter import SourceFilterCodec
    from edgekit.models._voice.waveform import WaveformCodec

    return SourceFilterCodec(width, levels, entries) if kind == "source-filter" else WaveformCodec(width, levels, entries)


def token_hz() -> np.ndarray:
    """The pitch of each token: float64 (TOKENS,); 0 of the unvoiced."""
    return np.concatenate([[0.0], np.geomspace(LOW_HZ, HIGH_HZ, TOKENS - 1)])


def pitch_token(voiced: Tensor, log_hz: Tensor) -> Tensor:
    """(...,) -> int64 (...,): the nearest token."""
    low, high = np.log(LOW_HZ), np.log(HIGH_HZ)
    place = ((log_hz - low) * ((TOKENS - 2) / (high - low)) + 0.5).clamp(0, TOKENS - 2).to(torch.int64) + 1
    return torch.where(voiced > 0, place, torch.zeros_like(place))
