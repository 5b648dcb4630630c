"""Streaming voice conversion: what somebody says now, said by the voice of a short recording, 70 ms later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.measurement import Progress
from edgekit.models._stream_voice_options import Options
from edgekit.parts import Arrays, Family, Score, Trained


class StreamVoice(Family):
    """StreamVoice (Wang et al., ACL 2024) trained small, with a source-filter codec; docs/stream_voice.md."""

    needs = ("torch", "lightning_fabric")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """Teacher, encoder, codec and converter of every seed; what is done already is kept."""
        from edgekit.train import launch

        fabric = launch(devices, nodes)
        from edgekit.models._stream_voice_fit import Fit

        return Fit(recipe, out, progress, fabric).run()

    def load(self, checkpoint: Path) -> Trained:
        """The four networks in one checkpoint, folder `converter`."""
        from edgekit.models._voice.trained import TrainedConverter

        return TrainedConverter(open_checkpoint(checkpoint))

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The share of digits that are recognised after conversion to held-out voices; without fsdd, of conversions that hit the pitch."""
        from edgekit.models._voice.scored import score

        return score(model, run, limit)

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """One source of training speech, `limit` frames at most, and a voice."""
        from edgekit.models._voice.scored import inputs_of

        return inputs_of(model, "train", limit)

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """The same of held-out speech."""
        from edgekit.models._voice.scored import inputs_of

        return inputs_of(model, "test", limit)


PART = StreamVoice()
