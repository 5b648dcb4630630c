"""What is said, and as little as may be of who says it: a causal encoder, and a teacher that may look ahead.

Both learn to name the phones of synthetic speech, whose times are exact, LOOK_AHEAD frames late, and to give a frame the same vector
whatever warps its formants (contrastive; Oord et al., 2018). The encoder also learns what the teacher says of real speech
(distillation; Hinton et al., 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.models._voice.conv import ConvStack
from edgekit.models._voice.spectra import BANDS

LOOK_AHEAD = 2  # frames after a phone's own at which the encoder says it: 40 ms
WIDTH = 32  # of a semantic vector, the bottleneck
DILATIONS = (1, 2, 4, 1, 2, 4)
DROPOUT = 0.1  # synthetic voices are easily learned by heart, and real ones are what counts


class SemanticEncoder(nn.Module):
    """Bands less their running mean to semantic vectors and phones, causally: 39 columns, 0.78 s, are looked back over."""

    def __init__(self, phones: int, width: int = 128) -> None:
        super().__init__()
        self.stack = ConvStack(BANDS, width, WIDTH, 5, DILATIONS, DROPOUT)
        self.phone = nn.Linear(WIDTH, phones)  # while training only
        self.match = nn.Linear(WIDTH, WIDTH)  # into the space of the contrastive loss, while training only

    def forward(self, bands: Tensor, tails: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(N, T, BANDS) -> semantic vectors (N, T, WIDTH), and the tails for what follows."""
        found, after = self.stack(bands / 3, tails)
        return found.tanh(), after


class SemanticTeacher(nn.Module):
    """The same without a clock: convolutions that see as far ahead as back. For training only."""

    def __init__(self, phones: int, width: int = 160) -> None:
        super().__init__()
        self.first = nn.Conv1d(BANDS, width, 5, padding=2)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2 * d, dilation=d) for d in DILATIONS)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in DILATIONS)
        self.dropout, self.last_norm, self.last = nn.Dropout(DROPOUT), nn.LayerNorm(width), nn.Linear(width, WIDTH)
        self.phone, self.match = nn.Linear(WIDTH, phones), nn.Linear(WIDTH, WIDTH)

    def forward(self, bands: Tensor) -> tuple[Tensor, None]:
        """(N, T, BANDS) -> semantic vectors (N, T, WIDTH)."""
        y = self.first(bands.transpose(1, 2) / 3)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = y + conv(self.dropout(nn.functional.gelu(norm(y.transpose(1, 2)))).transpose(1, 2))
        found: Tensor = self.last(nn.functional.gelu(self.last_norm(y.transpose(1, 2)))).tanh()
        return found, None
