"""The scores of a policy on evaluation systems, from its decisions alone: whole episodes, or single decisions."""

from __future__ import annotations

import functools

import numpy as np

from edgekit.models import _time_stepping_evaluate as evaluate
from edgekit.models._time_stepping_environment import Rules
from edgekit.models._time_stepping_evaluate import Decide, Episodes, play
from edgekit.models._time_stepping_options import EVALUATION_SEEDS, Options, rules_of

EVERY = 10  # intervals between two states whose decisions are scored


def episodes_score(options: Options, decide: Decide, limit: int | None = None) -> tuple[float, int]:
    """(mean efficiency over the evaluation systems, how many): 1/2 is the default parameter's; see evaluate.efficiency."""
    rules, seeds, steps = rules_of(options), _seeds(options, limit), options.evaluation.score_steps
    default = _default(rules, options.environment.default, len(seeds), steps)
    return float(evaluate.efficiency(play(decide, rules, seeds, steps), default, rules.cost_order).mean()), len(seeds)


def decisions_score(options: Options, decide: Decide, limit: int | None = None) -> tuple[float, int]:
    """(mean of 10^-(best reward - reward of the decision), how many decisions): 1 is the best action everywhere.

    Of the reward `balance` this is the share of the least cost that a decision reaches. One call of `decide`."""
    states, rewards = _worth(rules_of(options), options.evaluation.systems, options.evaluation.score_steps)
    states, rewards = states[:limit], rewards[:limit]
    chosen = rewards[np.arange(len(rewards)), decide(states)]
    return float((10.0 ** np.minimum(0, chosen - rewards.max(1))).mean()), len(states)


def _seeds(options: Options, limit: int | None) -> range:
    count = options.evaluation.systems if limit is None else min(limit, options.evaluation.systems)
    return range(EVALUATION_SEEDS[0], EVALUATION_SEEDS[0] + count)


@functools.lru_cache(4)
def _default(rules: Rules, parameter: float, systems: int, steps: int) -> Episodes:
    only = Rules(rules.integrator, rules.interval_yr, (parameter,), rules.reward, rules.error_limit)
    return play(evaluate.fixed(0), only, range(EVALUATION_SEEDS[0], EVALUATION_SEEDS[0] + systems), steps)


@functools.lru_cache(4)
def _worth(rules: Rules, systems: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    seeds = range(EVALUATION_SEEDS[0], EVALUATION_SEEDS[0] + systems)
    return evaluate.worth(rules, seeds, steps, EVERY, len(rules.parameters) // 2)
