"""What the family says of a checkpoint to the exporters, and of its films to whoever scores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError, no_such
from edgekit.models._fvdm.clips import Clips, ClipSplit, clips
from edgekit.parts import Arrays, Score, Trained

if TYPE_CHECKING:
    import torch

SCORE = "floor / feature-FID of frames"
TICKS = 3  # of the samples of a long film


class TrainedFilms(Trained):
    """A checkpoint with the form `films`: the network, its loop and its tasks."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """EdgekitError for a network that was only compared."""
        import torch

        from edgekit.models._fvdm import deploy
        from edgekit.models._fvdm.plans import Loop
        from edgekit.models._fvdm.stages import loaded

        facts = checkpoint.facts
        if facts["form"] != "films":
            raise EdgekitError(
                f"{checkpoint.folder} is '{facts['stage']}' of seed {facts['seed']}, one of the networks that were compared; "
                "give the folder films beside it"
            )
        self.net = loaded(checkpoint)
        self.loop = Loop(**facts["loop"])
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        self.part = split_of(facts["recipe"]).test
        found = deploy.describe(self.net, self.loop, (self.part.head, self.part.values))
        self.signature, self.program, self.graphs, self.tensors = found.signature, found.program, found.graphs, found.tensors
        self.task_name, self.tasks = deploy.OWN, found.tasks
        self.model = Model(str(facts["family"]), facts["recipe"], self.sha256, SCORE, facts["score"], len(self.part))
        self.allowed = Allowed(output_max_abs={deploy.FILM: deploy.ALLOWED_MAX_ABS}, score_drop=0.005)
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "held-out clips")

    def module(self, graph: str = "main") -> torch.nn.Module:
        from edgekit.models._fvdm.deploy import modules

        return modules(self.net, self.loop)[graph]

    def traced_sizes(self) -> Mapping[str, int]:
        """A size that no other size of a graph equals."""
        return {"batch": 7}

    def goldens(self) -> Sequence[Golden]:
        """Films from nothing, of two batches."""
        return self._goldens(self.task_name)

    def task_goldens(self) -> Mapping[str, Sequence[Golden]]:
        """Films of every other task, of two batches."""
        return {task: self._goldens(task) for task in self.tasks}

    def _goldens(self, task: str) -> list[Golden]:
        from edgekit.models._fvdm.deploy import goldens

        return goldens(self.net, self.loop, self.part)[task]


def split_of(recipe: Mapping[str, object]) -> ClipSplit:
    """The clips that a recipe (as plain values) names in `data.name`."""
    of = recipe.get("data", {})
    return clips(str(of.get("name", "moving_small")) if isinstance(of, Mapping) else "moving_small")


def film_score(model: Model, run: Callable[[Arrays], Arrays], limit: int | None) -> Score:
    """The feature distance of the frames of real clips over that of as many made films, of the same conditions."""
    from edgekit.models._fvdm.deploy import CONDITION, FILM
    from edgekit.models._fvdm.frames import cached

    split = split_of(model.recipe)
    yardstick, part = cached(split.name), split.test.first(limit)
    made = np.clip(run({CONDITION: part.conditions})[FILM], -1, 1)
    return Score(SCORE, yardstick.distance(part.pixels()) / yardstick.distance(made), len(part))


def conditions_of(part: Clips, limit: int) -> dict[str, np.ndarray]:
    """At most `limit` conditions of a part, evenly spread, as inputs of the own program."""
    from edgekit.models._fvdm.deploy import CONDITION

    return {CONDITION: part.conditions[_spread(len(part), limit)]}


def inputs_of(part: Clips, task: str, limit: int) -> dict[str, np.ndarray]:
    """At most `limit` inputs of another task, from clips of a part; of long films a tenth as many."""
    from edgekit.models._fvdm.deploy import LONG, PLACED, TICK, given_of

    if task == LONG:
        return {**conditions_of(part, max(1, limit // 10)), TICK: np.zeros(TICKS, np.float32)}
    if task not in PLACED:
        raise no_such("task", task, (*PLACED, LONG))
    return given_of(task, part.pixels(_spread(len(part), limit)))


def _spread(count: int, limit: int) -> np.ndarray:
    return np.arange(0, count, max(1, count // limit))[:limit]
