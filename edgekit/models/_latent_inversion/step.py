"""The graphs of an edit: one network call with everything between it and the next one, and what is looked up before the first.

A text is one vector, the sum of what the network learned for each condition (UNet.embedded), so that an optimised or a mixed text is given
as any other. Which text a call is told, and how far what was stored is added, follows from the call's place in time and the caller's switch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models._diffusion.net import UNet
from edgekit.models._latent_inversion.plans import COLUMNS


class Step(nn.Module):
    """One call, upwards, downwards or along known pictures; numbers come in as rows of plans.py.

    `bank` float32 (S, B, C, H, W): the stored offsets of the way down, or, for `follow`, the pictures to be led along. `noted` is what
    the picture was before the call, or, for `follow`, what it took to land on the bank's picture: the offset to store.
    """

    none: Tensor
    inputs = ("x", "bank", "source", "target", "switch", "level", "coefficients", "places")
    outputs = ("x_next", "noted")

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("none", torch.tensor([net.heads], dtype=torch.int64), persistent=False)

    def forward(  # noqa: PLR0913 - the inputs of a graph
        self, x: Tensor, bank: Tensor, source: Tensor, target: Tensor, switch: Tensor, level: Tensor, coefficients: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """x (B, C, H, W), source and target (B, E), switch int64 (B, 1) in calls, level (1,), coefficients (6,), places int64 (2,)."""
        c = dict(zip(COLUMNS, coefficients.unbind(0), strict=True))
        late = places[1:] >= switch  # (B, 1)
        v = self.guided(x, level.expand(x.shape[0], 1), torch.where(late, target, source), self.net.embedded(self.none), c["guidance"])
        stepped = c["cos"] * x + c["sin"] * v
        held = bank.index_select(0, places[:1])[0]
        keep = torch.where(late, c["keep_target"], c["keep_source"])[:, :, None, None]
        follow = c["follow"]
        missing = follow * (held - stepped)
        return stepped + missing + (1 - follow) * keep * held, missing + (1 - follow) * x

    def guided(self, x: Tensor, levels: Tensor, text: Tensor, empty: Tensor, guidance: Tensor) -> Tensor:
        """v_empty + guidance (v_text - v_empty), from one call of both (Ho and Salimans, 2022, eq. 6)."""
        both = torch.cat([text, empty.expand_as(text)])
        # By shape and not by halves of the batch, which torch cannot say in ONNX for a free batch.
        asked, free = self.net(torch.cat([x, x]), torch.cat([levels, levels]), both).reshape(2, -1, *x.shape[1:]).unbind(0)
        found: Tensor = free + guidance * (asked - free)
        return found


class Text(nn.Module):
    """Conditions int64 (B, heads) -> the text that stands for them, float32 (B, E)."""

    inputs, outputs = ("condition",), ("text",)

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, condition: Tensor) -> tuple[Tensor]:
        """A sum of rows."""
        return (self.net.embedded(condition),)


class Prepared(nn.Module):
    """Which of the prepared edits -> its latent, its offsets and its two texts, a row of each bound tensor."""

    inputs = ("edit", "latents", "offsets", "sources", "targets")
    outputs = ("latent", "bank", "source", "target")

    def forward(self, edit: Tensor, latents: Tensor, offsets: Tensor, sources: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """edit int64 (B, 1); latents (N, C, H, W), offsets (S, N, C, H, W), sources and targets (N, E)."""
        at = edit[:, 0]
        return latents[at], offsets.index_select(1, at), sources[at], targets[at]
