"""A voice from two sources and a filter of minimum phase for each: a train of pulses, and noise.

The source-filter model (Fant, 1960) with differentiable filters (as DDSP; Engel et al., ICLR 2020). A frame has two subframes of
HALF samples; around each a Hann window of HOP samples is filtered on its own, and what comes out is added up (overlap-add).
What a frame gives lies HALF samples behind its own samples: the last window needs its second half.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.models._voice.spectra import BANDS, HOP, RATE_HZ, band_edges_hz

HALF = HOP // 2  # samples between two filters: 10 ms; also the delay
SIZE = 640  # of the transform: HOP samples, and 20 ms of a filter's ringing before it would wrap around
BINS = SIZE // 2 + 1
TAIL = SIZE - HOP + HALF  # samples that later frames still add to: 480
TURN = 1 << 20  # phases are whole numbers, TURN to a period, so that all engines place pulses alike


class Pulses(nn.Module):
    """A train of pulses whose pitch glides linearly over quarters of a frame. Between samples a pulse is shared by its neighbours."""

    steps: Tensor
    ramp: Tensor

    def __init__(self, pitches_hz: np.ndarray) -> None:
        """pitches_hz: float64 (tokens,), of each pitch token; 0: unvoiced."""
        super().__init__()
        # A quarter of the phase step of a sample: in four equal parts of a frame it is mixed 3:1, 2:2, 1:3, 0:4 with the one before.
        self.register_buffer("steps", torch.tensor(np.rint(pitches_hz / RATE_HZ * TURN / 4).astype(np.int32)))
        part = np.arange(HOP) // (HOP // 4)
        inside = np.arange(HOP) % (HOP // 4) + 1
        self.register_buffer("ramp", torch.tensor(np.stack([part, inside]).astype(np.int32)))

    def forward(self, token: Tensor, before: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """token, before int64 (N, 1): of this frame and of the last; phase int32 (N, 1): where the last frame ended, 0 to TURN.

        Gives samples float32 (N, HOP), about one unit of power a sample whatever the pitch, and the phase after them.
        """
        now, last = self.steps[token], self.steps[before]
        last = torch.where(last > 0, last, now)
        quarters = [(3 - k) * last + (1 + k) * now for k in range(4)]  # int32 (N, 1): steps of a sample
        length = HOP // 4
        starts = [phase]
        for q in quarters:
            starts.append(starts[-1] + q * length)
        part, inside = self.ramp[0], self.ramp[1]
        step = torch.cat(quarters, 1)[:, part.long()]
        at = torch.cat(starts[:4], 1)[:, part.long()] + step * inside
        turn = at - at.div(TURN, rounding_mode="trunc") * TURN
        nearest = torch.minimum(turn, TURN - turn).to(torch.float32)
        width = step.to(torch.float32).clamp(min=1)
        pulses = (1 - nearest / width).clamp(min=0) * (TURN / width).sqrt()
        voiced = (now > 0).to(torch.float32)
        end = starts[4] - starts[4].div(TURN, rounding_mode="trunc") * TURN
        return pulses * voiced, torch.where(now > 0, end, torch.zeros_like(end))


class Filters(nn.Module):
    """Band gains to spectra: logarithms are spread over the bins linearly; the minimum phase follows from them (Oppenheim and Schafer)."""

    spread: Tensor
    phase: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = np.arange(BINS) * RATE_HZ / SIZE
        spread = np.stack([np.interp(bins, band_edges_hz()[1:-1], np.eye(BANDS)[b]) for b in range(BANDS)])  # (BANDS, BINS)
        whole = np.concatenate([spread, spread[:, -2:0:-1]], 1)
        cepstrum = np.fft.ifft(whole, axis=1).real
        folded = cepstrum.copy()
        folded[:, 1 : SIZE // 2] *= 2
        folded[:, SIZE // 2 + 1 :] = 0
        phase = np.fft.fft(folded, axis=1).imag[:, :BINS]
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))
        self.register_buffer("phase", torch.tensor(phase, dtype=torch.float32))

    def forward(self, log_gains: Tensor) -> tuple[Tensor, Tensor]:
        """(..., BANDS) natural logs of gains -> (gain, phase in radians of minimum phase), (..., BINS)."""
        return (log_gains @ self.spread).exp(), log_gains @ self.phase


class Synthesis(nn.Module):
    """Sources and gains of a frame to samples."""

    forth: Tensor
    back: Tensor
    hann: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.filters = Filters()
        angle = 2 * np.pi * np.outer(np.arange(HOP), np.arange(BINS)) / SIZE
        self.register_buffer("forth", torch.tensor(np.concatenate([np.cos(angle), -np.sin(angle)], 1), dtype=torch.float32))
        weight = np.where((np.arange(BINS) == 0) | (np.arange(BINS) == SIZE // 2), 1.0, 2.0) / SIZE
        angle = 2 * np.pi * np.outer(np.arange(BINS), np.arange(SIZE)) / SIZE
        weight[0] = 0  # pulses point one way: without this a voice would have an offset
        back = np.concatenate([weight[:, None] * np.cos(angle), -weight[:, None] * np.sin(angle)], 0)
        self.register_buffer("back", torch.tensor(back, dtype=torch.float32))
        self.register_buffer("hann", torch.tensor(np.hanning(HOP + 1)[:-1], dtype=torch.float32))

    def filtered(self, pulses: Tensor, noise: Tensor, gains: Tensor) -> Tensor:
        """pulses, noise (..., HOP) of one window, gains (..., 2 BANDS) for them -> (..., SIZE) samples from the window's start on."""
        gain, turn = self.filters(gains[..., :BANDS])
        loud, hiss_turn = self.filters(gains[..., BANDS:])
        sources = torch.stack([pulses, noise]) * self.hann @ self.forth
        real, imaginary = sources[..., :BINS], sources[..., BINS:]
        gain, turn = torch.stack([gain, loud]), torch.stack([turn, hiss_turn])
        cos, sin = gain * turn.cos(), gain * turn.sin()
        mixed = torch.cat([(real * cos - imaginary * sin).sum(0), (real * sin + imaginary * cos).sum(0)], -1)
        out: Tensor = mixed @ self.back
        return out

    def forward(self, pulses: Tensor, noise: Tensor, gains: Tensor, source_tail: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One frame. pulses, noise (N, HOP); gains (N, 2, 2 BANDS); source_tail (N, 2, HALF): pulses and noise before them; tail
        (N, TAIL): what earlier windows still add. Gives samples (N, HOP), source_tail, tail."""
        sources = torch.cat([source_tail, torch.stack([pulses, noise], 1)], 2)  # (N, 2, HALF + HOP)
        both = torch.stack([sources[:, :, :HOP], sources[:, :, HALF:]], 2)  # (N, 2, windows, HOP)
        out = self.filtered(both[:, 0], both[:, 1], gains)
        zeros = nn.functional.pad
        total = zeros(tail, (0, HOP)) + zeros(out[:, 0], (0, HALF)) + zeros(out[:, 1], (HALF, 0))
        return total[:, :HOP], sources[:, :, HOP:], total[:, HOP:]

    def whole(self, pulses: Tensor, noise: Tensor, gains: Tensor) -> Tensor:
        """What forward gives frame by frame from silence on: pulses, noise (N, T HOP), gains (N, T, 2, 2 BANDS) -> (N, T HOP)."""
        count, frames = gains.shape[:2]
        padded = nn.functional.pad(torch.stack([pulses, noise], 1), (HALF, 0)).unfold(2, HOP, HALF)  # (N, 2, 2 T, HOP)
        out = self.filtered(padded[:, 0], padded[:, 1], gains.reshape(count, 2 * frames, -1))
        length = (2 * frames - 1) * HALF + SIZE
        added = nn.functional.fold(out.transpose(1, 2), (1, length), (1, SIZE), stride=(1, HALF))
        return added[:, 0, 0, : frames * HOP]
