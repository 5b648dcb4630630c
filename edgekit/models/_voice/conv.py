"""Causal convolutions that carry what they look back over: a whole signal and one frame at a time go through the same lines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CausalConv(nn.Module):
    """A convolution over the past. In: (N, C, T) and the last `reach` columns before it; out: (N, D, T) and the last of now."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.reach, self.inputs = (kernel - 1) * dilation, inputs
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)

    def forward(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """tail: (N, C, reach), zeros at the beginning of a signal."""
        joined = torch.cat([tail, x], 2)
        return self.conv(joined), joined[:, :, joined.shape[2] - self.reach :]


class ConvStack(nn.Module):
    """A causal convolution, then residual ones; a layer norm over channels before each.

    Bai, Kolter, Koltun, "An empirical evaluation of generic convolutional and recurrent networks", 2018, without its two
    convolutions a block.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, kernel: int, dilations: Sequence[int], dropout: float = 0.0, around: bool = False
    ) -> None:  # fmt: skip
        """dropout: share of the channels' values that a training step leaves out before each residual convolution. around: also add a
        linear map of the input's own column to the output: norms forget how large a column is."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.first = CausalConv(inputs, width, kernel)
        self.convs = nn.ModuleList(CausalConv(width, width, kernel, d) for d in dilations)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in dilations)
        self.last_norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)
        self.around = nn.Linear(inputs, outputs, bias=False) if around else None

    @property
    def state_shapes(self) -> list[tuple[int, int]]:
        """(channels, columns) of each tail, in their order."""
        every = [self.first, *self.convs]
        return [(int(c.inputs), int(c.reach)) for c in every]

    def blank(self, batch: int) -> list[Tensor]:
        """The tails before the beginning of a signal."""
        return [torch.zeros(batch, c, t) for c, t in self.state_shapes]

    def forward(self, x: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(N, T, inputs) -> (N, T, outputs), and the tails for what follows."""
        tails = self.blank(len(x)) if tails is None else tails
        y, tail = self.first(x.transpose(1, 2), tails[0])
        after = [tail]
        for conv, norm, before in zip(self.convs, self.norms, tails[1:], strict=True):
            normed = self.dropout(nn.functional.gelu(norm(y.transpose(1, 2)))).transpose(1, 2)
            more, tail = conv(normed, before)
            y = y + more
            after.append(tail)
        found: Tensor = self.last(nn.functional.gelu(self.last_norm(y.transpose(1, 2))))
        return (found if self.around is None else found + self.around(x)), after
