"""The context-aware language model: what is said, and the voice of a prompt, to the acoustic codes of each frame.

StreamVoice (Wang et al., ACL 2024): a causal transformer of the LLaMA kind (RMSNorm, SwiGLU, rotary positions) over semantic and acoustic
frames; its state at s_t, which has seen s up to t and a before t, predicts a_t. A frame is either two positions in turn
(interleaved) or one (paired). The prompt goes before everything: its keys stay for good, those of the stream for `window` positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

PERIOD = 512  # positions after which rotations repeat: above twice any window, so that no distance within one is ambiguous
FASTEST = 82  # turns of the fastest rotation in PERIOD positions: about one radian a position, as in RoFormer (Su et al., 2021)


def rotations(half: int) -> Tensor:
    """(PERIOD, 2, half): cosines and sines of each position. Whole turns in PERIOD, so that a position may be counted modulo PERIOD."""
    turns = np.unique(np.rint(np.geomspace(1, FASTEST, 4 * half)))
    turns = turns[np.rint(np.linspace(0, len(turns) - 1, half)).astype(int)]
    angles = 2 * np.pi / PERIOD * np.outer(np.arange(PERIOD), turns)
    return torch.tensor(np.stack([np.cos(angles), np.sin(angles)], 1), dtype=torch.float32)


def rotated(x: Tensor, table: Tensor) -> Tensor:
    """x (N, heads, T, 2 half) turned by table (T, 2, half)."""
    first, second = x.chunk(2, -1)
    cos, sin = table[:, 0], table[:, 1]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Layer(nn.Module):
    """Attention and a gated network, each on what a norm leaves, each added."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in ((width, hidden), (width, hidden), (hidden, width)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, T, width) -> queries by the root of their width, keys, values (N, heads, T, width / heads)."""
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(self.norm(x)).chunk(3, -1))
        return q * q.shape[-1] ** -0.5, k, v

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """x (N, T, width) after attention gave (N, heads, T, width / heads)."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        found: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return found


class Trunk(nn.Module):
    """`layers` of them. Positions of a stream see the whole prompt, without positions, and `window` positions before them."""

    table: Tensor

    def __init__(self, width: int, layers: int, heads: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.register_buffer("table", rotations(width // heads // 2))

    def prefix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of a prompt (N, P, width), which sees itself causally: (layers, N, heads, P, width / heads) each."""
        count = x.shape[1]
        table = self.table[torch.arange(count) % PERIOD]
        causal = torch.ones(count, count, dtype=torch.bool).tril()
        keys, values = [], []
        for layer in self._each():
            q, k, v = layer.project(x)
            keys.append(k)
            values.append(v)
            x = layer(x, attention(rotated(q, table), rotated(k, table), v, causal))
        return torch.stack(keys), torch.stack(values)

    def forward(self, x: Tensor, prompt: Sequence[Tensor]) -> Tensor:
        """A whole stream (N, T, width) after the prompt's keys and values -> states (N, T, width)."""
        count = x.shape[1]
        table = self.table[torch.arange(count) % PERIOD]
        distance = torch.arange(count)[:, None] - torch.arange(count)
        seen = (distance >= 0) & (distance <= self.window)
        seen = torch.cat([torch.ones(count, prompt[0].shape[3], dtype=torch.bool), seen], 1)
        for i, layer in enumerate(self._each()):
            q, k, v = layer.project(x)
            # A prompt's keys have no place relative to the stream: queries meet them unturned.
            scores = torch.cat([q @ prompt[0][i].transpose(2, 3), rotated(q, table) @ rotated(k, table).transpose(2, 3)], 3)
            x = layer(x, weighted(scores, seen) @ torch.cat([prompt[1][i], v], 2))
        found: Tensor = self.norm(x)
        return found

    def _each(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def step(
        self, x: Tensor, prompt: Sequence[Tensor], keys: Tensor, values: Tensor, position: Tensor, filled: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next few positions (N, n, width). keys (turned), values: (layers, N, heads, window, width / heads), the newest last;
        position int64 (1,): of the first, modulo PERIOD; filled int64 (1,): how many of the window's places hold anything."""
        count, window = x.shape[1], self.window
        places = position + torch.arange(count)
        table = self.table[places - places.div(PERIOD, rounding_mode="trunc") * PERIOD]
        distance = torch.arange(count)[:, None] + window - torch.arange(window + count)
        seen = (distance >= 0) & (distance <= window) & (torch.arange(window + count) >= window - filled)
        seen = torch.cat([torch.ones_like(seen[:, :1]).expand(-1, prompt[0].shape[3]), seen], 1)
        new_keys, new_values = [], []
        for i, layer in enumerate(self._each()):
            q, k, v = layer.project(x)
            turned = rotated(q, table)
            k, v = torch.cat([keys[i], rotated(k, table)], 2), torch.cat([values[i], v], 2)
            scores = torch.cat([q @ prompt[0][i].transpose(2, 3), turned @ k.transpose(2, 3)], 3)
            x = layer(x, weighted(scores, seen) @ torch.cat([prompt[1][i], v], 2))
            new_keys.append(k[:, :, count:])
            new_values.append(v[:, :, count:])
        return self.norm(x), torch.stack(new_keys), torch.stack(new_values)


def weighted(scores: Tensor, seen: Tensor) -> Tensor:
    """The softmax over what is seen of scores (N, heads, T, K)."""
    return torch.where(seen, scores, torch.full_like(scores, -1e9)).softmax(-1)


def attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Softmax attention over what is seen."""
    return weighted(q @ k.transpose(2, 3), seen) @ v
