"""The tables of a time-stepping run: fixed parameters and policies side by side, transfer, histogram, validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.checkpoint import Checkpoint
from edgekit.measurement import Progress
from edgekit.models import _time_stepping_evaluate as evaluate
from edgekit.models._time_stepping_environment import Integrator
from edgekit.models._time_stepping_evaluate import COLUMNS, Baselines, Decide, Figures, play
from edgekit.models._time_stepping_options import EVALUATION_SEEDS, Options, rules_of

Table = dict[str, Any]
CURVE = ("Factors are to the interpolated curve of the fixed parameters of this table, default included: error at the same median "
         "evaluations, cost at the same median error, p90 error at the same median evaluations. "
         "Below 1 is better than any fixed parameter.")  # fmt: skip
PUBLISHED = "The paper shows figures, no table: competitive with commonly used mu, and transfer to other variable steps without retraining."


class Tables:
    """Plays the evaluation systems, which decided nothing before."""

    def __init__(self, options: Options, decide: Decide, policy: Checkpoint, spiking: Decide | None, progress: Progress) -> None:
        self.options, self.decide, self.policy, self.spiking, self.progress = options, decide, policy, spiking, progress
        self.seeds = range(EVALUATION_SEEDS[0], EVALUATION_SEEDS[0] + options.evaluation.systems)
        self.steps = options.evaluation.steps

    def all(self) -> list[Table]:
        """In the order in which they are read."""
        pareto, episodes = self._pareto(self.options.environment.integrator)
        tables = [pareto, self._histogram(episodes)]
        if self.spiking:
            tables.append(self._agreement(episodes))
        tables += [self._pareto(other)[0] for other in self.options.evaluation.transfer]
        return [*tables, self._validation()]

    def _pareto(self, integrator: Integrator) -> tuple[Table, evaluate.Episodes]:
        """Every fixed parameter, the default, random actions and the policy, moved by one integrator."""
        self.progress(f"evaluate on {integrator}", 0, 1)
        rules = rules_of(self.options, integrator)
        world = self.options.environment
        baselines = Baselines.of(rules, world.default, self.seeds, self.steps)
        name = "substeps" if integrator == "leapfrog" else "mu"
        found = [(f"fixed {name} = {p:.4g}", f) for p, f in zip(world.parameters, baselines.each, strict=True)]
        found.append((f"default {name} = {world.default:g}", baselines.default))
        drawn = play(evaluate.at_random(world.actions), rules, self.seeds, self.steps)
        episodes = play(self.decide, rules, self.seeds, self.steps, keep=integrator == world.integrator)
        found += [("random actions", Figures.of(drawn)), ("DQN policy", Figures.of(episodes))]
        if self.spiking:
            found.append(("spiking T=1 policy", Figures.of(play(self.spiking, rules, self.seeds, self.steps))))
        transfer = "" if integrator == world.integrator else ", the policy transferred without retraining"
        title = f"{integrator}: {len(self.seeds)} unseen systems x {self.steps} intervals of {world.interval_yr:g} yr{transfer}"
        rows = [evaluate.as_row(label, f, baselines.place(f)) for label, f in found]
        return {"title": title, "columns": list(COLUMNS), "rows": rows, "caption": f"{CURVE} {PUBLISHED}"}, episodes

    def _histogram(self, episodes: evaluate.Episodes) -> Table:
        """Which parameters the policy chose, and how they go with the encounter."""
        world = self.options.environment
        shares = evaluate.histogram(episodes, world.actions)
        rows = [[f"{p:.4g}", s] for p, s in zip(world.parameters, shares, strict=True)]
        effective = float(np.exp(-sum(s * np.log(s) for s in shares if s > 0)))
        caption = f"Shares of all decisions on the evaluation systems; as spread as {effective:.1f} actions of equal share (exp of the entropy)."
        return {"title": "Actions of the DQN policy", "columns": ["parameter", "share"], "rows": rows, "caption": caption}

    def _agreement(self, episodes: evaluate.Episodes) -> Table:
        """The spiking policy on the states that the float policy visits."""
        assert self.spiking is not None
        states = episodes.visited().astype(np.float32).astype(np.float64)
        there, here = self.decide(states), self.spiking(states)
        off = np.abs(there - here)
        row = [len(states), float((off == 0).mean()), float((off <= 1).mean()), int(off.max())]
        columns = ["states", "same decision", "same or the next parameter", "farthest, in actions"]
        return {"title": "Spiking policy against the float policy, on states that the float policy visits", "columns": columns, "rows": [row],
                "caption": "The spiking policy is the float one written out as neurons; what differs comes from weights and thresholds "
                "that fit the integers of Loihi."}  # fmt: skip

    def _validation(self) -> Table:
        facts = self.policy.facts
        names = ("block", "median_error", "p90_error", "median_evaluations", "error_factor", "p90_factor", "merit")
        rows = [[round(v, 4) if n.endswith(("factor", "merit")) else v for n in names for v in (h[n],)] for h in facts["history"]]
        caption = f"Chosen by merit on {self.options.evaluation.validation_systems} validation systems: block {facts['chosen_block']}."
        return {"title": "Training, judged on validation systems", "columns": list(names), "rows": rows, "caption": caption}
