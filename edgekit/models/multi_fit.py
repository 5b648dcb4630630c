"""Multi-FIT: irregular series of many signals classified without imputing them; whole records, or reading by reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint, open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._multi_fit_data import Stays, split_of, test_stays
from edgekit.models._multi_fit_figures import auroc
from edgekit.models._multi_fit_options import Options, options_of
from edgekit.parts import Arrays, Family, Score, Trained
from edgekit.program import Feed, Join, Phase, Program, State, Stream, once, value
from edgekit.signature import Signature, Tensor

if TYPE_CHECKING:
    import torch

BATCH = 125  # stays scored at a time
GOLDEN_STAYS = 16
OTHER_STEPS = (10, 100)  # of the further golden records: another length, another batch
ANSWER = "log_probability"


class MultiFit(Family):
    """FIT, FIT-V and Multi-FIT, networks over (last value, mean, missing, time since) of every signal; docs/multi_fit.md."""

    needs = ("torch", "lightning_fabric")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Every network and seed; the best of the recipe's own network by validation, as `offline` and `stream`."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._multi_fit_fit import Fit

        return Fit(recipe, out, progress, split_of(recipe.data), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The trained network in the form that the checkpoint's folder says."""
        return _TrainedNet(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """AUROC over the test stays, of similar length together; a stream is asked after its last step."""
        stays = test_stays(options_of(model.recipe).data).first(limit or 0)
        order = np.argsort(stays.steps, kind="stable")
        risks = np.zeros(len(stays))
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            answers = run(stays.take(rows).padded())[ANSWER]
            risks[rows] = (answers if answers.ndim == 2 else answers[:, -1])[:, 1]
        return Score("AUROC", auroc(stays.deaths, risks), len(stays))

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Validation stays, evenly spread: the network was not fitted to them."""
        return _spread(split_of(options_of(model.recipe).data).validation, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Test stays, evenly spread."""
        return _spread(test_stays(options_of(model.recipe).data), limit)


PART = MultiFit()


def _spread(stays: Stays, limit: int) -> dict[str, np.ndarray]:
    return stays.take(np.arange(0, len(stays), max(1, len(stays) // limit))[:limit]).padded()


class _TrainedNet(Trained):
    """A checkpoint of either form as the exporters see it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from edgekit.models._multi_fit_fit import loaded

        facts = checkpoint.facts
        if facts["form"] not in ("offline", "stream"):
            raise EdgekitError(
                f"{checkpoint.folder} is '{facts['form']}', one of the networks that were compared; "
                "give the folder offline or stream beside it"
            )
        self.checkpoint, self.streams = checkpoint, facts["form"] == "stream"
        self.options = options_of(facts["recipe"])
        self.net, self.structure, self.scale = loaded(checkpoint)
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        self.stays = test_stays(self.options.data)
        self.model = Model("multi_fit", facts["recipe"], self.sha256, "AUROC", facts["score"], len(self.stays))
        # 1e-5: float32 rounding of sums over a hundred steps. A stay may change places with one of nearly the same risk.
        self.allowed = Allowed(output_max_abs={ANSWER: 1e-5}, score_drop=0.001)
        self.signature, graph, self.program = describe(
            len(self.stays.signals), len(self.structure.groups), self.options.network.hidden, self.streams
        )
        self.graphs = {"main": graph}
        import torch

        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "held-out test data")

    def module(self, graph: str = "main") -> torch.nn.Module:
        from edgekit.models._multi_fit_deploy import Offline, Step

        if self.streams:
            return Step(self.net, self.structure.groups, self.scale).eval()
        return Offline(self.net, self.structure.groups, self.scale, self.options.network.causal).eval()

    def traced_sizes(self) -> Mapping[str, int]:
        """Sizes that no other size of the graph equals."""
        return {"batch": 3, "steps": 7}

    def goldens(self) -> list[Golden]:
        """Whole stays, then shorter ones in other numbers."""
        every = [self.stays.first(GOLDEN_STAYS).padded()]
        every += [self.stays.first(n + 2).padded(steps) for n, steps in enumerate(OTHER_STEPS)]
        return [Golden(inputs, {ANSWER: self.answers(inputs)}) for inputs in every]

    def answers(self, inputs: Arrays) -> np.ndarray:
        """The eager answers of the trained network, over tuples made by numpy: float32 (N, 2), of a stream (N, T, 2), each of
        them from the whole record up to there."""
        from edgekit.models._multi_fit_fit import Inputs, log_probabilities

        stays = unpadded(self.stays.signals, inputs)
        longest = inputs["minutes"].shape[1]
        stays = prefixes(stays, longest) if self.streams else stays
        found = log_probabilities(self.net, Inputs(stays, self.scale, self.options.network, self.structure))
        return found.reshape(-1, longest, 2) if self.streams else found


def unpadded(signals: tuple[str, ...], inputs: Arrays) -> Stays:
    """The stays behind the inputs of a deployed network; outcomes are unknown and 0."""
    read = inputs["observed"].astype(bool)
    real = read.any(2)
    offsets = np.concatenate([[0], np.cumsum(real.sum(1))]).astype(np.int64)
    deaths = np.zeros(len(read), np.int64)
    return Stays(signals, np.where(read, inputs["values"], 0)[real], read[real], inputs["minutes"][real], offsets, deaths)


def prefixes(stays: Stays, longest: int) -> Stays:
    """Of each stay its first 1, 2, ..., `longest` steps, as stays of their own (stays x longest of them)."""
    steps = np.minimum(np.arange(1, longest + 1), stays.steps[:, None])
    offsets = np.concatenate([[0], np.cumsum(steps)])
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], steps.reshape(-1))
    rows = rows + np.repeat(np.repeat(stays.offsets[:-1], longest), steps.reshape(-1))
    deaths = np.repeat(stays.deaths, longest)
    return Stays(stays.signals, stays.values[rows], stays.observed[rows], stays.minutes[rows], offsets.astype(np.int64), deaths)


def describe(signals: int, groups: int, hidden: int, streams: bool) -> tuple[Signature, Signature, Program]:
    """(program's signature, graph's signature, program): one graph once over records, or a stream of steps."""
    meaning = "log-probability of (survival, death in hospital)"
    inputs = (
        Tensor("values", "float32", ("batch", "steps", signals), "readings in their own units; anything where none came"),
        Tensor("observed", "uint8", ("batch", "steps", signals), "1 where a reading came; steps without any change nothing"),
        Tensor("minutes", "float32", ("batch", "steps"), "time of the step since admission; rises along the steps"),
    )
    answer = Tensor(ANSWER, "float32", ("batch", 2), meaning)
    plain = Signature(inputs, (answer,))
    if not streams:
        return plain, plain, once(tuple(t.name for t in inputs), (ANSWER,))
    shapes = state_shapes(signals, groups, hidden)
    feeds = tuple(Tensor(t.name, t.dtype, ("batch", *t.shape[2:]), t.meaning) for t in inputs)
    graph = Signature(
        (*feeds, *(Tensor(n, "float32", s) for n, s in shapes.items())),
        (answer, *(Tensor(f"{n}_next", "float32", s) for n, s in shapes.items())),
    )
    whole = Signature(inputs, (Tensor(ANSWER, "float32", ("batch", "steps", 2), f"{meaning}, after each step"),))
    phase = Phase(
        inputs={n: value(n) for n in (*(t.name for t in inputs), *shapes)}, outputs={ANSWER: ANSWER},
        carry={f"{n}_next": n for n in shapes},
    )  # fmt: skip
    states: dict[str, Any] = {n: State("float32", s) for n, s in shapes.items()}
    return whole, graph, Program((Stream({t.name: Feed(1) for t in inputs}, (phase,), {ANSWER: Join("stack", 1)}, states),))


def state_shapes(signals: int, groups: int, hidden: int) -> dict[str, tuple[int | str, ...]]:
    """The states of a stream, in the order of Step: all begin as zeros. Names of group g end in g."""
    shapes: dict[str, tuple[int | str, ...]] = {n: ("batch", signals) for n in ("last", "since", "total", "count")}
    for g in range(groups):
        for name, width in (("h", hidden), ("c", hidden), ("peak", 1), ("weight", 1), ("vector", hidden)):
            shapes[f"{name}{g}"] = ("batch", width)
    return shapes
