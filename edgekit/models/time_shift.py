"""Sampling with shifted time steps: each picture is told the level that its variance says, not the plan's; the decision is in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._time_shift_options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class TimeShift(Family):
    """Li et al., "Alleviating exposure bias in diffusion models through sampling with shifted time steps", ICLR 2024; docs/few_step.md."""

    needs = ("torch", "lightning_fabric", "PIL")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """A network, its shifts by validation, and what they gain on fresh seeds; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._diffusion.data import pictures
        from edgekit.models._time_shift_fit import Fit

        return Fit(recipe, out, progress, pictures(recipe.data.name), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The network and its sampler, of the folder `shifted` or `plain`."""
        from edgekit.models._diffusion.trained import TrainedSampler

        return TrainedSampler(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The feature distance of real pictures over that of made ones."""
        from edgekit.models._diffusion.trained import feature_score

        return feature_score(model, run, limit)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Conditions of validation pictures, evenly spread."""
        from edgekit.models._diffusion.trained import split_of, spread

        return spread(split_of(model.recipe).validation.conditions, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Conditions of test pictures, evenly spread."""
        from edgekit.models._diffusion.trained import split_of, spread

        return spread(split_of(model.recipe).test.conditions, limit)


PART = TimeShift()
