"""Integrator time-step policy: a DQN chooses the step parameter of a three-body integrator at each control interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.bundle import Model
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._time_stepping_options import EVALUATION_SEEDS, VALIDATION_SEEDS, Options, options_of
from edgekit.parts import Arrays, Family, Score, Trained

SEEN_SYSTEMS = 40  # whose visited states calibrators look at
EXTREME_EVERY = 50  # of the states for calibration one is this, with codes 0 (two bodies nearly touch) and 255 (no error yet)
EXTREME = np.array([0, 0, 1e-3, 0, 30, 200, 0, 0, 0.3, 0, 0, 0, 0], np.float32)


class TimeStepping(Family):
    """Saz Ulibarrena and Portegies Zwart, reinforcement learning for adaptive time-stepping in the chaotic gravitational
    three-body problem; published code: veronicasaz/ThreeBodyProblem_astronomy. docs/time_stepping.md says what differs."""

    needs = ("torch", "numba")
    extra = "train"

    def options(self) -> type:
        """The dataclass of a recipe."""
        return Options

    def fit(self, recipe: Options, out: Path, progress: Progress, devices: int = 1, nodes: int = 1) -> Path:
        """DQN -> the block that validates best -> its spiking form -> tables; what is done already is kept."""
        if devices * nodes > 1:
            raise EdgekitError(
                f"{devices * nodes} processes were asked for, but a time-step policy learns from its own play in one process; "
                "leave out --devices and --nodes"
            )
        from edgekit.models._time_stepping_fit import Fit

        return Fit(recipe, out, progress).run()

    def load(self, checkpoint: Path) -> Trained:
        """The float policy as a stream, or the spiking one of codes."""
        from edgekit.models._time_stepping_deploy import TrainedPolicy, TrainedSpiking

        opened = open_checkpoint(checkpoint)
        return TrainedSpiking(opened) if opened.facts["form"] == "spiking" else TrainedPolicy(opened)

    def score(self, model: Model, run: Callable[[Arrays], Arrays], limit: int | None = None) -> Score:
        """policy: whole episodes decided by `run`, the mean efficiency against the default parameter (1/2: as good).
        spiking: single decisions, in one call, what share of the best action's worth they reach."""
        from edgekit.models._time_stepping_score import decisions_score, episodes_score

        options = options_of(model.recipe)
        if model.steps is None:

            def by_episode(state: np.ndarray) -> np.ndarray:
                return np.asarray(run({"state": state[:, None].astype(np.float32)})["action"][:, 0])

            return Score("efficiency", *episodes_score(options, by_episode, limit))
        from edgekit.models._time_stepping_deploy import codes_of

        return Score("worth", *decisions_score(options, lambda state: run({"codes": codes_of(state)})["logits"].argmax(1), limit))

    def samples(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """States of validation systems, evenly spread over their episodes."""
        return _states(model, limit, VALIDATION_SEEDS[0])

    def held_out(self, model: Model, limit: int) -> Mapping[str, np.ndarray]:
        """States of evaluation systems, evenly spread over their episodes."""
        return _states(model, limit, EVALUATION_SEEDS[0])


PART = TimeStepping()


def _states(model: Model, limit: int, first: int) -> dict[str, np.ndarray]:
    from edgekit.models._time_stepping_deploy import codes_of, visited

    states = visited(None, options_of(model.recipe), (first, first + SEEN_SYSTEMS))
    chosen = states[np.linspace(0, len(states) - 1, min(limit, len(states))).astype(int)]
    if first == VALIDATION_SEEDS[0]:  # the ends of the codes' range are seen, so that 8 bits hold codes as they are
        chosen[::EXTREME_EVERY] = EXTREME
    return {"state": chosen[:, None]} if model.steps is None else {"codes": codes_of(chosen)}
