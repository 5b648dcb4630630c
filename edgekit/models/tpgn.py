"""TPGN: forecasts of weeks ahead from one week of hours; exported as a window, or as a stream that takes one hour at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint, open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._tpgn_data import FEATURES, Parts, Windows, parts_of, time_features
from edgekit.models._tpgn_options import Options, options_of
from edgekit.parts import Arrays, Family, Score, Trained
from edgekit.program import Feed, Join, Phase, Program, State, Stream, once, value
from edgekit.signature import Signature, Tensor

if TYPE_CHECKING:
    import torch

__all__ = ["PART", "Tpgn", "time_features"]

BATCH = 250  # windows scored at a time
GOLDEN_WINDOWS = 32
GOLDEN_HOURS = 500  # of the rolling form
STREAMS = 20  # pieces of the series that calibrators see of the rolling form; each is longer than a window
SCORE = "skill over repeat-last-day"
TIME = "hour/23, weekday/6 (Monday 0), (day of month - 1)/30, (day of year - 1)/365, each - 0.5"


class Tpgn(Family):
    """Jia, Lin, Yu, Wang, Liu, Wan, "PGN: The RNN's New Successor ...", NeurIPS 2024, arXiv 2409.17703."""

    needs = ("torch", "lightning_fabric")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Every seed of the network and of its baselines; what is done already is kept."""
        from edgekit.models._tpgn_fit import Fit
        from edgekit.train import launch

        parts = parts_of(recipe.data, recipe.network)
        return Fit(recipe, out, progress, parts, launch(devices, nodes)).run()

    def load(self, checkpoint: Path) -> Trained:
        """The trained network of a form: the folder `window` or `rolling`."""
        return _TrainedNet(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """1 - MSE / MSE of repeating the last day, over the test windows (all, or the first `limit`), z-scored.

        Windows go BATCH at a time; the rolling form is given the test part as one stream, and what it says before its
        first window is whole is not counted.
        """
        options = options_of(model.recipe)
        parts = parts_of(options.data, options.network)
        test, period = parts.test, options.network.period
        count = test.count if limit is None else min(limit, test.count)
        rolled = None
        if options.form == "rolling":
            hours = slice(0, test.history + count - 1)
            whole = run({"values": test.values[None, hours], "time": test.time[None, hours]})
            rolled = whole["forecast"][0, test.history - 1 :]
        ours = theirs = 0.0
        for at in range(0, count, BATCH):
            starts = np.arange(at, min(at + BATCH, count))
            given, target = test.inputs(starts), test.targets(starts)
            forecast = run(given)["forecast"] if rolled is None else rolled[starts]
            repeated = np.tile(given["values"][:, -period:], (1, test.horizon // period, 1))
            ours += _squares(forecast, target, parts)
            theirs += _squares(repeated, target, parts)
        return Score(SCORE, 1 - ours / theirs, count)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Validation windows, evenly spread; of the rolling form up to STREAMS pieces, a period longer than a window."""
        options = options_of(model.recipe)
        return _spread(parts_of(options.data, options.network).validation, options, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """The same of the test part."""
        options = options_of(model.recipe)
        return _spread(parts_of(options.data, options.network).test, options, limit)


PART = Tpgn()


def _squares(forecast: np.ndarray, target: np.ndarray, parts: Parts) -> float:
    return float(np.square((forecast.astype(np.float64) - target) / parts.std).sum())


def _spread(windows: Windows, options: Options, limit: int) -> dict[str, np.ndarray]:
    if options.form == "window":
        count = min(limit, windows.count)
        return windows.inputs(np.linspace(0, windows.count - 1, count).astype(np.int64))
    length = min(windows.history + options.network.period, len(windows.values))
    starts = np.linspace(0, len(windows.values) - length, min(limit, STREAMS)).astype(np.int64)
    rows = starts[:, None] + np.arange(length)
    return {"values": windows.values[rows], "time": windows.time[rows]}


class _TrainedNet(Trained):
    """A checkpoint of either form as the exporters see it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        import torch

        from edgekit.models import _tpgn_net
        from edgekit.models._tpgn_rolling import Rolling

        facts = checkpoint.facts
        if "form" not in facts:
            raise EdgekitError(f"{checkpoint.folder} holds one seed of a comparison; give the folder window or rolling beside it")
        self.options = options_of(facts["recipe"])
        self.parts = parts_of(self.options.data, self.options.network)
        net = _tpgn_net.Tpgn(self.options.network, FEATURES, torch.from_numpy(self.parts.mean), torch.from_numpy(self.parts.std))
        net.load_state_dict(checkpoint.state())
        self.net = _tpgn_net.frozen(net)
        self.rolling = Rolling(net) if self.options.form == "rolling" else None
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        self.model = Model("tpgn", facts["recipe"], self.sha256, SCORE, facts["skill"], self.parts.test.count)
        # float32 rounding of a few hundred sums, in the unit of the data; 1e-4 of skill: what such differences cannot change.
        largest = float(np.abs(self.parts.train.values).max())
        self.allowed = Allowed(output_max_abs={"forecast": 1e-6 * max(1.0, largest)}, score_drop=1e-4)
        self.signature, graph, self.program = self._described()
        self.graphs = {"main": graph}
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager, whole windows", "held-out test data")

    def _described(self) -> tuple[Signature, Signature, Program]:
        """(program's signature, graph's signature, program): one graph once, or a stream of hours."""
        n, variables = self.options.network, len(self.parts.std)
        names = ", ".join(self.options.data.variables) or "the target"
        meanings = {"values": f"{names}, hourly, as measured, the newest last", "time": TIME, "forecast": "the hours ahead, as measured"}

        def tensor(name: str, *shape: int | str) -> Tensor:
            return Tensor(name, "float32", ("batch", *shape), meanings.get(name, ""))

        if self.rolling is None:
            whole = Signature(
                (tensor("values", n.history, variables), tensor("time", n.history, FEATURES)),
                (tensor("forecast", n.horizon, variables),),
            )
            return whole, whole, once(("values", "time"), ("forecast",))
        shapes = self.rolling.states()
        graph = Signature(
            (tensor("values", variables), tensor("time", FEATURES), *(Tensor(k, "float32", s) for k, s in shapes.items())),
            (tensor("forecast", n.horizon, variables), *(Tensor(f"{k}_next", "float32", s) for k, s in shapes.items())),
        )
        whole = Signature(
            (tensor("values", "hours", variables), tensor("time", "hours", FEATURES)),
            (tensor("forecast", "hours", n.horizon, variables),),
        )
        phase = Phase(
            "main", inputs={k: value(k) for k in ("values", "time", *shapes)}, outputs={"forecast": "forecast"},
            carry={f"{k}_next": k for k in shapes},
        )  # fmt: skip
        states = {k: State("float32", s) for k, s in shapes.items()}
        stream = Stream({"values": Feed(1), "time": Feed(1)}, (phase,), {"forecast": Join("stack", 1)}, states)
        return whole, graph, Program((stream,))

    def module(self, graph: str = "main") -> torch.nn.Module:
        return self.net if self.rolling is None else self.rolling

    def goldens(self) -> list[Golden]:
        """Of the window, GOLDEN_WINDOWS and one; of the stream, one of GOLDEN_HOURS and two short ones side by side."""
        test = self.parts.test
        if self.rolling is None:
            starts = np.linspace(0, test.count - 1, min(GOLDEN_WINDOWS, test.count)).astype(np.int64)
            return [self._answered(test.inputs(s)) for s in (starts, starts[:1])]
        hours = min(max(GOLDEN_HOURS, test.history + self.options.network.period), len(test.values))
        short = min(30, hours)
        begins = np.array([[0], [len(test.values) - short]]) + np.arange(short)
        return [self._rolled(rows) for rows in (np.arange(hours)[None], begins)]

    def _answered(self, inputs: dict[str, np.ndarray]) -> Golden:
        return Golden(inputs, {"forecast": self.eager(inputs["values"], inputs["time"])})

    def _rolled(self, rows: np.ndarray) -> Golden:
        """What the window form says after each hour of streams (rows of the test part, (N, hours)): the truth for the stream."""
        values, time = self.parts.test.values[rows], self.parts.test.time[rows]
        history, hours = self.options.network.history, rows.shape[1]
        before = np.broadcast_to(self.parts.mean, (len(rows), history - 1, values.shape[2]))
        long = np.concatenate([before, values], 1), np.concatenate([np.zeros((len(rows), history - 1, FEATURES), np.float32), time], 1)
        windows = [self.eager(*(x[:, at : at + history] for x in long)) for at in range(hours)]
        return Golden({"values": values, "time": time}, {"forecast": np.stack(windows, 1)})

    def eager(self, values: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The trained network's own forecasts float32 (N, H, V) of whole windows float32 (N, L, V) and (N, L, F)."""
        import torch

        with torch.no_grad():
            made: np.ndarray = self.net(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(np.ascontiguousarray(time))).numpy()
        return made
