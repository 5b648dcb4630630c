"""How the codec learns: what comes out of its own codes is to have the spectrum of what went in, at three resolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from edgekit.models._voice.codec import DELAY, Codec
from edgekit.models._voice.frames import Frames, halves
from edgekit.models._voice.learner import own
from edgekit.models._voice.spectra import HOP

LENGTH = 50  # frames of a piece: 1 s
LEAD = 5  # frames before it that the convolutions look back over and that are not judged
SIZES = (256, 640, 1536)  # of the transforms, a quarter apart (Yamamoto et al., "Parallel WaveGAN", ICASSP 2020, eq. 6 and 7)
UPDATES = 50  # in an epoch
UNQUANTISED = 3  # first epochs, of which the codebooks only see the latents


class CodecTask:
    """Pieces of all clips, half of them recorded where there are such."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.which = np.flatnonzero(frames.lengths >= LENGTH + LEAD)

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """(samples (N, frames HOP), bands, pitch tokens (N, frames), noise (N, frames HOP), levels used, epoch)."""
        rng = np.random.default_rng((seed, epoch if split == "train" else 0, split == "train"))
        tokens = self.frames.tokens
        for _ in range(UPDATES if split == "train" else 4):
            rows = halves(self.frames, self.which, batch_size, LENGTH + LEAD, rng).rows
            samples = np.stack([self._samples(int(r[0]), len(r)) for r in rows])
            bands = self.frames.bands(rows.reshape(-1)).reshape(*rows.shape, -1)
            noise = rng.standard_normal(samples.shape, np.float32)
            yield (
                torch.from_numpy(samples), torch.from_numpy(bands), torch.from_numpy(tokens[rows]), torch.from_numpy(noise),
                torch.full((len(rows),), int(rng.integers(1, 9))), torch.full((len(rows),), epoch),
            )  # fmt: skip

    def _samples(self, first: int, count: int) -> np.ndarray:
        clip = int(np.searchsorted(self.frames.starts, first, "right")) - 1
        begin = (first - int(self.frames.starts[clip])) * HOP
        found = np.zeros(count * HOP, np.float32)
        there = self.frames.clips[clip].samples[begin : begin + count * HOP]
        found[: len(there)] = there
        return found

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Spectra of what comes out against what went in, and the commitment of the latents."""
        samples, bands, tokens, noise, levels, epoch = batch
        net: Codec = own(module).net
        latents, _ = net.encode(samples, bands)
        if torch.is_grad_enabled():
            net.quantiser.learn(latents.detach())
        commit: Tensor | float = 0.0
        if int(epoch[0]) > UNQUANTISED or not torch.is_grad_enabled():
            # Half of the batches use all levels, half fewer, so that a prefix of the codes is a codec too.
            latents, commit = net.quantiser(latents, min(int(levels[0]), net.quantiser.levels))
        made = net.voice(latents, tokens, noise)
        skip = LEAD * HOP
        return spectral(made[:, skip + DELAY :], samples[:, skip : samples.shape[1] - DELAY]) + commit

    def score(self, module: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """Minus the loss of a batch, times its size."""
        return -self.loss(module, batch) * len(batch[0])


def spectral(made: Tensor, real: Tensor) -> Tensor:
    """Mean |difference| of log magnitudes and half the spectral convergence, over SIZES: samples (N, T) each."""
    total = torch.zeros(())
    for size in SIZES:
        window = torch.hann_window(size)
        a, b = (torch.stft(x, size, size // 4, window=window, return_complex=True).abs() for x in (made, real))
        scale = size**0.5 * 0.5
        logs = [(x / scale + 1e-4).log() for x in (a, b)]
        total = total + (logs[0] - logs[1]).abs().mean() + 0.5 * (a - b).norm() / b.norm().clamp(min=1e-3)
    return total / len(SIZES)
