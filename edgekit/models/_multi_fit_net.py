"""FIT, FIT-V and Multi-FIT as torch modules over 4-tuples, and the GRUs that they are held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

OUTCOMES = 2  # lives, dies


class Affines(nn.Module):
    """One affine layer a signal, r = A [own tuple, tuples of its support] + b, with no nonlinearity; all of them are one matrix.

    sources: of each signal, itself and its support, as places among the signals.
    """

    places: Tensor

    def __init__(self, sources: Sequence[Sequence[int]], width: int) -> None:
        super().__init__()
        count, inputs = len(sources), 4 * len(sources[0])
        bound = inputs**-0.5  # torch's own for a linear layer
        self.weight = nn.Parameter(torch.empty(count, inputs, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count * width).uniform_(-bound, bound))
        rows = (torch.tensor(sources)[:, :, None] * 4 + torch.arange(4)).reshape(count, inputs, 1)
        columns = (torch.arange(count)[:, None] * width + torch.arange(width)).reshape(count, 1, width)
        flat = rows * (count * width) + columns
        self.register_buffer("places", flat.reshape(-1), persistent=False)
        self.shape = (count * 4, count * width)

    def matrix(self) -> Tensor:
        """(4 signals, width signals): tuples of all signals to features of all signals, zero where one does not see the other."""
        zeros = self.weight.new_zeros(self.shape[0] * self.shape[1])
        return zeros.index_put((self.places,), self.weight.reshape(-1)).reshape(self.shape)

    def forward(self, tuples: Tensor) -> Tensor:
        """(..., 4 signals) -> (..., width signals)."""
        return tuples @ self.matrix() + self.bias


class Group(nn.Module):
    """Signals that share a time grid: affine layers, one LSTM (or one in each direction), attention by one learned vector.

    last: its vector holds the last hidden state as well (of the backward LSTM, the one at the first step).
    """

    def __init__(self, sources: Sequence[Sequence[int]], width: int, hidden: int, causal: bool, last: bool) -> None:
        super().__init__()
        self.affines = Affines(sources, width)
        self.forth = nn.LSTM(len(sources) * width, hidden, batch_first=True)
        self.back = None if causal else nn.LSTM(len(sources) * width, hidden, batch_first=True)
        states = hidden if causal else 2 * hidden
        self.last, self.size = last, 2 * states if last else states
        self.query = nn.Parameter(torch.empty(states).uniform_(-(states**-0.5), states**-0.5))

    def forward(self, tuples: Tensor, steps: Tensor) -> Tensor:
        """tuples (N, T, 4 signals), of which the first `steps` int64 (N,) are no padding -> vectors (N, size).

        Zeros for a stay of no steps.
        """
        features = self.affines(tuples)
        states = sequence(self.forth, features)
        ends = [last_state(states, steps)]
        place = torch.arange(tuples.shape[1], device=tuples.device)
        real = place < steps[:, None]
        if self.back is not None:
            turned = (steps[:, None] - 1 - place).clamp(min=0)  # the last real step first, padding at the end
            backward = sequence(self.back, picked(features, turned))
            states = torch.cat([states, picked(backward, turned)], -1)
            ends.append(last_state(backward, steps))
        pooled = attention(states, states @ self.query, real)
        return torch.cat([pooled, *ends], -1) if self.last else pooled


def sequence(lstm: nn.LSTM, features: Tensor) -> Tensor:
    """All hidden states of one forward LSTM: (N, T, F) -> (N, T, H).

    While torch.export traces it, one ONNX LSTM node stands for it: torch would fix T to that of the example.
    """
    if not torch.compiler.is_exporting():
        states: Tensor = lstm(features)[0]
        return states
    (w, r, b, d) = (_onnx_order(getattr(lstm, n).detach()) for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    shape = (features.shape[1], 1, features.shape[0], lstm.hidden_size)
    inputs = (features.transpose(0, 1), w[None], r[None], torch.cat([b, d])[None])
    size = {"hidden_size": lstm.hidden_size}
    states = torch.onnx.ops.symbolic("LSTM", inputs, {**size}, dtype=features.dtype, shape=shape, version=20)
    return states[:, 0].transpose(0, 1)


def _onnx_order(weight: Tensor) -> Tensor:
    """Rows of torch's gates (entry, forget, new, out) in the order of ONNX (entry, out, forget, new)."""
    entry, forget, new, out = weight.chunk(4, 0)
    return torch.cat([entry, out, forget, new], 0)


def picked(rows: Tensor, places: Tensor) -> Tensor:
    """rows (N, T, F) at places int64 (N, T'): (N, T', F)."""
    return rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2]))


def attention(states: Tensor, scores: Tensor, real: Tensor) -> Tensor:
    """The mean of states (N, T, H) weighted by the softmax of scores (N, T) over the real steps; zeros where there is none."""
    masked = torch.where(real, scores, scores.amin(1, keepdim=True))  # no new maximum, and no huge constant that INT8 must hold
    weights = torch.exp(masked - masked.amax(1, keepdim=True)) * real.to(scores.dtype)
    total = weights.sum(1, keepdim=True)
    shares = weights / torch.where(total > 0, total, torch.ones_like(total))
    return (shares[:, None, :] @ states)[:, 0]


class MultiFit(nn.Module):
    """Groups side by side, their vectors joined, one linear layer, log-softmax. FIT and FIT-V are one group."""

    def __init__(  # noqa: PLR0913 - what a recipe says of a network
        self, sources: Sequence[Sequence[Sequence[int]]], width: int, hidden: int, causal: bool, last: bool, dropout: float
    ) -> None:  # fmt: skip
        super().__init__()
        self.groups: Sequence[Group] = nn.ModuleList(Group(s, width, hidden, causal, last) for s in sources)  # type: ignore[assignment]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(sum(g.size for g in self.groups), OUTCOMES)

    def answer(self, vectors: Sequence[Tensor]) -> Tensor:
        """The vectors of the groups -> log-probabilities (N, 2)."""
        return torch.log_softmax(self.head(self.dropout(torch.cat(list(vectors), -1))), -1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """tuples (N, T, 4 signals) and steps (N,) of each group in turn; T may differ between groups."""
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        return self.answer([g(t, n) for g, (t, n) in zip(self.groups, pairs, strict=True)])


class Gru(nn.Module):
    """A GRU over whole inputs: values with the mean where nothing was read, or these with masks and gaps (GRU-simple)."""

    def __init__(self, signals: int, hidden: int, dropout: float, simple: bool) -> None:
        super().__init__()
        self.parts = 3 if simple else 1  # of value, mask, gap
        self.gru = nn.GRU(self.parts * signals, hidden, batch_first=True)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(hidden, OUTCOMES)

    def forward(self, inputs: Tensor, steps: Tensor) -> Tensor:
        """inputs (N, T, signals, 4) of gru_inputs, steps (N,) -> log-probabilities (N, 2)."""
        states = self.gru(inputs[..., : self.parts].flatten(2))[0]
        return torch.log_softmax(self.head(self.dropout(last_state(states, steps))), -1)


class GruD(nn.Module):
    """Che et al. 2018, section 2.3: values decay to the mean and states to zero with the time since the last reading."""

    def __init__(self, signals: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.empty(2, signals).uniform_(-(signals**-0.5), signals**-0.5))  # weight, bias: diagonal
        self.forget = nn.Linear(signals, hidden)
        self.gates = nn.Linear(2 * signals, 3 * hidden)
        self.recurrent = nn.Linear(hidden, 3 * hidden)
        self.hidden = hidden
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(hidden, OUTCOMES)

    def filled(self, value: Tensor, read: Tensor, gap: Tensor, last: Tensor) -> Tensor:
        """x' = m x + (1 - m)(g last + (1 - g) mean), g = exp(-max(0, w gap + b)); the mean of scaled values is 0."""
        kept = torch.exp(-torch.relu(self.decay[0] * gap + self.decay[1]))
        return read * value + (1 - read) * kept * last

    def forward(self, inputs: Tensor, steps: Tensor) -> Tensor:
        """inputs (N, T, signals, 4) of gru_inputs, steps (N,) -> log-probabilities (N, 2)."""
        value, read, gap, last = inputs.unbind(-1)
        kept = torch.exp(-torch.relu(self.forget(gap)))
        gates = self.gates(torch.cat([self.filled(value, read, gap, last), read], -1))
        h = gates.new_zeros(len(inputs), self.hidden)
        states = []
        for t in range(inputs.shape[1]):
            h = h * kept[:, t]
            of_x, of_h = gates[:, t].chunk(3, -1), self.recurrent(h).chunk(3, -1)
            reset, update = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
            new = torch.tanh(of_x[2] + reset * of_h[2])  # torch's GRU; the paper resets h before the product
            h = new + update * (h - new)
            states.append(h)
        return torch.log_softmax(self.head(self.dropout(last_state(torch.stack(states, 1), steps))), -1)


def last_state(states: Tensor, steps: Tensor) -> Tensor:
    """The state after the last real step (N, H); zeros where there is none."""
    place = (steps - 1).clamp(min=0)[:, None]
    return picked(states, place)[:, 0] * (steps > 0).to(states.dtype)[:, None]
