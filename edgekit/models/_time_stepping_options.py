"""What a recipe of the time-stepping family may say, and the environments and networks that it names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgekit.models._time_stepping_environment import Integrator, Reward, Rules
from edgekit.recipe import fill

if TYPE_CHECKING:
    from edgekit.models._time_stepping_net import Policy

EVALUATION_SEEDS = (0, 1000)  # the published systems 0..99 and those beside them: looked at once, at the end
VALIDATION_SEEDS = (1000, 2000)  # choose the checkpoint, calibrate INT8
TRAINING_SEEDS = (2000, 2**31)


@dataclass(frozen=True)
class World:
    """The integrator and its actions: `actions` parameters, log-spaced from low to high. Of hermite they are mu, of leapfrog
    substeps an interval (rounded)."""

    integrator: Integrator = "hermite"
    interval_yr: float = 0.1
    low: float = 1e-3
    high: float = 1e-1
    actions: int = 10
    default: float = 0.03  # the parameter that is used where nobody chooses: AMUSE's of Hermite
    error_limit: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high and self.actions >= 2 and self.interval_yr > 0 and self.error_limit > 0):
            raise ValueError(f"a world needs 0 < low < high, two actions and an interval, found {self}")
        if self.integrator == "leapfrog" and self.low < 1:
            raise ValueError(f"leapfrog takes at least 1 substep, found low = {self.low}")

    @property
    def parameters(self) -> tuple[float, ...]:
        """One for each action, as Python floats."""
        made = np.logspace(math.log10(self.low), math.log10(self.high), self.actions)
        return tuple(float(p) for p in (np.round(made) if self.integrator == "leapfrog" else made))


@dataclass(frozen=True)
class Network:
    """encoder: the published scaling of the 13 numbers, or what tells an encounter (`pairs`). tied: one hidden layer, again
    and again, as published (13 -> 200, nine times one 200 x 200, -> actions). levels: 0 = ReLU; else activations are that many
    steps, weights are 8-bit, and the policy is also a one-timestep spiking network of `levels` threshold neurons a unit."""

    encoder: Literal["published", "pairs"] = "pairs"
    width: int = 64
    layers: int = 2
    tied: bool = False
    levels: int = 15  # 255 / 15 is whole, so that 8 bits hold the steps exactly

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 2 or self.levels < 0:
            raise ValueError(f"a network has a width, at least 2 layers and 0 or more levels, found {self.width}, {self.layers}, {self.levels}")

    @property
    def spikes(self) -> bool:
        """True when it can be written out as a spiking network of 8-bit codes."""
        return self.encoder == "pairs" and self.levels > 0


@dataclass(frozen=True)
class Dqn:
    """Deep Q-learning. A block is one episode in each environment; the state is stored after every block."""

    blocks: int = 60
    environments: int = 64
    steps: int = 300  # intervals of an episode
    updates: int = 2  # gradient steps after each decision of all environments
    batch_size: int = 256
    learning_rate: float = 1e-3
    final_rate: float = 0.05  # share of the learning rate that is left in the last block (linear)
    gamma: float = 0.0
    memory: int = 200_000  # transitions
    target_rate: float = 0.005  # of the soft update of the target network
    epsilon_first: float = 0.9
    epsilon_last: float = 0.05
    epsilon_decisions: float = 3000.0  # decisions of one environment, after which the difference is down to 1/e
    reset_epsilon: bool = False  # begin anew in each episode: a quirk of the published code, nearly random data
    value_clip: float = 100.0  # of gradients
    validate_every: int = 3  # blocks

    def __post_init__(self) -> None:
        counts = ("blocks", "environments", "steps", "updates", "batch_size", "memory", "validate_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma lies from 0 to below 1, found {self.gamma}")
        if not 0 <= self.epsilon_last <= self.epsilon_first <= 1:
            raise ValueError(f"epsilon falls from at most 1 to at least 0, found {self.epsilon_first} to {self.epsilon_last}")
        if not (0 < self.target_rate <= 1 and 0 < self.final_rate <= 1 and self.learning_rate > 0 and self.epsilon_decisions > 0):
            raise ValueError("learning_rate and epsilon_decisions are above 0, target_rate and final_rate from 0 to 1")

    def epsilon(self, decision: int) -> float:
        """The share of random actions at a decision (0 for the first of the training, or of the episode)."""
        n = decision % self.steps if self.reset_epsilon else decision
        return self.epsilon_last + (self.epsilon_first - self.epsilon_last) * math.exp(-n / self.epsilon_decisions)


@dataclass(frozen=True)
class Evaluation:
    """On which systems policies are held against fixed parameters. The score of a bundle takes `score_steps` intervals."""

    systems: int = 100
    steps: int = 300
    validation_systems: int = 100
    score_steps: int = 100
    transfer: tuple[Integrator, ...] = ("adaptive_leapfrog",)

    def __post_init__(self) -> None:
        most = EVALUATION_SEEDS[1] - EVALUATION_SEEDS[0]
        if not (1 <= self.systems <= most and 1 <= self.validation_systems <= most and self.steps >= 1 and self.score_steps >= 1):
            raise ValueError(f"evaluation takes 1 to {most} systems and at least 1 step, found {self}")


@dataclass(frozen=True)
class Options:
    """A recipe of this family."""

    environment: World = field(default_factory=World)
    reward: Reward = field(default_factory=Reward)
    network: Network = field(default_factory=Network)
    dqn: Dqn = field(default_factory=Dqn)
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.environment.integrator in self.evaluation.transfer or (
            self.environment.integrator == "leapfrog" and self.evaluation.transfer
        ):
            raise ValueError("transfer names other integrators with variable steps; of leapfrog's substeps there are none")


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe as stored in a checkpoint or bundle."""
    values = {k: v for k, v in recipe.items() if k not in ("family", "deploy")}
    options: Options = fill(Options, values, "recipe")
    return options


def rules_of(options: Options, integrator: Integrator | None = None) -> Rules:
    """The environment's rules, or those of another integrator with the same parameters."""
    world = options.environment
    return Rules(integrator or world.integrator, world.interval_yr, world.parameters, options.reward, world.error_limit)


def build(options: Options) -> Policy:
    """The Q-network, with the weights that torch's generator draws now."""
    from edgekit.models._time_stepping_net import Pairs, Policy, Published

    n = options.network
    return Policy(Pairs() if n.encoder == "pairs" else Published(), n.width, n.layers, n.tied, options.environment.actions, n.levels)
