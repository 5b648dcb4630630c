"""How the time of one forecast grows with the history, 168 to 16,384 hours: TPGN, an LSTM and a Transformer encoder of about its size.

    python benchmarks/tpgn_latency.py [--work runs/tpgn_latency]     # writes benchmarks/tpgn_latency.json

Each model forecasts 168 hours (168 or the next multiple of its period) of one series, with untrained weights, which take the same time.
Every point is exported and verified by edgekit and timed by its profile: ONNX Runtime, one pinned thread, fresh processes. Points are kept
in the work folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import edgekit
from edgekit import examine
from edgekit.bundle import MANIFEST, open_bundle
from edgekit.process_run import Request
from edgekit.profile import device_name, profile

HERE = Path(__file__).parent
FEATURES, WIDTH, HORIZON = 4, 8, 168
FROM = 1536  # exponents are fitted from here on: below, starting each of some fifty operations is most of the time
# Both periods divide every length but one: 16,384 is no multiple of 24, so that row has 16,368.
LENGTHS = (168, 384, 768, 1536, 3072, 6144, 12288, 16384)
ROOTS = {168: 12, 384: 24, 768: 32, 1536: 48, 3072: 64, 6144: 96, 12288: 128, 16384: 128}  # a divisor near the square root
MOST_ATTENTION = 6144  # hours; the scores of two heads take 0.3 GB there and 2.1 GB at 16,384


class Forecaster(nn.Module):
    """values (N, L, 1), time (N, L, 4) -> (N, H) by an encoder over the hours and a linear map of its last state."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "lstm":
            self.encoder: nn.Module = nn.LSTM(1 + FEATURES, 16, batch_first=True)
        else:
            self.embed = nn.Linear(1 + FEATURES, 16)
            layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, HORIZON)

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        """The forecast."""
        x = torch.cat([values, time], -1)
        out = self.encoder(x)[0] if self.kind == "lstm" else self.encoder(self.embed(x))
        made: Tensor = self.head(out[:, -1])
        return made


def tpgn(history: int, period: int) -> tuple[nn.Module, int, int]:
    """(the network, history in hours, multiply-adds of one forecast)."""
    from edgekit.models._tpgn_baselines import products
    from edgekit.models._tpgn_net import Tpgn, frozen
    from edgekit.models._tpgn_options import Network, Options
    from edgekit.plan import Plan

    network = Network(history, -(-HORIZON // period) * period, period, WIDTH)
    made = frozen(Tpgn(network, FEATURES, torch.zeros(1), torch.ones(1)))
    return made, history, products("tpgn", Options(Plan(1, 1, 1.0), network), FEATURES, 1)


def model_of(kind: str, history: int) -> tuple[nn.Module, int, int]:
    """(module, history in hours, multiply-adds); the history is cut to whole days where a row is a day."""
    torch.manual_seed(0)
    if kind == "tpgn_day":
        return tpgn(history // 24 * 24, 24)
    if kind == "tpgn_root":
        return tpgn(history, ROOTS[history])
    if kind == "lstm":
        return Forecaster(kind), history, history * 4 * 16 * (16 + 5) + 16 * HORIZON
    attention = 2 * history * history * 16 + history * (4 * 16 * 16 + 2 * 16 * 32 + 5 * 16)
    return Forecaster(kind), history, attention + 16 * HORIZON


KINDS = {
    "tpgn_day": "TPGN, a row is a day (P = 24)",
    "tpgn_root": "TPGN, a row is about sqrt(L) hours",
    "lstm": "LSTM of 16",
    "transformer": "Transformer encoder, one layer of 16, two heads",
}


def point(kind: str, history: int, work: Path, timed: bool) -> dict[str, Any]:
    """Export, verify and, with `timed`, time one model at one length, or remember."""
    kept = work / f"{kind}_{history}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    module, hours, products = model_of(kind, history)
    module.eval()
    folder = work / f"{kind}_{history}"
    if not (folder / MANIFEST).exists():  # exported
        draw = torch.Generator().manual_seed(1)
        example = (torch.randn(1, hours, 1, generator=draw), torch.rand(1, hours, FEATURES, generator=draw) - 0.5)
        edgekit.export(module, example, folder, tolerance=1e-4)
    bundle = open_bundle(folder)
    verified = examine.verify(bundle, "onnxruntime", 0)
    assert verified.passed, verified.failures
    if not timed:
        return {"hours": hours, "p50_ms": 1.0, "multiply_adds": 1}
    m = profile(bundle, Request(runtime="onnxruntime", threads=1, seconds=2.0, processes=5, energy_seconds=0)).measurement
    found = {
        "history": history, "hours": hours, "weights": sum(p.numel() for p in module.parameters()), "multiply_adds": products,
        "p50_ms": m.latency_p50_ms, "verdict": m.verdict, "memory_peak_mb": m.memory_peak_mb,
    }  # fmt: skip
    kept.write_text(json.dumps(found))
    return found


def exponent(points: list[dict[str, Any]], of: str) -> float:
    """The slope of log(of) over log(hours) from FROM hours on, by least squares."""
    seen = [p for p in points if p["hours"] >= FROM]
    slope: float = np.polyfit([math.log(p["hours"]) for p in seen], [math.log(p[of]) for p in seen], 1)[0]
    return round(float(slope), 3)


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/tpgn_latency"))
    parser.add_argument("--only", choices=KINDS, help="make these points now; the JSON is written when all are made")
    parser.add_argument("--prepare", action="store_true", help="export and verify now; time later, on a quiet machine")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    models = []
    for kind in [args.only] if args.only else KINDS:
        points = [point(kind, n, args.work, not args.prepare) for n in LENGTHS if kind != "transformer" or n <= MOST_ATTENTION]
        models.append({"model": KINDS[kind], "points": points, "exponent": exponent(points, "p50_ms"),
                       "exponent_products": exponent(points, "multiply_adds")})  # fmt: skip
    if not args.only and not args.prepare:
        found = {"machine": device_name(), "engine": "onnxruntime, one pinned thread", "fitted_from_hours": FROM, "models": models}
        (HERE / "tpgn_latency.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
