"""TPGN one hour at a time: the window moves by an hour, so all its columns but one stay what they were.

Let column c of the window hold the hours c, c + P, c + 2 P, ... One hour later, old column c + 1 is column c, and the last
column is the old first one with its oldest hour gone and the new hour behind. PGN works on columns, so one column is
computed and P - 1 are kept. A row's product is that of P consecutive hours, so one is computed each hour and the others,
made 24, 48, ... hours ago, are kept.

With norm the mean m and deviation s of the window change every hour. Everything before the gate is linear in the values x:
W ((x - m) / s) + K = (W x - m W 1) / s + K. So W x and K (which holds the time features) are kept for each column, and
the division, the gate and Linear_long are done anew; no product with the history is.

All states are zero before the first hour. That stands for a history at the training mean with time features of zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.models._tpgn_net import Tpgn, blended, frozen, mix, window_statistics

Shape = tuple[int | str, ...]
PARTS = (slice(0, 1), slice(1, None))  # of an hour's numbers: its value, its time features


class Rolling(nn.Module):
    """One hour: values (N, V) as measured, time (N, F), the states -> forecast (N, H, V) as measured, the states an hour later."""

    def __init__(self, trained: Tpgn) -> None:
        super().__init__()
        self.net, self.network = frozen(trained), trained.network
        self.variables, self.item = len(trained.mean), 1 + trained.features
        n, net, v = self.network, self.net, self.variables
        look_back = net.look_back().reshape(v, n.rows, self.item, -1)
        row = net.row.reshape(v, n.period, self.item, n.width)
        # Each weight once for the value and once for the time features of an hour, as these are kept apart.
        self.look_back = [look_back[:, :, part].reshape(v, -1, n.rows * n.width) for part in PARTS]
        self.gate = [torch.cat([net.gate[:, part.start : part.stop or self.item], net.gate[:, self.item :]], 1) for part in PARTS]
        self.row = [row[:, :, part].reshape(v, -1, n.width) for part in PARTS]
        empty = torch.zeros(v, 1, n.rows, self.item)
        hidden = net.hidden_bias.unsqueeze(1).expand(-1, n.rows, -1)
        # (V, R, 3 d): what [H, G, T] of an empty column are, by the biases alone; and W 1.
        self.of_nothing = torch.cat([hidden, hidden @ net.gate[:, self.item :] + net.gate_bias.unsqueeze(1)], -1)
        self.of_ones = self._before_gate(torch.ones(v, 1, n.rows, 1), 0)[:, 0]
        self.mixed_of_nothing = net.mixed(net.gated(empty))[:, 0]  # (V, d)
        self.row_of_ones = self.row[0].sum(1)  # (V, d)

    def states(self) -> dict[str, Shape]:
        """Names and shapes of the states, in the order of the graph's inputs."""
        n, variables = self.network, self.variables
        window: dict[str, Shape] = {
            "hours_values": ("batch", n.history, variables),  # z-scored
            "hours_time": ("batch", n.history, self.item - 1),
        }
        if not n.norm:
            return {
                **window,
                "rows": ("batch", n.history, variables, n.width),  # Linear_row of the P hours up to each, without bias
                "columns": ("batch", n.period, variables, n.width),  # Linear_long of each column, less that of an empty one
            }
        column: Shape = ("batch", n.period, variables, n.rows, 3 * n.width)  # of H, G and T
        row: Shape = ("batch", n.history, variables, n.width)
        return {**window, "rows_values": row, "rows_time": row, "columns_values": column, "columns_time": column}

    def forward(self, values: Tensor, time: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """values float32 (N, V), time float32 (N, F), states as states() says -> (forecast, the same states)."""
        n, variables = self.network, self.variables
        z, stamps = _moved(states[0], self.net.scaled(values)), _moved(states[1], time)
        column = _last_column(z, n.rows, n.period), _last_column(stamps, n.rows, n.period)  # (N, R, V), (N, R, F)
        row = z[:, n.history - n.period :], stamps[:, n.history - n.period :]  # (N, P, V), (N, P, F)
        if n.norm:
            forecast, kept = self._normalised(z, column, row, states[2:])
            return self.net.unscaled(forecast), z, stamps, *kept
        items = _items(*row)
        product = mix(items.reshape(variables, -1, n.period * self.item), self.net.row)
        rows = _moved(states[2], product.permute(1, 0, 2))
        mixed = self.net.mixed(self.net.gated(_items(*column)))  # (V, N, d)
        columns = _moved(states[3], (mixed - self.mixed_of_nothing.unsqueeze(1)).permute(1, 0, 2))
        long = columns + self.mixed_of_nothing  # (N, P, V, d)
        short = self._short(_last_column(rows, n.rows, n.period))
        return self.net.unscaled(self.net.joined(long.permute(2, 0, 1, 3), short)), z, stamps, rows, columns

    def _normalised(
        self, z: Tensor, column: tuple[Tensor, Tensor], row: tuple[Tensor, Tensor], states: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        n, variables = self.network, self.variables
        values, stamps = column[0].permute(2, 0, 1).unsqueeze(-1), column[1].unsqueeze(0)  # (V, N, R, 1), (1, N, R, F)
        products = mix(row[0].permute(2, 0, 1), self.row[0]), mix(row[1].reshape(1, -1, n.period * (self.item - 1)), self.row[1])
        rows_values, rows_time = (_moved(q, p.permute(1, 0, 2)) for q, p in zip(states[:2], products, strict=True))
        products = self._before_gate(values, 0), self._before_gate(stamps, 1)
        columns_values, columns_time = (_moved(q, p.permute(1, 0, 2, 3)) for q, p in zip(states[2:], products, strict=True))

        mean, deviation = (s.unsqueeze(-1) for s in window_statistics(z))  # (N, 1, V, 1)
        m, s = mean.unsqueeze(-1), deviation.unsqueeze(-1)
        before = (columns_values - m * self.of_ones) / s + (columns_time + self.of_nothing)
        d = n.width
        gated = blended(before[..., :d], before[..., d : 2 * d], before[..., 2 * d :])  # (N, P, V, R, d)
        long = self.net.mixed(gated.permute(2, 0, 1, 3, 4).reshape(variables, -1, n.rows, d))
        last_values, last_time = (_last_column(q, n.rows, n.period) for q in (rows_values, rows_time))  # (N, R, V, d)
        short = self._short((last_values - mean * self.row_of_ones) / deviation + last_time)
        forecast = self.net.joined(long.reshape(variables, -1, n.period, d), short)
        return forecast / (1 / deviation[..., 0]) - (-mean[..., 0]), (rows_values, rows_time, columns_values, columns_time)

    def _before_gate(self, columns: Tensor, part: int) -> Tensor:
        """What is linear in PGN, [H, G, T] of each row, without biases: (V or 1, M, R, 1 or F) -> (V, M, R, 3 d)."""
        n, variables, features = self.network, self.variables, columns.shape[-1]
        hidden = mix(columns.reshape(len(columns), -1, n.rows * features), self.look_back[part]).reshape(variables, -1, n.rows, n.width)
        if len(columns) < variables:
            columns = columns.expand(variables, -1, -1, -1)
        gates = mix(torch.cat([columns, hidden], -1).reshape(variables, -1, features + n.width), self.gate[part])
        return torch.cat([hidden, gates.reshape(variables, -1, n.rows, 2 * n.width)], -1)

    def _short(self, rows: Tensor) -> Tensor:
        """Linear_col of the R rows' products (N, R, V, d), which lack their bias: (V, N, d)."""
        n, variables = self.network, self.variables
        return self.net.short((rows + self.net.row_bias).permute(2, 0, 1, 3).reshape(variables, -1, n.rows * n.width))


def _moved(state: Tensor, new: Tensor) -> Tensor:
    """(N, K, ...) without its oldest entry and with `new` (N, ...) or (N, 1, ...) at the end."""
    return torch.cat([state[:, 1:], new.reshape(-1, 1, *state.shape[2:])], 1)


def _last_column(hours: Tensor, rows: int, period: int) -> Tensor:
    """Every P-th of (N, L, ...), up to the last one: (N, R, ...)."""
    return hours.reshape(-1, rows, period, *hours.shape[2:])[:, :, period - 1]


def _items(z: Tensor, stamps: Tensor) -> Tensor:
    """Values (N, K, V) with the time features (N, K, F) behind each: (V, N, K, 1 + F)."""
    spread = stamps.unsqueeze(2)
    if z.shape[2] > 1:
        spread = spread.expand(-1, -1, z.shape[2], -1)
    return torch.cat([z.unsqueeze(-1), spread], -1).permute(2, 0, 1, 3)
