"""How the semantic networks learn: phones of synthetic speech, digits of real speech, one vector for one frame under any voice, and the
teacher's word for real speech."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.errors import EdgekitError
from edgekit.models._voice.features import Running
from edgekit.models._voice.frames import NO_PHONE, Frames, halves, warped
from edgekit.models._voice.learner import own
from edgekit.models._voice.semantic import LOOK_AHEAD, SemanticEncoder, SemanticTeacher
from edgekit.models._voice.spectra import BANDS, FLOOR

LENGTH = 100  # frames of a piece: 2 s, as long as the shortest public recordings
SKIP = 20  # first frames of a piece that are not judged: the running mean has not settled
WARPS = tuple(float(w) for w in np.round(np.geomspace(0.8, 1.25, 15), 4))
TILT_NATS = 2.0  # a smooth change of the spectrum of up to so much: another microphone or room
NOISE_NATS = (-16.0, -9.0)  # log power of white noise that is added
ANCHORS = 24  # frames of a piece that are told apart by the contrastive loss
TEMPERATURE = 0.15
# Weights. A linear probe of validation speakers told digits and speakers by 0.71 and 0.46 with 0.5 and 0.3 of the contrast and the spelling,
# by 0.64 and 0.38 with 1.0 and 0.3, by 0.75 and 0.43 with 0.75 and 0.6: the contrast takes the speaker away, the spelling keeps the phones.
CONTRAST = 1.0
DISTIL = 1.0
SPELLING = 0.8  # of the CTC loss of digit strings, whose phones are known and their times are not (Graves et al., 2006)
STRINGS = 4  # of them in a batch
UPDATES = 50  # in an epoch


class SemanticTask:
    """Half of a batch is synthetic speech, half real; beside it a few strings of real digits. Without a teacher: what the teacher learns."""

    def __init__(self, frames: Frames, running: Running, teacher: SemanticTeacher | None, spelled: Callable[[str], list[int]] | None) -> None:
        """spelled: the phones of digits; None where there is no such list."""
        self.frames, self.running, self.teacher = frames, running, teacher
        self.spelled = {} if spelled is None else {
            i: spelled(c.text) for i, c in enumerate(frames.clips) if c.phones is None and c.spans and c.text.isdigit()
        }  # fmt: skip
        self.which = np.flatnonzero(frames.lengths >= LENGTH)
        if not frames.made[self.which].any():
            raise EdgekitError(f"no made speech lasts {LENGTH} frames; the semantic encoder learns phones from it")
        self.late = 0 if teacher is None else LOOK_AHEAD

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(bands of one pseudo-speaker, of another, as they are: (N, LENGTH, BANDS); voiced, log pitch; phones (N, LENGTH)), then of digit
        strings bands, voiced, log pitch, their frames (M,), phones (M, most) filled with 0, and how many."""
        rng = np.random.default_rng((seed, epoch if split == "train" else 0, split == "train"))
        for _ in range(UPDATES if split == "train" else 4):
            rows = halves(self.frames, self.which, batch_size, LENGTH, rng).rows
            views = [self._view(rows, rng) for _ in range(2)]
            plain = self.frames.bands(rows.reshape(-1)).reshape(*rows.shape, BANDS)
            pitch = [torch.from_numpy(a[rows][..., None]) for a in (self.frames.voiced, self.frames.log_hz)]
            yield (
                *(torch.from_numpy(v) for v in (*views, plain)), *pitch, torch.from_numpy(self.frames.phones[rows]), *self._strings(rng),
            )  # fmt: skip

    def _strings(self, rng: np.random.Generator) -> list[Tensor]:
        if not self.spelled:
            return []
        chosen = rng.choice(list(self.spelled), STRINGS)
        counts, spelling = self.frames.lengths[chosen], [self.spelled[int(i)] for i in chosen]
        rows = self.frames.starts[chosen][:, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)
        phones = np.zeros((STRINGS, max(map(len, spelling))), np.int64)
        for i, s in enumerate(spelling):
            phones[i, : len(s)] = s
        arrays = (self._view(rows, rng), self.frames.voiced[rows][..., None], self.frames.log_hz[rows][..., None], counts, phones)
        return [torch.from_numpy(a) for a in (*arrays, np.array([len(s) for s in spelling]))]

    def _view(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The bands of pieces as other speakers, rooms and microphones would give them: float32 (N, LENGTH, BANDS)."""
        made = np.empty((*rows.shape, BANDS), np.float32)
        bins = np.linspace(0, 1, self.frames.magnitude.shape[1])
        for i, row in enumerate(rows):
            magnitude = self.frames.magnitude[row].astype(np.float32)
            wave = rng.uniform(-1, 1, 3) * TILT_NATS / 2
            tilt = sum(w * np.cos(np.pi * (k + 1) * bins) for k, w in enumerate(wave))
            power = magnitude * magnitude * np.exp(tilt).astype(np.float32) + np.exp(np.float32(rng.uniform(*NOISE_NATS)))
            made[i] = np.log(power @ warped(WARPS[rng.integers(len(WARPS))]) + np.float32(FLOOR)) + np.float32(rng.uniform(-1.5, 1.5))
        return made

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross entropy of phones, the contrastive loss, and what the teacher says of real speech."""
        first, second, plain, voiced, log_hz, phones, *strings = batch
        net: SemanticEncoder | SemanticTeacher = own(module).net
        with torch.no_grad():
            heard = [self.running(v, voiced, log_hz)[0] for v in (first, second)]
        vectors = [module(h)[0] for h in heard]
        logits = [net.phone(v) for v in vectors]
        target = F.pad(phones, (self.late, 0), value=NO_PHONE)[:, : phones.shape[1]].clone()
        target[:, :SKIP] = NO_PHONE
        total = sum(F.cross_entropy(lo.transpose(1, 2), target, ignore_index=NO_PHONE) for lo in logits) / 2
        total = total + CONTRAST * contrast(net.match(vectors[0])[:, SKIP:], net.match(vectors[1])[:, SKIP:])
        if self.teacher is not None:
            with torch.no_grad():
                said = self.teacher.phone(self.teacher(self.running(plain, voiced, log_hz)[0])[0]).softmax(-1)
                said = F.pad(said, (0, 0, self.late, 0))[:, SKIP : phones.shape[1]]
            total = total + DISTIL * sum(-(said * lo.log_softmax(-1)[:, SKIP:]).sum(-1).mean() for lo in logits) / 2
        return total + SPELLING * self._spelling(module, net, strings) if strings else total

    def _spelling(self, module: Any, net: SemanticEncoder | SemanticTeacher, strings: list[Tensor]) -> Tensor:
        """The CTC loss of digit strings, by phone. Silence is the blank: what lies between two phones, or nothing."""
        bands, voiced, log_hz, counts, phones, lengths = strings
        with torch.no_grad():
            heard = self.running(bands, voiced, log_hz)[0]
        said = net.phone(module(heard)[0]).log_softmax(-1)[:, self.late :]
        return F.ctc_loss(said.transpose(0, 1), phones, counts - self.late, lengths, blank=0, zero_infinity=True)

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Minus the loss of a batch, times its size."""
        return -self.loss(module, batch) * len(batch[0])


def contrast(a: Tensor, b: Tensor) -> Tensor:
    """InfoNCE within a piece: a frame of `a` (N, T, D) is to be nearest to the same frame of `b` among ANCHORS."""
    places = torch.linspace(0, a.shape[1] - 1, ANCHORS).long() if not torch.is_grad_enabled() else torch.randperm(a.shape[1])[:ANCHORS]
    x, y = F.normalize(a[:, places], dim=-1), F.normalize(b[:, places], dim=-1)
    logits = x @ y.transpose(1, 2) / TEMPERATURE
    same = torch.arange(ANCHORS).expand(len(x), -1)
    return (F.cross_entropy(logits.transpose(1, 2), same) + F.cross_entropy(logits, same)) / 2
