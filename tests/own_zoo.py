"""Torch models as users write them, each with the example inputs, free sizes and states that it is exported with."""

import torch
from torch import nn


class NestedState(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(8, 16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, x, state):
        y, state = self.lstm(x, state)
        return self.out(y), state


def nested():
    return NestedState(), (torch.randn(1, 5, 8), (torch.zeros(2, 1, 16), torch.zeros(2, 1, 16)))


class LastOfSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


def sequence():
    """torch seems to fix an LSTM's time, and does not."""
    return LastOfSequence(), (torch.randn(2, 7, 8),), {"x": {0: "batch", 1: "time"}}


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(4, 8), nn.Linear(8, 2)

    def forward(self, ids, mask):
        return self.out((self.embedding(ids) * mask[..., None].float()).mean(1))


def tokens():
    """Four tokens only, and a batch of the size of the output: neither may be mistaken."""
    axes = {0: "batch", 1: "time"}
    return Tokens(), (torch.randint(0, 4, (2, 9)), torch.ones(2, 9, dtype=torch.bool)), {"ids": axes, "mask": axes}


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3), nn.Conv2d(8, 8, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, image):
        return self.net(image).softmax(-1)


def pixels():
    return Pixels(), torch.randn(1, 3, 64, 64), {"image": {0: "batch", 2: "height", 3: "width"}}


class Multiples(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv1d(2, 4, 4, stride=4), nn.ConvTranspose1d(4, 2, 4, stride=4)

    def forward(self, x):
        return x + self.up(self.down(x).relu())


def multiples():
    """A size of 4 t, by torch's own derived Dim."""
    return Multiples(), (torch.randn(1, 2, 64),), {"x": {2: 4 * torch.export.Dim("t", min=1, max=64)}}


class Attention(nn.Module):
    """One token a step over a ring of keys and values; the position is a whole number."""

    def __init__(self, length=16, width=8):
        super().__init__()
        self.qkv, self.length = nn.Linear(width, 3 * width), length
        self.register_buffer("keys", torch.zeros(1, length, width))
        self.register_buffer("values", torch.zeros(1, length, width))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        at = (self.position % self.length).reshape(1)
        self.keys.index_copy_(1, at, k[:, None])
        self.values.index_copy_(1, at, v[:, None])
        weights = (self.keys @ q[..., None]).squeeze(-1).masked_fill(torch.arange(self.length) > self.position, -1e9).softmax(-1)
        self.position.add_(1)
        return (weights[:, None] @ self.values).squeeze(1)


def attention():
    return Attention(), torch.randn(1, 8)


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 5)
        self.register_buffer("past", torch.zeros(1, 2, 4))

    def forward(self, x):
        x = torch.cat([self.past, x], -1)
        self.past.copy_(x[..., -4:])
        return self.conv(x)


def causal():
    return Causal(), torch.randn(1, 2, 8)


class Changing(nn.Module):
    def forward(self, x, *, scale=1.0, bias=None):
        x += 1
        return {"inner": [x * scale, None], "positive": x > 0, "half": x.half()}


def changing():
    """Changes its input, takes keywords that are no tensors, and nests its outputs."""
    return Changing(), {"x": torch.rand(2, 3), "scale": 3.0, "bias": None}


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def noise():
    return Noise(), torch.rand(4, 5)


class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.zeros(1, 4)

    def forward(self, x):
        self.hidden = (x + self.hidden).tanh()
        return self.hidden


def attribute():
    return Attribute(), torch.rand(1, 4)


class OneSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, x):
        return self.linear(x)


def one_size():
    return OneSize(), torch.rand(1, 6), {"x": {1: "width"}}
