"""Latent inversion with timestep-aware sampling: a picture taken up to noise and led down again as something else, its look kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._latent_inversion_options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class LatentInversion(Family):
    """LITS (arXiv 2402.08601) on a small U-Net: text optimisation, latent inversion, the target's text from a switch on; docs/latent_inversion.md."""

    needs = ("torch", "lightning_fabric", "PIL", "scipy")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """A network a seed, one way to edit by validation, its held-out edits; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._diffusion.data import pictures
        from edgekit.models._latent_inversion.fit import Fit

        return Fit(recipe, out, progress, pictures(recipe.data.name), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The prepared edits of the folder `edit` or `own`, with their network."""
        from edgekit.models._latent_inversion.trained import TrainedEdits

        return TrainedEdits(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The share of the prepared edits that a classifier accepts."""
        from edgekit.models._latent_inversion.trained import edit_score

        return edit_score(model, run, limit)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Prepared edits of validation pictures."""
        from edgekit.models._latent_inversion.trained import samples

        return samples(model, limit)

    def task_samples(self, model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
        """Validation pictures to invert, or prepared edits of them."""
        from edgekit.models._latent_inversion.trained import task_samples

        return task_samples(model, task, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Prepared edits of test pictures."""
        from edgekit.models._latent_inversion.trained import shown

        return shown(model, limit)


PART = LatentInversion()
