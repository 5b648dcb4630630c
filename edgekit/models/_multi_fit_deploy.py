"""The trained network as graphs: a whole record with its tuples made inside, and one step with everything it remembers as states.

Both take readings in their own units; clipping and scaling are inside. They compute the same thing in another order:
sums over a record become running sums, the softmax of the attention becomes one that is rescaled with every new maximum.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._multi_fit_net import Affines, Group, MultiFit, picked
from edgekit.models._multi_fit_tuples import CLIP, DAY_MINUTES, Scale

DOUBLINGS = 12  # a reading is remembered over 2^12 - 1 steps of a record: 48 hours have 2,881 minutes


class Matrix(nn.Module):
    """The affine layers of a group, support and all, as one constant matrix: what Affines builds anew at each call."""

    weight: Tensor
    bias: Tensor

    def __init__(self, affines: Affines) -> None:
        super().__init__()
        self.register_buffer("weight", affines.matrix().detach())
        self.register_buffer("bias", affines.bias.detach())

    def forward(self, tuples: Tensor) -> Tensor:
        """(..., 4 signals) -> (..., width signals)."""
        return tuples @ self.weight + self.bias


def frozen(net: MultiFit) -> MultiFit:
    """A copy to deploy, its affine layers made matrices."""
    copied = copy.deepcopy(net).eval().requires_grad_(False)
    for group in copied.groups:
        group.affines = Matrix(group.affines)  # type: ignore[assignment]
    return copied


class Scaling(nn.Module):
    """Readings in their own units to numbers around 0 (Scale of _multi_fit_tuples.py)."""

    low: Tensor
    high: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        for name in ("low", "high", "mean", "deviation"):
            self.register_buffer(name, torch.tensor(getattr(scale, name)))

    def forward(self, values: Tensor, read: Tensor) -> Tensor:
        """values (..., signals), read float32 alike: scaled, 0 where nothing was read, whatever the value there is."""
        clipped = torch.minimum(torch.maximum(values, self.low), self.high)
        scaled = ((clipped - self.mean) / self.deviation).clamp(-CLIP, CLIP)
        return torch.where(read > 0, scaled, torch.zeros_like(scaled))


class Offline(nn.Module):
    """A whole record: values, observed, minutes -> log-probabilities."""

    def __init__(self, net: MultiFit, groups: tuple[tuple[int, ...], ...], scale: Scale, causal: bool) -> None:
        super().__init__()
        self.net, self.scaling, self.causal = frozen(net), Scaling(scale), causal
        self.columns = nn.ParameterList(nn.Parameter(torch.tensor(g), requires_grad=False) for g in groups)

    def forward(self, values: Tensor, observed: Tensor, minutes: Tensor) -> Tensor:
        """float32 (N, T, signals), uint8 alike, float32 (N, T) -> float32 (N, 2). Steps without a reading count for nothing."""
        read = observed.to(torch.float32).clamp(max=1)
        tuples = self.tuples(self.scaling(values, read), read, minutes)
        vectors = []
        for group, columns in zip(self.net.groups, self.columns, strict=True):
            active = read.index_select(2, columns).amax(2).to(torch.int64)
            rows, steps = on_own_grid(tuples.index_select(2, columns).flatten(2), active)
            vectors.append(group(rows, steps))
        return self.net.answer(vectors)

    def tuples(self, scaled: Tensor, read: Tensor, minutes: Tensor) -> Tensor:
        """The 4-tuples (N, T, signals, 4) as tuples_of of _multi_fit_tuples.py says."""
        places = last_read(read.to(torch.int64))  # 1 + the step of the last reading, 0 before the first
        seen = places > 0
        at = (places - 1).clamp(min=0)
        sums, counts = (scaled.cumsum(1), read.cumsum(1)) if self.causal else (scaled.sum(1, True), read.sum(1, True))
        mean = (sums / counts.clamp(min=1)).expand_as(scaled)
        last = torch.where(seen, scaled.gather(1, at), mean)
        now = minutes[:, :, None].expand_as(scaled)
        since = torch.where(seen, now.gather(1, at), torch.zeros_like(scaled))
        return torch.stack([last, mean, 1 - read, (now - since) * (1 / DAY_MINUTES)], -1)


def last_read(read: Tensor) -> Tensor:
    """read int64 (N, T, n), 0 or 1: 1 + the step of the last 1 up to each step, 0 before the first.

    A running maximum by doubling (Hillis and Steele, 1986): engines have no cumulative maximum, but all can pad and cut.
    """
    steps = read.shape[1]
    found = read * torch.arange(1, steps + 1)[:, None]
    for k in range(DOUBLINGS):
        found = torch.maximum(found, F.pad(found, (0, 0, 2**k, 0))[:, :steps])
    return found


def on_own_grid(rows: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """rows (N, T, F) where active int64 (N, T) is 1, moved to the front: (N, T, F), and how many there are, int64 (N,)."""
    so_far = active.cumsum(1)
    order = torch.arange(active.shape[1])
    # Place j holds the step at which the count first reaches j + 1: as many steps lie before it as have a count of at most j.
    places = (so_far[:, None, :] <= order[:, None]).to(torch.int64).sum(2)
    return picked(rows, torch.minimum(places, order[-1:])), so_far[:, -1]


STATES = ("last", "since", "total", "count")  # of every signal: last value, its minute, sum and number of its readings
GROUP_STATES = ("h", "c", "peak", "weight", "vector")  # of every group: LSTM, largest score, sum of e^s, sum of e^s h


class Step(nn.Module):
    """One step of a stay: readings that came together, and all that is remembered -> the answer, and what to remember now.

    Attention over the steps so far, with the largest score m taken out (online softmax; Milakov and Gimelshein, 2018):
    m' = max(m, s), weight' = weight e^(m - m') + e^(s - m'), vector' likewise with h, answer = vector' / weight'.
    """

    def __init__(self, net: MultiFit, groups: tuple[tuple[int, ...], ...], scale: Scale) -> None:
        super().__init__()
        self.net, self.scaling = frozen(net), Scaling(scale)
        self.columns = nn.ParameterList(nn.Parameter(torch.tensor(g), requires_grad=False) for g in groups)

    def forward(self, values: Tensor, observed: Tensor, minutes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """float32 (N, signals), uint8 alike, float32 (N,), then STATES (N, signals) and GROUP_STATES of each group
        -> log-probabilities (N, 2), and the states in their order. A push without a reading changes nothing."""
        last, since, total, count = states[:4]
        read = observed.to(torch.float32).clamp(max=1)
        scaled = self.scaling(values, read)
        now = minutes[:, None].expand_as(scaled)
        last, since = torch.where(read > 0, scaled, last), torch.where(read > 0, now, since)
        total, count = total + scaled, count + read
        mean = total / count.clamp(min=1)
        tuples = torch.stack([last, mean, 1 - read, (now - since) * (1 / DAY_MINUTES)], -1)
        after, vectors = [last, since, total, count], []
        for i, (group, columns) in enumerate(zip(self.net.groups, self.columns, strict=True)):
            own = states[4 + 5 * i : 9 + 5 * i]
            active = read.index_select(1, columns).amax(1, keepdim=True) > 0
            new = advance(group, tuples.index_select(1, columns).flatten(1), own)
            kept = [torch.where(active, n, o) for n, o in zip(new, own, strict=True)]
            pooled = kept[4] / torch.where(kept[3] > 0, kept[3], torch.ones_like(kept[3]))
            vectors.append(torch.cat([pooled, kept[0]], -1) if group.last else pooled)
            after += kept
        return (self.net.answer(vectors), *after)


def advance(group: Group, tuples: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
    """One step of a causal group: its states (GROUP_STATES; h, c, vector (N, H), peak, weight (N, 1)) after these tuples."""
    h, c, peak, weight, vector = states
    w, r, b, d = (getattr(group.forth, n) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    gates = F.linear(group.affines(tuples), w, b) + F.linear(h, r, d)
    entry, forget, new, out = gates.chunk(4, -1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(entry) * torch.tanh(new)
    h = torch.sigmoid(out) * torch.tanh(c)
    score = (h * group.query).sum(1, keepdim=True)
    top = torch.where(weight > 0, torch.maximum(peak, score), score)  # the first step has no peak before it
    kept, grown = torch.exp(peak - top) * (weight > 0).to(score.dtype), torch.exp(score - top)
    return [h, c, top, weight * kept + grown, vector * kept + grown * h]
