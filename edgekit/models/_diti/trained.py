"""A trained code to the exporters: the encoder as the bundle's own program, and the counterfactual loop as another task of the same graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from edgekit.bundle import Allowed, Golden, GoldenNote, Model, TaskProgram
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError, no_such
from edgekit.models._diffusion.data import pictures
from edgekit.models._diffusion.trained import first
from edgekit.models._diti.counterfactual import Swapper
from edgekit.models._diti.deploy import CODE, IMAGE, SWAPPING, TASK, Encode, Move, describe, tables
from edgekit.models._diti.options import options_of
from edgekit.models._diti.probe import Probe
from edgekit.models._diti.stages import deployed_of
from edgekit.parts import Arrays, Score, Trained

SCORE = "accuracy of a linear probe"
# Between torch and any engine in float32: of a code, sums of hundreds of products; of a picture, after the whole loop.
ALLOWED_CODE, ALLOWED_IMAGE = 1e-4, 1e-4
SCORE_DROP = 0.01
GOLDEN_PICTURES = (16, 3)  # two sizes of the batch
GOLDEN_PAIRS = (4, 2)
FREE_SIZES = (5, 7, 11, 13, 17, 19)  # of the batch while torch traces; one that no other size equals


class TrainedCode(Trained):
    """A checkpoint `encoder`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """EdgekitError for a stage that was only trained on the way, or to compare."""
        facts = checkpoint.facts
        if facts["form"] != "encoder":
            raise EdgekitError(
                f"{checkpoint.folder} is '{facts['stage']}' of seed {facts['seed']}, one of the networks that were compared; "
                "give the folder encoder beside it"
            )
        net = deployed_of(checkpoint)
        options = options_of(facts["recipe"])
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        self.modules = {"encode": Encode(net.coder.encoder), "step": Move(net.base, net.coder)}
        self.swapper = Swapper(net, options.swaps.steps)
        self.graphs, programs = describe(net.coder, net.base.size, net.base.channels, options.swaps.steps)
        self.signature, self.program = programs[TASK]
        self.tensors = tables(net.coder.groups, net.base.size, options.swaps.steps)
        self.test = pictures(options.data.name).test
        # The probe goes with the recipe, so that the score of a rounded form is that of the probe that the float codes made.
        recipe = {**facts["recipe"], "probe": facts["probe"]}
        self.model = Model("diti", recipe, self.sha256, SCORE, facts["score"], len(self.test))
        self.allowed = Allowed(output_max_abs={CODE: ALLOWED_CODE}, score_drop=SCORE_DROP)
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "held-out pictures")
        self.task_name = TASK
        self.tasks = {SWAPPING: TaskProgram(*programs[SWAPPING], Allowed(output_max_abs={IMAGE: ALLOWED_IMAGE}))}
        taken = {net.base.channels, net.base.size, net.base.size // 2, len(net.coder.groups), sum(net.coder.groups)}
        self.free = next(n for n in FREE_SIZES if n not in taken)

    def module(self, graph: str = "encode") -> torch.nn.Module:
        return self.modules[graph].eval()

    def traced_sizes(self) -> Mapping[str, int]:
        """A size that no other size of the graphs equals."""
        return {"batch": self.free}

    @torch.no_grad()
    def goldens(self) -> Sequence[Golden]:
        """The codes of two batches."""
        found = []
        for count in GOLDEN_PICTURES:
            images = spread(self.test.images, count)
            found.append(Golden({IMAGE: images}, {CODE: self.modules["encode"].eval()(torch.from_numpy(images)).numpy()}))
        return found

    def task_goldens(self) -> Mapping[str, Sequence[Golden]]:
        """Counterfactuals of two batches, of which the second swaps every group by half."""
        found = []
        for i, count in enumerate(GOLDEN_PAIRS):
            asked = pairs(self.test.images, count, len(self.swapper.groups), i)
            made = self.swapper(asked["source"], asked["other"], {SWAPPING: asked["swap"]})[SWAPPING]
            found.append(Golden(asked, {IMAGE: made}))
        return {SWAPPING: found}


def pairs(images: np.ndarray, count: int, groups: int, form: int = 0) -> dict[str, np.ndarray]:
    """Inputs of the counterfactual task: evenly spread pictures and others, with the coarser half of the groups swapped, or every group by half."""
    swap = np.full(groups, 0.5, np.float32) if form else (np.arange(groups) >= groups // 2).astype(np.float32)
    source = spread(images, count)
    return {"source": source, "other": spread(images[::-1], count), "swap": np.tile(swap, (len(source), 1))}


def spread(images: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` pictures, evenly spread."""
    return np.ascontiguousarray(images[np.arange(0, len(images), max(1, len(images) // limit))[:limit]])


def probe_score(model: Model, run: Callable[[Arrays], Arrays], limit: int | None) -> Score:
    """The share of attributes of test pictures that the stored probe tells right from the codes of `run`, the mean over heads."""
    part = first(pictures(options_of(model.recipe).data.name).test, limit)
    right = Probe.from_json(model.recipe["probe"]).right(run({IMAGE: part.images})[CODE], part.conditions)
    return Score(SCORE, float(right.mean()), len(part))


def task_inputs(model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
    """Validation pictures as inputs of a task."""
    options = options_of(model.recipe)
    images = pictures(options.data.name).validation.images
    if task == TASK:
        return {IMAGE: spread(images, limit)}
    if task != SWAPPING:
        raise no_such("task", task, (TASK, SWAPPING))
    return pairs(images, limit, len(options.network.groups))
