"""One network call of a sampler with everything between it and the next one; all numbers come in as rows of plans.rows.

v = net(x, level, condition); eps = b x + a v. A kind of single steps guesses the clean picture as a x - b v, which divides
by nothing; a multistep kind mixes eps with remembered ones to e' and guesses (base - b' e') / a', where base is x at the
beginning of the step and a', b' are those of its level. The guess is clamped, and then next = P guess + Q e + C z with e the
eps that leads from the clamped guess to base (Liu et al., ICLR 2022, eq. 11, which for one call is DDIM's step).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import REMEMBERED, Sampling, columns, rows

Decide = Callable[[Tensor, Tensor], Tensor]  # (x (B, C, H, W), b of the candidates (W,)) -> place of one for each sample (B,)


def nearest(x: Tensor, noises: Tensor) -> Tensor:
    """The first place in b of the candidates (W,) where b^2 is nearest to the variance of each sample: int64 (B,).

    The variance is the unbiased one over all elements of a sample, around its mean (Li et al., ICLR 2024).
    """
    flat = x.flatten(1)
    away = flat - flat.mean(1, keepdim=True)
    variance = (away * away).sum(1, keepdim=True) / (flat.shape[1] - 1)
    return (variance - noises * noises).abs().argmin(1)


class Step(nn.Module):
    """A graph: x, what else the kind needs, the condition, and one row of each table -> the next x and states.

    `inputs` and `outputs` are the names in order. States come in as `x`, `memory` (B, M, C, H, W), `base` (B, C, H, W) and
    `found` int64 (B,), and go out as `NAME_next`; all but x begin as zeros. `z` is new normal noise like x.
    """

    none: Tensor

    def __init__(self, net: UNet, sampling: Sampling, decide: Decide = nearest) -> None:
        """decide: how time is shifted; another than nearest is for controls, and for torch alone.

        ValueError where the network and the kind do not belong together."""
        super().__init__()
        if net.jumps != (sampling.kind == "shortcut"):
            raise ValueError(f"a network with jumps and kind shortcut belong together; found jumps {net.jumps} and '{sampling.kind}'")
        self.net, self.sampling, self.columns, self.decide = net, sampling, columns(sampling), decide
        self.register_buffer("none", torch.tensor([net.heads], dtype=torch.int64), persistent=False)
        carried = ("x", *(("memory", "base") if sampling.multistep else ()), *(("found",) if sampling.shift == "paper" else ()))
        self.states = carried
        self.tables = tuple(rows(sampling))
        self.inputs = (*carried, *(("z",) if sampling.draws else ()), "condition", *self.tables)
        self.outputs = tuple(f"{name}_next" for name in carried)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample of each state."""
        picture = (self.net.channels, self.net.size, self.net.size)
        every = {"x": picture, "memory": (REMEMBERED.get(self.sampling.kind, 0), *picture), "base": picture, "found": ()}
        return {name: every[name] for name in self.states}

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors as `inputs` says -> tensors as `outputs` says."""
        given = dict(zip(self.inputs, tensors, strict=True))
        x = given["x"]
        c = dict(zip(self.columns, given["coefficients"].unbind(0), strict=True))
        a, b, level = c["a"], c["b"], given["level"].expand(x.shape[0], 1)
        if self.sampling.shift == "paper":
            level = given["window_level"][given["found"]][:, None]
            a, b = (_over(given[name][given["found"]]) for name in ("window_a", "window_b"))
        v = self._guided(x, level, given)
        if self.sampling.multistep:
            return self._multistep(given, c, b * x + a * v, a * x - b * v)
        guess = self._clamped(a * x - b * v)
        eps = b * x + a * v if not self.sampling.clamp else (x - a * guess) / b
        return self._land(given, c, guess, eps, x)

    def _guided(self, x: Tensor, level: Tensor, given: dict[str, Tensor]) -> Tensor:
        """v_none + guidance (v_given - v_none), from one call of both (Ho and Salimans, 2022, eq. 6)."""
        jump = given["jump"].expand(x.shape[0], 1) if "jump" in given else None
        told = level.expand(-1, self.net.slots)
        condition, guidance = given["condition"], self.sampling.guidance
        if guidance == 1:
            alone: Tensor = self.net(x, told, condition, jump)
            return alone
        both = torch.cat([condition, self.none.expand_as(condition)])
        twice = None if jump is None else torch.cat([jump, jump])
        # By shape and not by halves of the batch, which torch cannot say in ONNX for a free batch.
        wanted, free = self.net(torch.cat([x, x]), torch.cat([told, told]), both, twice).reshape(2, -1, *x.shape[1:]).unbind(0)
        return free + guidance * (wanted - free)  # type: ignore[no-any-return]

    def _clamped(self, guess: Tensor) -> Tensor:
        most = self.sampling.clamp
        return guess.clamp(-most, most) if most else guess

    def _multistep(self, given: dict[str, Tensor], c: dict[str, Tensor], eps: Tensor, clean: Tensor) -> tuple[Tensor, ...]:
        """The mixture of eps and memory, from the beginning of the step to where this call lands; `clean` alone decides a direct step."""
        base = torch.where(c["begins"] > 0, given["x"], given["base"])
        known = torch.cat([eps[:, None], given["memory"]], 1).flatten(2)  # (B, M + 1, pixels)
        mixed = (given["weights"][:, None] * known).sum(1).reshape(base.shape)
        memory = (given["rule"][:, :, None] * known[:, None]).sum(2).reshape(given["memory"].shape)
        a, b = c["base_a"], c["base_b"]
        if self.sampling.shift == "paper":
            a, b = (_over(given[name][given["found"]]) for name in ("base_a", "base_b"))
        direct = c["direct"] > 0
        guess = self._clamped(torch.where(direct, clean, (base - b * mixed) / torch.where(direct, 1.0, a)))
        if self.sampling.clamp:
            mixed = (base - a * guess) / b
        x_next, *found = self._land(given, c, guess, mixed, base)
        return x_next, memory, base, *found

    def _land(self, given: dict[str, Tensor], c: dict[str, Tensor], guess: Tensor, eps: Tensor, base: Tensor) -> tuple[Tensor, ...]:
        """(next x, and in paper mode the place of the next call's level among its candidates)."""
        by_guess, by_eps = c["x0"], c["eps"]
        if self.sampling.shift == "landing":
            place = self.decide(base, given["window_b"])
            by_guess, by_eps = (_over(given[name][place]) for name in ("window_a", "window_b"))
        if self.sampling.kind == "renoise":
            return (by_guess * guess + c["z"] * given["z"],)
        x = by_guess * guess + by_eps * eps
        if self.sampling.draws:
            x = x + c["z"] * given["z"]
        if self.sampling.shift != "paper":
            return (x,)
        place = self.decide(x, given["next_b"])
        if self.sampling.multistep:
            place = torch.where(c["ends"] > 0, place, given["found"])
        return x, place


def _over(values: Tensor) -> Tensor:
    """(B,) as a factor of pictures."""
    return values[:, None, None, None]
