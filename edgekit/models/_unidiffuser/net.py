"""A network for pictures and captions at levels of their own: v of the picture, and how likely each word of the caption is.

Captions are heard as what their noisy codes say. The codes are known, so that of y = a c + b eps the probability of each word is
softmax(a <c, y> / b^2), whatever the picture shows: at level 0 one word, at level 1000 exactly nothing, that is all words alike. The
network is told these probabilities and no noise. In return it says what picture and other words make likely, and the caption's own term
a <c, y> / b^2 is added to that: the two are independent given the word. The clean caption that is expected is the mean of the codes by
these probabilities (Dieleman et al., "Continuous diffusion for categorical data", 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._diffusion.net import FREQUENCIES, UNet
from edgekit.models._diffusion.schedule import LEVELS, noise, signal
from edgekit.models._unidiffuser.captions import codes_of

LEAST_VARIANCE = 0.01  # of the noise of a caption, as far as its words are told apart: below it one word has all the probability anyway
NO_WORD = -1e4  # of what is no word of its place: far below every other, and a number in float16
SEEN_CHANNELS = 16  # of what the words see of the picture, at half its resolution


class Net(nn.Module):
    """See hear, draw and say; everything else puts these three together."""

    codes: Tensor
    absent: Tensor

    def __init__(self, channels: int, size: int, values: tuple[int, ...], width: int) -> None:
        """channels, size: of the square pictures. values: how many words each place of a caption has."""
        super().__init__()
        self.channels, self.size, self.values, self.width = channels, size, tuple(values), width
        self.unet = UNet(channels, size, (), width=width)
        codes = torch.from_numpy(codes_of(self.values))
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("absent", NO_WORD * (codes == 0).all(2).float(), persistent=False)
        told, words = 4 * width, codes.shape[0] * codes.shape[1]
        self.heard_first, self.heard_second = nn.Linear(words, told), nn.Linear(told, told)
        self.seen = nn.Conv2d(2 * width, SEEN_CHANNELS, 1)
        seen = SEEN_CHANNELS * (size // 2) ** 2
        self.say_first, self.say_second = nn.Linear(seen + words + 2 * FREQUENCIES, told), nn.Linear(told, told)
        self.say_last = nn.Linear(told, words)
        for p in self.say_last.parameters():
            nn.init.zeros_(p)

    def own(self, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """What the codes y (B, T, D) at signal and noise (B or 1, T or 1) say of each word: (B, T, words) before the softmax."""
        found: Tensor = (y[:, :, None] @ self.codes.transpose(1, 2))[:, :, 0]
        return found * (a / (b * b).clamp(min=LEAST_VARIANCE))[:, :, None] + self.absent

    def hear(self, own: Tensor) -> Tensor:
        """What own() says, as the network is told it: probabilities less those of no knowledge, (B, T * words)."""
        return (own.softmax(2) - self.absent.softmax(1)).flatten(1)

    def draw(self, x: Tensor, level: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures x (B, C, H, W) at level (B, 1), what is heard -> (v, what is seen of them (B, seen))."""
        unet = self.unet
        time = unet.told_second(F.silu(unet.told_first(unet.waves(level))))
        told = F.silu(time + self.heard_second(F.silu(self.heard_first(heard))))
        v, deepest = unet.drawn(x, told)
        return v, F.silu(self.seen(deepest)).flatten(1)

    def say(self, seen: Tensor, level: Tensor, heard: Tensor, own: Tensor) -> Tensor:
        """What picture at level (B, 1) and caption make of each word: (B, T, words) before the softmax. At level 1000 the picture is
        nothing, whatever `seen` is."""
        found = torch.cat([seen * signal(level), heard, self.unet.waves(level)], 1)
        found = self.say_second(F.silu(self.say_first(found)))
        said: Tensor = self.say_last(F.silu(found)).reshape(own.shape)
        return said + own

    def caption(self, said: Tensor) -> Tensor:
        """The codes that are expected: (B, T, D)."""
        mean: Tensor = (said.softmax(2)[:, :, None] @ self.codes)[:, :, 0]
        return mean

    def forward(self, x: Tensor, y: Tensor, level: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) at level (B, 1), codes y (B, T, D) at levels (B, T) -> (v of the picture, each word before the softmax)."""
        own = self.own(y, signal(levels), noise(levels))
        heard = self.hear(own)
        v, seen = self.draw(x, level, heard)
        return v, self.say(seen, level, heard, own)

    def encoded(self, words: Tensor) -> Tensor:
        """int64 (B, T) -> codes (B, T, D); the number of a place's words means 'not given', whose code is 0: it says nothing."""
        places, most, length = self.codes.shape
        table = torch.cat([self.codes, torch.zeros(places, 1, length)], 1).reshape(-1, length)
        return F.embedding(words + torch.arange(places) * (most + 1), table)

    def decoded(self, y: Tensor) -> Tensor:
        """Codes (B, T, D) -> the words of the nearest codes, int64 (B, T)."""
        likeness: Tensor = (y[:, :, None] @ self.codes.transpose(1, 2))[:, :, 0]
        return (likeness + self.absent).argmax(2)


def no_knowledge(y: Tensor) -> Tensor:
    """Level 1000 for each picture (B, 1)."""
    return torch.full_like(y[:, :1, 0], float(LEVELS))
