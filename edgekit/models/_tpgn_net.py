"""TPGN: one linear step from every hour of history to the forecast, a gate, and two branches; plain matrix products.

Jia, Lin, Yu, Wang, Liu, Wan, "PGN: The RNN's New Successor is Effective for Long-Range Time Series Forecasting",
NeurIPS 2024, arXiv 2409.17703, and the authors' code where it says more.
Names as there: L = R P hours of history, H = R' P ahead, a row is a period, d the width. Variables
do not see each other; each has weights of its own (V in front of every weight).
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from edgekit.models._tpgn_options import Network

EPSILON = 1e-5  # under the root of a window's standard deviation (published code)


class Tpgn(nn.Module):
    """The whole network, from values as measured to the forecast in the same unit; the z-score of training is inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, features: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        n, variables, width, item = network, len(mean), network.width, 1 + features
        self.network, self.features = network, features
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.hidden, self.hidden_bias = _linear(variables, (n.rows - 1) * item, width, (n.rows - 1, item, width))
        self.gate, self.gate_bias = _linear(variables, item + width, 2 * width)
        self.long, self.long_bias = _linear(variables, n.rows * width, width)
        self.row, self.row_bias = _linear(variables, n.period * item, width)
        self.column, self.column_bias = _linear(variables, n.rows * width, width)
        self.head, self.head_bias = _linear(variables, 2 * width, n.rows_ahead)
        slots = torch.arange(n.rows)[:, None] - torch.arange(n.rows) + n.rows - 1  # [s, r]: which of the R - 1 weights row s has for row r
        self.slots = torch.where(torch.arange(n.rows)[:, None] < torch.arange(n.rows), slots, n.rows - 1)
        self.matrix: Tensor | None = None  # look_back() of weights that do not change any more

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        """values float32 (N, L, V) as measured, time float32 (N, L, F) -> forecast float32 (N, H, V) as measured."""
        return self.unscaled(self.scaled_forecast(self.scaled(values), time))

    # Scaling and normalising are written with Sub and Div alone: quantisers round the operands of Mul and Add, which here
    # would be values as measured. So 8 bits begin behind the normalisation and end before it is undone.
    def scaled(self, values: Tensor) -> Tensor:
        """z = (x - mean) / std with the training part's figures."""
        return (values - self.mean) / self.std

    def unscaled(self, z: Tensor) -> Tensor:
        """x = z std + mean."""
        return z / (1 / self.std) - (-self.mean)

    def scaled_forecast(self, z: Tensor, time: Tensor) -> Tensor:
        """The published network: z float32 (N, L, V), time float32 (N, L, F) -> float32 (N, H, V), both z-scored."""
        if not self.network.norm:
            return self._core(z, time)
        mean, deviation = window_statistics(z)
        return self._core((z - mean) / deviation, time) / (1 / deviation) - (-mean)

    def _core(self, z: Tensor, time: Tensor) -> Tensor:
        n, variables = self.network, len(self.mean)
        stamps = time.unsqueeze(2)
        if variables > 1:
            stamps = stamps.expand(-1, -1, variables, -1)
        items = torch.cat([z.unsqueeze(-1), stamps], -1)  # (N, L, V, 1 + F)
        items = items.reshape(-1, n.rows, n.period, variables, 1 + self.features)
        columns = items.permute(3, 0, 2, 1, 4).reshape(variables, -1, n.rows, 1 + self.features)  # (V, N P, R, 1 + F)
        rows = items.permute(3, 0, 1, 2, 4).reshape(variables, -1, n.period * (1 + self.features))  # (V, N R, P (1 + F))
        long = self.mixed(self.gated(columns))
        short = self.short(mix(rows, self.row, self.row_bias).reshape(variables, -1, n.rows * n.width))
        return self.joined(long.reshape(variables, -1, n.period, n.width), short)

    def gated(self, columns: Tensor) -> Tensor:
        """The PGN layer: columns (V, M, R, 1 + F) -> (V, M, R, d). Row r looks back at all rows before it at once.

        H_r = W_h [z_{r-R+1}; ...; z_{r-1}] + b, zeros before the first row; [G, T] = W_g [z_r; H_r] + b;
        Out_r = s(G) H_r + (1 - s(G)) tanh(T). One gate, no recurrence.
        """
        n, variables = self.network, len(self.mean)
        flat = columns.reshape(variables, -1, n.rows * (1 + self.features))
        hidden = mix(flat, self.look_back(), self.hidden_bias.repeat(1, n.rows)).reshape(variables, -1, n.rows, n.width)
        gates = mix(
            torch.cat([columns, hidden], -1).reshape(variables, -1, 1 + self.features + n.width), self.gate, self.gate_bias
        ).reshape(variables, -1, n.rows, 2 * n.width)
        return blended(hidden, gates[..., : n.width], gates[..., n.width :])

    def look_back(self) -> Tensor:
        """W_h for all rows as one matrix (V, R (1 + F), R d): block [s, r] is the weight of row s for row r, 0 for s >= r."""
        if self.matrix is not None:
            return self.matrix
        v, _, item, width = self.hidden.shape
        padded = torch.cat([self.hidden, self.hidden.new_zeros(v, 1, item, width)], 1)
        blocks = padded[:, self.slots.reshape(-1)].reshape(v, self.network.rows, self.network.rows, item, width)
        return blocks.permute(0, 1, 3, 2, 4).reshape(v, self.network.rows * item, self.network.rows * width)

    def mixed(self, gated: Tensor) -> Tensor:
        """Linear_long over the R rows of each column: (V, M, R, d) -> (V, M, d)."""
        return mix(gated.reshape(len(self.mean), -1, self.network.rows * self.network.width), self.long, self.long_bias)

    def short(self, rows: Tensor) -> Tensor:
        """Linear_col over the R products of Linear_row: (V, N, R d) -> (V, N, d)."""
        return mix(rows, self.column, self.column_bias)

    def joined(self, long: Tensor, short: Tensor) -> Tensor:
        """The head over [short, long] of each column: (V, N, P, d), (V, N, d) -> (N, H, V). Short is the same for all columns."""
        n, variables = self.network, len(self.mean)
        of_short = mix(short, self.head[:, : n.width], self.head_bias).unsqueeze(2)
        of_long = mix(long.reshape(variables, -1, n.width), self.head[:, n.width :]).reshape(variables, -1, n.period, n.rows_ahead)
        return (of_long + of_short).permute(1, 3, 2, 0).reshape(-1, n.horizon, variables)


def frozen(trained: Tpgn) -> Tpgn:
    """A copy whose look-back matrix is a constant, so that a graph does not build it."""
    net = copy.deepcopy(trained).requires_grad_(False).eval()
    net.matrix = net.look_back()
    return net


def window_statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, sqrt(variance of the population + 1e-5), of each window and variable: (N, L, V) -> two (N, 1, V)."""
    mean = z.mean(1, keepdim=True)
    return mean, torch.sqrt(((z - mean) ** 2).mean(1, keepdim=True) - (-EPSILON))


def blended(hidden: Tensor, gate: Tensor, candidate: Tensor) -> Tensor:
    """s(G) H + (1 - s(G)) tanh(T), as tanh(T) + s(G) (H - tanh(T))."""
    new = torch.tanh(candidate)
    return new + torch.sigmoid(gate) * (hidden - new)


def mix(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (V, M, K), weight (V, K, N), bias (V, N) -> (V, M, N); one variable as a plain matrix product, which engines know best."""
    if weight.shape[0] == 1:
        made = x @ weight[0]
        return made if bias is None else made + bias[0]
    made = x @ weight
    return made if bias is None else made + bias.unsqueeze(1)


def _linear(variables: int, inputs: int, outputs: int, shape: tuple[int, ...] = ()) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights (V, inputs, outputs) and biases (V, outputs), uniform in +-1/sqrt(inputs) as torch's layers begin."""
    bound = 1 / math.sqrt(inputs)
    weight = torch.empty(variables, *(shape or (inputs, outputs))).uniform_(-bound, bound)
    return nn.Parameter(weight), nn.Parameter(torch.empty(variables, outputs).uniform_(-bound, bound))
