"""A codec that takes samples as they are: strided causal convolutions down to a frame, transposed ones back up, no source and no filter.

SEANet as in SoundStream (Zeghidour et al., 2021) without the adversary. Offline and frame by frame are the same: every convolution
begins with zeros, and what a transposed convolution adds to later samples is a state, without the bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.models._voice.codec import LATENT, TOKENS
from edgekit.models._voice.conv import CausalConv
from edgekit.models._voice.quantiser import Quantiser

STRIDES = (2, 4, 5, 8)  # their product is a frame, 320 samples
KERNEL = 7


class Down(nn.Module):
    """A strided causal convolution of kernel 2 s: the s samples before are a state."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.reach, self.inputs = stride, inputs
        self.conv = nn.Conv1d(inputs, outputs, 2 * stride, stride)

    def forward(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, T), T a multiple of the stride; tail (N, C, stride) -> (N, D, T / stride), tail."""
        joined = torch.cat([tail, x], 2)
        return self.conv(joined), joined[:, :, joined.shape[2] - self.reach :]


class Up(nn.Module):
    """A transposed convolution of kernel 2 s: the second half of what a column gives is added to the next column's first half."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.reach, self.inputs, self.stride = stride, outputs, stride
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1))

    def forward(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, T); tail (N, D, stride) -> (N, D, T stride), tail."""
        made = self.conv(x)
        whole = torch.cat([made[:, :, : self.stride] + tail, made[:, :, self.stride :]], 2)
        count = x.shape[2] * self.stride
        return whole[:, :, :count] + self.bias, whole[:, :, count:]


class Chain(nn.Module):
    """Steps one after the other, an ELU before each but the first; each carries its own past."""

    def __init__(self, steps: Sequence[CausalConv | Down | Up]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.state_shapes = [(s.inputs, s.reach) for s in steps]  # (channels, columns) of each state, in their order

    def forward(self, x: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(N, C, T) -> (N, D, ...), and the states for what follows; None: before the beginning of a signal."""
        before = [torch.zeros(len(x), c, t) for c, t in self.state_shapes] if tails is None else tails
        after = []
        for i, (step, tail) in enumerate(zip(self.steps, before, strict=True)):
            x, new = step(nn.functional.elu(x) if i else x, tail)
            after.append(new)
        return x, after


def encoder(width: int, outputs: int) -> Chain:
    """Samples (N, 1, T 320) to latents (N, outputs, T)."""
    channels = [width * 2**i // 2 for i in range(1, len(STRIDES) + 2)]
    steps: list[CausalConv | Down | Up] = [CausalConv(1, channels[0], KERNEL)]
    for i, stride in enumerate(STRIDES):
        steps += [CausalConv(channels[i], channels[i], 3), Down(channels[i], channels[i + 1], stride)]
    return Chain([*steps, CausalConv(channels[-1], outputs, 3)])


def decoder(inputs: int, width: int) -> Chain:
    """Latents (N, inputs, T) to samples (N, 1, T 320)."""
    channels = [width * 2**i // 2 for i in range(1, len(STRIDES) + 2)][::-1]
    steps: list[CausalConv | Down | Up] = [CausalConv(inputs, channels[0], KERNEL)]
    for i, stride in enumerate(reversed(STRIDES)):
        steps += [Up(channels[i], channels[i + 1], stride), CausalConv(channels[i + 1], channels[i + 1], 3)]
    return Chain([*steps, CausalConv(channels[-1], 1, KERNEL)])


class WaveformCodec(nn.Module):
    """Samples to codes and back. It hears no bands, so that it can learn no pseudo-speakers, and needs no noise."""

    def __init__(self, width: int = 16, levels: int = 6, entries: int = 128) -> None:
        super().__init__()
        self.follows_warps = False
        self.encoder, self.decoder = encoder(width, LATENT), decoder(LATENT + 16, width)
        self.quantiser, self.token = Quantiser(LATENT, levels, entries), nn.Embedding(TOKENS, 16)

    @property
    def heard_states(self) -> list[tuple[int, int]]:
        """Of the encoder's steps."""
        return self.encoder.state_shapes

    @property
    def spoken_states(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Of the decoder's steps."""
        return {f"spoken{i}": ("float32", (1, c, t)) for i, (c, t) in enumerate(self.decoder.state_shapes)}

    def encode(self, samples: Tensor, bands: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """As Codec says, from the samples alone."""
        found, after = self.encoder(samples[:, None], tails)
        return found.transpose(1, 2), after

    def voice(self, latents: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
        """As Codec says."""
        found: Tensor = self.decoder(self._told(latents, tokens))[0][:, 0]
        return found

    def spoken(self, latents: Tensor, token: Tensor, before: Tensor, noise: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As Codec says."""
        samples, after = self.decoder(self._told(latents[:, None], token[:, None]), states)
        return (samples[:, 0], *after)

    def _told(self, latents: Tensor, tokens: Tensor) -> Tensor:
        return torch.cat([latents, self.token(tokens)], -1).transpose(1, 2)
