"""How the converter learns: to say a clip's codes from what another pseudo-speaker says, in the voice of a prompt of the same speaker.

There are no parallel data: source and target are the same clip under two frequency warps, so that the source's own voice says nothing
of the target's (information perturbation; Choi et al., NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edgekit.models._voice.codec import TOKENS
from edgekit.models._voice.converter import PROMPT, Converter
from edgekit.models._voice.frames import halves
from edgekit.models._voice.learner import own
from edgekit.models._voice.semantic import LOOK_AHEAD
from edgekit.models._voice.structure import Hiding
from edgekit.models._voice.voices import Voices

LENGTH = 80  # frames of a target
SHORTEST_PROMPT = 50  # frames; shorter than PROMPT, it is said again
FORESIGHT = 4  # frames to come that the teacher's word is the mean of
SHIFT = 8  # tokens, of half a semitone: how far the pitch of a pseudo-speaker lies from the recorded one, at most
UPDATES = 50  # in an epoch


class ConverterTask:
    """Batches of (prompt, source, target) of one speaker."""

    def __init__(self, voices: Voices, hiding: Hiding) -> None:
        self.voices, self.hiding = voices, hiding
        lengths = voices.frames.lengths
        counts = np.bincount(voices.speakers)
        self.which = np.flatnonzero((lengths >= LENGTH + LOOK_AHEAD + FORESIGHT) & (counts[voices.speakers] > 1))
        self.of_speaker = [np.flatnonzero((voices.speakers == s) & (lengths >= SHORTEST_PROMPT)) for s in range(len(counts))]

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(semantic and side of the source, latents, tokens, codes of the target, teacher's word; the same of a prompt;
        semantic frames hidden, acoustic frames hidden)."""
        rng = np.random.default_rng((seed, epoch if split == "train" else 0, split == "train"))
        for _ in range(UPDATES if split == "train" else 4):
            yield tuple(torch.from_numpy(a) for a in self._batch(rng, batch_size))

    def _batch(self, rng: np.random.Generator, size: int) -> list[np.ndarray]:
        v, h = self.voices, self.hiding
        found = halves(v.frames, self.which, size, LENGTH + LOOK_AHEAD + FORESIGHT, rng)
        rows = found.rows[:, :LENGTH]
        clip = np.searchsorted(v.frames.starts, found.first, "right") - 1
        prompts = self._prompts(clip, rng)
        voice = rng.integers(0, len(v.latents), (size, 1))
        source = rng.integers(0, len(v.latents), (size, 1)) if h.perturbed else voice
        shift = rng.integers(-SHIFT, SHIFT + 1, (size, 1))
        heard = [np.concatenate([v.semantic[w, r + LOOK_AHEAD], v.side[r]], -1) for w, r in ((source, rows), (voice, prompts))]
        to_come = np.mean([v.to_come[rows + k] for k in range(1, FORESIGHT + 1)], 0, dtype=np.float32)
        starts = rng.random(rows.shape) < h.semantic
        hidden = np.stack([np.convolve(s, np.ones(h.span), "full")[: rows.shape[1]] > 0 for s in starts])
        forgotten = (rng.random((size, 1)) < h.history) | (rng.random(rows.shape) < h.frames)
        return [
            heard[0], v.latents[voice, rows], shifted(v.tokens[rows], shift), v.codes[voice, rows], to_come,
            heard[1], v.latents[voice, prompts], shifted(v.tokens[prompts], shift), hidden, forgotten,
        ]  # fmt: skip

    def _prompts(self, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Frames of another clip of each clip's speaker: int64 (N, PROMPT), some frames of it said again and again."""
        v, rows = self.voices, np.zeros((len(clips), PROMPT), np.int64)
        for i, clip in enumerate(clips):
            others = self.of_speaker[v.speakers[clip]]
            other = int(rng.choice(others[others != clip] if len(others) > 1 else others))
            room = int(v.frames.lengths[other]) - LOOK_AHEAD
            there = int(rng.integers(SHORTEST_PROMPT, PROMPT + 1))
            there = min(there, room)
            rows[i] = v.frames.starts[other] + rng.integers(0, room - there + 1) + np.arange(PROMPT) % there
        return rows

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The predictor's losses of all frames, and the foresight's."""
        net: Converter = own(module).net
        semantic, latents, tokens, codes, to_come, said, spoken, pitch, hidden, forgotten = batch
        total = torch.stack([book[codes[..., i]] for i, book in enumerate(net.predictor.books)]).sum(0)
        states = module(semantic, total, tokens, said, spoken, pitch, hidden, forgotten)
        pooled = net.pooled_of(spoken, pitch, said)
        loss: Tensor = net.predictor.losses(states, pooled, semantic, tokens, codes, latents).mean((1, 2)).sum()
        if net.foresight is not None:
            loss = loss + (net.foresight(states) - to_come).abs().mean() * net.structure.foresight
        return loss

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Minus the loss of a batch, times its size."""
        return -self.loss(module, batch) * len(batch[0])


def shifted(tokens: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Pitch tokens moved by so many, the unvoiced left as they are."""
    found: np.ndarray = np.where(tokens > 0, np.clip(tokens + shift, 1, TOKENS - 1), 0)
    return found
