"""The converter as graphs and a stream: encoder, language model, predictor and decoder for each frame, the prompt once before them.

Every state is an input and an output: tails of convolutions, running means, keys and values of the last frames, what the windows of
the synthesis still add, the phase of the pulses. So a frame alone and a whole recording are the same computation.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from edgekit.models._voice.codec import DELAY as CODEC_DELAY
from edgekit.models._voice.codec import LATENT, TOKENS, Codec, pitch_token
from edgekit.models._voice.converter import PROMPT, Converter
from edgekit.models._voice.features import SIDE, Running
from edgekit.models._voice.language import PERIOD
from edgekit.models._voice.semantic import LOOK_AHEAD, SemanticEncoder
from edgekit.models._voice.spectra import HOP, Pitch, Spectrum

DELAY = LOOK_AHEAD * HOP + CODEC_DELAY  # samples that the output lies behind the input: 50 ms; a frame must be whole besides: 20 ms
PITCH_NOISE, HISS = 1, 2  # identities of the program's noise
SEED = 7  # where the caller gives none
QUIET = (0.0, 0.0, -2.0)  # the side stream of silence


class Listen(nn.Module):
    """One window of sound to what is said: the semantic vector of LOOK_AHEAD frames ago, with the side stream of that frame."""

    RUNNING: ClassVar[tuple[str, ...]] = ("mean_bands", "active_frames", "mean_pitch", "voiced_frames", "loudest")  # names of the states of Running

    def __init__(self, running: Running, encoder: SemanticEncoder) -> None:
        super().__init__()
        self.spectrum, self.pitch, self.running, self.encoder = Spectrum(), Pitch(), running, encoder

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Running means, the tails of the convolutions, the side stream of the last frames."""
        running = {n: tuple(t.shape) for n, t in zip(self.RUNNING, self.running.blank(1), strict=True)}
        tails = {f"heard{i}": (1, c, t) for i, (c, t) in enumerate(self.encoder.stack.state_shapes)}
        return {**running, **tails, "sides": (1, LOOK_AHEAD, SIDE)}

    def forward(self, window: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(1, WINDOW) and the states -> said (1, SEMANTIC + SIDE), the states after."""
        voiced, log_hz = self.pitch(window)
        return self.heard(self.spectrum(window), voiced, log_hz, states)

    def heard(self, bands: Tensor, voiced: Tensor, log_hz: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The same from bands (1, BANDS), voiced and log_hz (1, 1)."""
        relative, side, running = self.running.step(bands, voiced, log_hz, states[:5])
        vector, tails = self.encoder(relative[:, None], states[5:-1])
        sides = torch.cat([states[-1], side[:, None]], 1)
        return (torch.cat([vector[:, 0], sides[:, 0]], -1), *running, *tails, sides[:, 1:])


class Heard(nn.Module):
    """One window of a recording of the target voice to what it says, its latents and its pitch token, all of LOOK_AHEAD frames ago."""

    def __init__(self, listen: Listen, codec: Codec) -> None:
        super().__init__()
        self.listen, self.codec = listen, codec

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of Listen, the tails of the codec's encoder, latents and pitch of the last frames."""
        tails = {f"coded{i}": (1, c, t) for i, (c, t) in enumerate(self.codec.heard_states)}
        return {**self.listen.state_shapes, **tails, "late_latents": (1, LOOK_AHEAD, LATENT), "late_pitch": (1, LOOK_AHEAD, 2)}

    def forward(self, window: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(1, WINDOW) and the states -> said (1, SEMANTIC + SIDE), latents (1, LATENT), token int64 (1,), the states after."""
        own = len(self.listen.state_shapes)
        bands, (voiced, log_hz) = self.listen.spectrum(window), self.listen.pitch(window)
        said, *after = self.listen.heard(bands, voiced, log_hz, states[:own])
        latents, tails = self.codec.encode(window[:, -HOP:], bands[:, None], states[own:-2])
        late, pitch = torch.cat([states[-2], latents], 1), torch.cat([states[-1], torch.cat([voiced, log_hz], -1)[:, None]], 1)
        token = pitch_token(pitch[:, 0, 0], pitch[:, 0, 1])
        return (said, late[:, 0], token, *after, *tails, late[:, 1:], pitch[:, 1:])


class Recite(nn.Module):
    """A prompt's frames to its keys, values and pooled vector."""

    def __init__(self, converter: Converter) -> None:
        super().__init__()
        self.converter = converter

    def forward(self, said: Tensor, latents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """said (1, P, SEMANTIC + SIDE), latents (1, P, LATENT), tokens int64 (1, P) -> keys, values (layers, 1, heads, places, width
        / heads), pooled (1, POOLED). The trunk sees PROMPT frames, the pooled vector all."""
        pooled = self.converter.pooled_of(latents, tokens, said)
        # The first frames that Heard gives are of before the beginning.
        rows = LOOK_AHEAD + torch.remainder(torch.arange(PROMPT), torch.full((1,), said.shape[1] - LOOK_AHEAD))
        keys, values = self.converter.prompt(said[:, rows], latents[:, rows], tokens[:, rows], pooled)
        return keys, values, pooled


class Continue(nn.Module):
    """One frame of the language model."""

    def __init__(self, converter: Converter) -> None:
        super().__init__()
        self.converter = converter

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Keys and values of the last frames."""
        s, c = self.converter.structure, self.converter
        cache = (s.layers, 1, s.heads, c.trunk.window, s.width // s.heads)
        return {"keys": cache, "values": cache}

    def forward(self, said: Tensor, prompt_keys: Tensor, prompt_values: Tensor, pooled: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """said (1, SEMANTIC + SIDE); rest: with history latents (1, LATENT) and token (1, 1) of the frame given out before, then position,
        filled, keys and values -> the state (1, width), and the last four after this frame."""
        c, (position, filled, keys, values) = self.converter, rest[-4:]
        before = c.acoustics(rest[0][:, None], rest[1], pooled) if c.structure.history else c.masked[1].expand(1, 1, -1)
        x = c.inputs(c.semantic(said[:, None]), before, pooled)
        states, keys, values = c.trunk.step(x, (prompt_keys, prompt_values), keys, values, position, filled)
        moved = position + c.positions
        position = moved - moved.div(PERIOD, rounding_mode="trunc") * PERIOD
        return states[:, -1], position, torch.clamp(filled + c.positions, max=c.trunk.window), keys, values


def gumbel_of(uniform: Tensor) -> Tensor:
    """Numbers in [0, 1) to Gumbel noise: the largest of logits with it is a draw from their softmax (Gumbel, 1954)."""
    return -(-(uniform * (1 - 2e-7) + 1e-7).log()).log()


class Predict(nn.Module):
    """The state of a frame to its pitch token and codes; temperature 0 takes the likeliest and needs no noise."""

    def __init__(self, converter: Converter, temperature: float) -> None:
        super().__init__()
        self.predictor, self.temperature = converter.predictor, temperature
        self.width = TOKENS + converter.predictor.books[:, :, 0].numel()

    @property
    def carried(self) -> bool:
        """Whether the pitch is the source's own melody, which is an input then."""
        return self.predictor.pitch is None

    def forward(self, state: Tensor, pooled: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """state (1, width), pooled (1, POOLED); rest: said (1, SEMANTIC + SIDE) if the pitch is carried over, then with a temperature uniform
        (1, TOKENS + levels x entries) in [0, 1) -> token int64 (1,), codes int64 (1, 1 + levels) with the token first, latents (1, LATENT)."""
        given = list(rest)
        said = given.pop(0) if self.carried else None
        gumbel = gumbel_of(given.pop(0)) if given else torch.zeros(1, self.width)
        token, codes, latents = self.predictor(state, pooled, said, gumbel, self.temperature)
        return token, torch.cat([token[:, None], codes], 1), latents


class Speak(nn.Module):
    """A frame's token and latents to samples."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latents: Tensor, token: Tensor, hiss: Tensor, before: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """latents (1, LATENT), token (1,), hiss (1, HOP), the token before (1, 1) and the codec's states -> samples (1, HOP), the token as the
        one before, the states."""
        samples, *after = self.codec.spoken(latents, token, before, hiss, states)
        return (samples, token[:, None], *after)
