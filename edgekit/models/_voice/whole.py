"""A whole recording converted in torch at once: what the stream of graphs is held against, and what choices are made with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.models._voice.codec import DELAY as CODEC_DELAY
from edgekit.models._voice.codec import TOKENS, Codec, pitch_token
from edgekit.models._voice.converter import LOG_HZ, PROMPT, Converter
from edgekit.models._voice.deploy import DELAY, HISS, PITCH_NOISE, QUIET, SEED, gumbel_of
from edgekit.models._voice.features import Running
from edgekit.models._voice.language import PERIOD
from edgekit.models._voice.semantic import LOOK_AHEAD, SemanticEncoder
from edgekit.models._voice.spectra import HOP, Pitch, Spectrum, windows
from edgekit.noise import draw


@dataclass(frozen=True)
class Voice:
    """What is kept of a recording of the target voice."""

    said: Tensor  # (1, P, SEMANTIC + SIDE)
    latents: Tensor  # (1, P, LATENT)
    tokens: Tensor  # int64 (1, P)


class Whole:
    """Trained networks over whole recordings: float32 (n,) at 16 kHz."""

    def __init__(
        self, running: Running, encoder: SemanticEncoder, codec: Codec, converter: Converter, temperature: float = 0.0
    ) -> None:  # fmt: skip
        self.spectrum, self.pitch = Spectrum(), Pitch()
        self.running, self.encoder, self.codec, self.converter, self.temperature = running, encoder, codec, converter, temperature

    @torch.no_grad()
    def measured(self, samples: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Bands (1, T, BANDS), voiced and log pitch (1, T, 1) of the frames, the last one filled with zeros."""
        seen = windows(_filled(samples))
        return (self.spectrum(seen), *self.pitch(seen))

    @torch.no_grad()
    def said(self, samples: np.ndarray) -> Tensor:
        """What the language model is told in each frame of the stream (1, T, SEMANTIC + SIDE): vector t, side stream of t - LOOK_AHEAD."""
        relative, side, _ = self.running(*self.measured(samples))
        vectors, _ = self.encoder(relative)
        quiet = torch.tensor(QUIET).expand(1, LOOK_AHEAD, -1)
        return torch.cat([vectors, torch.cat([quiet, side], 1)[:, : side.shape[1]]], -1)

    @torch.no_grad()
    def voice(self, samples: np.ndarray) -> Voice:
        """A recording of the target voice, LOOK_AHEAD frames late as the preparation gives it."""
        bands, voiced, log_hz = self.measured(samples)
        latents, _ = self.codec.encode(_filled(samples), bands)
        tokens = pitch_token(voiced[..., 0], log_hz[..., 0])
        late = F.pad(latents, (0, 0, LOOK_AHEAD, 0))[:, : latents.shape[1]]
        return Voice(self.said(samples), late, F.pad(tokens, (LOOK_AHEAD, 0))[:, : tokens.shape[1]])

    @torch.no_grad()
    def decided(self, voice: Voice, said: Tensor, seed: int = SEED) -> tuple[Tensor, Tensor, Tensor]:
        """Pitch tokens (1, T), codes (1, T, levels) and latents (1, T, LATENT) of every frame of the stream."""
        net = self.converter
        pooled = net.pooled_of(voice.latents, voice.tokens, voice.said)
        rows = LOOK_AHEAD + torch.arange(PROMPT) % (voice.said.shape[1] - LOOK_AHEAD)
        prompt = net.prompt(voice.said[:, rows], voice.latents[:, rows], voice.tokens[:, rows], pooled)
        count, heard = said.shape[1], net.semantic(said)
        if not net.structure.history:
            states = net.trunk(net.inputs(heard, net.masked[1].expand(1, count, -1), pooled), prompt)[:, net.positions - 1 :: net.positions]
            return self._predicted(states[0], pooled, said[0], range(count), seed)
        # Frame by frame, each told the ones before.
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        s, before = net.structure, net.acoustics(torch.zeros(1, 1, voice.latents.shape[2]), torch.zeros(1, 1, dtype=torch.int64), pooled)
        keys = torch.zeros(s.layers, 1, s.heads, net.trunk.window, s.width // s.heads)
        values, position, filled = keys.clone(), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        for t in range(count):
            x = net.inputs(heard[:, t : t + 1], before, pooled)
            states, keys, values = net.trunk.step(x, prompt, keys, values, position % PERIOD, filled)
            position, filled = position + net.positions, (filled + net.positions).clamp(max=net.trunk.window)
            found.append(self._predicted(states[:, -1], pooled, said[:, t], range(t, t + 1), seed))
            before = net.acoustics(found[-1][2], found[-1][0], pooled)
        tokens, codes, latents = (torch.cat(f, 1) for f in zip(*found, strict=True))
        return tokens, codes, latents

    def _predicted(self, states: Tensor, pooled: Tensor, said: Tensor, frames: range, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        net = self.converter
        width = TOKENS + net.predictor.books[:, :, 0].numel()
        noise = torch.zeros(len(frames), width)
        if self.temperature:
            uniform = torch.from_numpy(np.concatenate([draw("uniform", (1, width), seed, PITCH_NOISE, chunk=t) for t in frames]))
            noise = gumbel_of(uniform)
        return tuple(x[None] for x in net.predictor(states, pooled, said, noise, self.temperature))

    @torch.no_grad()
    def sounded(self, latents: Tensor, tokens: Tensor, seed: int = SEED) -> np.ndarray:
        """Latents (1, T, LATENT) and tokens (1, T) as samples float32 (T HOP,), CODEC_DELAY behind them."""
        hiss = np.concatenate([draw("normal", (HOP,), seed, HISS, chunk=t) for t in range(latents.shape[1])])
        found: np.ndarray = self.codec.voice(latents, tokens, torch.from_numpy(hiss)[None])[0].numpy()
        return found

    def stream(self, voice: Voice, samples: np.ndarray, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
        """What the deployed stream gives: samples, DELAY behind the input, and codes int64 (T, 1 + levels) with the pitch token first."""
        tokens, codes, latents = self.decided(voice, self.said(samples), seed)
        return self.sounded(latents, tokens, seed), torch.cat([tokens[..., None], codes], -1)[0].numpy()

    def convert(self, voice: Voice, samples: np.ndarray, seed: int = SEED) -> np.ndarray:
        """Samples float32 (n,), as long as those given and in time with them."""
        late = np.concatenate([samples, np.zeros(DELAY, np.float32)])
        return self.stream(voice, late, seed)[0][DELAY : DELAY + len(samples)]

    def copied(self, samples: np.ndarray, levels: int | None = None, shift: tuple[Tensor, float] | None = None, seed: int = SEED) -> np.ndarray:
        """A recording through the codec and back. shift: what is added to its latents (LATENT,) and to its log pitch."""
        late = np.concatenate([samples, np.zeros(CODEC_DELAY, np.float32)])
        bands, voiced, log_hz = self.measured(late)
        with torch.no_grad():
            latents, _ = self.codec.encode(_filled(late), bands)
            if shift is not None:
                latents, log_hz = latents + shift[0], log_hz + shift[1] * voiced
            quantised = self.codec.quantiser.latents(self.codec.quantiser.codes(latents)[..., :levels])
        sound = self.sounded(quantised, pitch_token(voiced[..., 0], log_hz[..., 0]), seed)
        return sound[CODEC_DELAY : CODEC_DELAY + len(samples)]

    def statistics(self, samples: np.ndarray) -> tuple[Tensor, float]:
        """The mean of a recording's latents over the frames that are no pause (LATENT,), and of its log pitch: what mean_shift exchanges."""
        voice = self.voice(samples)
        pooled = self.converter.pooled_of(voice.latents, voice.tokens, voice.said)[0]
        return pooled[: voice.latents.shape[2]], float(pooled[2 * voice.latents.shape[2]]) + LOG_HZ


def _filled(samples: np.ndarray) -> Tensor:
    """Samples as one row of whole frames (1, T HOP)."""
    return F.pad(torch.from_numpy(np.array(samples, np.float32))[None], (0, -len(samples) % HOP))
