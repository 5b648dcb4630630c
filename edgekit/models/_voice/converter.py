"""The voice converter: semantic vectors of a source and a prompt of the target voice to the target's pitch tokens and codes.

The order of a frame, what is known of the frames before, and what helps only while training can each be switched (`Structure`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._voice.codec import LATENT, TOKENS, pitch_token, token_hz
from edgekit.models._voice.features import ACTIVE, SIDE
from edgekit.models._voice.language import Trunk
from edgekit.models._voice.semantic import WIDTH as SEMANTIC
from edgekit.models._voice.spectra import HIGH_HZ, LOW_HZ
from edgekit.models._voice.structure import Structure

PROMPT = 100  # frames of a prompt that the trunk sees: 2 s; a shorter one is said again, of a longer one the first
POOLED = 2 * LATENT + 3  # of a prompt: mean and deviation of its latents, mean and deviation of its pitch, share of voiced frames
LOG_HZ = 5.0  # about the mean log pitch of all voices, 148 Hz: a prompt's is told as what it has above it
MIDDLE = TOKENS // 2  # the relative token of a prompt's mean pitch
TOKENS_OF_OCTAVE = (TOKENS - 2) / math.log2(HIGH_HZ / LOW_HZ)


class Converter(nn.Module):
    """The context-aware language model with its acoustic predictor."""

    log_hz: Tensor

    def __init__(self, structure: Structure, books: Tensor) -> None:
        """books: float32 (levels, entries, LATENT), the codec's codebooks."""
        super().__init__()
        s = self.structure = structure
        self.semantic = nn.Linear(SEMANTIC + SIDE, s.width)
        self.acoustic = nn.Linear(LATENT, s.width)
        self.token = nn.Embedding(TOKENS, s.width)
        self.pooled = nn.Sequential(nn.Linear(POOLED, s.width), nn.SiLU(), nn.Linear(s.width, s.width))
        self.register_buffer("log_hz", torch.tensor(np.log(np.maximum(token_hz(), 1.0)), dtype=torch.float32))
        self.masked = nn.Parameter(torch.zeros(2, s.width))  # in place of semantic vectors, and of the acoustic frame before
        self.kind = nn.Parameter(torch.zeros(s.width))  # what a prompt's positions have and a stream's have not
        window = s.window * self.positions
        self.trunk = Trunk(s.width, s.layers, s.heads, s.hidden, window)
        self.foresight = nn.Linear(s.width, SEMANTIC) if s.foresight else None
        kind = Predictor if s.predictor == "discrete" else ContinuousPredictor
        self.predictor: Predictor | ContinuousPredictor = kind(s.width, books, s.pitch == "carried")

    @property
    def positions(self) -> int:
        """Positions of a frame."""
        return 2 if self.structure.order == "interleaved" else 1

    def acoustics(self, latents: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        """Latents (N, T, LATENT) and tokens (N, T) as the trunk sees them (N, T, width): against the means of the prompt, so that a voice
        that was never heard looks like those that were."""
        found: Tensor = self.acoustic(latents - mean_of(pooled)[:, None]) + self.token(relative(tokens, middle_of(pooled)))
        return found

    def pooled_of(self, latents: Tensor, tokens: Tensor, said: Tensor) -> Tensor:
        """What a prompt is in all (N, POOLED), from latents, tokens and semantic vectors with side stream, as `prompt` takes them."""
        return pooled_of(latents, tokens, self.log_hz[tokens], said[..., SEMANTIC:])

    def prompt(self, semantic: Tensor, latents: Tensor, tokens: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """A prompt's semantic vectors with side stream (N, P, SEMANTIC + SIDE), latents, tokens, and POOLED (N, POOLED)
        -> keys and values."""
        said, heard = self.semantic(semantic), self.acoustics(latents, tokens, pooled)
        x = torch.stack([said, heard], 2).flatten(1, 2) if self.positions == 2 else said + heard
        keys, values = self.trunk.prefix(x + self.kind + self.pooled(pooled)[:, None])
        return keys, values

    def inputs(self, said: Tensor, before: Tensor, pooled: Tensor) -> Tensor:
        """said, before (N, T, width): what is said in a frame, and the acoustic frame before it -> positions (N, T x positions, width),
        the last of each frame being the one that predicts it."""
        voice: Tensor = self.pooled(pooled)[:, None]
        if self.positions == 2:
            return torch.stack([before, said], 2).flatten(1, 2) + voice
        return said + before + voice

    def forward(  # noqa: PLR0913 - a source, a target and a prompt
        self, semantic: Tensor, latents: Tensor, tokens: Tensor, said: Tensor, spoken: Tensor, pitch: Tensor, hidden: Tensor,
        forgotten: Tensor,
    ) -> Tensor:  # fmt: skip
        """The states that predict the frames of whole streams (N, T, width).

        semantic (N, T, SEMANTIC + SIDE); latents (N, T, LATENT) and tokens (N, T) of what is to be said, of which a frame sees those before
        it; said, spoken, pitch: the same three of the prompt; hidden, forgotten bool (N, T): frames whose semantic vector, or whose
        acoustic frame before, is not shown."""
        pooled = self.pooled_of(spoken, pitch, said)
        prompt = self.prompt(said, spoken, pitch, pooled)
        heard = torch.where(hidden[..., None], self.masked[0], self.semantic(semantic))
        before = F.pad(self.acoustics(latents, tokens, pooled), (0, 0, 1, 0))[:, :-1]
        before = torch.where(forgotten[..., None], self.masked[1], before)
        found: Tensor = self.trunk(self.inputs(heard, before, pooled), prompt)
        return found[:, self.positions - 1 :: self.positions]


class Predictor(nn.Module):
    """A frame's pitch token, then its codes level by level, from the trunk's state alone: each is told the ones before it. Pitch is
    against the prompt's mean, and predicted or carried over."""

    books: Tensor

    def __init__(self, width: int, books: Tensor, carried: bool) -> None:
        super().__init__()
        self.register_buffer("books", books.clone())
        levels, entries, latent = books.shape
        self.pitch, self.token = None if carried else nn.Linear(width, TOKENS), nn.Embedding(TOKENS, width)
        self.heads = nn.ModuleList(nn.Linear(width, entries) for _ in range(levels))
        self.told = nn.ModuleList(nn.Linear(latent, width) for _ in range(levels - 1))  # of the sum of the levels before

    def losses(self, states: Tensor, pooled: Tensor, said: Tensor, tokens: Tensor, codes: Tensor, latents: Tensor) -> Tensor:
        """states (N, T, width), pooled (N, POOLED) of the prompt, said (N, T, SEMANTIC + SIDE), tokens (N, T), codes (N, T, levels), latents
        (N, T, LATENT), which these make -> cross entropies in nats (levels, and one for a predicted pitch; N, T)."""
        moved, found = pitch_losses(self.pitch, states, pooled, said, tokens)
        h, total = states + self.token(moved), torch.zeros_like(latents)
        for level, head in enumerate(self.heads):
            h_level = h + self.told[level - 1](total) if level else h
            found.append(F.cross_entropy(head(F.silu(h_level)).transpose(1, 2), codes[..., level], reduction="none"))
            total = total + self.books[level][codes[..., level]]
        return torch.stack(found)

    def forward(self, state: Tensor, pooled: Tensor, said: Tensor | None, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """state (N, width), pooled (1, POOLED) of the prompt, said (N, SEMANTIC + SIDE) if the pitch is carried over; noise (N, TOKENS +
        levels x entries), Gumbel: the largest of logits + temperature x noise is taken (0: the likeliest) -> token int64 (N,), codes int64
        (N, levels), their latents (N, LATENT)."""
        moved = moved_of(self.pitch, state, said, noise, temperature)
        h, at, entries = state + self.token(moved), TOKENS, self.books.shape[1]
        total, codes = torch.zeros_like(self.books[0, :1]).expand(len(state), -1), []
        for level, head in enumerate(self.heads):
            h_level = h + self.told[level - 1](total) if level else h
            codes.append((head(F.silu(h_level)) + temperature * noise[:, at : at + entries]).argmax(-1))
            total = total + self.books[level][codes[-1]]
            at += entries
        return absolute(moved[:, None], middle_of(pooled))[:, 0], torch.stack(codes, -1), total


class ContinuousPredictor(nn.Module):
    """A frame's pitch token, then its latents by least squares, which are quantised: the mean of what may come instead of one of it.
    Both are against the prompt's means."""

    books: Tensor

    def __init__(self, width: int, books: Tensor, carried: bool) -> None:
        super().__init__()
        self.register_buffer("books", books.clone())
        self.pitch, self.token = None if carried else nn.Linear(width, TOKENS), nn.Embedding(TOKENS, width)
        self.latent = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, books.shape[2]))

    def losses(self, states: Tensor, pooled: Tensor, said: Tensor, tokens: Tensor, codes: Tensor, latents: Tensor) -> Tensor:
        """As Predictor's: the cross entropy of a predicted pitch token, and the squared error of the latents (before quantisation) by their
        spread (1 or 2, N, T)."""
        moved, found = pitch_losses(self.pitch, states, pooled, said, tokens)
        error = (self.latent(states + self.token(moved)) + mean_of(pooled)[:, None] - latents).square().mean(-1)
        return torch.stack([*found, error / latents.var().clamp(min=1e-4) * LATENT / 4])

    def forward(self, state: Tensor, pooled: Tensor, said: Tensor | None, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """As Predictor's; only a predicted pitch is drawn."""
        moved = moved_of(self.pitch, state, said, noise, temperature)
        rest, codes = self.latent(state + self.token(moved)) + mean_of(pooled), []
        whole = rest
        for book in self.books:
            codes.append((rest @ book.T - book.square().sum(1) / 2).argmax(-1))
            rest = rest - book[codes[-1]]
        return absolute(moved[:, None], middle_of(pooled))[:, 0], torch.stack(codes, -1), whole - rest


def pitch_losses(head: nn.Module | None, states: Tensor, pooled: Tensor, said: Tensor, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The relative token that a frame's envelope is told (N, T), and what a predicted one costs."""
    if head is None:
        return melody(said), []
    moved = relative(tokens, middle_of(pooled))
    return moved, [F.cross_entropy(head(states).transpose(1, 2), moved, reduction="none")]


def moved_of(head: nn.Module | None, state: Tensor, said: Tensor | None, noise: Tensor, temperature: float) -> Tensor:
    """The relative token of a frame (N,): carried over from what is said (N, SEMANTIC + SIDE), or drawn by the head."""
    if head is not None:
        found: Tensor = (head(state) + temperature * noise[:, :TOKENS]).argmax(-1)
        return found
    if said is None:
        raise ValueError("a pitch that is carried over comes from the side stream, which was not given")
    return melody(said)


def melody(said: Tensor) -> Tensor:
    """The side stream's pitch, octaves above the running mean, as relative tokens: (..., SEMANTIC + SIDE) -> int64 (...)."""
    voiced, octaves = said[..., SEMANTIC], said[..., SEMANTIC + 1]
    moved = (octaves * TOKENS_OF_OCTAVE + (MIDDLE + 0.5)).clamp(1, TOKENS - 1).to(torch.int64)
    return torch.where(voiced > 0, moved, torch.zeros_like(moved))


def mean_of(pooled: Tensor) -> Tensor:
    """The mean of a prompt's latents (N, LATENT)."""
    return pooled[:, :LATENT]


def middle_of(pooled: Tensor) -> Tensor:
    """The token of a prompt's mean pitch, int64 (N, 1)."""
    pitch = pooled[:, 2 * LATENT : 2 * LATENT + 1] + LOG_HZ
    return pitch_token(torch.ones_like(pitch), pitch)


def relative(tokens: Tensor, middle: Tensor) -> Tensor:
    """Pitch tokens (N, T) of a voice whose mean is `middle` (N, 1), as of a voice whose mean is MIDDLE; 0, unvoiced, stays."""
    return torch.where(tokens > 0, (tokens - middle + MIDDLE).clamp(1, TOKENS - 1), torch.zeros_like(tokens))


def absolute(tokens: Tensor, middle: Tensor) -> Tensor:
    """relative's, undone but for what lay beyond its ends."""
    return torch.where(tokens > 0, (tokens + middle - MIDDLE).clamp(1, TOKENS - 1), torch.zeros_like(tokens))


def pooled_of(latents: Tensor, tokens: Tensor, log_hz: Tensor, side: Tensor) -> Tensor:
    """What a prompt is in all, over the frames that are no pause: (N, POOLED). latents (N, P, LATENT), tokens (N, P), log_hz of the tokens
    (N, P), side (N, P, SIDE)."""
    real = (side[..., 2] > -ACTIVE / 4).to(latents.dtype)
    share = real / real.sum(1, keepdim=True).clamp(min=1)
    mean = (latents * share[..., None]).sum(1)
    deviation = ((latents - mean[:, None]).square() * share[..., None]).sum(1).add(1e-6).sqrt()
    voiced = (tokens > 0).to(latents.dtype) * real
    count = voiced.sum(1, keepdim=True)
    pitch = torch.where(count > 0, (log_hz * voiced).sum(1, keepdim=True) / count.clamp(min=1), torch.full_like(count, LOG_HZ))
    spread = ((log_hz - pitch).square() * voiced).sum(1, keepdim=True) / count.clamp(min=1)
    return torch.cat([mean, deviation, pitch - LOG_HZ, spread.add(1e-6).sqrt(), (voiced * share).sum(1, keepdim=True)], 1)
