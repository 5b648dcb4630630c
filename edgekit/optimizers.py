"""The optimisers of one fit: which rule moves which weights, their moments as tensors, and the running average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.plan import MUON_REST, Plan

if TYPE_CHECKING:
    import torch


def optimizers_of(plan: Plan, module: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """The optimisers of all weights that learn. "muon" is two: Muon (Jordan et al., 2024; momentum 0.95, Nesterov, five Newton-Schulz
    iterations) for the 2-D weights that `module.hidden_matrices()` names, AdamW at a tenth of the rate for the rest.

    Raises ValueError for "muon" with a module that does not say which of its weights are hidden matrices.
    """
    import torch

    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    weights = list(named.values())
    if plan.optimizer == "muon":
        say = getattr(module, "hidden_matrices", None)
        if not callable(say):
            raise ValueError(f"optimizer 'muon' needs a network that names its hidden matrices; {type(module).__name__} does not")
        hidden = set(say())
        rest = [p for n, p in named.items() if n not in hidden]
        matrices = [p for n, p in named.items() if n in hidden]
        # betas of diffusion_small's study: a second moment of 100 steps, since whole trainings are a thousand
        return [
            torch.optim.Muon(matrices, plan.learning_rate, weight_decay=plan.weight_decay),
            torch.optim.AdamW(rest, plan.learning_rate * MUON_REST, betas=(0.9, 0.99), weight_decay=plan.weight_decay),
        ]
    if plan.optimizer == "sgd":
        return [torch.optim.SGD(weights, plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay)]
    kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
    return [kind(weights, plan.learning_rate, weight_decay=plan.weight_decay)]


def set_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """The learning rate of the epoch that begins; the second optimiser of "muon" gets its tenth."""
    for i, optimizer in enumerate(optimizers):
        for group in optimizer.param_groups:
            group["lr"] = rate * MUON_REST if i else rate


def moments_of(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """All moments on the CPU, by "<optimiser>/<parameter index>/<moment>"."""
    return {
        f"{i}/{index}/{name}": value.detach().to("cpu", copy=True).contiguous()
        for i, optimizer in enumerate(optimizers)
        for index, named in optimizer.state_dict()["state"].items()
        for name, value in named.items()
        if value is not None
    }


def load_moments(optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what moments_of gave."""
    for i, optimizer in enumerate(optimizers):
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            which, index, moment = name.split("/")
            if int(which) == i:
                moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


class Average:
    """An exponential moving average of the weights that learn: average <- d average + (1 - d) weights after each step s = 0, 1, ...,
    with d = min(decay, (1 + s) / (10 + s)) (the ramp of TensorFlow's ExponentialMovingAverage); everything else is copied.

    Without a decay it is the module itself, so that nobody has to ask.
    """

    def __init__(self, module: torch.nn.Module, decay: float, stored: Mapping[str, torch.Tensor], steps: int) -> None:
        self.module, self.decay, self.steps = module, decay, steps
        self.averaged = copy.deepcopy(module) if decay else module
        if decay:
            if stored:
                self.averaged.load_state_dict(dict(stored))
            self.averaged.requires_grad_(False)

    def update(self) -> None:
        """Take in the weights as they are now."""
        import torch

        if not self.decay:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        learning = {n for n, p in self.module.named_parameters() if p.requires_grad}
        mine = self.averaged.state_dict()
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if name in learning:
                    mine[name].lerp_(value, 1 - decay)
                else:
                    mine[name].copy_(value)
