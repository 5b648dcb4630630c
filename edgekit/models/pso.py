"""Pairwise sample optimisation: a few-step student tuned to a preference without losing its few steps; exported with its sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._pso_options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class Pso(Family):
    """Miao et al., "Tuning timestep-distilled diffusion model using pairwise sample optimization", ICLR 2025; docs/few_step.md."""

    needs = ("torch", "lightning_fabric", "PIL")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Teacher, student, and the student tuned three ways; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._diffusion.data import pictures
        from edgekit.models._pso_fit import Fit

        return Fit(recipe, out, progress, pictures(recipe.data.name), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The network and its sampler, of a folder `student`, `online`, `offline` or `naive`."""
        from edgekit.models._diffusion.trained import TrainedSampler

        return TrainedSampler(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The feature distance of real pictures over that of made ones; tuning lowers it, since it moves pictures away from the real."""
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


PART = Pso()
