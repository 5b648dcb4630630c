"""What TPGN's training prints: mean and spread over the seeds beside the published figures, and every seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.models._tpgn_options import Options

NAMES = {"tpgn": "TPGN", "nlinear": "NLinear", "dlinear": "DLinear", "lstm": "LSTM", "repeat": "repeat the last day"}
Pair = tuple[float, float]  # MSE, MAE

# Table 1 of arXiv 2409.17703: history 168, the target alone, mean of 5 runs. (data, horizon) -> model -> MSE, MAE.
PUBLISHED: Mapping[tuple[str, int], Mapping[str, Pair]] = {
    ("etth1", 168): {"TPGN": (0.1061, 0.2533), "WITRAN": (0.1105, 0.2589), "DLinear": (0.1122, 0.2605), "PatchTST": (0.1212, 0.2704)},
    ("etth1", 336): {"TPGN": (0.1110, 0.2625), "WITRAN": (0.1189, 0.2714), "DLinear": (0.1251, 0.2809), "PatchTST": (0.1287, 0.2808)},
    ("etth1", 720): {"TPGN": (0.1346, 0.2908), "WITRAN": (0.1566, 0.3150), "DLinear": (0.1919, 0.3465), "PatchTST": (0.1727, 0.3297)},
    ("etth1", 1440): {"TPGN": (0.1343, 0.2941), "WITRAN": (0.1541, 0.3157), "DLinear": (0.3606, 0.4939), "PatchTST": (0.3206, 0.4561)},
    ("etth2", 168): {"TPGN": (0.2174, 0.3623), "WITRAN": (0.2389, 0.3813), "DLinear": (0.2556, 0.3944), "PatchTST": (0.2582, 0.3983)},
    ("etth2", 336): {"TPGN": (0.2237, 0.3769), "WITRAN": (0.2277, 0.3778), "DLinear": (0.2891, 0.4256), "PatchTST": (0.3206, 0.4514)},
    ("etth2", 720): {"TPGN": (0.2356, 0.3898), "WITRAN": (0.2718, 0.4146), "DLinear": (0.4090, 0.5090), "PatchTST": (0.4398, 0.5304)},
    ("etth2", 1440): {"TPGN": (0.2514, 0.4070), "WITRAN": (0.3350, 0.4624), "DLinear": (0.7921, 0.7262), "PatchTST": (0.8339, 0.7330)},
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One trained model on the test part. Errors are of z-scored values, as the paper prints them."""

    model: str
    seed: int | None  # None: nothing was trained
    mse: float
    mae: float
    skill: float  # 1 - MSE / MSE of repeating the last day
    validation: float | None  # MSE of the validation part, by which the seed to deploy is chosen
    epochs: int
    seconds: float
    parameters: int
    products: int  # multiply-adds of one forecast

    @property
    def label(self) -> str:
        """As in tables."""
        return NAMES[self.model] if self.seed is None else f"{NAMES[self.model]}, seed {self.seed}"

    def row(self, role: str) -> dict[str, Any]:
        """A row of result.json."""
        return {
            "label": self.label, "role": role, "steps": None, "score": self.skill,
            "validation": None if self.validation is None else -self.validation, "epochs": self.epochs,
            "seconds": round(self.seconds, 2), "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip


def tables(outcomes: Sequence[Outcome], options: Options, windows: int) -> list[dict[str, Any]]:
    """Both tables of result.json."""
    n = options.network
    published = PUBLISHED.get((options.data.name, n.horizon), {}) if n.history == 168 and not options.data.variables else {}
    models = list(dict.fromkeys(o.model for o in outcomes))
    rows = [_row([o for o in outcomes if o.model == m], published.get(NAMES[m])) for m in models]
    rows += [[name, None, None, _pair(pair), None, None, None] for name, pair in published.items() if name not in {NAMES[m] for m in models}]
    columns = ["model", "MSE", "MAE", "published", "weights", "multiply-adds", "seconds"]
    summary = {
        "title": f"Forecasts of {n.horizon} hours from {n.history}: {options.data.name}",
        "columns": columns, "rows": rows,
        "caption": f"Mean +- sample standard deviation over the seeds, z-scored values, all {windows} test windows; seconds: of the "
        "slowest seed's epochs. Published: MSE / MAE of Table 1 of arXiv 2409.17703, mean of 5 runs, up to 31 windows left out at the end.",
    }  # fmt: skip
    each = {
        "title": "Every seed", "columns": ["model", "seed", "MSE", "MAE", "validation MSE", "epochs", "seconds"],
        "rows": [[NAMES[o.model], o.seed, _r(o.mse), _r(o.mae), _r(o.validation), o.epochs, round(o.seconds, 1)] for o in outcomes],
        "caption": "The seed that validates best is deployed; the test part decides nothing.",
    }  # fmt: skip
    return [summary, each]


def _row(found: Sequence[Outcome], published: Pair | None) -> list[Any]:
    return [
        NAMES[found[0].model], _spread([o.mse for o in found]), _spread([o.mae for o in found]), _pair(published),
        found[0].parameters, found[0].products, round(max(o.seconds for o in found), 1),
    ]  # fmt: skip


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} +- {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _pair(pair: Pair | None) -> str | None:
    return pair and f"{pair[0]:.4f} / {pair[1]:.4f}"


def _r(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
