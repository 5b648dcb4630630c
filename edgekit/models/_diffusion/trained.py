"""What every diffusion family says of a checkpoint to the exporters, and of its pictures to whoever scores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.bundle import Allowed, Golden, GoldenNote, Model
from edgekit.checkpoint import Checkpoint
from edgekit.errors import EdgekitError
from edgekit.models._diffusion.data import Pictures, Split, pictures
from edgekit.parts import Arrays, Score, Trained

if TYPE_CHECKING:
    import torch

IMAGE, CONDITION = "image", "condition"
SCORE = "floor / feature-FID"
GOLDEN_PICTURES = (16, 3)  # of the golden answers: two sizes of the batch


class TrainedSampler(Trained):
    """A checkpoint with the facts `form` and `sampling`: the network and its loop."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """EdgekitError for a network that was only compared."""
        import torch

        from edgekit.models._diffusion.deploy import ALLOWED_MAX_ABS, describe
        from edgekit.models._diffusion.plans import Sampling
        from edgekit.models._diffusion.stages import loaded

        facts = checkpoint.facts
        if facts["form"] == "trained":
            raise EdgekitError(
                f"{checkpoint.folder} is '{facts['stage']}' of seed {facts['seed']}, one of the networks that were compared; "
                "give one of the folders without a seed beside it"
            )
        self.net, self.sampling = loaded(checkpoint), Sampling(**facts["sampling"])
        self.name, self.sha256 = str(facts["name"]), checkpoint.sha256
        self.signature, graph, self.program, self.tensors = describe(self.net, self.sampling)
        self.graphs = {"main": graph}
        self.asked = split_of(facts["recipe"]).test.conditions
        self.model = Model(str(facts["family"]), facts["recipe"], self.sha256, SCORE, facts["score"], len(self.asked))
        self.allowed = Allowed(output_max_abs={IMAGE: ALLOWED_MAX_ABS}, score_drop=0.005)
        self.golden_note = GoldenNote(f"torch {torch.__version__}, eager", "conditions of held-out pictures")

    def module(self, graph: str = "main") -> torch.nn.Module:
        from edgekit.models._diffusion.step import Step

        return Step(self.net, self.sampling).eval()

    def traced_sizes(self) -> Mapping[str, int]:
        """A size that no other size of the graph equals."""
        return {"batch": 5}

    def goldens(self) -> list[Golden]:
        """The pictures of two batches."""
        from edgekit.models._diffusion.deploy import goldens

        return goldens(self.net, self.sampling, [spread(self.asked, count)[CONDITION] for count in GOLDEN_PICTURES])


def split_of(recipe: Mapping[str, object]) -> Split:
    """The pictures that a recipe (as plain values) names in `data.name`."""
    of = recipe.get("data", {})
    return pictures(str(of.get("name", "digits")) if isinstance(of, Mapping) else "digits")


def feature_score(model: Model, run: Callable[[Arrays], Arrays], limit: int | None) -> Score:
    """The feature distance of real pictures over that of as many made ones: 1 is as good as real, near 0 is noise.

    The conditions are those of the test pictures (all, or the first `limit`), in one run: noise follows the place in it.
    """
    from edgekit.models._diffusion.yardstick import cached

    yardstick = cached(split_of(model.recipe).name)
    part = first(yardstick.split.test, limit)
    made = np.clip(run({CONDITION: part.conditions})[IMAGE], -1, 1)
    return Score(SCORE, yardstick.floor(part) / yardstick.distance(made), len(part))


def first(part: Pictures, limit: int | None) -> Pictures:
    """All pictures, or the first `limit`."""
    return part if not limit or limit >= len(part) else part.take(np.arange(limit))


def spread(conditions: np.ndarray, limit: int) -> dict[str, np.ndarray]:
    """At most `limit` rows of conditions, evenly spread, as a program's inputs."""
    return {CONDITION: conditions[np.arange(0, len(conditions), max(1, len(conditions) // limit))[:limit]]}
