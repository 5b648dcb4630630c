"""What a model is for: inputs to calibrate with, inputs held out, and a score; from its family or from a user's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

import numpy as np

from edgekit import labelled, registry
from edgekit.bundle import Model
from edgekit.parts import Arrays, Family, Score


class Task(Protocol):
    """Both give inputs as in the program's signature, the batch first."""

    features: ClassVar[tuple[str, ...]]  # see Family

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """The score of `run` on the test data."""

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """At most `limit` inputs that are like those in use, and none of the test data."""

    def task_samples(self, model: Model, task: str, limit: int) -> Mapping[str, np.ndarray]:
        """What samples gives, as the inputs of another task of the bundle."""

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """At most `limit` inputs of the test data, to look at and never to decide by."""


def task_of(model: Model) -> Task:
    """The task behind a bundle; EdgekitError when its family is not here."""
    return labelled.Labelled() if model.family == labelled.FAMILY else registry.find(Family, model.family)
