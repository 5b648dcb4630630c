"""Video diffusion with a level of noise per frame: films from nothing, from their first frames or both ends, and films without end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._fvdm.options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class Fvdm(Family):
    """Liu et al., "Redefining temporal modeling in video diffusion: the vectorized timestep approach", 2024; docs/fvdm.md."""

    needs = ("torch", "lightning_fabric", "PIL")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """The networks of every seed; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._fvdm.clips import clips
        from edgekit.models._fvdm.fit import Fit

        return Fit(recipe, out, progress, clips(recipe.data.name), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The network with its tasks, of the folder `films`."""
        from edgekit.models._fvdm.trained import TrainedFilms

        return TrainedFilms(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The feature distance of real frames over that of the frames of generated films."""
        from edgekit.models._fvdm.trained import film_score

        return film_score(model, run, limit)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Conditions of validation clips, evenly spread."""
        from edgekit.models._fvdm.trained import conditions_of, split_of

        return conditions_of(split_of(model.recipe).validation, limit)

    def task_samples(self, model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
        """Frames of validation clips, as the task takes them."""
        from edgekit.models._fvdm.trained import inputs_of, split_of

        return inputs_of(split_of(model.recipe).validation, task, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Conditions of test clips, evenly spread."""
        from edgekit.models._fvdm.trained import conditions_of, split_of

        return conditions_of(split_of(model.recipe).test, limit)


PART = Fvdm()
