"""Deep Q-learning over many environments at once; resumable after every block, and the same for the same seed.

13 -> ... -> actions, replay, a target network that follows softly, AdamW with amsgrad, Huber loss, clipped gradients, epsilon
greedy (Mnih et al. 2015; the published time-stepping code). No generator outlives a block: each block draws from (seed, block).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit import files
from edgekit.checkpoint import load_tensors
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._time_stepping_environment import Environment
from edgekit.models._time_stepping_net import Policy, raw
from edgekit.models._time_stepping_options import TRAINING_SEEDS, Dqn, Options, rules_of

Judge = Callable[[Policy], dict[str, Any]]  # figures on the validation systems; `merit`, the more the better, decides
STATE_FILE = "state.safetensors"


class Replay:
    """The last `size` transitions, as tensors in a ring."""

    def __init__(self, size: int, features: int) -> None:
        self.arrays = {
            "before": torch.zeros(size, features), "after": torch.zeros(size, features),
            "action": torch.zeros(size, dtype=torch.int64), "reward": torch.zeros(size), "going_on": torch.zeros(size),
        }  # fmt: skip
        self.size, self.filled, self.at = size, 0, 0

    def add(self, **rows: Tensor) -> None:
        """Append rows of each array; the oldest are overwritten."""
        count = len(rows["action"])
        places = (self.at + torch.arange(count)) % self.size
        for name, value in rows.items():
            self.arrays[name][places] = value.to(self.arrays[name].dtype)
        self.at = (self.at + count) % self.size
        self.filled = min(self.size, self.filled + count)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Rows with replacement."""
        places = torch.randint(self.filled, (count,), generator=generator)
        return {name: value[places] for name, value in self.arrays.items()}


@dataclass
class Learner:
    """All that training changes."""

    online: Policy
    target: Policy
    optimizer: torch.optim.Optimizer
    replay: Replay
    block: int  # blocks done
    history: list[dict[str, Any]]
    best: dict[str, Tensor]


def train(options: Options, policy: Policy, judge: Judge, folder: Path, progress: Progress, key: str) -> list[dict[str, Any]]:
    """Train `policy` and leave in it the weights that the judge likes best; one row of figures a judged block.

    Killed and called again with the same key it goes on after the last whole block and ends with the same weights.
    """
    d = options.dqn
    learner = _begin(options, policy)
    _read(folder / STATE_FILE, learner, key)
    while learner.block < d.blocks:
        progress("DQN", learner.block, d.blocks)
        loss = _block(options, learner)
        learner.block += 1
        if learner.block % d.validate_every == 0 or learner.block == d.blocks:
            found = {"block": learner.block, "loss": loss, **judge(learner.online.eval())}
            merits = [row["merit"] for row in learner.history]
            learner.history.append(found)
            if not merits or found["merit"] >= max(merits):
                learner.best = {n: t.clone() for n, t in learner.online.state_dict().items()}
        _write(folder / STATE_FILE, learner, key)
    progress("DQN", d.blocks, d.blocks)
    policy.load_state_dict(learner.best)
    policy.eval()
    return learner.history


def _begin(options: Options, policy: Policy) -> Learner:
    d = options.dqn
    online = copy.deepcopy(policy)
    optimizer = torch.optim.AdamW(online.parameters(), lr=d.learning_rate, amsgrad=True)
    return Learner(online, copy.deepcopy(policy), optimizer, Replay(d.memory, policy.encoder.features), 0, [], {})


def _block(options: Options, learner: Learner) -> float:
    """One episode in each environment; the mean loss of its updates."""
    d, world = options.dqn, rules_of(options)
    rng = np.random.default_rng((options.seed, learner.block))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    for group in learner.optimizer.param_groups:
        group["lr"] = d.learning_rate * (1 - (1 - d.final_rate) * learner.block / d.blocks)
    environment = Environment(world, rng.integers(*TRAINING_SEEDS, d.environments))
    before = _seen(learner.online, environment)
    losses = []
    for step in range(d.steps):
        actions = _choose(learner.online, before, d.epsilon(learner.block * d.steps + step), rng, len(world.parameters))
        outcome = environment.step(actions)
        after = _seen(learner.online, environment)
        learner.replay.add(
            before=before, after=after, action=torch.from_numpy(actions), reward=torch.from_numpy(outcome.reward),
            going_on=torch.from_numpy(~outcome.ended),
        )  # fmt: skip
        if outcome.ended.any():
            rows = np.flatnonzero(outcome.ended)
            environment.reset(rows, rng.integers(*TRAINING_SEEDS, len(rows)))
            after = _seen(learner.online, environment)
        before = after
        losses += [_update(d, learner, generator) for _ in range(d.updates)]
    mean = float(np.mean(losses))
    if not np.isfinite(mean):
        raise EdgekitError(f"the loss of the DQN is {mean} in block {learner.block + 1}; lower [dqn] learning_rate or gamma")
    return mean


def _seen(policy: Policy, environment: Environment) -> Tensor:
    with torch.no_grad():
        features: Tensor = policy.encoder(raw(environment.state()))
    return features


def _choose(policy: Policy, features: Tensor, epsilon: float, rng: np.random.Generator, actions: int) -> np.ndarray:
    with torch.no_grad():
        greedy = policy.of_features(features).argmax(1).numpy()
    chosen: np.ndarray = np.where(rng.random(len(greedy)) < epsilon, rng.integers(actions, size=len(greedy)), greedy)
    return chosen


def _update(d: Dqn, learner: Learner, generator: torch.Generator) -> float:
    """One gradient step on a batch, one soft step of the target; the loss."""
    batch = learner.replay.draw(d.batch_size, generator)
    wanted = batch["reward"]
    if d.gamma:
        with torch.no_grad():
            wanted = wanted + d.gamma * batch["going_on"] * learner.target.of_features(batch["after"]).amax(1)
    value = learner.online.of_features(batch["before"]).gather(1, batch["action"][:, None])[:, 0]
    loss = F.smooth_l1_loss(value, wanted)
    learner.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_value_(learner.online.parameters(), d.value_clip)
    learner.optimizer.step()
    if d.gamma:
        with torch.no_grad():
            for follower, leader in zip(learner.target.parameters(), learner.online.parameters(), strict=True):
                follower.lerp_(leader, d.target_rate)
    return float(loss.detach())


def _write(path: Path, learner: Learner, key: str) -> None:
    tensors: dict[str, Tensor] = {}
    for name, network in (("online", learner.online.state_dict()), ("target", learner.target.state_dict()), ("best", learner.best)):
        tensors |= {f"{name}/{n}": t for n, t in network.items()}
    for index, moments in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{n}": t for n, t in moments.items()}
    tensors |= {f"replay/{n}": t[: learner.replay.filled] for n, t in learner.replay.arrays.items()}
    place = {"block": learner.block, "at": learner.replay.at, "filled": learner.replay.filled}
    facts = {"key": key, "history": json.dumps(learner.history), "place": json.dumps(place)}
    files.write_tensors(path, {n: t.detach().numpy() for n, t in tensors.items()}, facts)


def _read(path: Path, learner: Learner, key: str) -> None:
    """Put the stored state into the learner, where it is one of this key."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
    except (OSError, SafetensorError):
        return
    if facts.get("key") != key:
        return
    parts: dict[str, dict[str, Tensor]] = {}
    for full, tensor in load_tensors(path).items():
        part, _, name = full.partition("/")
        parts.setdefault(part, {})[name] = tensor
    place = json.loads(facts["place"])
    learner.block, learner.history, learner.best = place["block"], json.loads(facts["history"]), parts.get("best", {})
    learner.online.load_state_dict(parts["online"])
    learner.target.load_state_dict(parts["target"])
    moments: dict[int, dict[str, Tensor]] = {}
    for full, tensor in parts.get("optimizer", {}).items():
        index, _, name = full.partition("/")
        moments.setdefault(int(index), {})[name] = tensor
    learner.optimizer.load_state_dict({**learner.optimizer.state_dict(), "state": moments})
    learner.replay.at, learner.replay.filled = place["at"], place["filled"]
    for name, tensor in parts["replay"].items():
        learner.replay.arrays[name][: len(tensor)] = tensor
