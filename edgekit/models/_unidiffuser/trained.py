"""What the UniDiffuser family says of a checkpoint to the exporters, of its pictures to whoever scores them, and of inputs to whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bundle import Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError
from edgekit.models._diffusion.data import Pictures, Split
from edgekit.models._diffusion.trained import first, split_of
from edgekit.parts import Arrays, Score, Trained

if TYPE_CHECKING:
    import torch

    from edgekit.models._unidiffuser.net import Net

SCORE = "text to image, judged right"
GOLDEN_ROWS = (16, 3)  # of the golden answers: two sizes of the batch


class TrainedUniDiffuser(Trained):
    """A checkpoint with the facts `form` and `walks`: the network and its seven tasks."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """EdgekitError for a network that was only compared."""
        import torch

        from edgekit.models._unidiffuser.captions import words_of
        from edgekit.models._unidiffuser.deploy import OWN, TASKS, Deployed
        from edgekit.models._unidiffuser.plans import Walk

        facts = checkpoint.facts
        if facts["form"] == "trained":
            raise EdgekitError(
                f"{checkpoint.folder} is '{facts['stage']}' of seed {facts['seed']}, one of the networks that were compared; "
                "give the folder 'both' without a seed beside it"
            )
        split = split_of(facts["recipe"])
        self.net, self.held = loaded(checkpoint), split.test
        self._deployed = Deployed(self.net, words_of(split.train), {w["kind"]: Walk(**w) for w in facts["walks"]})
        self.name, self.sha256, self.task_name = str(facts["name"]), checkpoint.sha256, OWN
        own = self._deployed.task(OWN)
        self.signature, self.program, self.allowed = own.signature, own.program, own.allowed
        self.tasks = {name: self._deployed.task(name) for name in TASKS if name != OWN}
        self.graphs, self.tensors = self._deployed.graphs(), self._deployed.tables()
        self.model = Model(str(facts["family"]), facts["recipe"], self.sha256, SCORE, facts["score"], len(split.test))
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "pictures and captions of held-out ones")

    def module(self, graph: str = "main") -> torch.nn.Module:
        from edgekit.models._unidiffuser.step import Decode, Encode, Step

        graphs: dict[str, Callable[[Net], torch.nn.Module]] = {"main": Step, "encode": Encode, "decode": Decode}
        return graphs[graph](self.net).eval()

    def traced_sizes(self) -> Mapping[str, int]:
        """A size that no other size of the graphs equals."""
        return {"batch": 5}

    def goldens(self) -> list[Golden]:
        """The pictures of captions of two batches."""
        return self._goldens(self.task_name)

    def task_goldens(self) -> Mapping[str, list[Golden]]:
        """Answers of two batches of every other task."""
        return {name: self._goldens(name) for name in self.tasks}

    def _goldens(self, name: str) -> list[Golden]:
        return [self._deployed.golden(name, inputs_of(self.held, name, rows)) for rows in GOLDEN_ROWS]


def inputs_of(part: Pictures, task: str, limit: int) -> dict[str, np.ndarray]:
    """At most `limit` inputs of a task from pictures, evenly spread."""
    rows = np.arange(0, len(part), max(1, len(part) // limit))[:limit]
    if task in ("image-to-text", "image-variation"):
        return {"image": part.images[rows]}
    if task in ("text-to-image", "text-variation"):
        return {"words": part.conditions[rows]}
    return {"wanted": np.zeros((len(rows), 1), np.int64)}


def loaded(checkpoint: Checkpoint) -> Net:
    """The network of a stage, in eval mode."""
    from edgekit.models._unidiffuser.net import Net

    f = checkpoint.facts
    net = Net(f["channels"], f["size"], tuple(f["values"]), f["width"])
    net.load_state_dict(checkpoint.state())
    return net.eval()


def facts_of(net: Net) -> dict[str, Any]:
    """What `loaded` needs to know."""
    return {"channels": net.channels, "size": net.size, "values": list(net.values), "width": net.width}


def score(model: Model, run: Callable[[Arrays], Arrays], limit: int | None) -> Score:
    """The share of requested words that the pictures show to the judge, of the captions of the test pictures (all, or the first `limit`)."""
    from edgekit.models._diffusion import quality
    from edgekit.models._unidiffuser.judges import cached

    part = first(split_of(model.recipe).test, limit)
    made = np.clip(run({"words": part.conditions})["image"], -1, 1)
    return Score(SCORE, quality.shown(cached(split_of(model.recipe).name), made, part.conditions), len(part))


def validation_inputs(model: Model, task: str, limit: int) -> dict[str, np.ndarray]:
    """Inputs of a task from validation pictures."""
    split: Split = split_of(model.recipe)
    return inputs_of(split.validation, task, limit)
