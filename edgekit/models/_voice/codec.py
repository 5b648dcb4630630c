"""The source-filter codec: a frame becomes a pitch token and a few codes of its spectral envelope, and these become sound again.

Pitch is a token of its own, so that the envelope's codes need not say it and a pitch can be exchanged. SoundStream's frame (causal
convolutions, residual quantiser, causal convolutions) around a synthesiser in place of transposed convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.models._voice.conv import ConvStack
from edgekit.models._voice.quantiser import Quantiser
from edgekit.models._voice.spectra import BANDS, HIGH_HZ, LOW_HZ, Pitch, Spectrum
from edgekit.models._voice.synthesis import HALF, Pulses, Synthesis

TOKENS = 64  # of pitch: 0 unvoiced, then 63 steps of half a semitone
DELAY = HALF  # samples that the output lies behind the input
LATENT = 24


def token_hz() -> np.ndarray:
    """The pitch of each token: float64 (TOKENS,); 0 of the unvoiced."""
    return np.concatenate([[0.0], np.geomspace(LOW_HZ, HIGH_HZ, TOKENS - 1)])


def pitch_token(voiced: Tensor, log_hz: Tensor) -> Tensor:
    """(...,) -> int64 (...,): the nearest token."""
    low, high = np.log(LOW_HZ), np.log(HIGH_HZ)
    place = ((log_hz - low) * ((TOKENS - 2) / (high - low)) + 0.5).clamp(0, TOKENS - 2).to(torch.int64) + 1
    return torch.where(voiced > 0, place, torch.zeros_like(place))


class SourceFilterCodec(nn.Module):
    """16 kHz speech at 50 frames a second, each a pitch token and `levels` codes of `entries`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int = 160, levels: int = 4, entries: int = 128) -> None:
        super().__init__()
        self.spectrum, self.pitch = Spectrum(), Pitch()
        self.encoder = ConvStack(BANDS, width, LATENT, 3, (1,))
        self.quantiser = Quantiser(LATENT, levels, entries)
        self.token = nn.Embedding(TOKENS, 16)
        self.decoder = ConvStack(LATENT + 16, width, 2 * 2 * BANDS, 3, (1, 2, 4))
        self.pulses, self.synthesis = Pulses(token_hz()), Synthesis()
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("deviation", torch.ones(BANDS))

    def encode(self, bands: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Log-mel bands (N, T, BANDS) -> latents (N, T, LATENT), and the tails for what follows."""
        found: tuple[Tensor, list[Tensor]] = self.encoder((bands - self.mean) / self.deviation, tails)
        return found

    def gains(self, latents: Tensor, tokens: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Latents and int64 pitch tokens (N, T) -> log gains (N, T, 2, 2 BANDS) of the subframes' pulses and noise, and the tails."""
        found, after = self.decoder(torch.cat([latents, self.token(tokens)], -1), tails)
        # Half the bands' mean: gains are of amplitude, bands of power. A new codec then begins about as loud as speech.
        base = (self.mean / 2).repeat(4) - 1.0
        return (found + base).unflatten(-1, (2, 2 * BANDS)), after

    def voice(self, latents: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
        """Latents, tokens (N, T) and noise (N, T HOP) of unit power -> samples (N, T HOP), DELAY behind the frames."""
        gains, _ = self.gains(latents, tokens)
        return self.synthesis.whole(self.excitation(tokens), noise, gains)

    @torch.no_grad()
    def excitation(self, tokens: Tensor) -> Tensor:
        """int64 (N, T) -> the pulses (N, T HOP), from phase 0 on."""
        phase, before, found = torch.zeros(len(tokens), 1, dtype=torch.int32), torch.zeros_like(tokens[:, :1]), []
        for t in range(tokens.shape[1]):
            pulses, phase = self.pulses(tokens[:, t : t + 1], before, phase)
            before = tokens[:, t : t + 1]
            found.append(pulses)
        return torch.cat(found, 1)
