"""DiTi: what a denoiser loses at each level of noise, as the numbers of a code; the encoder is a feature extractor for devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._diti.options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class DiTi(Family):
    """Diffusion time-steps for representation learning (Yue et al., ICLR 2024) on a base that saw no label; docs/diti.md."""

    needs = ("torch", "lightning_fabric", "sklearn", "PIL")
    extra = "train"
    features: ClassVar[tuple[str, ...]] = ("code",)

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Base, DiTi and the codes that it is held against, of every seed; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._diffusion.data import pictures
        from edgekit.models._diti.fit import Fit

        return Fit(recipe, out, progress, pictures(recipe.data.name), fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """Encoder, base and shift of the folder `encoder`."""
        from edgekit.models._diti.trained import TrainedCode

        return TrainedCode(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The accuracy of a stored linear probe on the codes of test pictures, the mean over attributes."""
        from edgekit.models._diti.trained import probe_score

        return probe_score(model, run, limit)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Validation pictures, evenly spread."""
        from edgekit.models._diti.deploy import TASK
        from edgekit.models._diti.trained import task_inputs

        return task_inputs(model, TASK, limit)

    def task_samples(self, model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
        """Validation pictures as inputs of a task."""
        from edgekit.models._diti.trained import task_inputs

        return task_inputs(model, task, limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """Test pictures, evenly spread."""
        from edgekit.models._diffusion.data import pictures
        from edgekit.models._diti.options import options_of
        from edgekit.models._diti.trained import spread

        return {"image": spread(pictures(options_of(model.recipe).data.name).test.images, limit)}


PART = DiTi()
