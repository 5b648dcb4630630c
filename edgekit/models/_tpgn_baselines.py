"""What TPGN is held against, on the same windows: the last day repeated, NLinear, DLinear, and an LSTM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.models._tpgn_net import Tpgn, window_statistics
from edgekit.models._tpgn_options import Network, Options

AVERAGE = 25  # hours of DLinear's moving average (published code)


def repeat_last_day(values: np.ndarray, network: Network) -> np.ndarray:
    """The last period of each window (N, L, V) over and over: (N, H, V)."""
    return np.tile(values[:, -network.period :], (1, network.rows_ahead, 1))


class NLinear(nn.Module):
    """Zeng et al., "Are Transformers Effective for Time Series Forecasting?", AAAI 2023: linear on x - x_last."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.linear = nn.Linear(network.history, network.horizon)

    def scaled_forecast(self, z: Tensor, time: Tensor) -> Tensor:
        """z float32 (N, L, V) -> (N, H, V); time is not used."""
        last = z[:, -1:]
        made: Tensor = self.linear((z - last).transpose(1, 2)).transpose(1, 2) + last
        return made


class DLinear(nn.Module):
    """The same paper: a moving average and the rest, each with a linear map of its own."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.trend, self.season = nn.Linear(network.history, network.horizon), nn.Linear(network.history, network.horizon)

    def scaled_forecast(self, z: Tensor, time: Tensor) -> Tensor:
        """z float32 (N, L, V) -> (N, H, V); time is not used."""
        x = z.transpose(1, 2)
        half = (AVERAGE - 1) // 2
        trend = F.avg_pool1d(F.pad(x, (half, half), mode="replicate"), AVERAGE, 1)
        made: Tensor = (self.trend(trend) + self.season(x - trend)).transpose(1, 2)
        return made


class Lstm(nn.Module):
    """One LSTM over the hours (value and time features), then one linear map of its last state; normalised as TPGN is."""

    def __init__(self, network: Network, width: int, variables: int, features: int) -> None:
        super().__init__()
        self.network = network
        self.lstm = nn.LSTM(variables + features, width, batch_first=True)
        self.head = nn.Linear(width, network.horizon * variables)

    def scaled_forecast(self, z: Tensor, time: Tensor) -> Tensor:
        """z float32 (N, L, V), time float32 (N, L, F) -> (N, H, V)."""
        mean, deviation = window_statistics(z) if self.network.norm else (z.new_zeros(1), z.new_ones(1))
        _, (state, _) = self.lstm(torch.cat([(z - mean) / deviation, time], -1))
        made: Tensor = self.head(state[-1]).reshape(len(z), self.network.horizon, z.shape[2])
        return made * deviation + mean


def build(model: str, options: Options, features: int, mean: np.ndarray, std: np.ndarray) -> nn.Module:
    """`tpgn` or a baseline by name, with fresh weights."""
    network = options.network
    if model == "tpgn":
        return Tpgn(network, features, torch.from_numpy(mean), torch.from_numpy(std))
    if model == "lstm":
        return Lstm(network, options.lstm_width, len(mean), features)
    return NLinear(network) if model == "nlinear" else DLinear(network)


def products(model: str, options: Options, features: int, variables: int) -> int:
    """Multiply-adds of one forecast, from the shapes of its matrix products; gates and activations are not counted."""
    n, item = options.network, 1 + features
    if model in ("nlinear", "dlinear"):
        return n.history * n.horizon * variables * (2 if model == "dlinear" else 1)
    if model == "lstm":
        width = options.lstm_width
        return n.history * 4 * width * (width + variables + features) + width * n.horizon * variables
    look_back = n.rows * item * n.rows * n.width
    gates, long = n.rows * (item + n.width) * 2 * n.width, n.rows * n.width * n.width
    column = look_back + gates + long + n.width * n.rows_ahead
    short = n.history * item * n.width + n.rows * n.width * n.width + n.width * n.rows_ahead
    return variables * (n.period * column + short)


class Scaled(nn.Module):
    """A model as the training loop calls it: z-scored values in, z-scored forecast out. It shares the model's weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, time: Tensor) -> Tensor:
        """z float32 (N, L, V), time float32 (N, L, F) -> float32 (N, H, V)."""
        forecast: Callable[[Tensor, Tensor], Tensor] = self.model.scaled_forecast  # type: ignore[assignment]
        return forecast(z, time)
