"""The source-filter codec: a frame becomes a pitch token and a few codes of its spectral envelope, and these become sound again.

Pitch is a token of its own, so that the envelope's codes need not say it and a pitch can be exchanged. SoundStream's frame (causal
convolutions, residual quantiser, causal convolutions) around a synthesiser in place of transposed convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.models._voice.codec import LATENT, TOKENS, token_hz
from edgekit.models._voice.conv import ConvStack
from edgekit.models._voice.quantiser import Quantiser
from edgekit.models._voice.spectra import BANDS
from edgekit.models._voice.synthesis import HALF, TAIL, Pulses, Synthesis


class SourceFilterCodec(nn.Module):
    """16 kHz speech at 50 frames a second, each a pitch token and `levels` codes of `entries`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int = 160, levels: int = 4, entries: int = 128) -> None:
        super().__init__()
        self.follows_warps = True
        self.encoder = ConvStack(BANDS, width, LATENT, 3, (1,), around=True)
        self.quantiser = Quantiser(LATENT, levels, entries)
        self.token = nn.Embedding(TOKENS, 16)
        self.decoder = ConvStack(LATENT + 16, width, 2 * 2 * BANDS, 3, (1, 2, 4), around=True)
        self.pulses, self.synthesis = Pulses(token_hz()), Synthesis()
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("deviation", torch.ones(BANDS))

    @property
    def heard_states(self) -> list[tuple[int, int]]:
        """Tails of the encoder's convolutions."""
        return self.encoder.state_shapes

    @property
    def spoken_states(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Tails of the decoder's convolutions, the phase, the sources before, what windows still add."""
        tails = {f"spoken{i}": ("float32", (1, c, t)) for i, (c, t) in enumerate(self.decoder.state_shapes)}
        return {**tails, "phase": ("int32", (1, 1)), "sources": ("float32", (1, 2, HALF)), "tail": ("float32", (1, TAIL))}

    def encode(self, samples: Tensor, bands: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """As Codec says, from the bands alone."""
        found: tuple[Tensor, list[Tensor]] = self.encoder((bands - self.mean) / self.deviation, tails)
        return found

    def gains(self, latents: Tensor, tokens: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Latents and int64 pitch tokens (N, T) -> log gains (N, T, 2, 2 BANDS) of the subframes' pulses and noise, and the tails."""
        found, after = self.decoder(torch.cat([latents, self.token(tokens)], -1), tails)
        # Half the bands' mean: gains are of amplitude, bands of power. A new codec then begins about as loud as speech.
        base = (self.mean / 2).repeat(4) - 1.0
        return (found + base).unflatten(-1, (2, 2 * BANDS)), after

    def spoken(self, latents: Tensor, token: Tensor, before: Tensor, noise: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As Codec says."""
        *tails, phase, sources, tail = states
        gains, after = self.gains(latents[:, None], token[:, None], tails)
        pulses, phase = self.pulses(token[:, None], before, phase)
        samples, sources, tail = self.synthesis(pulses, noise, gains[:, 0], sources, tail)
        return (samples, *after, phase, sources, tail)

    def voice(self, latents: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
        """As Codec says."""
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
