"""The graphs of a bundle: one network call with all that lies between it and the next one, words to codes, and codes to words.

Guidance without extra training (UniDiffuser): the answer to picture and caption, and the same with the other one at level 1000, that is
unknown: answer = unknown + w (known - unknown), of pictures v, of captions the expected codes. A picture's two answers are one call of
twice the batch. A caption's second answer needs no call: of an unknown picture nothing is seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models._unidiffuser.net import Net, no_knowledge
from edgekit.models._unidiffuser.plans import CAPTION, PICTURE, ROWS

CLAMP = 1.0  # of a guessed picture's pixels and a guessed caption's codes, which lie in -1 to 1


class Step(nn.Module):
    """x (B, C, H, W), y (B, T, D) and a row of each table -> what both are next."""

    inputs = ("x", "y", *ROWS)
    outputs = ("x_next", "y_next")

    def __init__(self, net: Net, guided: bool = True) -> None:
        """guided: False leaves out the second half of the batch, for walks whose picture has no guidance."""
        super().__init__()
        self.net, self.guided = net, guided

    def forward(self, x: Tensor, y: Tensor, level: Tensor, coefficients: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """level (2,), coefficients (2, 4), guidance (2,); see plans.rows."""
        net, unknown = self.net, no_knowledge(y)
        at = torch.zeros_like(unknown) + level[PICTURE]
        a, b, by_guess, by_now = coefficients[PICTURE].unbind(0)
        words_a, words_b, words_by_guess, words_by_now = coefficients[CAPTION].unbind(0)
        own = net.own(y, words_a.reshape(1, 1), words_b.reshape(1, 1))
        heard = net.hear(own)
        v, seen = self._drawn(x, at, heard, guidance[PICTURE])
        guess = (a * x - b * v).clamp(-CLAMP, CLAMP)
        known, alone = net.caption(net.say(seen, at, heard, own)), net.caption(net.say(torch.zeros_like(seen), unknown, heard, own))
        codes = (alone + guidance[CAPTION] * (known - alone)).clamp(-CLAMP, CLAMP)
        return by_guess * guess + by_now * x, words_by_guess * codes + words_by_now * y

    def _drawn(self, x: Tensor, at: Tensor, heard: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        if not self.guided:
            return self.net.draw(x, at, heard)
        v, seen = self.net.draw(torch.cat([x, x]), torch.cat([at, at]), torch.cat([heard, torch.zeros_like(heard)]))
        # By shape and not by halves of the batch, which torch cannot say in ONNX for a free batch.
        known, alone = v.reshape(2, -1, *x.shape[1:]).unbind(0)
        return alone + guidance * (known - alone), seen.reshape(2, -1, seen.shape[1])[0]


class Encode(nn.Module):
    """words int64 (B, T), the number of a place's words for 'not given' -> codes (B, T, D)."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, words: Tensor) -> Tensor:
        """See Net.encoded."""
        return self.net.encoded(words)


class Decode(nn.Module):
    """Codes (B, T, D) -> words int64 (B, T)."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, y: Tensor) -> Tensor:
        """See Net.decoded."""
        return self.net.decoded(y)
