"""UniDiffuser: one network draws from captions, captions pictures, and makes either or both from nothing; all as tasks of one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._unidiffuser.options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class UniDiffuser(Family):
    """Bao et al., "One transformer fits all distributions in multi-modal diffusion at scale", ICML 2023, on a small U-Net; docs/unidiffuser.md."""

    needs = ("torch", "lightning_fabric", "PIL")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """The network of both and the one of pictures alone, of every seed; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._diffusion.data import pictures
        from edgekit.models._unidiffuser.fitting import Fit

        return Fit(recipe, out, progress, pictures(recipe.data.name), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The network and its tasks, of the folder `both`."""
        from edgekit.models._unidiffuser.trained import TrainedUniDiffuser

        return TrainedUniDiffuser(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The share of requested words that the judge sees in the pictures."""
        from edgekit.models._unidiffuser.trained import score

        return score(model, run, limit)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Captions of validation pictures, evenly spread."""
        return self.task_samples(model, "text-to-image", limit)

    def task_samples(self, model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
        """Captions or validation pictures, evenly spread, or as many rows that ask for something."""
        from edgekit.models._unidiffuser.trained import validation_inputs

        return validation_inputs(model, task, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Captions of test pictures, evenly spread."""
        from edgekit.models._diffusion.trained import split_of
        from edgekit.models._unidiffuser.trained import inputs_of

        return inputs_of(split_of(model.recipe).test, "text-to-image", limit)


PART = UniDiffuser()
