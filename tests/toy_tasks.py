"""The smallest bundle of several tasks: one step graph that pulls a vector to a learned point, refined in three steps or guessed in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from edgekit.bundle import Allowed, Golden, GoldenNote, Model, TaskProgram
from edgekit.parts import Score, Trained
from edgekit.program import ArgMax, Feed, Join, Phase, Program, State, Stream, row, tensor, value
from edgekit.signature import Signature, Tensor

WIDTH = 24
RATES = {"refine": np.array([[0.5], [0.3], [0.2]], np.float32), "guess": np.array([[1.0]], np.float32)}


class Pull(nn.Module):
    """x (B, WIDTH), rate (1,) -> x + rate * (target(x) - x)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)

    def forward(self, x: torch.Tensor, rate: torch.Tensor) -> tuple[torch.Tensor]:
        return (x + rate * (self.last(self.first(x).tanh()) - x),)


class Tasked(Trained):
    """Own task `refine`: three steps. `guess`: one, and the place of the largest number. `follow`: a stream, a step a row of a signal."""

    name, sha256, task_name = "tasked", "ab" * 32, "refine"

    def __init__(self) -> None:
        torch.manual_seed(5)
        self._net = Pull().eval()
        x, y = Tensor("x", "float32", ("batch", WIDTH)), Tensor("y", "float32", ("batch", WIDTH))
        self.graphs = {"main": Signature((x, Tensor("rate", "float32", (1,))), (Tensor("x_next", "float32", ("batch", WIDTH)),))}
        self.signature = Signature((x,), (y,))
        state = {"y": State("float32", ("batch", WIDTH), value("x"))}
        refine = Phase("main", "steps", 3, {"x": value("y"), "rate": row("refine/rate")}, states=state, carry={"x_next": "y"})
        self.program = Program((refine,))
        code = Tensor("code", "int64", ("batch",))
        guess = Phase("main", "steps", 1, {"x": value("x"), "rate": row("guess/rate")}, {"x_next": "y"}, epilogue=(ArgMax(value("y"), 1, "code"),))
        once = Phase("main", "once", 1, {"x": value("signal"), "rate": tensor("follow/rate")}, {"x_next": "y"})
        signal, followed = Tensor("signal", "float32", ("batch", "rows", WIDTH)), Tensor("y", "float32", ("batch", "followed", WIDTH))
        stream = Stream({"signal": Feed(1)}, (once,), {"y": Join("stack", 1)})
        self.tasks = {
            "guess": TaskProgram(Signature((x,), (y, code)), Program((guess,)), Allowed({"y": 1e-5, "code": 0.0})),
            "follow": TaskProgram(Signature((signal,), (followed,)), Program((stream,)), Allowed({"y": 1e-5})),
        }
        self.tensors = {"refine/rate": RATES["refine"], "guess/rate": RATES["guess"], "follow/rate": RATES["guess"][0]}
        self.allowed, self.golden_note = Allowed({"y": 1e-5}), GoldenNote("torch, eager", "drawn")
        self.model = Model("toy", {}, self.sha256, "accuracy", 1.0, 0)

    def module(self, graph: str = "main") -> nn.Module:
        return self._net

    def traced_sizes(self) -> Mapping[str, int]:
        return {"batch": 5}

    def goldens(self) -> Sequence[Golden]:
        return [Golden({"x": x}, {"y": self.pulled(x, "refine")}) for x in (drawn(4, 1), drawn(3, 2))]

    def task_goldens(self) -> Mapping[str, Sequence[Golden]]:
        guessed = []
        for x in (drawn(5, 3), drawn(2, 4)):
            y = self.pulled(x, "guess")
            guessed.append(Golden({"x": x}, {"y": y, "code": y.argmax(1)}))
        signal = drawn(6, 5)
        return {"guess": guessed, "follow": [Golden({"signal": signal[None]}, {"y": self.pulled(signal, "guess")[None]})]}

    @torch.no_grad()
    def pulled(self, x: np.ndarray, how: str) -> np.ndarray:
        """x float32 (B, WIDTH) after the steps of RATES[how], by torch."""
        y = torch.from_numpy(x)
        for rate in torch.from_numpy(RATES[how]):
            (y,) = self._net(y, rate)
        return y.numpy()


class ToyTask:
    """What a family gives a calibrator."""

    features: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, model: Model, run: object, limit: int | None = None) -> Score:
        return Score("accuracy", 1.0, 1)

    def samples(self, model: Model, limit: int) -> dict[str, np.ndarray]:
        return {"x": drawn(60, 7)}

    def held_out(self, model: Model, limit: int) -> dict[str, np.ndarray]:
        return {"x": drawn(20, 8)}

    def task_samples(self, model: Model, task: str, limit: int) -> dict[str, np.ndarray]:
        self.asked.append(task)
        return {"x": 3 * drawn(60, 9)} if task == "guess" else {"signal": drawn(40, 10)[:, None]}


def drawn(rows: int, seed: int) -> np.ndarray:
    """Normal numbers, float32 (rows, WIDTH)."""
    return np.random.default_rng(seed).standard_normal((rows, WIDTH), np.float32)
